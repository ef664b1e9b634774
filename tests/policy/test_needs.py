"""`needs:` of a job: how it is read, and what of it a lane lacks."""

from __future__ import annotations

import pytest

from sdwatch.errors import JobError
from sdwatch.policy.job.calls.catalogue import Catalogue
from sdwatch.policy.job.calls.preflight import check_against
from sdwatch.policy.job.job import Job, parse_job
from sdwatch.policy.job.needs import Needs, lacking
from sdwatch.policy.kinds.forge import FORGE


def job(needs: str) -> Job:
    return parse_job(f"prompt: a castle\nneeds: {needs}\n".encode(), "castle.yaml")


def test_one_tag_needs_no_list() -> None:
    assert job("{tags: flux, checkpoints: [a, b]}").needs == Needs(("flux",), ("a", "b"))


@pytest.mark.parametrize(
    ("needs", "says"),
    [
        ("{tag: flux}", 'castle.yaml:2:9: unknown field "tag" in needs; did you mean "tags"?'),
        ("{tags: [Big GPU]}", "castle.yaml:2:16: needs.tags"),
        ("{tags: []}", "castle.yaml:2:15: needs.tags"),
        ("flux", "castle.yaml:2:8: needs"),
    ],
)
def test_mistakes_are_reported_with_their_places(needs: str, says: str) -> None:
    with pytest.raises(JobError) as caught:
        job(needs)
    assert says in str(caught.value)


def test_a_checkpoint_that_the_webui_lacks_is_refused_where_it_was_written() -> None:
    has = Catalogue(FORGE).with_list(
        "sd-models", [{"title": "dreamy.ckpt", "model_name": "dreamy"}]
    )
    wanted = job("{checkpoints: [dreamy, dreamer]}")
    (problem,) = check_against(wanted, has).problems
    assert (problem.line, problem.column) == (2, 31)
    assert 'no checkpoint "dreamer"; did you mean "dreamy.ckpt"?' in problem.message
    assert check_against(wanted, has).stale == {"sd-models"}, "it may have come since"


def test_a_tag_that_a_lane_lacks_is_named_with_the_one_that_was_meant() -> None:
    (problem,) = lacking(job("{tags: [flux, 24gbb]}").needs, ("flux", "24gb"))
    assert problem.message == 'no tag "24gbb"; did you mean "24gb"?'
    assert (problem.line, problem.column) == (2, 22)

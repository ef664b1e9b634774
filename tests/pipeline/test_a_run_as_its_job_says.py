"""A run with `oom:` or `timeout:` in its job, over the monitor's death at each of its records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sdwatch.policy.job.stage.confinement import JobRules
from sdwatch.spool.commands import failed_points_of
from sdwatch.spool.run import Run
from sdwatch.stages.run_end import RunEnd
from sdwatch.webui.http.reply import Reply
from tests.support.fakes import (
    FakeClient,
    FakeProcess,
    PlainClient,
    Workplace,
    envelope,
    journal,
    picture,
    reply,
)
from tests.support.histories import out_of_memory

LADDER = "prompt: x\nwidth: 64\nheight: 64\nseed: 5\nbatch_size: 4\noom: [batch]\n"
RECORDS = 30
"""More than such a run has."""


class Death(BaseException):
    """Of the monitor: nothing of it runs after this."""


class OnePicture(FakeClient):
    """A WebUI in which only so many pictures fit at a time."""

    def __init__(self, fits: Mapping[int, int]) -> None:
        """`fits`: how many fit at once, by the seed of the first."""
        super().__init__()
        self.fits = fits

    def generate_images(self, stage: str, payload: Mapping[str, Any], *_: Any) -> Reply:
        self.posts.append((stage, dict(payload)))
        batch = payload["batch_size"]
        if batch > self.fits[payload["seed"]]:
            raise out_of_memory()
        return reply(*(picture(payload["seed"] + i) for i in range(batch)))


FITS = {5: 2, 6: 1, 7: 1, 8: 1}
"""The first two together, then one at a time."""


def die_at(number: int, run: Run) -> None:
    """Die after the record with this number, counted over all lives."""
    write = run.record

    def and_die(event: str, **data: Any) -> None:
        write(event, **data)
        if len(run.records) == number:
            raise Death

    run.record = and_die  # type: ignore[method-assign]


@pytest.mark.parametrize("number", range(2, RECORDS))
def test_a_death_on_the_ladder_repeats_no_finished_call_and_takes_no_rung_twice(
    tmp_path: Path, number: int
) -> None:
    place = Workplace(tmp_path)
    run = place.claimed(LADDER)
    die_at(number, run)
    try:
        ending = place.recovering(run, OnePicture(FITS), FakeProcess()).run_to_end(place.spool)
    except Death:
        run.close()
        place = Workplace(tmp_path)
        client = OnePicture(FITS)
        ending = place.recovering(place.resumed(), client, FakeProcess()).run_to_end(place.spool)
    assert ending is RunEnd.DONE
    records = journal(place.done())
    finished = [record["call"] for record in records if record["event"] == "call_finished"]
    assert finished == ["1.1-batch2-1", "1.1-batch1-3", "1.1-batch1-4"]
    rungs = [record["name"] for record in records if record["event"] == "oom_step"]
    assert rungs == ["batch2", "batch1"]
    failed = Counter(r["call"] for r in records if r["event"] == "call_failed")
    assert failed == {"1.1": 2, "1.1-batch2-3": 2}
    names = sorted(path.name[-10:] for path in (place.done() / "images").iterdir())
    assert names == [f"001-0{number}.png" for number in (1, 2, 3, 4)]


def test_a_timeout_counts_the_attempts_of_earlier_lives(tmp_path: Path) -> None:
    place = Workplace(tmp_path)
    run = place.claimed("prompt: x\nwidth: 64\nheight: 64\nn_iter: 3\ntimeout: 10\n")
    run.read_job()
    run.plan()
    run.record("call_started", call="1.1", attempt=1, incarnation=1)
    run.record("call_given_up", call="1.1", why="a stop", seconds=6.5)
    run.record("call_started", call="1.1", attempt=2, incarnation=1)
    run.record("call_given_up", call="1.1", why="a stop", seconds=4.0)
    run.close()
    client = PlainClient(reply(picture(1)))
    assert place.runner(place.resumed(), client).run_to_end(place.spool) is RunEnd.FAILED
    assert client.posts == []
    failed = envelope(place.failed())
    assert (failed["diagnosis"], failed["blame"]) == ("timed out", "job")
    assert "10 s" in failed["message"]


def test_the_points_that_a_timeout_leaves_are_listed_and_can_be_retried_alone(
    tmp_path: Path,
) -> None:
    place = Workplace(tmp_path)
    run = place.claimed("prompt: a ${x}\nmatrix: {x: [one, two, three, four]}\ntimeout: 10\n")
    run.read_job()
    run.plan()
    run.record("call_started", call="p2.1.1", attempt=1, incarnation=1)
    run.record("call_given_up", call="p2.1.1", why="a stop", seconds=12.0)
    run.close()
    client = PlainClient(reply(picture(1)))
    assert place.runner(place.resumed(), client).run_to_end(place.spool) is RunEnd.FAILED
    assert client.posts == []
    assert failed_points_of(place.failed(), JobRules()) == [1, 2, 3, 4]
    why = (place.failed() / "WHY.txt").read_text(encoding="utf-8")
    assert "its calls took longer than its timeout of 10 s" in why


def test_the_ladder_is_climbed_with_a_plain_client_too(tmp_path: Path) -> None:
    place = Workplace(tmp_path)
    client = OnePicture(FITS)
    plain = PlainClient(client.generate_images)
    run = place.claimed(LADDER)
    assert place.runner(run, plain).run_to_end(place.spool) is RunEnd.DONE
    assert [payload["batch_size"] for _, payload in plain.posts] == [4, 2, 2, 1, 1]

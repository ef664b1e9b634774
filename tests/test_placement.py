"""Which lane gets which job: the rule, on lanes whose lists a test writes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from sdwatch.monitor.placement import Placement
from sdwatch.policy.job.calls.catalogue import Catalogue
from sdwatch.policy.job.job import Job, parse_job
from sdwatch.policy.kinds.forge import FORGE

MOST = 100_000_000


def has(*checkpoints: str) -> Catalogue:
    body = [{"title": name, "model_name": name} for name in checkpoints]
    return Catalogue(FORGE).with_list("sd-models", body)


@dataclass
class FakeLane:
    name: str
    catalogue: Catalogue | None = None
    asked: list[set[str]] = field(default_factory=list)

    def read_again(self, routes: Collection[str]) -> None:
        self.asked.append(set(routes))


@dataclass
class Offer:
    source: str
    job: object

    @property
    def version(self) -> object:
        return self.job


def wants(checkpoint: str, name: str = "job.yaml", more: str = "") -> Offer:
    text = f"prompt: a\noverride_settings: {{sd_model_checkpoint: {checkpoint}}}\n{more}"
    return Offer(name, parse_job(text.encode(), name))


def test_a_lane_takes_what_it_can_do() -> None:
    lane = FakeLane("one", has("a"))
    placement = Placement([lane], MOST)
    assert placement.can_do(lane, wants("a"))
    assert placement.refusal(wants("a")) is None
    assert lane.asked == []


def test_nothing_is_taken_or_refused_by_a_lane_that_is_not_known() -> None:
    lane = FakeLane("one")
    placement = Placement([lane], MOST)
    assert not placement.can_do(lane, wants("a"))
    assert placement.refusal(wants("a")) is None
    assert placement.waiting() == {}


def test_a_name_is_looked_up_once_more_in_lists_that_are_read_again() -> None:
    lane = FakeLane("one", has("a"))
    placement = Placement([lane], MOST)
    here, gone = wants("b", "b.yaml"), wants("c", "c.yaml")
    assert [placement.refusal(offer) for offer in (here, gone, here, gone)] == [None] * 4
    assert lane.asked == [{"sd-models"}] * 2, "once for each job"
    lane.catalogue = has("a", "b")
    assert placement.can_do(lane, here)
    refusal = placement.refusal(gone)
    assert refusal is not None
    assert str(refusal).startswith("c.yaml:2:42: this WebUI (Forge) has no checkpoint")
    assert len(lane.asked) == 2


def test_a_job_that_cannot_have_changed_is_refused_at_once() -> None:
    lane = FakeLane("one", has("a"))
    assert Placement([lane], MOST).refusal(wants("a", more="width: 65")) is not None
    assert lane.asked == []


def test_a_job_is_refused_only_when_every_lane_is_known() -> None:
    one, two = FakeLane("one", has("a")), FakeLane("two")
    placement = Placement([one, two], MOST)
    offer = wants("a", more="width: 65")
    assert placement.refusal(offer) is None
    assert placement.waiting()["job.yaml"].startswith("one cannot do it: width")
    assert placement.is_refused_by([one], offer)
    assert not placement.is_refused_by([one, two], offer)
    two.catalogue = has("b")
    placement.refusal(offer)
    two.catalogue = has("b")  # read again
    refusal = placement.refusal(offer)
    assert refusal is not None
    messages = [problem.message for problem in refusal.problems]
    assert messages[0].startswith("two: this WebUI (Forge) has no checkpoint")
    assert messages[1].startswith("width must be"), "all say so: no lane is named"


def test_another_file_of_the_same_name_is_another_job() -> None:
    lane = FakeLane("one", has("a"))
    placement = Placement([lane], MOST)
    assert not placement.can_do(lane, wants("a", more="width: 65"))
    assert placement.can_do(lane, wants("a"))


def test_jobs_that_are_gone_are_forgotten() -> None:
    lane = FakeLane("one", has("a"))
    placement = Placement([lane], MOST)
    placement.refusal(wants("a", "x.yaml", "width: 65"))
    placement.refusal(wants("a", "y.yaml", "width: 65"))
    placement.keep_only({"y.yaml"})
    assert placement.waiting().keys() == {"y.yaml"}


def test_a_file_that_is_no_job_fits_no_lane() -> None:
    lane = FakeLane("one", has("a"))
    placement = Placement([lane], MOST)
    assert isinstance(wants("a").job, Job)
    assert placement.refusal(Offer("x", ValueError("cannot be parsed"))) is None
    assert not placement.can_do(lane, Offer("x", ValueError("cannot be parsed")))

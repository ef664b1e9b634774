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
    tags: tuple[str, ...] = ()
    box: str = ""
    serves: bool = True
    is_idle: bool = True
    incarnation: int = 1

    @property
    def alike(self) -> str:
        return f"{self.name} {self.tags}"

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


def tagged(tags: str) -> Offer:
    text = f"prompt: a\nneeds: {{tags: {tags}}}\n"
    return Offer("job.yaml", parse_job(text.encode(), "job.yaml"))


def test_a_lane_without_the_tag_does_not_take_the_job() -> None:
    small, big = FakeLane("small", has("a")), FakeLane("big", has("a"), tags=("24gb",))
    placement = Placement([small, big], MOST)
    assert not placement.can_do(small, tagged("24gb"))
    assert placement.can_do(big, tagged("24gb"))
    assert placement.waiting() == {}, "it waits for its turn only"


def test_on_one_machine_a_tag_that_no_lane_has_fails_the_job() -> None:
    placement = Placement([FakeLane("big", has("a"), tags=("24gb",))], MOST)
    refusal = placement.refusal(tagged("24bg"))
    assert refusal is not None
    assert 'job.yaml:2:15: no tag "24bg"; did you mean "24gb"?' in str(refusal)


def test_with_other_machines_it_waits_for_one_that_has_the_tag_and_says_so() -> None:
    elsewhere = [FakeLane("box/big", has("a"), tags=("24gb",), box="box")]
    placement = Placement([FakeLane("small", has("a"))], MOST)
    placement.remote = lambda: elsewhere
    assert placement.refusal(tagged("24bg")) is None
    assert placement.without_tags() == {"job.yaml": ("24bg",)}
    assert placement.waiting() == {
        "job.yaml": 'waits for a machine with the tag "24bg"; did you mean "24gb"?'
    }
    elsewhere.append(FakeLane("new/big", has("a"), tags=("24bg",), box="new"))
    assert placement.has_news()
    assert placement.refusal(tagged("24bg")) is None
    assert placement.without_tags() == {}


def test_nothing_is_refused_while_nobody_knows_the_other_machines() -> None:
    placement = Placement([FakeLane("one", has("a"))], MOST)
    placement.remote = lambda: None
    assert placement.refusal(wants("a", more="width: 65")) is None
    placement.remote = lambda: ()
    assert placement.refusal(wants("a", more="width: 65")) is None, "none has come yet"


def test_a_box_that_is_off_may_still_do_what_nobody_else_can() -> None:
    off = FakeLane("box/x", has("b"), box="box", serves=False)
    placement = Placement([FakeLane("one", has("a"))], MOST)
    placement.remote = lambda: [off]
    offer = wants("b")
    assert placement.refusal(offer) is None
    assert placement.waiting()["job.yaml"].startswith("one cannot do it")


def test_a_job_that_every_box_refused_fails_with_what_they_said() -> None:
    box = FakeLane("box/x", has("a"), box="box")
    placement = Placement([], MOST)
    placement.remote = lambda: [box]
    assert placement.can_do(box, wants("a"))
    placement.note_refusal("job.yaml", "box", "box: it has no LoRA")
    assert not placement.can_do(box, wants("a"))
    refusal = placement.refusal(wants("a"))
    assert refusal is not None
    assert "box: it has no LoRA" in str(refusal)


def test_a_job_that_a_box_refused_says_so_while_it_waits_for_one_that_is_off() -> None:
    box, off = (FakeLane(f"{name}/x", has("a"), box=name) for name in ("box", "off"))
    off.serves = False
    placement = Placement([], MOST)
    placement.remote = lambda: [box, off]
    assert placement.can_do(box, wants("a"))
    assert placement.waiting() == {}
    placement.note_refusal("job.yaml", "box", "box: it has no LoRA")
    assert placement.refusal(wants("a")) is None
    assert placement.waiting() == {
        "job.yaml": "was refused, and waits for another machine: box: it has no LoRA"
    }
    off.serves = True
    assert placement.waiting() == {}
    off.serves, box.incarnation = False, 2  # another WebUI, which may do it
    assert placement.waiting() == {}


def test_what_boxes_said_is_said_with_the_name_of_each_box_once() -> None:
    lanes = [FakeLane(f"{box}/x", has("a"), box=box) for box in ("one", "two")]
    placement = Placement([], MOST)
    placement.remote = lambda: lanes
    for box in ("one", "two"):
        placement.note_refusal("job.yaml", box, f"{box}: it has no LoRA")
    refusal = placement.refusal(wants("a"))
    assert refusal is not None
    assert [each.message for each in refusal.problems] == [
        "one: it has no LoRA",
        "two: it has no LoRA",
    ]

"""Which job a WebUI gets next, by the checkpoints that are loaded."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sdwatch.monitor.affinity import Affinity
from sdwatch.policy.job.job import parse_job
from sdwatch.policy.queue.schedule import (
    Choice,
    InLine,
    WhyNext,
    choose,
    in_words,
    left_loaded,
    needed_first,
)
from tests.support.helpers import FakeClock
from tests.support.nights import OneLane, Waits, night_of, simulated
from tests.support.tables import table

HERE = InLine("here", here=True)
OTHER = InLine("other")
ELSEWHERE = InLine("elsewhere", elsewhere=True)
IDLE = InLine("idle", elsewhere=True, idle_elsewhere=True)


def late(seconds: float, takes: float = 0.0) -> InLine:
    return InLine("late", late=seconds, takes=takes)


@table(
    ("line", "expected"),
    [
        ([], None),
        ([OTHER], Choice(0, WhyNext.FIRST)),
        ([HERE, OTHER], Choice(0, WhyNext.FIRST)),
        ([OTHER, HERE], Choice(1, WhyNext.LOADED)),
        ([OTHER, OTHER, HERE, HERE], Choice(2, WhyNext.LOADED)),
        ([late(59), HERE], Choice(1, WhyNext.LOADED)),
        ([late(60), HERE], Choice(0, WhyNext.LATE)),
        ([late(50), InLine("long", here=True, takes=11)], Choice(0, WhyNext.LATE)),
        ([late(50), InLine("short", here=True, takes=10)], Choice(1, WhyNext.LOADED)),
        ([OTHER, late(60), HERE], Choice(0, WhyNext.LATE)),  # it may pass the first, not the second
        ([late(50), InLine("long", here=True, takes=11), HERE], Choice(2, WhyNext.LOADED)),
        ([ELSEWHERE, OTHER], Choice(1, WhyNext.NOT_ELSEWHERE)),
        ([ELSEWHERE, HERE], Choice(1, WhyNext.LOADED)),
        ([ELSEWHERE], Choice(0, WhyNext.FIRST)),  # that one is busy: better loaded twice than idle
        ([IDLE, ELSEWHERE], Choice(1, WhyNext.FIRST)),
        ([IDLE], None),
        ([IDLE, OTHER], Choice(1, WhyNext.NOT_ELSEWHERE)),
    ],
)
def test_the_loaded_checkpoint_goes_first_as_long_as_nobody_is_delayed_too_long(
    line: Sequence[InLine], expected: Choice | None
) -> None:
    assert choose(line, 60) == expected
    plain = Choice(0, WhyNext.FIRST) if line else None
    assert choose(line, None) == plain


def test_status_says_why() -> None:
    line = [late(12.4), OTHER, HERE]
    assert in_words(Choice(2, WhyNext.LOADED), line, 600) == (
        "its checkpoint is loaded; 2 older jobs wait for it, up to 12 s so far (limit 600 s)"
    )
    assert in_words(Choice(0, WhyNext.FIRST), line, 600) == "it is the first in the order"


@table(
    ("text", "first", "last"),
    [
        ("prompt: x", "", ""),
        ("{prompt: x, override_settings: {sd_model_checkpoint: a}}", "a", "a"),
        ("stages: [upscale: {image: a.png}]", None, None),
        (
            "stages: [txt2img: {prompt: x, override_settings: {sd_model_checkpoint: a}}, "
            "img2img: {prompt: x}, upscale]",
            "a",
            "",
        ),
    ],
)
def test_a_job_needs_the_checkpoint_that_its_calls_name(
    text: str, first: str | None, last: str | None
) -> None:
    job = parse_job(text.encode(), "a.yaml", frozenset({"a.png"}))
    assert (needed_first(job), left_loaded(job)) == (first, last)


# -- over many jobs


@pytest.mark.slow
def test_two_hundred_jobs_over_four_checkpoints_need_four_loads() -> None:
    jobs = night_of(1)
    plain = simulated(jobs, None, switch=5, image=1)
    assert list(plain.started) == [job.source for job in jobs]
    assert plain.loads > 100
    near = simulated(jobs, 600, switch=5, image=1)
    assert near.loads == 4
    assert near.seconds == 4 * 5 + 200
    assert simulated(jobs, 600, switch=5, image=1) == near  # the same line, the same order


@pytest.mark.slow
@table("most", [10, 30, 60, 120])
@table("switch", [0, 5])
def test_no_job_starts_later_than_in_plain_order_by_more_than_the_limit(
    most: float, switch: float
) -> None:
    """The first run of a night has no typical duration before it: so a run more."""
    for seed in range(5):
        jobs = night_of(seed)
        plain = simulated(jobs, None, switch=switch, image=1)
        near = simulated(jobs, most, switch=switch, image=1)
        assert near.loads <= plain.loads
        latest = max(near.started[s] - plain.started[s] for s in plain.started)
        assert latest <= most + switch + 1


def test_a_higher_priority_is_never_passed() -> None:
    jobs = [Waits("a.yaml", "x", 1), Waits("b.yaml", "", 0)]
    chosen = Affinity(FakeClock(), 600).next_for(OneLane(), jobs, lambda _: ())
    assert chosen is not None
    assert (chosen.job.source, chosen.passed) == ("a.yaml", ())


def test_a_restart_has_loaded_the_default_again() -> None:
    affinity, lane = Affinity(FakeClock(), 600), OneLane()
    affinity.started("run", lane, "x")
    assert affinity.loaded(lane) == "x"
    affinity.started("upscale", lane, None)
    assert affinity.loaded(lane) == "x"
    lane.incarnation = 2
    assert affinity.loaded(lane) == ""


def test_each_lane_takes_what_it_has_and_leaves_the_rest_to_one_that_is_idle() -> None:
    affinity, one, two = Affinity(FakeClock(), 600), OneLane("one"), OneLane("two")
    affinity.started("r1", one, "x")
    affinity.started("r2", two, "y")
    jobs = [Waits("1.yaml", "y"), Waits("2.yaml", "z"), Waits("3.yaml", "x")]
    idle = affinity.next_for(one, jobs, lambda _: [(two, True)])
    assert idle is not None
    assert idle.job.source == "3.yaml"
    only_y = affinity.next_for(one, jobs[:1], lambda _: [(two, True)])
    assert only_y is None
    busy = affinity.next_for(one, jobs[:1], lambda _: [(two, False)])
    assert busy is not None
    assert busy.job.source == "1.yaml"


# -- beside a run that is under way


def test_a_job_that_needs_another_checkpoint_does_not_join_a_run_until_its_delay_is_over() -> None:
    clock, lane = FakeClock(), OneLane()
    affinity = Affinity(clock, 600)
    affinity.started("long", lane, "x")
    active, sources = {"long"}, {"b.yaml"}
    assert affinity.may_join(lane, "a.yaml", "x", 0)
    assert affinity.may_join(lane, "upscale.yaml", None, 0)
    assert not affinity.may_join(lane, "b.yaml", "y", 0)
    held = affinity.next_for(lane, [Waits("b.yaml", "y")], lambda _: ())
    assert held is not None
    assert "it waits for the run under way" in held.why
    clock.advance(599)
    affinity.look(active, sources)
    assert not affinity.may_join(lane, "b.yaml", "y", 0)
    clock.advance(1)
    affinity.look(active, sources)
    assert affinity.may_join(lane, "b.yaml", "y", 0)


def test_a_higher_priority_joins_at_once_and_so_does_anybody_in_plain_order() -> None:
    lane = OneLane()
    affinity = Affinity(FakeClock(), 600)
    affinity.started("long", lane, "x", priority=3)
    assert not affinity.may_join(lane, "b.yaml", "y", 3)
    assert affinity.may_join(lane, "b.yaml", "y", 4)
    plain = Affinity(FakeClock(), None)
    plain.started("long", lane, "x")
    assert plain.may_join(lane, "b.yaml", "y", 0)


def test_who_joined_late_does_not_bring_others_of_its_checkpoint_in() -> None:
    lane = OneLane()
    affinity = Affinity(FakeClock(), 600)
    affinity.started("long", lane, "x")
    affinity.started("late", lane, "y")
    assert not affinity.may_join(lane, "c.yaml", "y", 0)
    affinity.look({"late"}, ())
    assert affinity.may_join(lane, "c.yaml", "y", 0)
    assert affinity.may_join(OneLane("other"), "d.yaml", "z", 0)

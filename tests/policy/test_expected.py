"""When jobs start: a function of the history and of what is under way."""

from __future__ import annotations

import pytest

from sdwatch.policy.job.calls.call_sizes import CallSize
from sdwatch.policy.job.calls.estimate import CallTimes, TimedCall
from sdwatch.policy.page.expected import (
    RunTimes,
    because,
    expect,
    free_in,
    history_of,
    with_starts,
)
from sdwatch.policy.page.night import EndedRun, Loss, counts_of, losses_in
from sdwatch.policy.page.overview import (
    ActiveCard,
    Because,
    CallProgress,
    MonitorCard,
    Presence,
    QueuedJob,
    Totals,
)
from sdwatch.policy.page.times import wall_of
from tests.policy.pages import NOW, active, ended, lane, overview
from tests.support.tables import table

PACE = RunTimes(CallTimes([TimedCall(10)]), run=25)
SMALL, LARGE = CallSize("txt2img", 512 * 512, 20), CallSize("txt2img", 1024 * 1024, 20)
SIZED = RunTimes(CallTimes([TimedCall(10, SMALL), TimedCall(60, LARGE)]), run=25)


def a_run(*calls: TimedCall) -> EndedRun:
    return EndedRun(ended("done"), calls, sum(call.seconds for call in calls))


def test_the_history_has_the_calls_of_all_runs_and_how_long_a_run_takes() -> None:
    assert not history_of([])
    assert not history_of([a_run()])
    found = history_of([a_run(TimedCall(10), TimedCall(12)), a_run(TimedCall(14)), a_run()])
    assert (found.calls.usual, found.run) == (12, 18)


def test_before_the_first_run_has_ended_its_calls_are_the_history() -> None:
    found = history_of([], CallTimes([TimedCall(10, SMALL)]))
    assert (found.run, found.of_job({LARGE: 2})) == (10, 80)


def test_a_job_takes_what_its_sizes_take() -> None:
    assert SIZED.of_job({SMALL: 3, LARGE: 1}) == 90
    assert SIZED.of_each_call({SMALL: 3, LARGE: 1}) == 22.5
    assert (SIZED.of_job(None), SIZED.of_job({})) == (25, 25)


@table(
    ("free", "takes", "starts", "end"),
    [
        ([0.0], [10, 10, 10], [0, 10, 20], 30),
        ([30.0], [20, 10], [30, 50], 60),
        ([0.0], [None, 10], [0, 25], 35),
        ([0.0, 0.0], [30, 10, 10], [0, 0, 10], 30),
        ([100.0, 5.0], [10, 10], [5, 15], 100),
        ([], [10, 10], [None, None], None),
    ],
)
def test_jobs_start_where_a_lane_is_free_first(
    free: list[float], takes: list[float | None], starts: list[float | None], end: float | None
) -> None:
    jobs = [QueuedJob(f"{n}.yaml", takes=seconds) for n, seconds in enumerate(takes)]
    queue, last = with_starts(jobs, free, PACE)
    assert ([job.starts_in for job in queue], last) == (starts, end)


def test_without_a_history_nothing_is_expected() -> None:
    found = expect(overview(queue=(QueuedJob("a.yaml"),), lanes=(lane(),)), RunTimes())
    assert found.queue[0].starts_in is None
    assert found.queue_ends_in is None
    assert not found.has_history
    assert found.queue[0].because is Because.ONLY


def test_runs_that_resume_come_before_the_queue() -> None:
    totals = Totals(queued=1, suspended=2)
    found = expect(overview(queue=(QueuedJob("a.yaml"),), lanes=(lane(),), totals=totals), PACE)
    assert found.queue[0].starts_in == 50


def test_a_large_run_that_resumes_takes_as_long_as_what_is_left_of_it() -> None:
    waits = active("R1", lane=""), active("R2", lane="")
    found = expect(
        overview(
            queue=(QueuedJob("a.yaml"),),
            lanes=(lane(),),
            active=waits,
            totals=Totals(queued=1, suspended=2),
        ),
        SIZED,
        {"R1": {SMALL: 400.0}},
    )
    assert found.queue[0].starts_in == 4000 + 25


def test_the_end_of_a_queue_that_is_longer_than_its_list() -> None:
    totals = Totals(queued=101)
    found = expect(
        overview(queue=(QueuedJob("a.yaml", takes=10),), lanes=(lane(), lane("b")), totals=totals),
        PACE,
    )
    assert found.queue_ends_in == 10 + 100 * 25 / 2


@table(
    ("card", "runs", "free"),
    [
        (lane(), (), [0.0]),
        (lane(state="cooling down", cooldown_left=40.0), (), [40.0]),
        (lane(hold="no model"), (), []),
        (lane(state="not usable"), (), []),
        (lane(state="stopped"), (), []),
        # Half of the third of four calls is left, and the fourth.
        (lane(), (active(calling=True, call=3, calls=4, stages=1, stage_number=1,
                         progress=CallProgress(percent=50)),), [15.0]),
        # What the WebUI says counts more than the history.
        (lane(), (active(calling=True, call=1, calls=1, stages=1, stage_number=1,
                         progress=CallProgress(percent=50, eta=90)),), [90.0]),
        # Its three further calls take as long as this one, which is slower than the others were.
        (lane(), (active(calling=True, call=1, calls=4, stages=1, stage_number=1,
                         progress=CallProgress(percent=25, eta=90)),), [90.0 + 3 * 120]),
        # A later stage may be another kind of call.
        (lane(), (active(calling=True, call=1, calls=2, stages=2, stage_number=1,
                         progress=CallProgress(percent=50, eta=60)),), [60.0 + 120 + 2 * 10]),
        # Before its first step a call says nothing about the others.
        (lane(), (active(calling=True, call=1, calls=3, stages=1, stage_number=1,
                         progress=CallProgress(percent=0, eta=7)),), [7.0 + 2 * 10]),
        # Two runs of one lane take turns: both are before the queue.
        (lane(), (active(calling=True, call=1, calls=2, stages=1, stage_number=1,
                         progress=CallProgress(percent=50, eta=20)),
                  active(call=1, calls=1, stages=1, stage_number=1)), [20.0 + 40 + 10]),
        (lane(), (active(),), [25.0]),
        (lane(), (active(lane="another"),), [0.0]),
    ],
)  # fmt: skip
def test_a_lane_is_free_when_its_cooldown_and_its_runs_are_over(
    card: object, runs: tuple[object, ...], free: list[float]
) -> None:
    assert free_in(overview(lanes=(card,), active=runs), PACE) == free


@pytest.mark.parametrize(
    ("run", "free"),
    [
        # The last of ten points.
        (active(calling=True, point=10, points=10, call=1, calls=1, stages=1, stage_number=1,
                progress=CallProgress(percent=50, eta=5)), 5.0),
        # Three further points follow, each with a call.
        (active(calling=True, point=7, points=10, call=1, calls=1, stages=1, stage_number=1,
                progress=CallProgress(percent=50, eta=5)), 5 + 3 * 10),
        # It has read its job, and not made a call.
        (active(), 100.0),
    ],
)  # fmt: skip
def test_a_run_with_points_lasts_until_its_last_point(run: ActiveCard, free: float) -> None:
    sizes = {run.run_id: {SMALL: 10.0}}
    assert free_in(overview(lanes=(lane(),), active=(run,)), SIZED, sizes) == [free]


def test_the_points_of_a_job_that_nobody_measured_are_like_the_one_under_way() -> None:
    run = active(call=1, calls=2, stages=2, stage_number=1, point=1, points=3)
    assert free_in(overview(lanes=(lane(),), active=(run,)), PACE) == [10 * 2 + 10 * 2 + 10 * 2 * 4]


@table(
    "monitor",
    [
        MonitorCard(Presence.RUNNING, hold="paused"),
        MonitorCard(Presence.GONE),
        MonitorCard(Presence.STOPPED),
        MonitorCard(Presence.STOPPING),
    ],
)
def test_nobody_knows_when_a_hold_or_a_stop_ends(monitor: MonitorCard) -> None:
    assert free_in(overview(lanes=(lane(),), monitor=monitor), PACE) == []


@table(
    ("first", "second", "why"),
    [
        (QueuedJob("a", 0, 5.0), None, Because.ONLY),
        (QueuedJob("a", 2, 9.0), QueuedJob("b", 1, 5.0), Because.PRIORITY),
        (QueuedJob("a", 1, 4.0), QueuedJob("b", 1, 5.0), Because.OLDEST),
        (QueuedJob("a", 1, 5.0), QueuedJob("b", 1, 5.0), Because.NAME),
        (QueuedJob("a"), QueuedJob("b"), None),
    ],
)
def test_why_a_job_is_the_next_one(
    first: QueuedJob, second: QueuedJob | None, why: Because | None
) -> None:
    assert because(first, [second] if second else []) is why


def at(moment: float, event: str, /, **fields: object) -> dict[str, object]:
    minute, second = divmod(int(moment), 60)
    return {"at": f"2026-09-21T02:{minute:02}:{second:02}.000Z", "event": event, **fields}


@table(
    ("records", "crashes", "lost"),
    [
        ([at(0, "call_started"), at(9, "call_finished", seconds=9)], 0, 0.0),
        # 20 s of work, 70 s until the next attempt.
        (
            [
                at(0, "call_started"),
                at(20, "call_failed", seconds=20, crashed=True),
                at(90, "call_started"),
                at(99, "call_finished", seconds=9),
                at(100, "ended", outcome="done"),
            ],
            1,
            90.0,
        ),
        # The second attempt ends the run.
        (
            [
                at(20, "call_failed", seconds=20, crashed=True),
                at(50, "call_started"),
                at(55, "call_failed", seconds=5, crashed=True),
                at(85, "ended", outcome="failed"),
            ],
            2,
            20 + 30 + 5 + 30.0,
        ),
        ([at(9, "call_failed", seconds=3, crashed=False), at(20, "call_started")], 0, 0.0),
        # Still down, now at 02:02:00: it counts from the crash on.
        ([at(9, "call_failed", seconds=3, crashed=True)], 1, 3.0 + 111),
        # What no sdwatch writes costs nothing.
        ([at(9, "call_failed", seconds="long", crashed=True), {"at": 7, "event": "ended"}], 1, 111),
        ([at(9, "call_failed", seconds=1e300, crashed=True), at(9, "ended")], 1, 0.0),
    ],
)
def test_time_lost_to_crashes_is_in_the_journal(
    records: list[dict[str, object]], crashes: int, lost: float
) -> None:
    losses = losses_in(records)
    now = wall_of(at(120, "now")["at"])
    assert (len(losses), sum(loss.seconds(now) for loss in losses)) == (crashes, lost)
    # Read as it grows, a journal says the same.
    grown: tuple[Loss, ...] = ()
    for record in records:
        grown = losses_in([record], grown)
    assert grown == losses


def test_nothing_is_lost_to_a_crash_while_no_monitor_runs() -> None:
    assert Loss(NOW, 7).seconds(None) == 7
    assert Loss(NOW, 7, NOW + 3).seconds(None) == 10
    assert Loss(NOW, 7).seconds(NOW - 3) == 7


def test_a_night_has_what_ended_and_crashed_in_its_hours() -> None:
    old = NOW - 13 * 3600
    runs = [
        EndedRun(ended("done", images=4), losses=(Loss(NOW, 10, NOW + 20), Loss(old, 9, NOW))),
        EndedRun(ended("failed", images=1), losses=(Loss(NOW, 0.5),)),
        EndedRun(ended("cancelled", images=0)),
        EndedRun(ended("done", ended_at=old), losses=(Loss(old, 900),)),
        EndedRun(ended("done", ended_at=None)),
    ]
    under_way = [Loss(NOW - 60, 5), Loss(NOW - 90, 5, NOW - 80)]
    counts = counts_of(runs, NOW, under_way=under_way, lost_until=NOW)
    assert (counts.done, counts.failed, counts.cancelled, counts.images) == (1, 1, 1, 5)
    assert (counts.crashes, counts.lost) == (4, 30 + 0.5 + 65 + 15)


def test_a_job_that_waits_for_its_time_delays_no_other_and_starts_when_it_comes() -> None:
    jobs = [
        QueuedJob("now.yaml", takes=10),
        QueuedJob("soon.yaml", takes=10, waits_until=NOW + 5),
        QueuedJob("night.yaml", takes=10, waits_until=NOW + 3600),
    ]
    queue, last = with_starts(jobs, [0.0], PACE, now=NOW)
    assert [job.starts_in for job in queue] == [0, 10, 3600]
    assert last == 3610


def test_a_run_that_waits_for_its_window_does_not_resume_before_the_queue() -> None:
    night = active("R1", lane="", waits_until=NOW + 600)
    found = expect(
        overview(
            queue=(QueuedJob("a.yaml", takes=10),),
            lanes=(lane(),),
            active=(night,),
            totals=Totals(queued=1, suspended=1),
        ),
        SIZED,
        {"R1": {SMALL: 3}},
    )
    assert found.queue[0].starts_in == 0
    assert found.queue_ends_in == 600 + 30


def test_a_job_that_may_not_start_is_not_the_next_one() -> None:
    jobs = (
        QueuedJob("night.yaml", waits_until=NOW + 600),
        QueuedJob("b.yaml", waits_until=NOW + 9e5),
    )
    found = expect(overview(queue=jobs, lanes=(lane(),), totals=Totals(queued=2)), PACE)
    assert found.queue[0].because is None

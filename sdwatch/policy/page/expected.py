"""When a job of the queue is expected to start, from what this machine's runs took so far. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from sdwatch.policy.failure.lifecycle import State
from sdwatch.policy.job.calls.call_sizes import CallSize
from sdwatch.policy.job.calls.estimate import CallTimes, estimate
from sdwatch.policy.page.night import EndedRun
from sdwatch.policy.page.overview import (
    ActiveCard,
    Because,
    CallProgress,
    LaneCard,
    Overview,
    Presence,
    QueuedJob,
)

_SERVE = (State.READY, State.STARTING, State.COOLING_DOWN, State.DOWN)

Sizes = Mapping[CallSize, float]
"""How many calls of each size."""


@dataclass(frozen=True)
class RunTimes:
    """How fast the WebUIs are. `calls`: what calls took; `run`: seconds of a typical run, for a job
    that nobody has read."""

    calls: CallTimes = field(default_factory=CallTimes)
    run: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.calls)

    def of_job(self, sizes: Sizes | None) -> float:
        """Return the seconds that a job takes; `sizes`: None if nobody has read it."""
        seconds = estimate(self.calls, sizes) if sizes else None
        return self.run if seconds is None else seconds

    def of_each_call(self, sizes: Sizes | None) -> float:
        """Return the seconds that a call of a job takes on average."""
        count = sum(sizes.values()) if sizes else 0.0
        return self.of_job(sizes) / count if count else self.calls.usual


def history_of(ended: Sequence[EndedRun], under_way: CallTimes | None = None) -> RunTimes:
    """Return the history. `ended`: runs that ended, newest first; `under_way`: calls of runs that
    have not: of the first job, nothing else is known."""
    now = under_way or CallTimes()
    calls = CallTimes([*now, *(call for run in ended for call in run.calls)])
    took = [run.seconds for run in ended if run.seconds > 0]
    return RunTimes(calls, median(took) if took else calls.usual)


def call_left(progress: CallProgress, usual: float) -> float:
    """Return the seconds left of a call under way: what the WebUI says, else by its share of the
    seconds that such a call takes."""
    if progress.eta is not None:
        return progress.eta
    return usual * (1 - min(100.0, progress.percent or 0.0) / 100)


def free_in(
    overview: Overview, history: RunTimes, sizes: Mapping[str, Sizes] | None = None
) -> list[float]:
    """Return for each lane that may serve jobs, here or on another machine, the seconds until it
    has nothing to do: what is left of its cool-down and of its runs. None while everything is on
    hold: then nobody knows. `sizes`: of the calls of runs, by run_id, as far as they are known."""
    if overview.monitor.presence is not Presence.RUNNING or overview.monitor.hold or not history:
        return []
    known = sizes or {}
    return [
        lane.cooldown_left
        + sum(
            _run_left(run, history, known.get(run.run_id))
            for run in overview.active
            if run.lane == lane.name
        )
        for lane in _serving(overview)
    ] + [
        sum(
            _run_left(run, history, known.get(run.run_id))
            for run in overview.active
            if run.lane == box.name
        )
        / len(ready)
        for box in overview.boxes
        if box.serves and (ready := [lane for lane in box.lanes if lane.ready])
        for _ in ready
    ]


def _serving(overview: Overview) -> list[LaneCard]:
    return [lane for lane in overview.lanes if not lane.hold and lane.state in _SERVE]


def _with_what_is_left(
    overview: Overview, history: RunTimes, sizes: Mapping[str, Sizes]
) -> tuple[ActiveCard, ...]:
    """Return the runs with the seconds that they last, as if each were alone on its lane."""
    names = {lane.name for lane in _serving(overview)}
    names |= {box.name for box in overview.boxes if box.serves}
    return tuple(
        replace(run, left=round(_run_left(run, history, sizes.get(run.run_id)), 1))
        if run.lane in names
        else run
        for run in overview.active
    )


def _run_left(run: ActiveCard, history: RunTimes, sizes: Sizes | None) -> float:
    """Return the seconds left of a run. Of its later stages and points no more is known than how
    many calls they have, and what such calls take on average."""
    if run.call is None or run.calls is None:
        return history.of_job(sizes)
    usual = history.of_each_call(sizes)
    this = call_left(run.progress, usual) if run.calling else usual
    each = _call_takes(run.progress, usual) if run.calling else usual
    stages = (run.stages or 1) - (run.stage_number or 1)
    return this + each * (run.calls - run.call) + usual * (stages * run.calls + _later(run, sizes))


def _later(run: ActiveCard, sizes: Sizes | None) -> float:
    """Return how many calls the points have that come after the one under way."""
    if not run.points or run.point is None:
        return 0.0
    a_point = sum(sizes.values()) / run.points if sizes else (run.stages or 1) * (run.calls or 1)
    return max(0, run.points - run.point) * a_point


def _call_takes(progress: CallProgress, usual: float) -> float:
    """Return the seconds that each call of a stage takes, from the one under way: those of one
    stage have the same size and the same steps. `usual` where the WebUI says too little."""
    percent = progress.percent or 0.0
    if progress.eta is None or not 0 < percent < 100:
        return usual
    return progress.eta / (1 - percent / 100)


def with_starts(
    queue: Iterable[QueuedJob],
    free: Sequence[float],
    history: RunTimes,
    *,
    before: Sequence[float] = (),
    now: float = 0.0,
) -> tuple[tuple[QueuedJob, ...], float | None]:
    """Return the queue with the expected starts, and in how many seconds its last job ends; None
    where nobody knows. `free`: see `free_in`; `before`: the seconds of the runs that resume before
    it; `now`: seconds since 1970, for jobs that wait for their time: they come last."""
    jobs = list(queue)
    if not history or not free:
        return tuple(jobs), None
    lanes = list(free)
    heapq.heapify(lanes)
    for seconds in before:
        heapq.heapreplace(lanes, lanes[0] + seconds)
    expected = []
    for job in jobs:
        start = max(lanes[0], (job.waits_until or now) - now)
        expected.append(replace(job, starts_in=round(start, 1)))
        takes = history.run if job.takes is None else job.takes
        heapq.heapreplace(lanes, start + takes)
    return tuple(expected), max(lanes)


def expect(
    overview: Overview, history: RunTimes, sizes: Mapping[str, Sizes] | None = None
) -> Overview:
    """Return the overview with when each job is expected to start, and the queue to end. `sizes`:
    see `free_in`."""
    known = sizes or {}
    free, totals = free_in(overview, history, known), overview.totals
    now, suspended = overview.made_at, [run for run in overview.active if not run.lane]
    later = [run for run in suspended if run.waits_until is not None]
    count = totals.suspended - len(later)
    resume = [run.run_id for run in suspended if run.waits_until is None][:count]
    before = [history.of_job(known.get(run_id)) for run_id in resume]
    before += [history.run] * (count - len(before))
    queue, last = with_starts(overview.queue, free, history, before=before, now=now)
    if queue and queue[0].waits_until is None:
        others = [job for job in queue[1:] if job.waits_until is None]
        queue = (replace(queue[0], because=because(queue[0], others)), *queue[1:])
    if last is not None:
        ends = [
            max(0.0, (run.waits_until or now) - now) + history.of_job(known.get(run.run_id))
            for run in later
        ]
        last = max(last + (totals.queued - len(queue)) * history.run / len(free), *ends, 0.0)
        last = round(last, 1)
    return replace(
        overview,
        active=_with_what_is_left(overview, history, known) if free else overview.active,
        queue=queue,
        queue_ends_in=last,
        has_history=bool(history),
    )


def because(first: QueuedJob, others: Sequence[QueuedJob]) -> Because | None:
    """Return why `first` is the next one. `others`: what comes after it, in order."""
    if not others:
        return Because.ONLY
    if first.priority != others[0].priority:
        return Because.PRIORITY
    if first.arrived_at is None or others[0].arrived_at is None:
        return None
    return Because.OLDEST if first.arrived_at < others[0].arrived_at else Because.NAME

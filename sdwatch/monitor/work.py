"""What each lane gets to do: runs that resume, jobs of the inbox; and what ends without a lane."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from sdwatch.lane.lane import Lane
from sdwatch.monitor.affinity import Affinity, Chosen
from sdwatch.monitor.call_gate import CallGate
from sdwatch.monitor.intake import Intake
from sdwatch.monitor.later_jobs import LaterJobs
from sdwatch.monitor.placement import Placement, RemoteLane
from sdwatch.monitor.reports import Reports
from sdwatch.monitor.runs import ActiveRun, ActiveRuns, was_changed
from sdwatch.monitor.runs_without_lane import RunsWithoutLane
from sdwatch.monitor.suspended import SuspendedRun, SuspendedRuns
from sdwatch.policy.failure.hold_reason import NoCall
from sdwatch.policy.job.job import Job
from sdwatch.policy.job.when import ANY_TIME, TimeField, When
from sdwatch.policy.queue.schedule import left_loaded, needed_first
from sdwatch.policy.report.envelope import cancelled_envelope, job_envelope
from sdwatch.spool.arrival import Arrival
from sdwatch.spool.folders import Spool
from sdwatch.spool.run import Run, is_cancelled
from sdwatch.stages.settings import RunSettings
from sdwatch.system.clock import Clock
from sdwatch.system.state_folder import StateFolder


@dataclass(frozen=True)
class Parts:
    """The parts of a monitor, once it is open. `settings`: of all runs; `wake`: has the main thread
    do a round soon."""

    spool: Spool
    state: StateFolder
    clock: Clock
    gate: CallGate
    settings: RunSettings
    wake: Callable[[], None]
    lanes: Sequence[Lane]
    intake: Intake
    suspended: SuspendedRuns
    runs: ActiveRuns
    without_lane: RunsWithoutLane
    reports: Reports
    later_jobs: LaterJobs
    placement: Placement
    affinity: Affinity


class Partner(Protocol):
    """What works beside the monitor on its runs: the part of a cluster that this machine has. All
    methods are called by the main thread. `give_work`: several times in each round; nobody may have
    more than `most` runs then. `may_have_work`: a job may be done elsewhere. `status`: for the
    heartbeat."""

    def open(self, parts: Parts, work: Work) -> None: ...
    def give_work(self, most: int, *, may_call: bool) -> None: ...
    def may_have_work(self) -> bool: ...
    def close(self) -> None: ...
    def status(self) -> dict[str, Any]: ...


_MOST_OTHERS = 50
"""Lanes of other machines that are asked whether they have a checkpoint loaded: of many more it
matters little whether one of them has."""


class Work:
    """Gives work to the lanes. `url`: of a WebUI, for what is said of a job that is refused. Used
    by the main thread."""

    def __init__(self, parts: Parts, url: str) -> None:
        self.next: dict[str, Chosen] = {}  # by lane, for `status`
        self._parts = parts
        self._url = url
        self._scans = 0  # after which placement forgot what was gone
        self._served: dict[str, When] = {}  # by lane: of the last run that started there
        self._frees: dict[str, bool] = {}  # by lane

    def end_without_lane(self) -> None:
        """End the runs that need no lane, even on hold: jobs that cannot be parsed or that no WebUI
        can do, and runs without a thread that were cancelled, in the inbox or in working/."""
        placement, intake = self._parts.placement, self._parts.intake
        if intake.scans != self._scans:
            self._scans = intake.scans
            sources = intake.sources, self._parts.suspended.sources, self._parts.runs.sources
            placement.keep_only(*sources)
        for run, error in intake.claim_without_lane(placement.refusal, again=placement.has_news()):
            self._parts.without_lane.end(
                run, job_envelope(error, self._url) if error else cancelled_envelope()
            )
        for suspended in self._parts.suspended.due():
            if suspended.out_on or not is_cancelled(suspended.folder):
                continue
            if (waiting := self._parts.without_lane.resume(suspended)) is not None:
                self._parts.without_lane.end(waiting, cancelled_envelope())

    def give(self, lane: Lane, most: int) -> None:
        """Give a lane its runs, until it has `most`: suspended ones first, then the inbox in its
        order."""
        while lane.ready and self._parts.runs.busy(lane) < most:
            suspended = self._parts.suspended.first(lambda p: self.may_resume_on(lane, p))
            in_line = None if suspended else self.next_for(lane)
            chosen = suspended if in_line is None else in_line.job
            if chosen is None or not self.may_join(lane, chosen):
                return
            job = chosen.job
            if (run := self._opened(chosen)) is not None:
                self._parts.reports.started(run, resumed=suspended is not None)
                self._parts.runs.start(run, lane)
                self._served[lane.name] = chosen.when
                leaves = left_loaded(job) if isinstance(job, Job) else None
                passed = in_line.passed if in_line else ()
                self._parts.affinity.started(run.run_id, lane, leaves, passed, priority_of(job))

    def may_join(self, lane: Lane, chosen: SuspendedRun | Arrival) -> bool:
        """Return whether it may be served now, beside the runs that need this WebUI."""
        if not self._parts.runs.busy(lane):
            return True
        job = chosen.job
        needs = needed_first(job) if isinstance(job, Job) else None
        return self._parts.affinity.may_join(lane, chosen.source, needs, priority_of(job))

    def move(self) -> None:
        """Suspend the runs that wait out the cool-down or the start of their WebUI while another
        lane, which was given nothing, can do them: it resumes them. Decision 88."""
        parts = self._parts
        for lane in parts.lanes:
            idle = [o for o in parts.lanes if o is not lane and o.ready and not parts.runs.busy(o)]

            def can_move(active: ActiveRun, idle: list[Lane] = idle) -> bool:
                job = active.job
                if job is None or parts.later_jobs.waits(job.conduct.when) is not None:
                    return False
                return any(parts.placement.can_do(other, active) for other in idle)

            if idle:
                parts.runs.move(lane, can_move)

    def look_ahead(self) -> None:
        """Note which job each lane gets next, and why."""
        found = {lane.name: self.next_for(lane) for lane in self._parts.lanes if lane.ready}
        self.next = {name: chosen for name, chosen in found.items() if chosen is not None}

    def frees(self, lane: Lane, persons_hold: NoCall | None) -> bool:
        """Return whether this lane's GPU is wanted for something else: a person's hold says so, or
        the windows of its jobs are over. `persons_hold`: None without one."""
        if persons_hold is not None:
            return persons_hold.frees
        has_work = self._has_work(lane)
        if has_work is not None:
            self._frees[lane.name] = not has_work and self._is_over(lane)
        return self._frees.get(lane.name, False)

    def _has_work(self, lane: Lane) -> bool | None:
        """Return whether this lane has or may get a run now; None where that is not known yet."""
        if self._parts.runs.on_lane(lane):
            return True
        if any(self.will_resume_on(lane, suspended) for suspended in self._parts.suspended):
            return True
        if self.waits_for([lane]) is not None:
            return True
        return None if self._parts.intake.settling else False

    def _is_over(self, lane: Lane) -> bool:
        """Return whether a window has closed on the last run of this lane, or on a job that
        waits."""
        whens = (self._served.get(lane.name, ANY_TIME), *self.times())
        waits = map(self._parts.later_jobs.waits, whens)
        return any(each is not None and each.field is TimeField.ONLY for each in waits)

    def times(self) -> Iterator[When]:
        """Yield when each job may start that waits, in working/ or in the inbox."""
        yield from (suspended.when for suspended in self._parts.suspended)
        yield from (arrival.when for arrival in self._parts.intake.startable)

    def waits_for(self, lanes: Sequence[Lane | RemoteLane]) -> Arrival | None:
        """Return the first job of the inbox that may start now, and that one of these lanes may be
        able to do."""
        parts = self._parts
        may_start, is_refused = parts.later_jobs.may_start, parts.placement.is_refused_by
        return parts.intake.first(lambda a: may_start(a) and not is_refused(lanes, a))

    def refuses_next(self) -> bool:
        """Return whether the next round ends a job that no lane can do: the last list that was
        read again may have come after this round looked."""
        may_start, refusal = self._parts.later_jobs.may_start, self._parts.placement.refusal
        refused = self._parts.intake.first(lambda a: may_start(a) and refusal(a) is not None)
        return refused is not None

    def may_resume_on(self, lane: Lane, suspended: SuspendedRun) -> bool:
        """Return whether a run may resume on this lane: its time has come, and this lane can do the
        job. If no lane can, any may resume it: the run then fails, and says why."""
        if suspended.out_on or not self._parts.later_jobs.may_resume(suspended):
            return False
        if suspended.job is None or self._parts.placement.can_do(lane, suspended):
            return True
        # What is not known of this lane will not be known later: others decide.
        lanes = [o for o in self._parts.lanes if o is not lane or lane.catalogue is not None]
        return self._nobody_can(lanes, suspended)

    def will_resume_on(self, lane: Lane, suspended: SuspendedRun) -> bool:
        """Return whether a run may resume on this lane now, or once its lists are read."""
        if suspended.out_on or not self._parts.later_jobs.may_resume(suspended):
            return False
        if suspended.job is None or not self._parts.placement.is_refused_by([lane], suspended):
            return True
        return self._nobody_can(self._parts.lanes, suspended)

    def _nobody_can(self, lanes: Sequence[Lane], suspended: SuspendedRun) -> bool:
        """Return whether none of these lanes can do it, nor one of another machine."""
        placement = self._parts.placement
        if (elsewhere := placement.elsewhere) is None:
            return False
        return placement.is_refused_by([*lanes, *elsewhere], suspended)

    def next_for(self, lane: Lane | RemoteLane) -> Chosen | None:
        """Return the job of the inbox that this lane gets next."""
        may_start, can_do = self._parts.later_jobs.may_start, self._parts.placement.can_do
        others: list[tuple[Lane | RemoteLane, bool]] = []

        def that_can_do(arrival: Arrival) -> list[tuple[Lane | RemoteLane, bool]]:
            if not others:
                others.extend(self._others_than(lane.name))
            return [(o, is_idle) for o, is_idle in others if can_do(o, arrival)]

        in_line = self._parts.intake.in_line(lambda a: may_start(a) and can_do(lane, a))
        return self._parts.affinity.next_for(lane, in_line, that_can_do)

    def _others_than(self, lane: str) -> Iterator[tuple[Lane | RemoteLane, bool]]:
        """Yield the lanes that serve but for one, each with whether it has nothing to do."""
        busy, elsewhere = self._parts.runs.busy, self._parts.placement.elsewhere or ()
        yield from ((o, not busy(o)) for o in self._parts.lanes if o.ready and o.name != lane)
        there = ((o, o.is_idle) for o in elsewhere if o.serves and o.name != lane)
        yield from islice(there, _MOST_OTHERS)

    def _opened(self, chosen: SuspendedRun | Arrival) -> Run | None:
        """Resume or claim it; None where that is not possible now, or it was refused. What came
        from another machine is refused whatever it has finished: others may be able to do it."""
        if isinstance(chosen, Arrival):
            return self._parts.intake.claim(chosen)
        run = self._parts.without_lane.resume(chosen)
        if run is not None and (not run.ledger.calls or run.ledger.handed_over.received):
            return self._unless_refused(run, chosen)
        return run

    def _unless_refused(self, run: Run, suspended: SuspendedRun) -> Run | None:
        """Return the run, or None if it was refused. A run without a call is treated as if it came
        from the inbox, unless somebody still writes to its job: then the stages read it once it has
        settled."""
        try:
            changed = was_changed(run)
        except OSError as error:
            self._parts.without_lane.suspend_refused(run.folder, error)
            return None
        if changed or (refusal := self._parts.placement.refusal(suspended)) is None:
            return run
        self._parts.without_lane.end(run, job_envelope(refusal, self._url))
        return None


def priority_of(job: object) -> int:
    return job.priority if isinstance(job, Job) else 0

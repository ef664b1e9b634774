"""The runs that are under way: each in its thread, on its lane."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from sdwatch.lane.lane import Lane
from sdwatch.monitor.suspended import REFUSED_FOR, SuspendedRuns
from sdwatch.policy.job.job import Job
from sdwatch.policy.report.envelope import broken_envelope
from sdwatch.spool.archive import publish
from sdwatch.spool.folders import Spool
from sdwatch.spool.patient_disk import PatientDisk
from sdwatch.spool.recorder import RunRecorder, Witness
from sdwatch.spool.run import Run
from sdwatch.stages.run_end import Place, RunEnd
from sdwatch.stages.runner import StageRunner
from sdwatch.stages.settings import RunSettings
from sdwatch.system import disk
from sdwatch.system.clock import Clock, join
from sdwatch.system.log_events import LogEvent, about, bound
from sdwatch.webui.http.run_control import RunControl

log = logging.getLogger("sdwatch.monitor")

_SLICE = 0.2  # seconds
_CANCELS_WITHIN = 3.0  # seconds at most between two looks for cancelled runs

PAUSING_RUNS = 8
"""Each run that pauses between two calls (`delay_between_calls`) has a thread."""


class RunsOn(Protocol):
    """Where a run is: a lane of this machine, or another machine."""

    @property
    def name(self) -> str: ...
    @property
    def progress(self) -> Mapping[str, Any]: ...
    def about(self) -> dict[str, Any]: ...


class Runner(Protocol):
    """What brings a run to its end, see StageRunner."""

    why: str
    publishing: bool

    @property
    def disk_refuses(self) -> str: ...
    @property
    def unreadable(self) -> str: ...
    @property
    def pausing(self) -> bool: ...
    @property
    def doing(self) -> str: ...
    @property
    def points_failed(self) -> int: ...
    @property
    def place(self) -> Place | None: ...
    def run_to_end(self, spool: Spool) -> RunEnd: ...


@dataclass
class ActiveRun:
    """A run with its thread, on a lane or another machine."""

    run: Run
    lane: RunsOn
    control: RunControl
    runner: Runner
    thread: threading.Thread = field(init=False)
    ending: RunEnd = RunEnd.STOPPED
    refused: Exception | None = None  # what stopped it, if nobody asked it to stop

    @property
    def source(self) -> str:
        """Return the name that it has as a suspended run."""
        return f"working/{self.run.run_id}"

    @property
    def job(self) -> Job | None:
        """Return its job; None until that was read."""
        return self.run.job

    version = job


def in_words(error: Exception) -> str:
    """Return what stopped a run: what the disk reports, or an internal error."""
    return disk.in_words(error) if isinstance(error, OSError) else repr(error)


def was_changed(run: Run) -> bool:
    """Return whether the job is no longer what had settled in the inbox. Raises OSError."""
    return run.job_path is not None and not run.is_as_claimed


class ActiveRuns:
    """Starts runs and ends them; those that stop go to `suspended`. `settings`: of all runs.
    `wake`: called when a run has ended. Used by the main thread."""

    def __init__(
        self,
        spool: Spool,
        suspended: SuspendedRuns,
        *,
        clock: Clock,
        settings: RunSettings,
        wake: Callable[[], None],
    ) -> None:
        self._spool = spool
        self._suspended = suspended
        self._clock = clock
        self._settings = settings
        self._wake = wake
        self.witness = Witness()  # of the POSTs of all runs on lanes
        self._active: list[ActiveRun] = []
        self._cancels_at = 0.0  # on the monotonic clock: when it is looked for cancelled runs again
        self._broken: set[str] = set()  # runs with one internal error

    def __bool__(self) -> bool:
        return bool(self._active)

    @property
    def ids(self) -> set[str]:
        """Return the ids of the runs that have a thread."""
        return {active.run.run_id for active in self._active}

    def under_way(self) -> list[ActiveRun]:
        """Return the runs that have a thread."""
        return list(self._active)

    def disk_refuses(self) -> str:
        """Return why a run waits for the disk, or ''."""
        return next(
            (a.runner.disk_refuses for a in list(self._active) if a.runner.disk_refuses), ""
        )

    def on_lane(self, lane: Lane) -> list[ActiveRun]:
        """Return the runs on this lane."""
        return [active for active in self._active if active.lane is lane]

    def busy(self, lane: Lane) -> int:
        """Return how many runs need this lane's WebUI. A run that is being published, waits for a
        file of its job, or pauses between two calls, needs none; of those that pause a lane has
        only so many."""
        runners = [active.runner for active in self.on_lane(lane)]
        pausing = sum(runner.pausing for runner in runners)
        idle = sum(bool(runner.publishing or runner.unreadable) for runner in runners)
        return len(runners) - idle - min(pausing, PAUSING_RUNS)

    def start(self, run: Run, lane: Lane) -> None:
        """Start a thread for a claimed or resumed run, on a lane."""
        control = RunControl()
        disk = PatientDisk(run, self._clock, control)
        recorder = RunRecorder(run, lane.redactor, self._clock, disk, lane.faults)
        recorder.witness = self.witness
        runner = StageRunner(
            run,
            lane.api(recorder, control),
            recorder,
            clock=self._clock,
            settings=self._settings_of(run),
            control=control,
        )
        self.start_with(run, lane, control, runner)

    def _settings_of(self, run: Run) -> RunSettings:
        """Return the settings of a run. What came from another machine has its outputs there."""
        received = run.ledger.handed_over.received
        return replace(self._settings, outputs=None) if received else self._settings

    def start_with(self, run: Run, lane: RunsOn, control: RunControl, runner: Runner) -> None:
        """Start a thread for a run that `runner` brings to its end."""
        active = ActiveRun(run, lane, control, runner)
        active.thread = threading.Thread(
            target=self._live, args=(active,), name=f"run-{run.run_id}"
        )
        self._active.append(active)
        active.thread.start()

    def stop_waiting(self, lane: Lane) -> None:
        """Suspend the runs that wait for their turn on a lane on hold, so that another lane can
        resume them."""
        for active in self.on_lane(lane):
            if active.control.waiting:
                active.control.stop("its lane is on hold")

    def move(self, lane: Lane, other_can_do: Callable[[ActiveRun], bool]) -> None:
        """Suspend the runs that wait for a lane whose WebUI must be started first, where another
        lane can do them now."""
        movable = lane.movable
        for active in self.on_lane(lane) if movable else ():
            waits = active.control.waiting and active.run.run_id in movable
            if waits and other_can_do(active):
                active.control.stop("another lane is idle")

    @property
    def sources(self) -> set[str]:
        """Return the sources of all runs, as suspended ones."""
        return {active.source for active in self._active}

    def take_ended(self) -> list[ActiveRun]:
        """Return the runs whose thread has ended since the last call, which are forgotten here. The
        stopped ones are suspended."""
        ended = [active for active in self._active if not active.thread.is_alive()]
        for active in ended:
            active.thread.join()
            self._active.remove(active)
            if active.ending is RunEnd.STOPPED:
                if active.refused is not None:
                    why = in_words(active.refused)
                    self._suspended.add(active.run.folder, REFUSED_FOR, f"waits: {why}")
                else:
                    pause = self.witness.pause(active.run.run_id)
                    self._suspended.add(active.run.folder, pause)
        return ended

    def cancel_where_asked(self) -> None:
        """Cancel the runs in whose folder a person has put a `cancel` file. Of a thousand runs on
        other machines the folders are looked at less often: it takes a tenth of the time."""
        began = self._clock.monotonic()
        if began < self._cancels_at:
            return
        for active in self._active:
            if active.run.cancel_asked():
                active.control.cancel()
        now = self._clock.monotonic()
        self._cancels_at = now + min(_CANCELS_WITHIN, 9 * (now - began))

    def give_up(self) -> None:
        """Wait for no reply any longer: the runs stay in working/."""
        for active in self.under_way():
            active.control.stop()

    def join(self, grace: float, waiting: Callable[[float], None] = lambda _: None) -> None:
        """Wait for all threads. Calls in flight get `grace` seconds, then they are given up.
        `waiting` is called repeatedly meanwhile, with the seconds left. Runs that wait for the
        disk or for a file, or pause between two calls, are stopped at once."""
        for active in self._active:
            if active.runner.disk_refuses or active.runner.unreadable:
                active.control.stop()
        deadline = self._clock.monotonic() + grace
        for active in self._active:
            while active.thread.is_alive() and (left := deadline - self._clock.monotonic()) > 0:
                if active.runner.pausing:
                    active.control.stop()
                waiting(left)
                join(active.thread, min(left, _SLICE))
        self.give_up()
        for active in self._active:
            join(active.thread)

    def _live(self, active: ActiveRun) -> None:
        run = active.run
        with bound(run=run.run_id, lane=active.lane.name):
            try:
                active.ending = active.runner.run_to_end(self._spool)
            except OSError as error:
                # The disk refused a write: nothing is lost, the run resumes from working/. Who
                # takes the ended run reports it.
                active.refused = error
                active.ending = RunEnd.GONE if run.is_gone else RunEnd.STOPPED
            except Exception as error:
                # The thread's outer edge. The run is retried once; after a second error it fails.
                event = about(LogEvent.INTERNAL_ERROR)
                log.exception("%s: internal error", run.run_id, extra=event)
                active.refused = error
                active.ending = self._end_broken(active, repr(error))
            finally:
                run.close()
                self._wake()

    def _end_broken(self, active: ActiveRun, why: str) -> RunEnd:
        run = active.run
        first = run.run_id not in self._broken
        self._broken.add(run.run_id)
        try:
            if first:
                run.give_up_calls(why)
                return RunEnd.STOPPED
            publish(run, self._spool, RunEnd.FAILED, broken_envelope(why), active.lane.about())
        except Exception:
            log.exception(
                "%s: the run stays in working/", run.run_id, extra=about(LogEvent.INTERNAL_ERROR)
            )
            return RunEnd.STOPPED
        return RunEnd.FAILED

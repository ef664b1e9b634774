"""The runs that are under way: each in its thread, on its lane."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from sdwatch.lane.lane import Lane
from sdwatch.lane.suspended import REFUSED_FOR, SuspendedRuns
from sdwatch.policy.job.confinement import JobRules
from sdwatch.policy.report.envelope import broken_envelope
from sdwatch.spool.archive import Spool, publish
from sdwatch.spool.recorder import RunRecorder
from sdwatch.spool.run import Run
from sdwatch.stages.ending import Ending
from sdwatch.stages.runner import StageRunner
from sdwatch.system.clock import Clock, join
from sdwatch.webui.http.mailbox import Mailbox

log = logging.getLogger("sdwatch.monitor")

_SLICE = 0.2  # seconds


@dataclass
class ActiveRun:
    """A run with its thread, on a lane."""

    run: Run
    lane: Lane
    mailbox: Mailbox
    runner: StageRunner
    thread: threading.Thread = field(init=False)
    ending: Ending = Ending.STOPPED
    refused: Exception | None = None  # what stopped it, if it was not asked to


def in_words(error: Exception) -> str:
    """What stopped a run: what the disk says, or a mistake of sdwatch itself."""
    return str(error) if isinstance(error, OSError) else repr(error)


class ActiveRuns:
    """Starts runs and ends them; those that stop go to `suspended`. `rules`, `settle`, `patience`:
    see StageRunner. `wake` is called when a run has ended. Used by the main thread."""

    def __init__(
        self,
        spool: Spool,
        suspended: SuspendedRuns,
        *,
        clock: Clock,
        rules: JobRules,
        settle: float,
        patience: float = 0.0,
        wake: Callable[[], None],
    ) -> None:
        self._spool = spool
        self._suspended = suspended
        self._clock = clock
        self._rules = rules
        self._settle = settle
        self._patience = patience
        self._wake = wake
        self._active: list[ActiveRun] = []
        self._broken: set[str] = set()  # runs on which sdwatch itself broke once

    def __bool__(self) -> bool:
        return bool(self._active)

    def under_way(self) -> list[ActiveRun]:
        """Those that have a thread."""
        return list(self._active)

    def disk_refuses(self) -> str:
        """Why a run waits for the disk, if one does."""
        return next(
            (a.runner.disk_refuses for a in list(self._active) if a.runner.disk_refuses), ""
        )

    def on_lane(self, lane: Lane) -> list[ActiveRun]:
        """Those that this lane works for."""
        return [active for active in self._active if active.lane is lane]

    def busy(self, lane: Lane) -> int:
        """How many runs this lane works for; one that is being published, or waits for a file of
        its job, needs no WebUI."""
        runners = [active.runner for active in self.on_lane(lane)]
        return sum(not (runner.publishing or runner.unreadable) for runner in runners)

    def start(self, run: Run, lane: Lane) -> None:
        """Give a claimed run, or one that goes on, its thread on a lane."""
        mailbox = Mailbox()
        recorder = RunRecorder(run, lane.redactor, self._clock, lane.faults)
        run.about_webui = lane.about
        runner = StageRunner(
            run,
            lane.api(recorder, mailbox),
            recorder,
            clock=self._clock,
            rules=self._rules,
            settle=self._settle,
            patience=self._patience,
            permit=lambda: lane.permit(mailbox),
            mailbox=mailbox,
        )
        active = ActiveRun(run, lane, mailbox, runner)
        active.thread = threading.Thread(
            target=self._live, args=(active,), name=f"run-{run.run_id}"
        )
        self._active.append(active)
        active.thread.start()

    def stop_waiting(self, lane: Lane) -> None:
        """The lane is on hold: runs that wait for its permit are parked, so that another lane can
        take them up."""
        for active in self.on_lane(lane):
            if active.runner.waiting:
                active.mailbox.stop()

    def reap(self) -> list[ActiveRun]:
        """Those whose thread has ended since the last look; the stopped ones are parked."""
        ended = [active for active in self._active if not active.thread.is_alive()]
        for active in ended:
            active.thread.join()
            self._active.remove(active)
            if active.ending is Ending.STOPPED:
                if active.refused is not None:
                    why = in_words(active.refused)
                    self._suspended.add(active.run.folder, REFUSED_FOR, f"waits: {why}")
                else:
                    self._suspended.add(active.run.folder)
        return ended

    def cancel_where_asked(self) -> None:
        """A person's `cancel` file in a run's folder cancels it."""
        for active in self._active:
            if active.run.cancel_asked():
                active.mailbox.cancel()

    def give_up(self) -> None:
        """No more waiting for replies: the runs stay in working/."""
        for active in self.under_way():
            active.mailbox.stop()

    def join(self, grace: float, waiting: Callable[[float], None] = lambda _: None) -> None:
        """Wait for all threads; calls in flight get `grace` seconds, then they are given up.
        `waiting` is called again and again meanwhile, with the seconds left. Who waits for the
        disk, or for a file, waits in vain."""
        for active in self._active:
            if active.runner.disk_refuses or active.runner.unreadable:
                active.mailbox.stop()
        deadline = self._clock.monotonic() + grace
        for active in self._active:
            while active.thread.is_alive() and (left := deadline - self._clock.monotonic()) > 0:
                waiting(left)
                join(active.thread, min(left, _SLICE))
        self.give_up()
        for active in self._active:
            join(active.thread)

    def _live(self, active: ActiveRun) -> None:
        try:
            active.ending = active.runner.run_to_end(self._spool)
        except OSError as error:
            # The disk did not take something: nothing is lost, it goes on from working/. Who reaps
            # the run reports it.
            active.refused = error
            active.ending = Ending.GONE if active.run.is_gone else Ending.STOPPED
        except Exception as error:
            # The thread's outer edge. It is tried once more; what breaks twice ends in failed/.
            log.exception("%s: sdwatch broke on this run", active.run.run_id)
            active.refused = error
            active.ending = self._end_broken(active.run, repr(error))
        finally:
            active.run.close()
            self._wake()

    def _end_broken(self, run: Run, why: str) -> Ending:
        first = run.run_id not in self._broken
        self._broken.add(run.run_id)
        try:
            if first:
                for call_id, call in run.ledger.calls.items():
                    if call.open:  # else it would read as cut off by the monitor's death
                        run.record("call_given_up", call=call_id, why=why)
                return Ending.STOPPED
            publish(run, self._spool, str(Ending.FAILED), broken_envelope(why))
        except Exception:
            log.exception("%s: it stays in working/", run.run_id)
            return Ending.STOPPED
        return Ending.FAILED

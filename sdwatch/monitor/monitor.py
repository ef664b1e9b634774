"""The monitor: the composition root and the main thread. It watches the inbox, decides which lane
gets which job, reports its status, and stops cleanly."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

from sdwatch.config import Config, ConfigEdits
from sdwatch.errors import FileProblems, RunStoppedError
from sdwatch.lane.lane import ACTIVE_RUNS, Lane
from sdwatch.lane.suspended import REFUSED_FOR, SuspendedRun, SuspendedRuns
from sdwatch.monitor.beats import Beats
from sdwatch.monitor.call_gate import CallGate
from sdwatch.monitor.holds import Holds, held_longer_than
from sdwatch.monitor.intake import Intake
from sdwatch.monitor.lanes import lanes_of, learn
from sdwatch.monitor.placement import Placement
from sdwatch.monitor.reports import Reports
from sdwatch.monitor.retention import Retention
from sdwatch.monitor.runs import ActiveRuns, was_changed
from sdwatch.monitor.status import NO_RUNS, run_status
from sdwatch.monitor.stop_request import StopRequest
from sdwatch.policy.failure.hold_reason import NoCall
from sdwatch.policy.report.envelope import (
    ErrorEnvelope,
    Unsent,
    cancelled_envelope,
    held_envelope,
    job_envelope,
)
from sdwatch.policy.report.hold_note import config_edited
from sdwatch.policy.report.notice import Notice
from sdwatch.spool import archive, takeover
from sdwatch.spool.archive import Spool
from sdwatch.spool.earlier_texts import learn_earlier_texts
from sdwatch.spool.heartbeat import (
    BEGINS,
    INTERVAL,
    Heartbeat,
    give_way,
)
from sdwatch.spool.run import Run, is_cancelled
from sdwatch.stages.ending import Ending
from sdwatch.system.clock import Clock, SystemClock, iso
from sdwatch.system.state_folder import StateFolder

log = logging.getLogger("sdwatch.monitor")


class Result(StrEnum):
    """Why the monitor ended."""

    STOPPED = "stopped"
    EMPTY = "the inbox is empty"
    HOLD = "on hold"


class Monitor:
    """Runs the spool of `config` until it is stopped, or with `once` until nothing is left to do.

    `config_file`: the file that the config was read from, for commands in messages; None for the
    built-in config. `take_over`: another worker, whose runs are resumed here. `notify`: gets a
    notice for people whenever something happens, from any thread.
    """

    def __init__(
        self,
        config: Config,
        *,
        config_file: Path | None = None,
        once: bool = False,
        take_over: str = "",
        notify: Callable[[Notice], None] = lambda _: None,
        clock: Clock | None = None,
    ) -> None:
        self._config = config
        self._config_file = config_file
        self._edits = ConfigEdits(config_file)
        self._edited = ""  # the config file, once it has changed
        self._once = once
        self._take_over = take_over
        self._clock = clock or SystemClock()
        self._state = StateFolder(config.state)
        self._stop = StopRequest(hurry_up=self._give_up_calls, wake=lambda: self._wake.set())
        self._reports = Reports(notify, self._clock)
        self._wake = threading.Event()
        self._lanes: list[Lane] = []
        self._lanes_open = False
        self._no_call: NoCall | None = None

    def run(self) -> Result:
        """Run the spool. Raises SpoolError, and AlreadyRunningError: another monitor runs on this
        spool, or started on it while this one was frozen."""
        self._state.hold()
        try:
            self._spool = Spool(self._config.spool, self._state.worker, self._config_file)
            names = [webui.name for webui in self._config.webuis]
            self._holds = Holds(self._spool, names, clock=self._clock, report=self._reports.notice)
            self._heartbeat = Heartbeat(self._spool, self._state.status_file)
            self._beats = Beats(self._heartbeat, self._spool, self._clock)
            self._gate = CallGate(
                self._spool, self._config.min_free, lambda: self._runs.disk_refuses()
            )
            if not self._wait_for_spool():
                return Result.HOLD if self._once else Result.STOPPED
            try:
                self._claim_spool()
            except RunStoppedError:
                return Result.STOPPED
            try:
                self._open()
                try:
                    return self._work()
                finally:
                    self._close()
            finally:
                self._heartbeat.end()
        finally:
            self._state.release()

    def _claim_spool(self) -> None:
        """Make sure that no other monitor works on the spool, or starts on it at this moment."""
        still = takeover.begin_on(self._spool, self._take_over, self._clock, self._stop.made)
        try:
            self._beats.write_now({**self.status(), BEGINS: True})
            self._heartbeat.open()
            give_way(self._spool, self._clock, still, self._stop.made)
            self._beats.write_now(self.status())
            self._beats.start()
        except BaseException:
            self._heartbeat.end()
            raise

    def _wait_for_spool(self) -> bool:
        """Wait for a share that is not mounted yet, as after a boot; with --once do not wait.
        Return whether the spool is there, or is to be made for the first time."""
        while self._state.knows(self._spool.root) and self._spool.is_gone:
            self._no_call = self._gate.share_gone()
            self._holds.report([], self._no_call)
            self._heartbeat.beat_here(self.status())
            if self._once or self._clock.wait(self._stop.made, INTERVAL):
                self._heartbeat.end()
                return False
        return True

    def stop(self) -> None:
        """Ask the monitor to stop, from any thread. The second request ends the grace time of
        calls in flight and of the WebUI."""
        self._stop.make()

    def stop_on_signals(self) -> None:
        """Stop on signals; a second one ends the process within seconds, whatever it waits for.
        Call this on the main thread."""
        self._stop.make_on_signals()

    def _give_up_calls(self) -> None:
        if self._lanes:
            self._runs.give_up()

    def _open(self) -> None:
        config, clock = self._config, self._clock
        self._intake = Intake(
            self._spool, config, clock=clock, wake=self._wake.set, report=self._reports.line
        )
        self._suspended = SuspendedRuns(clock, config.rules)
        self._runs = ActiveRuns(
            self._spool,
            self._suspended,
            clock=clock,
            rules=config.rules,
            settle=config.settle,
            patience=config.arrival_timeout,
            wake=self._wake.set,
        )
        self._recover()
        self._holds.clear()
        self._lanes = lanes_of(
            config,
            self._state,
            clock=clock,
            gate=self._gate,
            wake=self._wake.set,
            report=self._reports.line,
        )
        learn_earlier_texts(self._spool, lambda payload: learn(self._lanes, payload))
        self._placement = Placement(self._lanes, config.max_generation, config.rules)
        self._retention = Retention(
            config.retention, self._spool, self._state, clock=clock, report=self._reports.line
        )
        self._retention.open()
        self._intake.open()

    def _recover(self) -> None:
        """Suspend what an earlier monitor left in working/, and report what is not ours."""
        for folder in archive.recover(self._spool, self._clock):
            self._suspended.add(folder)
        for name, count in archive.runs_of_others(self._spool).items():
            self._reports.line(
                f"working/{name} has {count} runs of another worker; they are left alone "
                f"(to resume them here: `sdwatch run --take-over {name}`)"
            )
        if warning := self._spool.too_deep:
            self._reports.line(warning)

    def _open_lanes(self) -> None:
        """Open the lanes, once. With --once, only for a job that can start."""
        needed = (self._intake.ready or self._suspended) and not self.why_no_call()
        if self._lanes_open or (self._once and not needed):
            return
        self._lanes_open = True
        for lane in self._lanes:
            lane.open()

    def _work(self) -> Result:
        while not self._stop.made.is_set():
            self._wake.clear()
            self._tick()
            if self._once and (result := self._finished()) is not None:
                return result
            self._wake.wait(self._intake.pause())
        return Result.STOPPED

    def _close(self) -> None:
        """Stop the runs, which stay in working/ and resume at the next start, and the lanes."""
        self._intake.close()
        for lane in self._lanes:
            lane.start_stop()
        self._retention.close()
        self._stop.wait_at_most(self._config.stop_grace)
        self._runs.join(self._config.stop_grace, self._report_stop)
        self._stop.waited()
        for lane in self._lanes:
            lane.finish_stop(self._stop.hurry)
        self._holds.finish(self._lanes, keep=self._once and not self._stop.made.is_set())
        self._reap()

    def _tick(self) -> None:
        self._no_call = self._gate.why_closed()
        self._check_config_edits()
        self._reap()
        self._intake.scan()
        self._end_without_lane()
        self._open_lanes()
        for lane in self._lanes:
            if lane.hold_reason:
                self._runs.stop_waiting(lane)
            self._give_work(lane)
        self._fail_after_hold_max()
        self._holds.report(self._lanes, self.why_no_call(), self._edited)
        if self._beats.is_due:
            self._beats.beat(self.status())

    def _finished(self) -> Result | None:
        """With --once, return a result if nothing is left to do, or nothing can be done."""
        if self._intake.settling:
            return None  # it may be invalid or cancelled, and so need no WebUI
        if self._intake.ready or self._runs or self._suspended:
            return Result.HOLD if self.why_no_call() or not self._has_work() else None
        # A job that was dropped since the last scan must not be missed with its event.
        return Result.EMPTY if self._intake.is_empty_now() else None

    def _has_work(self) -> bool:
        """Return whether a lane has something to do, or will have. A lane on hold will if its hold
        may end without a person."""
        lanes = [lane for lane in self._lanes if lane.is_waited_for]
        if self._runs or not lanes:
            return bool(lanes)
        if any(
            self._may_resume_on(lane, suspended) for suspended in self._suspended for lane in lanes
        ):
            return True
        waits = self._intake.first(lambda a: not self._placement.is_refused_by(lanes, a))
        return waits is not None

    def why_no_call(self) -> NoCall | None:
        """Return why no new call may start on any lane, as of this round, or None."""
        return self._no_call

    def _check_config_edits(self) -> None:
        """Report an edited config: it is read only at the start."""
        edited = str(self._config_file) if self._edits.found() else ""
        if edited and not self._edited:
            self._reports.line(config_edited(edited))
        self._edited = edited

    def _end_without_lane(self) -> None:
        """End the runs that need no lane, even on hold: jobs that cannot be parsed or that no WebUI
        can do, and runs that were cancelled in the inbox or in working/."""
        refusal = None
        if self._placement.has_news(self._intake.sources):
            self._placement.keep_only(self._intake.sources | self._suspended.sources)
            refusal = self._placement.refusal
        for run, error in self._intake.claim_without_lane(refusal):
            self._end(run, self._refused(error) if error else cancelled_envelope())
        self._runs.cancel_where_asked()
        for suspended in self._suspended.due():
            if is_cancelled(suspended.folder) and (waiting := self._resume(suspended)) is not None:
                self._end(waiting, cancelled_envelope())

    def _end(self, run: Run, envelope: ErrorEnvelope, *, of_its_file: bool = True) -> None:
        """Publish a run that needs no lane to end. `of_its_file`: it failed because of what its job
        file says."""
        ending = Ending.CANCELLED if envelope.diagnosis == Unsent.CANCELLED else Ending.FAILED
        try:
            if of_its_file and ending is Ending.FAILED and was_changed(run):
                run.close()  # somebody still wrote to it: it is read again, from working/
                self._suspended.add(run.folder)
                return
            archive.publish(run, self._spool, str(ending), envelope)
        except OSError as error:
            # The disk refused a write: nothing is lost, the run resumes from working/.
            run.close()
            self._suspend_refused(run.folder, error)
        except Exception as error:
            # Whatever one run's folder holds, the other runs continue.
            log.exception("%s: internal error; the run is suspended in working/", run.run_id)
            run.close()
            self._suspended.add(run.folder, REFUSED_FOR, f"waits: internal error: {error!r}")
        else:
            self._count(run, ending, envelope.message)

    def _give_work(self, lane: Lane) -> None:
        """Give a lane its runs: suspended ones first, then the inbox in its order."""
        while lane.ready and self._runs.busy(lane) < ACTIVE_RUNS and not self.why_no_call():
            run: Run | None
            if (
                suspended := self._suspended.first(lambda p: self._may_resume_on(lane, p))
            ) is not None:
                run = self._resume(suspended)
                if run is not None and not run.ledger.calls:
                    run = self._unless_refused(run, suspended)
            elif (arrival := self._intake.first(lambda a: self._placement.can_do(lane, a))) is None:
                return
            else:
                run = self._intake.claim(arrival)
            if run is not None:
                self._reports.started(run, resumed=suspended is not None)
                self._runs.start(run, lane)

    def _unless_refused(self, run: Run, suspended: SuspendedRun) -> Run | None:
        """Return the run, or None if it was refused. A run without a call is treated as if it came
        from the inbox, unless somebody still writes to its job: then the stages read it once it has
        settled."""
        try:
            changed = was_changed(run)
        except OSError as error:
            self._suspend_refused(run.folder, error)
            return None
        if changed or (refusal := self._placement.refusal(suspended)) is None:
            return run
        self._end(run, self._refused(refusal))
        return None

    def _refused(self, error: FileProblems) -> ErrorEnvelope:
        return job_envelope(error, self._config.webuis[0].url)

    def _may_resume_on(self, lane: Lane, suspended: SuspendedRun) -> bool:
        """Return whether a run may resume on this lane: it can do the job, or no other lane may be
        able to, and then it reports why."""
        others = [other for other in self._lanes if other is not lane]
        if not others or suspended.job is None or self._placement.can_do(lane, suspended):
            return True
        return self._placement.is_refused_by(others, suspended)

    def _resume(self, suspended: SuspendedRun) -> Run | None:
        """Return the run, or None: it cannot be read now, or it had ended and only its rename was
        left."""
        folder = suspended.folder
        self._suspended.remove(folder)
        try:
            run = Run(folder, self._clock)
            if run.ledger.ended:
                archive.move_out(folder, self._spool, run.ledger.ended)
                self._count(run, Ending(run.ledger.ended), "")
                return None
            return run
        except OSError as error:
            self._suspend_refused(folder, error)
            return None

    def _suspend_refused(self, folder: Path, error: OSError) -> None:
        """Suspend a run whose write the disk refused. It is retried in a while."""
        self._reports.suspended(folder.name, error)
        self._suspended.add(folder, REFUSED_FOR, f"waits: {error}")

    def _count(self, run: Run, ending: Ending, why: str) -> None:
        folder = self._spool.done if ending is Ending.DONE else self._spool.failed
        self._reports.ended(run, ending, why, folder)

    def _report_stop(self, left: float) -> None:
        """Report that a stop waits for calls in flight, for at most `left` seconds."""
        if self._stop.counts_down(left):
            self._heartbeat.say(self.status())
        if self._stop.is_worth_a_line(left):
            self._reports.line(
                f"stopping: waiting at most {left:.0f} s for the call under way "
                "(a second Ctrl-C ends it now; the job resumes at the next start)"
            )

    def _reap(self) -> None:
        for active in self._runs.reap():
            if active.ending is Ending.GONE:
                self._reports.line(f"{active.run.run_id}: its folder was removed")
            elif active.ending is Ending.STOPPED:
                self._reports.suspended(active.run.run_id, active.refused)
            else:
                self._count(active.run, active.ending, active.runner.why)

    def _fail_after_hold_max(self) -> None:
        """With `hold_max`, fail the runs whose call has failed while all lanes are on hold for
        longer."""
        limit = self._config.hold_max
        hold_reason = held_longer_than(limit, self._lanes, self._clock)
        if hold_reason is None:
            return
        for suspended in self._suspended.due():
            if (run := self._resume(suspended)) is None:
                continue
            if any(call.counted or call.excused for call in run.ledger.calls.values()):
                self._end(run, held_envelope(hold_reason, run.ledger.evidence), of_its_file=False)
            else:
                run.close()
                self._suspended.add(suspended.folder)

    def status(self) -> dict[str, Any]:
        """Return the state of the monitor for the heartbeat, `status` and the live display."""
        left = self._stop.seconds_left
        status: dict[str, Any] = {
            "at": iso(self._clock.wall()),
            "hold": str(self.why_no_call() or ""),
            "stopping": None if left is None else round(left, 1),
            "config_edited": self._edited,
            "counts": {str(ending): count for ending, count in self._reports.counts.items()},
        }
        if not self._lanes:  # it still waits for the share
            return {**status, **NO_RUNS}
        suspended = list(self._suspended)
        return {
            **status,
            "lanes": [lane.status() for lane in self._lanes],
            "runs": run_status(self._runs.under_way(), suspended),
            **self._intake.status(len(suspended), self._placement.waiting()),
        }

"""The monitor: the composition root and the main thread. It watches the inbox, decides which lane
gets which job, reports its status, and stops cleanly."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sdwatch.config import Config
from sdwatch.errors import RunStoppedError
from sdwatch.lane.lane import ACTIVE_RUNS, Lane
from sdwatch.monitor.affinity import Affinity
from sdwatch.monitor.call_gate import CallGate
from sdwatch.monitor.config_edits import ConfigEdits
from sdwatch.monitor.heartbeat_thread import HeartbeatWriter
from sdwatch.monitor.holds import Holds
from sdwatch.monitor.intake import Intake
from sdwatch.monitor.lanes import lanes_of, names_of
from sdwatch.monitor.late_outputs import LateOutputs, settings_of_runs
from sdwatch.monitor.later_jobs import LaterJobs
from sdwatch.monitor.notifications import Notifications
from sdwatch.monitor.once import MonitorEnd, Once
from sdwatch.monitor.placement import Placement
from sdwatch.monitor.reports import Reports
from sdwatch.monitor.retention import Retention
from sdwatch.monitor.rounds import Rounds
from sdwatch.monitor.run_status import NO_RUNS, next_status, run_status
from sdwatch.monitor.runs import ActiveRuns
from sdwatch.monitor.runs_without_lane import RunsWithoutLane
from sdwatch.monitor.status_page import StatusPage
from sdwatch.monitor.stop_request import StopFile, StopRequest, longest_stop
from sdwatch.monitor.suspended import REFUSAL_PASSES, SuspendedRuns
from sdwatch.monitor.work import Partner, Parts, Work
from sdwatch.policy.failure.hold_reason import NoCall
from sdwatch.policy.failure.ledger import LeftCall
from sdwatch.policy.job.calls.call_sizes import KnownSizes
from sdwatch.policy.privacy.printable import counted
from sdwatch.policy.report.notice import Notice, config_edited
from sdwatch.spool import after_death, takeover
from sdwatch.spool.earlier_texts import earlier_texts
from sdwatch.spool.folders import Spool
from sdwatch.spool.heartbeat import INTERVAL, STARTING, Heartbeat, give_way
from sdwatch.stages.run_end import RunEnd
from sdwatch.system.clock import Clock, SystemClock, iso, wait
from sdwatch.system.state_folder import StateFolder

_READS_FIRST = 5.0
"""Seconds at most for which the start of the WebUIs waits until the inbox has been read."""


class Monitor:
    """Runs the spool of `config` until it is stopped, or with `once` until nothing is left to do.

    `config_file`: the file that the config was read from, for commands in messages; None for the
    built-in config. `take_over`: another worker, whose runs are resumed here. `notify`: gets a
    notice for people whenever something happens, from any thread. `partner`: this machine's part of
    a cluster; set before `run`.
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
        self.partner: Partner | None = None
        self._clock = clock or SystemClock()
        self._sizes = KnownSizes()
        self._state = StateFolder(config.state)
        self._stop = StopRequest(hurry_up=self._give_up_calls, wake=lambda: self._wake.set())
        self._stop_file: StopFile | None = None
        self._notifications = Notifications(
            config.notify, self._clock, lambda line: self._reports.line(line)
        )
        self._reports = Reports(notify, self._notifications.take, self._clock)
        self._wake = threading.Event()
        self._lanes: list[Lane] = []
        self._lanes_open = False
        self._is_open = False
        self._left_calls: list[LeftCall] = []
        self._no_call: NoCall | None = None
        self._began_at = self._clock.monotonic()
        self._called_at = self._began_at  # the last round in which calls were allowed

    def run(self) -> MonitorEnd:
        """Run the spool. Raises SpoolError, and AlreadyRunningError: another monitor runs on this
        spool, or started on it while this one was frozen."""
        self._state.hold()
        self._notifications.open()
        try:
            self._spool = Spool(self._config.spool, self._state.worker, self._config_file)
            names = [webui.name for webui in self._config.webuis]
            self._holds = Holds(self._spool, names, clock=self._clock, report=self._reports.notice)
            self._heartbeat = Heartbeat(self._spool, self._state.status_file)
            self._page = StatusPage(
                self._spool, self._heartbeat.about, self._clock, lambda: names_of(self._lanes)
            )
            self._heartbeat_writer = HeartbeatWriter(
                self._heartbeat, self._spool, self._clock, self._page.show
            )
            self._gate = CallGate(
                self._spool, self._config.min_free, lambda: self._runs.disk_refuses()
            )
            if not self._wait_for_spool():
                return MonitorEnd.HOLD if self._once else MonitorEnd.STOPPED
            self._stop_file = StopFile(
                self._spool, clock=self._clock, stop=self._stop.make, report=self._reports.line
            )
            try:
                self._claim_spool()
            except RunStoppedError:
                return MonitorEnd.STOPPED
            try:
                self._open()
                try:
                    return self._work()
                finally:
                    self._close()
            finally:
                self._heartbeat.end()
                self._page.close()
        finally:
            self._notifications.close(self._stop.hurry)
            self._state.release()

    def _claim_spool(self) -> None:
        """Make sure that no other monitor works on the spool, or starts on it at this moment."""
        still = takeover.prepare(self._spool, self._take_over, self._clock, self._stop.made)
        try:
            self._heartbeat_writer.write_now({**self.status(), STARTING: True})
            self._heartbeat.open()
            give_way(self._spool, self._clock, still, self._stop.made)
            self._heartbeat_writer.write_now(self.status())
            self._heartbeat_writer.start()
            self._page.open()
        except BaseException:
            self._heartbeat.end()
            raise

    def _wait_for_spool(self) -> bool:
        """Wait for a share that is not mounted yet, as after a boot; with --once do not wait.
        Return whether the spool is there, or is to be made for the first time."""
        while self._state.knows(self._spool.root) and self._spool.is_gone:
            self._no_call = self._gate.share_gone()
            self._holds.report([], self._no_call)
            self._heartbeat_writer.beat_here(self.status())
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
        if self._is_open:
            self._runs.give_up()

    def _open(self) -> None:
        config, clock = self._config, self._clock
        wake, report = self._wake.set, self._reports.line
        intake = Intake(self._spool, config, clock=clock, wake=wake, report=report)
        suspended = SuspendedRuns(clock, config.rules)
        settings = settings_of_runs(config)
        self._runs = ActiveRuns(self._spool, suspended, clock=clock, settings=settings, wake=wake)
        self._recover(suspended)
        self._holds.clear()
        self._lanes = lanes_of(
            config,
            self._state,
            clock=clock,
            gate=self._gate,
            hurry=self._stop.hurry,
            wake=wake,
            report=report,
        )
        for texts in earlier_texts(self._spool, [each.job for each in suspended]):
            for lane in self._lanes:
                lane.redactor.learn(texts)
        self._parts = parts = Parts(
            spool=self._spool,
            state=self._state,
            clock=clock,
            gate=self._gate,
            settings=settings,
            wake=wake,
            lanes=self._lanes,
            intake=intake,
            suspended=suspended,
            runs=self._runs,
            without_lane=RunsWithoutLane(self._spool, suspended, self._reports, clock),
            reports=self._reports,
            later_jobs=LaterJobs(clock),
            placement=Placement(self._lanes, config.max_generation, config.rules),
            affinity=Affinity(clock, config.affinity_max_wait),
        )
        self._lane_work = Work(parts, next((webui.url for webui in config.webuis), "URL"))
        self._left_to_do = Once(parts, self._lane_work, self.partner)
        self._rounds = self._started_rounds()
        intake.open()
        if self.partner is not None:
            self.partner.open(parts, self._lane_work)
        self._is_open = True

    def _started_rounds(self) -> list[Rounds]:
        """Start what is done every few minutes, each on a thread of its own: a share of outputs
        that hangs must not keep old runs."""
        config, stopping = self._config, threading.Event()
        retention = Retention(
            config.retention,
            self._spool,
            self._state,
            clock=self._clock,
            report=self._reports.line,
            stopping=stopping,
        )
        late_outputs = LateOutputs(
            self._spool,
            config.output_folder,
            clock=self._clock,
            report=self._reports.line,
            stopping=stopping,
        )
        # The heartbeat is there before something is removed.
        return [
            Rounds("retention", self._clock, stopping, retention.try_round, first=2.0),
            Rounds("late outputs", self._clock, stopping, late_outputs.round),
        ]

    def _recover(self, suspended: SuspendedRuns) -> None:
        """Suspend what an earlier monitor left in working/, and report what is not ours."""
        for folder in after_death.recover(self._spool, self._clock, self._left_calls.append):
            suspended.add(folder)
        for name, count in after_death.runs_of_others(self._spool).items():
            self._reports.line(
                f"working/{name} has {counted(count, 'run')} of another worker, left alone (to "
                f"resume here: `sdwatch run --take-over {name}`)"
            )
        if warning := self._spool.too_deep:
            self._reports.line(warning)

    def _open_lanes(self) -> None:
        """Open the lanes, once. With --once, only for a job that can start. What has settled in the
        inbox is read before: if it all waits for its time, no WebUI is started only to be freed."""
        if self._lanes_open:
            return
        needed = self._left_to_do.has_startable() and not self.why_no_call()
        is_early = self._clock.monotonic() - self._began_at < _READS_FIRST
        if not needed and (self._once or (is_early and self._parts.intake.settling)):
            return
        self._lanes_open = True
        self._allow_calls()
        for lane in self._lanes:
            lane.open(self._left_calls)

    def _work(self) -> MonitorEnd:
        while not self._stop.made.is_set():
            self._wake.clear()
            self._tick()
            if self._once and (result := self._left_to_do.result(self._must_wait())) is not None:
                return result
            wait(self._wake, self._pause())
        return MonitorEnd.STOPPED

    def _close(self) -> None:
        """Stop the runs, which stay in working/ and resume at the next start, and the lanes."""
        self._heartbeat_writer.stopping(longest_stop(self._config))
        self._parts.intake.close()
        for lane in self._lanes:
            lane.start_stop()
        for rounds in self._rounds:
            rounds.close()
        self._stop.wait_at_most(self._config.stop_grace)
        self._runs.join(self._config.stop_grace, self._report_stop)
        self._stop.waited()
        if self.partner is not None:
            self.partner.close()
        for lane in self._lanes:
            lane.finish_stop()
        self._holds.finish(self._lanes, keep=self._once and not self._stop.made.is_set())
        self._report_ended()

    def _tick(self) -> None:
        self._parts.later_jobs.look_at_clock()
        self._no_call = self._gate.why_no_call()
        if self._no_call is None:
            self._called_at = self._clock.monotonic()
        self._allow_calls()
        if self._stop_file is not None:
            self._stop_file.check()
        self._check_config_edits()
        self._report_ended()
        self._parts.affinity.look(self._runs.ids, self._parts.intake.sources)
        self._parts.intake.scan()
        self._runs.cancel_where_asked()
        self._lane_work.end_without_lane()
        self._open_lanes()
        for lane in self._lanes:
            if lane.hold_reason:
                self._runs.stop_waiting(lane)
        if not self.why_no_call():
            for runs in range(1, ACTIVE_RUNS + 1):  # no second one while another lane has none
                for lane in self._lanes:
                    self._lane_work.give(lane, runs)
                self._give_partner(runs, may_call=True)
            self._lane_work.move()
        else:
            self._give_partner(0, may_call=False)
        self._lane_work.look_ahead()
        self._parts.without_lane.fail_after_hold_max(self._config.hold_max, self._lanes)
        self._holds.report(self._lanes, self.why_no_call(), self._edited)
        self._reports.work_left(self._has_jobs())
        quiet = self._is_quiet()
        headline = quiet, self.why_no_call(), self._edited, tuple(self._reports.counts.values())
        self._heartbeat_writer.beat_if_due(self.status, headline, quiet=quiet)

    def _give_partner(self, most: int, *, may_call: bool) -> None:
        if self.partner is not None:
            self.partner.give_work(most, may_call=may_call)

    def _allow_calls(self) -> None:
        """Report to each lane whether calls may start, and whether its GPU is wanted."""
        persons_hold = self._gate.persons_hold()
        for lane in self._lanes:
            lane.allow_calls(
                self._no_call, persons_hold, frees=self._lane_work.frees(lane, persons_hold)
            )

    def _is_quiet(self) -> bool:
        """Return whether nothing happens: no job is there, and all WebUIs are ready. Whatever
        changes that wakes this thread."""
        if self._has_jobs():
            return False
        return all(lane.ready and not lane.hold_reason for lane in self._lanes)

    def _has_jobs(self) -> bool:
        return bool(self._runs or self._parts.suspended or self._parts.intake.has_jobs)

    def _pause(self) -> float:
        """Return the seconds until the next round, if nothing happens before."""
        pause = min(self._parts.intake.pause(), self._heartbeat_writer.due_in())
        return pause if self._is_quiet() else min(INTERVAL, pause)

    def _must_wait(self) -> bool:
        """Return whether calls wait for a person, or for a disk that refuses for long."""
        if (no_call := self.why_no_call()) is None:
            return False
        since = self._clock.monotonic() - self._called_at
        return since >= REFUSAL_PASSES or not no_call.may_pass

    def why_no_call(self) -> NoCall | None:
        """Return why no new call may start on any lane, as of this round, or None."""
        return self._no_call

    def _check_config_edits(self) -> None:
        """Report an edited config: it is read only at the start."""
        edited = str(self._config_file) if self._edits.found() else ""
        if edited and not self._edited:
            self._reports.line(config_edited(edited))
        self._edited = edited

    def _report_stop(self, left: float) -> None:
        """Report that a stop waits for calls in flight, for at most `left` seconds."""
        if self._stop.counts_down(left):
            self._heartbeat_writer.update(self.status())
        if line := self._stop.line(left):
            self._reports.line(line)

    def _report_ended(self) -> None:
        for active in self._runs.take_ended():
            if active.ending is RunEnd.GONE:
                self._reports.gone(active.run.run_id)
            elif active.ending is RunEnd.STOPPED:
                self._reports.suspended(active.run.run_id, active.refused)
            else:
                self._reports.ended(active.run, active.ending, active.runner.why, self._spool)

    def status(self) -> dict[str, Any]:
        """Return the state of the monitor for the heartbeat, `status` and the live display."""
        left = self._stop.seconds_left
        status: dict[str, Any] = {
            "at": iso(self._clock.wall()),
            "hold": str(self.why_no_call() or ""),
            "stopping": None if left is None else round(left, 1),
            "stop_ignored": self._stop_file.ignored if self._stop_file else [],
            "config_edited": self._edited,
            "counts": {str(ending): count for ending, count in self._reports.counts.items()},
            "notify": self._notifications.status(),
        }
        if not self._is_open:  # it still waits for the share
            return {**status, **NO_RUNS}
        parts = self._parts
        suspended = list(parts.suspended)
        return {
            **status,
            "lanes": [lane.status() for lane in self._lanes],
            "next_because": next_status(self._lane_work.next),
            "runs": run_status(parts.runs.under_way(), suspended, self._sizes, parts.later_jobs),
            **({"cluster": self.partner.status()} if self.partner is not None else {}),
            **parts.intake.status(len(suspended), parts.placement.waiting(), parts.later_jobs),
        }

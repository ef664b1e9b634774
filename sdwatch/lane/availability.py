"""Whether one WebUI is available, and how it becomes available again after a failure.

The only way from a crash to a ready WebUI is `bring_up`. It runs on the supervisor's thread, with
the WebUI's permit: the supervisor's own, or that of the run that waits for it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sdwatch.lane.context import LaneContext
from sdwatch.lane.health_checks import HealthChecks
from sdwatch.lane.hold import Hold
from sdwatch.lane.inventory import Inventory
from sdwatch.lane.output import findings_of_start, with_output
from sdwatch.lane.recycling import Recycling
from sdwatch.lane.self_test import SelfTest
from sdwatch.lane.self_test_gate import STOPS, SelfTestGate, how_ended
from sdwatch.policy.failure.cooldown import asked_again_after
from sdwatch.policy.failure.diagnosis import Diagnosis, Drawn
from sdwatch.policy.failure.hold_reason import (
    Cure,
    HoldReason,
    broken_here,
    doubted_jobs,
    unproven,
)
from sdwatch.policy.failure.lifecycle import Event, State, next_state
from sdwatch.policy.failure.reply_checks import Finding
from sdwatch.webui.http.canary import By, SelfTestFailure
from sdwatch.webui.http.external import ExternalWebUI
from sdwatch.webui.http.occupancy import Occupancy
from sdwatch.webui.process.crash_history import IdleFailure
from sdwatch.webui.process.process import WebUIProcessManager
from sdwatch.webui.process.readiness import PROBE_INTERVAL_S

log = logging.getLogger("sdwatch.supervisor")


class Availability:
    """Of the WebUI of `context`.

    `stopping`: set when sdwatch stops. `warn`: gets the findings of a start that a person should
    know. `process` is set once, before anything else is called.
    """

    def __init__(
        self,
        context: LaneContext,
        *,
        recycling: Recycling,
        self_test: SelfTest,
        stopping: threading.Event,
        warn: Callable[[str, tuple[Finding, ...]], None],
    ) -> None:
        self.process: WebUIProcessManager | ExternalWebUI
        self.state = State.DOWN
        self.hold = Hold(context.clock)
        self.inventory = Inventory(context, stopping, self._is_idle)
        self.ended_incarnation = -1  # the last one that ended although sdwatch did not stop it
        self.paused = context.paused
        self._context = context
        self._config = context.config
        self._managed = context.managed
        self._health = HealthChecks(context)
        self._crashes = context.crashes
        self._clock = context.clock
        self._wake = context.wake
        self._redact = context.redactor.redact
        self._recycling = recycling
        self._self_test = self_test
        self._stopping = stopping
        self._warn = warn
        self._gate = SelfTestGate(
            context,
            self_test,
            self.hold,
            stopping,
            is_gone=lambda: self.is_gone,
            how_ended=lambda: how_ended(self.process, context.clock, stopping),
        )
        self._occupancy = Occupancy(context.client, context.config.health.timeout, context.clock)
        self._nothing_runs = False  # on hold: a start found it unusable, and its process ended
        self._unusable_starts = 0  # in a row

    @property
    def ready(self) -> bool:
        """Return whether a call may be sent."""
        well = self.state is State.READY and self.ended_incarnation != self.process.incarnation
        sound = not self._recycling.due and not self._crashes.suspects
        return well and sound and not self._stopping.is_set()

    @property
    def is_gone(self) -> bool:
        """Return whether the process is managed by sdwatch and has ended."""
        if not self._managed:
            return False
        ended = self.ended_incarnation == self.process.incarnation
        return ended or not self.process.is_process_alive()

    def apply(self, event: Event) -> None:
        """Change the state. Raises LifecycleError where the event is not allowed in this state."""
        self.state = next_state(self.state, event)
        self._context.permit.changed()

    # -- becoming ready

    def adopt(self) -> None:
        """Adopt a healthy process of an earlier monitor instead of loading the model again."""
        if not self.process.adopt(give_up=self._stopping):
            if self.process.answers_unusable:
                self.apply(Event.START)
                self._start_found_unusable(self.process.last_hold_reason)
            return
        self._interrupt_leftover()
        self.apply(Event.START)
        self._finish_start("adopted")

    def bring_up(self) -> SelfTestFailure | None:
        """Wait out the cool-down, restart the WebUI and wait until it is ready. Return None, or why
        it is not ready. Nothing is started while it is `paused`."""
        if self._clock.wait(self._stopping, self._crashes.remaining()):
            return SelfTestFailure(STOPS, By.NOT_ASKED)
        if why := self.paused():
            return SelfTestFailure(why.text, By.NOT_ASKED)
        self._nothing_runs = False
        before = self.process.incarnation
        self._health.start_incarnation()
        self.inventory.start_incarnation()
        self._recycling.start_incarnation()
        self.apply(Event.START)
        self._crashes.started(self.process.incarnation + 1 if self._managed else 0)
        started = self.process.restart_and_wait_ready(self._config.start_limit, self._stopping)
        if started:
            self._warn_of_the_start()
            return self._finish_start()
        hold_reason = self.process.last_hold_reason
        has_lived = not self._managed or self.process.incarnation != before
        if hold_reason.cure is Cure.PERSON:
            self._start_found_unusable(hold_reason, has_output=has_lived)
        else:
            self.apply(Event.START_FAILED)
            self._failed(hold_reason, IdleFailure.NO_START, has_output=has_lived)
            self._wake()
        return SelfTestFailure(self._redact(hold_reason.cause), By.NOT_ASKED)

    def _warn_of_the_start(self) -> None:
        """Warn of extensions that this incarnation did not load. For an adopted one that was done
        before."""
        if self._managed:
            found = findings_of_start(self.process.log_paths())
            self._warn(f"incarnation {self.process.incarnation}", found)

    def _finish_start(self, how: str = "") -> SelfTestFailure | None:
        """Mark a WebUI that answers as ready, after a self-test if one is due. Return None, or why
        it is not ready."""
        self._unusable_starts = 0
        if self.must_self_test and (why := self.paused()):
            self._wait_for_self_test()
            return SelfTestFailure(why.text, By.NOT_ASKED)
        self_test_failure = self._gate.pass_if_due()
        if self_test_failure is None:
            self.inventory.read()
            self.apply(Event.READY)
            self.hold.clear()
            self._report_ready(how)
            self._wake()
            self._hold_if_suspected()
            return None
        return self._apply_failure(self_test_failure, Event.START_FAILED)

    def _start_found_unusable(self, hold_reason: HoldReason, *, has_output: bool = True) -> None:
        """Put the lane on hold because a start found what only a person can fix; that is no crash.
        A WebUI that answers keeps running and is probed again. Where nothing runs, the start is
        retried."""
        self._nothing_runs = self._managed and not self.process.answers_unusable
        self._unusable_starts += 1
        if not self._stopping.is_set():
            self.hold.update(
                with_output(hold_reason, self.process, self._redact) if has_output else hold_reason,
                retried=True,
            )
        starts_again = asked_again_after(self._unusable_starts)
        self._hold_for(starts_again if self._nothing_runs else self._config.health.interval)

    def _wait_for_self_test(self) -> None:
        """Hold a WebUI that answers while a person's hold forbids its self-test."""
        self.hold.needs_self_test = True
        if self.hold.held is None:
            self.hold.update(unproven())
        self._hold_for(0.0)

    @property
    def must_self_test(self) -> bool:
        """Return whether the WebUI is ready only after it has passed a self-test."""
        return self._gate.must_self_test

    def supervise(self) -> None:
        """Check a WebUI that no run uses, and bring it up if it is down."""
        if self.state is State.READY:
            self._check_health()
        if self.state is State.READY and self._recycling.due and not self._context.may_call():
            self._recycle()
        if self.state is State.NOT_USABLE:
            self._check_unusable()
        elif self.state is not State.READY:
            self.bring_up()

    def defer_health_check(self) -> None:
        """Defer the next health check: the WebUI has just answered a call. A hold has its own
        schedule."""
        if self.state is State.READY:
            self._health.defer(PROBE_INTERVAL_S)

    def internal_error(self, error: Exception) -> None:
        """Recover the state after an internal error of sdwatch."""
        if self.state is State.STARTING:
            self._crashes.crashed(IdleFailure.NO_START)
            self.apply(Event.START_FAILED)
        if self.state is not State.READY:
            self.hold.update(broken_here(repr(error)))
        self._wake()

    # -- what went wrong

    def crashed(self, diagnosis: Diagnosis, why: str = "") -> None:
        """Mark the WebUI as crashed: it must be restarted, and its cool-down starts now. `why`:
        what was seen, for people."""
        entry = self._crashes.crashed(diagnosis)
        self.apply(Event.CRASHED)
        because = f": {self._redact(why)}" if why else ""
        text = f"{diagnosis}{because}; nothing is sent to it for {entry:g} s"
        self.hold.record(text)
        self._context.report(text)

    def put_on_hold(
        self,
        hold_reason: HoldReason,
        *,
        still_counts_for: float = 0.0,
        needs_self_test: bool = False,
    ) -> None:
        """Send nothing to the WebUI for now. The wait grows with each consecutive hold: along the
        cool-down for what time cures, else at a pace at which a fix is soon noticed. Arguments as
        for Hold."""
        reason = with_output(hold_reason, self.process, self._redact)
        in_a_row = self.hold.start(
            reason, still_counts_for=still_counts_for, needs_self_test=needs_self_test
        )
        waits = self._crashes.entry if reason.cure is Cure.TIME else asked_again_after
        self._hold_for(waits(in_a_row))

    def suspect_webui(self, runs: Sequence[str]) -> None:
        """Hold the WebUI for a while because these runs failed in a row and it died each time: the
        jobs may not be the cause."""
        self._crashes.suspected(runs)
        if self.state is State.READY:  # else the last of them made a restart due
            self._hold_if_suspected()

    def release(self) -> None:
        """Release the hold because a person asks for it; may be called from any thread. A cool-down
        is still waited out."""
        self.hold.release()
        self._self_test.start_over()
        self._crashes.trusted()
        self._health.defer(0.0)

    def run_self_test(self, why_over: Callable[[], str]) -> SelfTestFailure | None:
        """Return why the WebUI fails its self-test, or None. It must be ready. A self-test that
        `why_over` cuts short shows nothing."""
        if why := self.paused():
            return SelfTestFailure(why.text, By.NOT_ASKED)
        self_test_failure = self._gate.run(why_over)
        if self_test_failure is None or self_test_failure.by is By.NOT_ASKED:
            return self_test_failure
        return self._apply_failure(self_test_failure)

    def can_generate(
        self,
        stage: str,
        payload: Mapping[str, Any],
        why_over: Callable[[], str],
        *,
        keeps_memory: bool,
    ) -> Drawn:
        """Return whether the WebUI generates a plain picture as large as this call's. Used for
        advice only; the WebUI must be ready. `keeps_memory`: a failure of that size has made it
        unusable before, so it is recycled after another one."""
        if self.state is not State.READY or self.paused():
            return Drawn.NOT_ASKED
        drawn = self._gate.can_generate(stage, payload, why_over)
        if keeps_memory and drawn is not Drawn.CAN:
            self._recycling.make_due("a picture for advice may have left it unusable")
        return drawn

    def _apply_failure(
        self, self_test_failure: SelfTestFailure, event: Event = Event.CRASHED
    ) -> SelfTestFailure:
        """Act on a failed self-test. A WebUI that is busy is waited for. Otherwise the cool-down
        starts, and the lane is on hold only if no restart can help: the process is fresh, or not
        managed."""
        if self_test_failure.by is By.NO_TIME:
            self.put_on_hold(self_test_failure.as_hold_reason, needs_self_test=True)
            return self_test_failure
        if self._stopping.is_set():
            return SelfTestFailure(STOPS, By.NOT_ASKED)
        fresh = self._recycling.is_fresh
        self.apply(event)
        again = self._managed and not fresh
        failed_fresh = self.process.incarnation if fresh else 0
        self._failed(
            self_test_failure.as_hold_reason,
            IdleFailure.FAILED_SELF_TEST,
            holds=not again,
            failed_fresh=failed_fresh,
        )
        self._context.report(
            f"{self_test_failure.reason}; nothing is sent for {self._crashes.remaining():g} s"
        )
        self._wake()
        return replace(
            self_test_failure, reason=self._redact(self_test_failure.reason), again=again
        )

    def _hold_if_suspected(self) -> None:
        if runs := self._crashes.suspects:
            self.hold.update(doubted_jobs(runs), retried=True)
            self._hold_for(self._crashes.suspicion_left())

    def _hold_for(self, seconds: float) -> None:
        self._health.defer(seconds)
        self.apply(Event.NOT_USABLE)
        self._wake()

    def _failed(
        self,
        hold_reason: HoldReason,
        kind: IdleFailure,
        *,
        has_output: bool = True,
        holds: bool = True,
        failed_fresh: int = 0,
    ) -> None:
        """Start the cool-down of an unusable WebUI, and put the lane on hold unless a restart comes
        first."""
        if self._stopping.is_set():
            return
        self._self_test.forget_blame()
        self._crashes.crashed(kind, failed_fresh=failed_fresh)
        if holds:
            self.hold.update(
                with_output(hold_reason, self.process, self._redact) if has_output else hold_reason,
                retried=True,
            )
        else:
            self.hold.record(self._redact(hold_reason.cause))

    # -- while it is idle

    def _check_health(self) -> None:
        """Notice a dead or frozen WebUI although nothing is queued."""
        if self.is_gone:
            self._died_while_idle()
        elif (probe := self._health.probe_if_due()) is None:
            return
        elif probe.lacks:
            self.put_on_hold(self._health.hold_reason_for(probe, self.inventory.kind))
        elif probe.ready:
            self._health.passed()
            self.process.cap_logs()
            self._recycling.sample_memory()
            self.inventory.read_rest()
        elif self._health.is_frozen(probe):
            self.crashed(Diagnosis.STUCK, probe.reason)

    def _check_unusable(self) -> None:
        """Check whether what made the WebUI unusable is gone."""
        if self._nothing_runs:
            if self._health.is_due:
                self.bring_up()
        elif self.is_gone:
            self._died_while_idle()
        elif (probe := self._health.probe_if_due()) is None:
            return
        elif self._occupancy.is_busy(still_counts_for=self.hold.still_counts_for):
            self.hold.restore()
        elif (
            self._managed and not (probe.ready or probe.unusable) and self._health.is_frozen(probe)
        ):
            self.crashed(Diagnosis.STUCK, probe.reason)
        elif not probe.ready:
            self._hold_if_new(self._health.hold_reason_for(probe, self.inventory.kind))
        elif not (self.must_self_test and self._context.may_call()):
            self._resume_if_healthy()

    def _hold_if_new(self, hold_reason: HoldReason) -> None:
        """Report a changed reason. The output is read only then: the WebUI is checked every few
        seconds."""
        if self.hold.held is None or hold_reason.key != self.hold.held.hold_reason.key:
            self.hold.update(with_output(hold_reason, self.process, self._redact))

    def _resume_if_healthy(self) -> None:
        """Make a WebUI ready whose probe is answered. What a call has found wrong, only a canary
        can see."""
        self_test_failure = self._gate.pass_if_due()
        if self_test_failure is None:
            self._unusable_starts = 0
            self.hold.clear()
            self.inventory.read()
            self.apply(Event.READY)
            self._wake()
            self._hold_if_suspected()
        else:
            self._apply_failure(self_test_failure)

    def _died_while_idle(self) -> None:
        self._self_test.forget_blame()
        self.crashed(Diagnosis.CRASH)

    def _recycle(self) -> None:
        """Stop the WebUI cleanly, to start it again. This is no crash."""
        self._crashes.recycled(self.process.incarnation, self._recycling.due)
        self._context.report(f"recycled: {self._recycling.due}")
        self.apply(Event.RECYCLED)

    def _interrupt_leftover(self) -> None:
        """Interrupt a picture that the last monitor left behind, so that no call queues behind it:
        a client that disconnects does not cancel its request (measured)."""
        if self._managed and self._occupancy.is_generating:
            self._context.client.interrupt()

    def _is_idle(self) -> bool:
        return not self._occupancy.is_generating

    def _report_ready(self, how: str = "") -> None:
        if not self._managed:  # neither adopted nor numbered
            self._context.report("ready")
        else:
            words = ["ready", how, f"incarnation {self.process.incarnation}"]
            self._context.report(", ".join(filter(None, words)))

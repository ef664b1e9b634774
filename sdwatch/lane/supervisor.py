"""The supervisor of one WebUI: a thread that checks it, and what the run with the permit reports.

The thread supervises the WebUI whenever no run has the permit, and watches the call of the run that
has it. A run whose call crashed asks the supervisor for what comes next, so only one thread acts on
the WebUI's availability (availability.py).
"""

from __future__ import annotations

import logging
import math
import re
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from sdwatch.errors import WebUIError
from sdwatch.lane.availability import Availability
from sdwatch.lane.context import LaneContext
from sdwatch.lane.recycling import Recycling
from sdwatch.lane.request import GIVEN_UP, LaneRequest
from sdwatch.lane.self_test import SelfTest
from sdwatch.lane.warnings import CallWarnings
from sdwatch.policy.failure.diagnosis import Diagnosis, Drawn
from sdwatch.policy.failure.failure_key import FailureKey
from sdwatch.policy.failure.hold_reason import HoldReason
from sdwatch.policy.failure.lifecycle import Event, State
from sdwatch.policy.failure.progress import Limits
from sdwatch.policy.failure.reply_checks import Finding
from sdwatch.system.clock import join
from sdwatch.webui.http.call_watch import CallWatch
from sdwatch.webui.http.canary import By, Canary, SelfTestFailure
from sdwatch.webui.http.external import ExternalWebUI
from sdwatch.webui.http.mailbox import Exited, Stalled
from sdwatch.webui.log.call_log import CallLog
from sdwatch.webui.log.tail_capture import first_lines_with
from sdwatch.webui.process.incarnation import WebUIExit
from sdwatch.webui.process.process import WebUIProcessManager
from sdwatch.webui.process.readiness import PROBE_INTERVAL_S

log = logging.getLogger("sdwatch.supervisor")


_CHECK_INTERVAL_S = 0.1  # was the waiting run given up?


class Supervisor:
    """Of the WebUI of `context`. Call `use` once, before `open`."""

    def __init__(self, context: LaneContext) -> None:
        self.watch: CallWatch | None = None  # of the POST in flight
        self.warnings = CallWarnings(context.report)
        self.recycling = Recycling(
            context.config, context.option_leaks, lambda: self._process.rss()
        )
        self._process: WebUIProcessManager | ExternalWebUI
        self._context = context
        self._config = context.config
        self._crashes = context.crashes
        self._clock = context.clock
        self._stopping = threading.Event()
        self._kick = threading.Event()
        self._lock = threading.Lock()  # of what a thread without the permit writes, too
        self._lists_asked: set[str] = set()
        self._request: LaneRequest | None = None
        self._last_log: CallLog | None = None  # of a run's last POST, also after its end
        self._newest_log: tuple[int, CallLog] | None = None  # and its incarnation; self-tests too
        self._call: tuple[str, Mapping[str, Any]] = ("", {})  # the last one sent
        self._self_test = SelfTest(
            Canary(context.client, may_interrupt=context.managed),
            self._new_watch,
            context.redactor,
            context.signatures,
            managed=context.managed,
            kind=lambda: self.availability.inventory.kind,
            clock=context.clock,
            limit=context.config.self_test_limit,
        )
        self.availability = Availability(
            context,
            recycling=self.recycling,
            self_test=self._self_test,
            stopping=self._stopping,
            warn=self.warn,
        )
        self._thread = threading.Thread(target=self._run, name=f"supervisor-{context.config.name}")

    def use(self, process: WebUIProcessManager | ExternalWebUI) -> None:
        """Set the process to supervise."""
        self._process = self.availability.process = process

    def open(self) -> None:
        """Start to supervise: adopt or start the process."""
        self._thread.start()

    def close(self) -> None:
        """Stop supervising. The process is left as it is."""
        self._stopping.set()
        self._kick.set()

    def join(self) -> None:
        """Wait until the supervisor's thread has ended."""
        if self._thread.ident is not None:
            join(self._thread)
        self.availability.apply(Event.STOP)

    # -- reports of a call (see CallObserver); the caller has the permit

    def is_clean(self) -> bool:
        """Return whether nothing of an earlier call is left, including a call that was given up.
        For who has just acquired the permit."""
        self.warn("a call that was given up", self.after_call())
        return not self.recycling.due

    def before_call(self, payload: Mapping[str, Any]) -> None:
        """Prepare for a POST. Another attempt of the same call may have gone before."""
        self._call = ("", payload)
        self.recycling.before_call(payload, self._process.incarnation)

    def sending(self, stage: str) -> bool:
        """Watch the POST that goes out now. Return whether it is the first call of its incarnation;
        never so for an external WebUI."""
        self._call = (stage, self._call[1])
        watch = self._new_watch(stage)
        self._last_log = watch.log
        self._set_watch(watch)
        return self.recycling.sending(self._call[1])

    @property
    def has_log(self) -> bool:
        """Return whether the WebUI's output can be read at all."""
        return bool(self._process.log_paths())

    def call_log(self) -> tuple[str, ...]:
        """Return the WebUI's lines since the last POST went out, oldest first."""
        return self._last_log.lines() if self._last_log is not None else ()

    def wait_for_traceback(self, error: WebUIError, is_over: Callable[[], bool]) -> None:
        """Wait for what the WebUI prints of a failed call after its reply. See CallObserver."""
        self._set_watch(None)  # nothing is in flight: a stop need not wait for a reply
        if self._last_log is not None:
            self._last_log.wait_for_traceback(
                error, lambda pause: is_over() or self._clock.wait(self._stopping, pause)
            )

    def first_lines_with(self, patterns: Sequence[re.Pattern[str]]) -> tuple[str, ...]:
        """Return the first line since the WebUI's start that matches each pattern."""
        return first_lines_with(self._process.log_paths(), patterns)

    def succeeded(self, stage: str, payload: Mapping[str, Any]) -> None:
        """Note that a call succeeded."""
        self.availability.hold.succeeded()
        self._crashes.succeeded()
        self._self_test.succeeded(stage, payload)

    def after_call(self) -> tuple[Finding, ...]:
        """Undo what the WebUI kept of the call, and return the findings."""
        return self.recycling.after_call(self._process.incarnation)

    def warn(self, job: str, warnings: tuple[Finding, ...]) -> None:
        """Warn of findings that a person should know, except those that `checks` turns off."""
        wanted = (each for each in warnings if self._context.checks.get(each.kind) != "off")
        self.warnings.add(job, tuple(wanted))

    def crashed(self, diagnosis: Diagnosis) -> None:
        """Mark the WebUI as crashed: it must be restarted, and its cool-down starts now."""
        self._set_watch(None)
        self.availability.crashed(diagnosis)

    def put_on_hold(self, hold_reason: HoldReason, *, until_idle: bool = False) -> None:
        """Send nothing to the WebUI for now. No probe sees what a call has found wrong, so a canary
        runs before the next call. See CallObserver."""
        self._set_watch(None)
        still_counts_for = math.inf if until_idle else 0.0
        self.availability.put_on_hold(
            hold_reason, still_counts_for=still_counts_for, needs_self_test=not until_idle
        )

    def wait_until_idle(self, hold_reason: HoldReason) -> None:
        """Hold the WebUI while it may generate what nobody waits for any more. A generation without
        progress for the stall time does not count. See CallObserver."""
        self._set_watch(None)
        self.availability.put_on_hold(hold_reason, still_counts_for=self._config.stall)

    def bring_up_for(self, give_up: threading.Event) -> bool:
        """Have the WebUI brought up, and wait for it. Return False if it did not become ready, or
        `give_up` was set; then the supervisor continues alone."""
        return self._ask(LaneRequest(self._bring_up, give_up)) is None

    def run_self_test(self, give_up: threading.Event) -> SelfTestFailure | None:
        """Have the WebUI tested. See CallObserver."""
        self._set_watch(None)
        return self._ask(LaneRequest(self._self_test_for_run, give_up, binds=True))

    def failed_fresh_since(self, incarnation: int) -> bool:
        """Return whether a later incarnation failed its self-test before any job's call."""
        return self._crashes.failed_fresh > incarnation

    def can_generate(
        self,
        stage: str,
        payload: Mapping[str, Any],
        give_up: threading.Event,
        *,
        keeps_memory: bool,
    ) -> Drawn:
        """Have a plain picture generated, as large as this call's. See CallObserver."""
        drawn = Drawn.NOT_ASKED

        def draw(request: LaneRequest) -> None:
            nonlocal drawn
            drawn = self.availability.can_generate(
                stage, payload, request.why_over, keeps_memory=keeps_memory
            )

        self._ask(LaneRequest(draw, give_up, binds=True))
        return drawn

    def is_a_jobs_own(self, failure: FailureKey | None) -> bool:
        """Return whether the last call's failure was shown to be the jobs' own, so that its second
        attempt needs no restart."""
        return self._self_test.is_a_jobs_own(failure, *self._call)

    def blamed(
        self, job: str, run: str, failure: FailureKey | None, crashes: int, died: bool
    ) -> None:
        """Note that this failure was a job's own: its crashes do not lengthen the cool-down."""
        self._set_watch(None)
        self._crashes.forgive(crashes)
        if runs := self._self_test.blamed(job, run, failure, died):
            self.availability.suspect_webui(runs)

    def cannot(self, stage: str, upscaler: str, why: str) -> None:
        """Note what this incarnation cannot do, as a call has shown. See CallObserver."""
        self.availability.inventory.note_cannot(stage, upscaler, why)

    def call_finished(self) -> None:
        """Finish a call: its failure is handled, and the permit is about to be released."""
        self.recycling.check_limits()
        self.availability.defer_health_check()
        self._set_watch(None)

    def check_again(self) -> None:
        """Check the WebUI soon if it is not ready: the permit was released."""
        if not self.availability.ready:
            self._kick.set()

    def _ask(self, request: LaneRequest) -> SelfTestFailure | None:
        with self._lock:
            self._request = request
        self._kick.set()
        while not request.done.wait(_CHECK_INTERVAL_S):
            with self._lock:
                # What is done for it on the WebUI must be over before the permit is released.
                if (request.given_up or self._stopping.is_set()) and not request.bound:
                    self._request = None if self._request is request else self._request
                    return SelfTestFailure(GIVEN_UP, By.NOT_ASKED)
        return request.self_test_failure

    def _new_watch(self, stage: str) -> CallWatch:
        config = self._config
        return CallWatch(
            self._context.client,
            self._clock,
            Limits(config.stall, config.load_limit, config.call_limit),
            stage=stage,
            timeout=config.health.timeout,
            work=self._process.cpu_and_io,
            log=self._new_log(),
        )

    def _new_log(self) -> CallLog:
        """Return a log that starts now. Tracebacks that earlier calls still owe are not part of it;
        a process that ended owes none."""
        incarnation = self._process.incarnation
        before = self._newest_log
        same = before[1] if before is not None and before[0] == incarnation else None
        log = CallLog(self._process.log_paths(), self._clock, same)
        self._newest_log = incarnation, log
        return log

    def _set_watch(self, watch: CallWatch | None) -> None:
        with self._lock:
            self.watch = watch

    # -- reports of others, on any thread

    def exited(self, ended: WebUIExit) -> None:
        """Note that an incarnation has ended. Called at once, on the process's own waiter
        thread."""
        if ended.expected:
            return
        self.availability.ended_incarnation = ended.incarnation
        self._context.permit.notify(Exited(ended.incarnation, ended.code))
        self._kick.set()

    def release(self) -> None:
        """Release the hold because a person asks for it."""
        self.availability.release()
        self._kick.set()

    def read_again(self, routes: Collection[str]) -> None:
        """Have these lists read again soon; `wake` is called when that is done."""
        with self._lock:
            self._lists_asked |= set(routes)
        self._kick.set()

    # -- the thread

    def _run(self) -> None:
        self._guarded(self.availability.adopt)
        while not self._stopping.is_set():
            self._kick.wait(self._pause())
            self._kick.clear()
            self._guarded(self._read_lists_again)
            self._guarded(self._check_once)

    def _guarded(self, act: Callable[[], None]) -> None:
        """Run `act` at the thread's outer edge. Without its supervisor a lane would never change
        again, so the thread continues after an internal error."""
        try:
            act()
        except Exception as error:
            log.exception("%s: internal error of the supervisor; it continues", self._config.name)
            self.availability.internal_error(error)
            self._clock.wait(self._stopping, PROBE_INTERVAL_S)

    def _pause(self) -> float:
        """Return the seconds until the next check, unless something is reported before."""
        if (watch := self.watch) is not None:
            return max(0.0, min(PROBE_INTERVAL_S, watch.next_sample - self._clock.monotonic()))
        down = self.availability.state in (State.DOWN, State.COOLING_DOWN)
        idle = self._context.permit.taken or self.availability.paused()
        return 0.0 if down and not idle else PROBE_INTERVAL_S

    def _read_lists_again(self) -> None:
        with self._lock:
            routes, self._lists_asked = self._lists_asked, set()
        self.availability.inventory.read_again(routes)

    def _check_once(self) -> None:
        """Handle the request of a run, else the call in flight, else the idle WebUI."""
        self._context.machine.sample()
        if (request := self._next_request()) is not None:
            try:
                request.self_test_failure = request.act(request)
            finally:
                request.done.set()
        elif (watch := self.watch) is not None:
            self._check_call(watch)
        elif self._context.permit.acquire_for_supervisor():
            try:
                self.availability.supervise()
            finally:
                self._context.permit.release()

    def _bring_up(self, request: LaneRequest) -> SelfTestFailure | None:
        del request  # it may be given up meanwhile: the supervisor continues alone
        return self.availability.bring_up()

    def _next_request(self) -> LaneRequest | None:
        with self._lock:
            request, self._request = self._request, None
            if request is not None:
                request.bound = request.binds
            return request

    def _self_test_for_run(self, request: LaneRequest) -> SelfTestFailure | None:
        """Return why the WebUI fails its self-test, for a run whose call failed twice."""
        if self.availability.state is State.READY and self.availability.is_gone:
            self.availability.crashed(Diagnosis.CRASH)
        if self.availability.state is not State.READY:
            request.bound = False  # nobody gets the permit for a WebUI that is not ready
            is_tested = self.availability.must_self_test
            if self_test_failure := self.availability.bring_up():
                return self_test_failure
            if is_tested:
                return None
            with self._lock:
                request.bound = True
        if request.given_up or self._stopping.is_set():
            return SelfTestFailure(GIVEN_UP, By.NOT_ASKED)
        return self.availability.run_self_test(request.why_over)

    def _check_call(self, watch: CallWatch) -> None:
        if not watch.is_due:
            return
        self._process.cap_logs()  # a queue that never rests must not let a flood through
        self.recycling.sample_memory()
        reason = watch.sample()
        with self._lock:
            # Under the lock: the call may be over by now, and the next one's watch in its place.
            if reason and self.watch is watch:
                self.watch = None  # reported once
                self._context.permit.notify(Stalled(reason, watch.probes))

"""The loop of one lane: one thread with one queue of events performs what the machine decides.

Its body is `_live`, which handles one event after the other as its base does (CallLoop._take, in
webui/http/call_loop.py). Who performs which effect is in `_performers`, here and there. This thread
performs what takes no time. The helper does what takes long, one after the other, the poster sends
a job's POST, and the prober samples it and reads lists and logs again; their results come back as
events. Nobody else decides. Beside the loop, two act on the process once the loop has ended: the
main thread stops it (Lane.finish_stop), and its waiter stops what it left behind.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from sdwatch.lane.call_samples import CallSamples
from sdwatch.lane.call_warnings import CallWarnings
from sdwatch.lane.context import LaneContext
from sdwatch.lane.hold_view import news_words, without_prompts
from sdwatch.lane.internal_errors import (
    after_error,
    answer_after_error,
    answers_after_error,
)
from sdwatch.lane.printed import PrintedLines, with_printed_lines
from sdwatch.lane.webui_effects import Signals, WebUIEffects
from sdwatch.lane.worker import Poster, Worker
from sdwatch.policy.failure.hold_reason import HoldReason
from sdwatch.policy.failure.ledger import LeftCall
from sdwatch.policy.failure.lifecycle import State
from sdwatch.policy.failure.reply_checks import Finding
from sdwatch.policy.kinds.kind import Dialect
from sdwatch.policy.lane.effects import (
    Abandon,
    Adopt,
    Answer,
    AskForHold,
    AwaitTraceback,
    BeforePost,
    BringBack,
    CleanUp,
    CutShort,
    Effect,
    ExplainFailure,
    FreeGpu,
    GivenUp,
    GpuGiven,
    Interrupt,
    LetGo,
    NoteCannot,
    Notify,
    Probe,
    ReadLists,
    Ready,
    Recycled,
    RunSelfTest,
    RunSizeTest,
    SaveCrashHistory,
    SelfTestFailed,
    Start,
    StopTree,
    Succeeded,
    ToRun,
)
from sdwatch.policy.lane.events import (
    DeadlinePassed,
    LaneEvent,
    NotPosted,
    ProcessExited,
    ReplyArrived,
    Stop,
    TracebackComplete,
)
from sdwatch.policy.lane.lane_hold import CrashSeen, HoldState
from sdwatch.policy.lane.state import CallPhase, Freed, LaneState, new_lane
from sdwatch.system.log_events import LogEvent, about, bound
from sdwatch.webui.http.call import CallHandle, Sent
from sdwatch.webui.http.call_loop import CallLoop
from sdwatch.webui.http.external import LaneProcess
from sdwatch.webui.http.reply import Reply
from sdwatch.webui.http.roles import CallSettings
from sdwatch.webui.process.incarnation import WebUIExit

log = logging.getLogger("sdwatch.lane")

_AFTER_AN_ERROR_S = 2.0


class LaneLoop(CallLoop):
    """Of the WebUI of `context`. `settings`: of its calls."""

    def __init__(
        self,
        context: LaneContext,
        process: LaneProcess,
        settings: CallSettings,
    ) -> None:
        state = new_lane(settings.setup, context.crash_history_file.value)
        self._printed = PrintedLines(context, process)
        super().__init__(context.client, process, settings, context.clock, state, self._printed)
        self.signals = Signals(threading.Event(), threading.Event(), context.settings.hurry)
        self.warnings = CallWarnings(context.report)
        self._reason_with_lines: tuple[HoldReason, HoldReason] | None = None  # without, and with
        self._is_over = False
        self._context = context
        self._webui = process
        name = context.config.name
        self._facts = {"lane": name, "incarnation": lambda: process.incarnation or None}
        self._helper, self._prober = map(self._new_worker, ("helper", "probes"))
        self._poster = Poster(lambda: self._new_worker("posts"))
        self.effects = WebUIEffects(
            context, process, self._printed, self.signals, self._poster.post, self.warn
        )
        self.samples = CallSamples(self._printed, process, context, self._prober, self.tell)
        self.thread = threading.Thread(target=self._live, name=f"lane-{name}")
        self._performers |= self._performers_of_lane()

    def _performers_of_lane(self) -> dict[Any, Callable[[Any], None]]:
        effects = self.effects
        slow: dict[type[Effect], Callable[[Any], LaneEvent]] = {
            Adopt: effects.adopt,
            Start: effects.start,
            AskForHold: effects.ask_for_hold,
            StopTree: effects.stop_tree,
            Probe: effects.probe,
            ReadLists: effects.read_lists,
            RunSelfTest: effects.self_test,
            FreeGpu: effects.free_gpu,
            BringBack: effects.bring_back,
        }
        return {kind: partial(self._slow, act) for kind, act in slow.items()} | {
            RunSizeTest: self._size_test,
            CleanUp: self._clean_up,
            CutShort: lambda _: self.signals.cut.set(),
            LetGo: self._let_go,
            NoteCannot: self._note_cannot,
            SaveCrashHistory: lambda effect: self._context.crash_history_file.save(effect.record),
            Notify: self._notify,
        }

    # -- for the lane

    def open(self, left: Iterable[LeftCall] = ()) -> None:
        """Start the loop: it adopts or starts the process. `left`: the calls that a death left in
        flight, on all lanes."""
        self.effects.left_calls = [call for call in left if call.lane == self._context.config.name]
        self.tell(DeadlinePassed())
        self.thread.start()

    def stop(self) -> None:
        """Allow no new call, and stop the WebUI once no run is served any more."""
        self.signals.stopping.set()
        self.tell(Stop())

    def exited(self, ended: WebUIExit) -> bool:
        """Note that an incarnation has ended. Return whether the loop takes over the leftovers, as
        it does while it runs; else the caller must stop them. Called on the process's own waiter
        thread."""
        if not ended.expected:
            self.tell(ProcessExited(ended.incarnation, ended.code))
        return not self._is_over

    def read_again(self, routes: Collection[str]) -> None:
        """Have these lists read again soon; `wake` is called when that is done."""
        self._prober.do(lambda: self.effects.inventory.read_again(routes), lambda _: None)

    def warn(self, job: str, warnings: tuple[Finding, ...]) -> None:
        """Warn of findings that a person should know, except those that `checks` turns off."""
        checks = self._context.settings.checks
        wanted = (each for each in warnings if checks.get(each.kind) != "off")
        self.warnings.add(job, tuple(wanted))

    def register(self, handle: CallHandle) -> None:
        """Make the call known, before it is requested. After a stop it is given up."""
        super().register(handle)
        if self._is_over:
            handle.inbox.put(Answer(handle.id, GivenUp()))

    def next_for(self, handle: CallHandle, seconds: float | None) -> ToRun | None:
        """Wait for the next message to a run."""
        with suppress(queue.Empty):
            return handle.inbox.get(timeout=seconds)
        return None

    # -- the thread

    def _live(self) -> None:
        with bound(**self._facts):
            try:
                while self.state.life is not State.STOPPED:
                    self._handle_one()
            finally:
                self._end()

    def _handle_one(self) -> None:
        try:
            self._take(self.samples.until_next(self.state))
            self.samples.take_if_due()
        except Exception as error:
            # The thread's outer edge. Without its loop a lane would never change again.
            log.exception(
                "%s: internal error; it continues",
                self._context.config.name,
                extra=about(LogEvent.INTERNAL_ERROR),
            )
            self._after_error(error)

    def _end(self) -> None:
        """Answer whoever still waits: from now on nobody decides."""
        self._is_over = True
        for handle in list(self._handles.values()):
            handle.inbox.put(Answer(handle.id, GivenUp()))
        self.signals.cut.set()
        self._helper.close()
        self._prober.close()
        self._poster.close()

    def _after_error(self, error: Exception) -> None:
        """Give up all calls, and say so. What was to be done may not have been done: the WebUI is
        started again, or probed before it is ready again."""
        before, why = self.state, repr(error)
        self.state = after_error(before, why, self._now())
        for call in before.calls:
            if call.in_flight:
                self._abandon(Abandon(call.id))
        requested = [handle.id for handle in list(self._handles.values()) if handle.is_requested]
        for answer in answers_after_error(before.calls, requested, why):
            super()._to_run(answer)  # without warnings, which may be what failed
        self._clock.wait(self.signals.stopping, _AFTER_AN_ERROR_S)
        self.tell(DeadlinePassed())  # for what may be done next

    def _changed(self, before: LaneState) -> None:
        """Have the WebUI's output read for a new hold, and wake the monitor where it may act."""
        after, context = self.state, self._context
        hold = after.hold
        if hold != before.hold:
            self._read_printed_lines(hold)
        served = after.served
        if served is None or served.phase is not CallPhase.SENT:
            self.samples.end()  # nothing is in flight
        if _may_act(before, after):
            context.settings.wake()

    @property
    def shown(self) -> HoldReason | None:
        """Return why the lane is on hold, free of prompts; soon with what the WebUI printed."""
        held, read = self.state.hold.reason, self._reason_with_lines
        if held is None or read is None or read[0] != held:
            return held and without_prompts(held, self._context.redact)
        return read[1]

    def _read_printed_lines(self, hold: HoldState) -> None:
        """Read what the WebUI printed of a hold, elsewhere: a share with its log may hang."""
        held = hold.reason
        if held is None or not hold.has_printed:
            return

        def read() -> None:
            tails = self._webui.get_tail_logs()
            self._reason_with_lines = held, with_printed_lines(held, tails, self._context.redact)
            self._context.settings.wake()

        self._prober.do(read, lambda _: None)

    def _to_run(self, effect: ToRun) -> None:
        """Warn only once the run has its answer: nothing must keep that from it."""
        if isinstance(effect, BeforePost):
            effect = replace(effect, log_offset=self._printed.sizes())
        handle = self._handles.get(effect.call)
        super()._to_run(effect)
        if isinstance(effect, Answer) and handle is not None:
            found = effect.end.findings
            warnings = found if isinstance(found, tuple) else ()
            if isinstance(effect.end, Succeeded) and isinstance(effect.end.reply, tuple):
                warnings = (*effect.end.reply[1], *warnings)
            self.warn(handle.call.job_id or "a call", warnings)

    # -- slow effects

    def _slow(self, act: Callable[[Any], LaneEvent], effect: Effect) -> None:
        """Perform an effect on the helper; its result, or an internal error, becomes an event."""
        if not self.signals.stopping.is_set():
            self.signals.cut.clear()
        self._do(self._helper, act, effect)

    def _do(self, worker: Worker, act: Callable[[Any], LaneEvent], effect: Effect) -> None:
        def answer(event: LaneEvent) -> None:
            if worker in (self._helper, self._poster.worker):  # else nobody waits for it any longer
                self.tell(event)

        def failed(error: Exception) -> None:
            answer(answer_after_error(effect, error, self.state.incarnation))

        worker.do(lambda: answer(act(effect)), failed)

    def _let_go(self, _: LetGo) -> None:
        """Leave alone what may hang; a new thread does what follows."""
        self._helper.close()
        self._helper = self._new_worker("helper")
        self._poster.let_go()

    def _new_worker(self, what: str) -> Worker:
        return Worker(f"{what}-{self._context.config.name}", self._facts)

    def _size_test(self, effect: RunSizeTest) -> None:
        self._slow(partial(self.effects.size_test, self._handles[effect.call]), effect)

    def _await_traceback(self, effect: AwaitTraceback) -> None:
        def is_over(pause: float) -> bool:
            served = self.state.served
            settling = served is not None and served.phase is CallPhase.SETTLING
            return self._clock.wait(self.signals.stopping, pause) or not settling

        def wait(effect: AwaitTraceback) -> LaneEvent:
            self._printed.wait_for_traceback(effect.error, is_over)
            return TracebackComplete(effect.call)

        self._slow(wait, effect)

    def _explain(self, effect: ExplainFailure) -> None:
        handle = self._handles[effect.call]
        self._slow(lambda effect: self._evidence.explain(effect, handle), effect)

    def _interrupt(self, effect: Interrupt) -> None:
        is_queued = self._context.client.dialect is Dialect.PROMPTS
        if effect.but_queued if is_queued else effect.only_queued:
            return
        self._note_interrupt(effect)
        over = self._poster.note_interrupt()

        def act() -> None:
            try:
                self._send_interrupt(effect)
            finally:
                over.set()

        self._helper.do(act, lambda _: over.set())

    # -- the POST in flight

    def _start_post(self, handle: CallHandle, sent: Sent) -> None:
        def broken(error: Exception) -> None:
            self.tell(NotPosted(handle.id, sent.number, repr(error)))

        self._poster.post(sent, lambda: self._prepare_and_send(handle, sent), broken)

    def _prepare_and_send(self, handle: CallHandle, sent: Sent) -> None:
        self._poster.wait_for_interrupt()  # else it would hit this one
        if self._poster.was_interrupted:
            self.effects.wait_for_interrupted(lambda: sent.given_up)
            self._poster.was_interrupted = False
        self.effects.before_post(handle)
        if sent.given_up:  # the next one may be watched by now
            self.tell(NotPosted(handle.id, sent.number))
            return
        self.samples.start(handle, sent)
        self._send(handle, sent)

    def _generate(self, handle: CallHandle, sent: Sent) -> Reply:
        if handle.prompt is not None:
            return super()._generate(handle, sent)
        return self._context.client.generate_images(
            handle.call.stage,
            handle.call.payload,
            lambda: sent.given_up,
            arrived=lambda: self.tell(ReplyArrived(handle.id, sent.number)),
        )

    def _clean_up(self, effect: CleanUp) -> None:
        """Undo what the WebUI kept of a call, after all that the call does with its settings: it
        may have been cancelled in the middle of that."""
        self._do(self._poster.free(), lambda _: self.effects.clean_up(), effect)

    # -- news

    def _note_cannot(self, effect: NoteCannot) -> None:
        why = self._context.redact(effect.explanation.cause)
        self.effects.inventory.note_cannot(effect.stage, effect.upscaler, why)

    def _notify(self, effect: Notify) -> None:
        context = self._context
        with bound(event=_NEWS[type(effect.what)]):
            context.report(news_words(effect, context.redact, managed=context.managed))


_NEWS = {
    CrashSeen: LogEvent.WEBUI_CRASHED,
    Ready: LogEvent.WEBUI_READY,
    Recycled: LogEvent.WEBUI_RECYCLED,
    SelfTestFailed: LogEvent.SELF_TEST_FAILED,
    GpuGiven: LogEvent.GPU_FREED,
}


def _may_act(before: LaneState, after: LaneState) -> bool:
    """Return whether the monitor may act on a change: the lane serves now, or its hold changed."""
    is_held = before.hold.reason is not None or after.hold.reason is not None
    serves = _serves(after) and not _serves(before)
    return serves or (is_held and after.hold != before.hold) or after.life is State.STOPPED


def _serves(state: LaneState) -> bool:
    is_up = state.life is State.READY and state.ended is None and not state.use.due
    return is_up and not state.frees and state.freed is Freed.NO

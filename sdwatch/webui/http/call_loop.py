"""The loop around the machine: events in, and the effects of calls performed.

The base of two loops: that of a lane, on a thread of its own (lane/loop.py), and that of a call
without a lane, on its caller's thread (call_alone.py). The body of both is `_take`: it waits for an
event, has `step` decide, and performs the effects. Messages to a run are put into its inbox. All
other effects are in `_performers`: those of a POST here, those of the WebUI in the subclass, which
also has the slow ones of a POST performed elsewhere.

A POST on a lane goes from `_post` (the loop's thread) by `_start_post` to the poster, where
`LaneLoop._prepare_and_send` prepares it and `_send` sends it, with `_generate`.
"""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable
from typing import Any

from sdwatch.errors import WebUIError, WebUINotSentError, WebUIOccupiedError
from sdwatch.policy.lane.advance import next_deadline
from sdwatch.policy.lane.effects import (
    Abandon,
    Answer,
    AwaitTraceback,
    Effect,
    ExplainFailure,
    Interrupt,
    Post,
    ToRun,
)
from sdwatch.policy.lane.events import (
    CallRequested,
    DeadlinePassed,
    InterruptRefused,
    LaneEvent,
    NotPosted,
    PostStarted,
    Replied,
    ReplyArrived,
    RunGone,
    TracebackComplete,
)
from sdwatch.policy.lane.instant import Instant
from sdwatch.policy.lane.machine import step
from sdwatch.policy.lane.state import LaneState
from sdwatch.system.clock import Clock
from sdwatch.system.log_events import bound
from sdwatch.webui.http.call import CallHandle, Sent, result_of
from sdwatch.webui.http.checked_reply import ReplyChecks
from sdwatch.webui.http.failure_evidence import EvidenceSource, NothingPrinted, PrintedSource
from sdwatch.webui.http.reply import Reply
from sdwatch.webui.http.roles import CallSettings, Client, QueueingClient, SupervisedProcess

log = logging.getLogger("sdwatch.webui")

Performer = Callable[[Any], None]

_LOOK_EVERY_S = 10.0
"""A wait stands still while the machine sleeps, on Linux; deadlines do not. So the time is read
this often while one is awaited."""


class CallLoop:
    """Performs what the machine wants done about calls. `state` is replaced as a whole, so other
    threads may read it at any time."""

    def __init__(
        self,
        client: Client,
        process: SupervisedProcess,
        settings: CallSettings,
        clock: Clock,
        state: LaneState,
        printed: PrintedSource = NothingPrinted(),  # noqa: B008 - it has no state
    ) -> None:
        self.state = state
        self._client = client
        self._process = process
        self._settings = settings
        self._clock = clock
        self._events: queue.SimpleQueue[LaneEvent] = queue.SimpleQueue()
        self._handles: dict[int, CallHandle] = {}
        self._reply_checks = ReplyChecks(settings.checks, client, printed.lines)
        self._evidence = EvidenceSource(process, settings, self._reply_checks, printed, self._node)
        self._performers: dict[type[Effect], Performer] = {
            Post: self._post,
            Abandon: self._abandon,
            Interrupt: self._interrupt,
            AwaitTraceback: self._await_traceback,
            ExplainFailure: self._explain,
        }

    def _node(self) -> str:
        client = self._client
        return client.running_node if isinstance(client, QueueingClient) else ""

    # -- for runs

    def register(self, handle: CallHandle) -> None:
        """Make the call known, before it is requested."""
        self._handles[handle.id] = handle

    def tell(self, event: LaneEvent) -> None:
        """Tell what happened; never waits."""
        self._events.put(event)

    # -- the loop

    def _now(self) -> Instant:
        clock = self._clock
        return Instant(clock.wall(), clock.boot_time(), clock.boot_id())

    def _take(self, longest: float | None = None) -> None:
        """Handle the next event; where none comes in time, that its time has passed."""
        now = self._now()
        wait = next_deadline(self.state, now) - now.boot
        timeout = None if wait == float("inf") else min(max(0.0, wait), _LOOK_EVERY_S)
        if longest is not None:
            timeout = longest if timeout is None else min(timeout, longest)
        event: LaneEvent
        try:
            event = self._events.get(timeout=timeout)
        except queue.Empty:
            event = DeadlinePassed()
        self._step(event)

    def _step(self, event: LaneEvent) -> None:
        if isinstance(event, CallRequested) and (handle := self._handles.get(event.call)):
            handle.is_requested = True
        before = self.state
        self.state, effects = step(before, event, self._now())
        try:
            self._changed(before)
            for effect in effects:
                if isinstance(effect, ToRun):
                    self._to_run(effect)
                else:
                    self._performers[type(effect)](effect)
        except Exception:
            # Whatever else failed: no other message would follow for a run that was answered.
            for answer in (each for each in effects if isinstance(each, Answer)):
                CallLoop._to_run(self, answer)
            raise
        if isinstance(event, RunGone):
            self._handles.pop(event.call, None)

    def _changed(self, before: LaneState) -> None:
        """Note a new state, before its effects are performed."""

    def _to_run(self, effect: ToRun) -> None:
        handle = self._handles.get(effect.call)
        if isinstance(effect, Answer):
            self._handles.pop(effect.call, None)
        if handle is not None:
            handle.inbox.put(effect)

    # -- the effects of a POST

    def _post(self, effect: Post) -> None:
        handle = self._handles[effect.call]
        handle.sent = Sent(effect.number)
        self._start_post(handle, handle.sent)

    def _start_post(self, handle: CallHandle, sent: Sent) -> None:
        self._send(handle, sent)

    def _send(self, handle: CallHandle, sent: Sent) -> None:
        """Send one POST and check its reply: a 200 alone is not a success."""
        call = handle.call

        def generate() -> Reply:
            reply = self._generate(handle, sent)
            if not (sent.given_up or sent.interrupted):
                found.append(self._reply_checks.check(call.stage, call.payload, reply))
            return reply

        found: list[object] = []
        sent.is_under_way = True
        self.tell(PostStarted(handle.id, sent.number))
        with bound(**handle.facts):
            result = result_of(generate, call.stage)
        sent.is_under_way = False
        occupied = isinstance(result, WebUIOccupiedError)
        if occupied or (sent.given_up and isinstance(result, WebUINotSentError)):
            self.tell(NotPosted(handle.id, sent.number, occupied=occupied))
        elif isinstance(result, WebUIError):
            self.tell(Replied(handle.id, sent.number, result))
        else:
            reply = result, found[0] if found else ()
            self.tell(Replied(handle.id, sent.number, None, reply))

    def _generate(self, handle: CallHandle, sent: Sent) -> Reply:
        client, call = self._client, handle.call
        if handle.prompt is not None and isinstance(client, QueueingClient):
            return client.generate_queued(
                call.stage,
                call.payload,
                lambda: sent.given_up,
                handle.prompt,
                arrived=lambda: self.tell(ReplyArrived(handle.id, sent.number)),
            )
        return client.generate_images(call.stage, call.payload, lambda: sent.given_up)

    def _abandon(self, effect: Abandon) -> None:
        handle = self._handles.get(effect.call)
        if handle is not None and handle.sent is not None:
            handle.sent.given_up = True
        self._client.abandon()

    def _interrupt(self, effect: Interrupt) -> None:
        if not effect.only_queued:  # a call without a lane is in no queue
            self._send_interrupt(effect)

    def _send_interrupt(self, effect: Interrupt) -> None:
        self._note_interrupt(effect)
        if not self._client.interrupt() and effect.waits:
            self.tell(InterruptRefused(effect.call))

    def _note_interrupt(self, effect: Interrupt) -> None:
        handle = self._handles.get(effect.call)
        if handle is not None and handle.sent is not None:
            handle.sent.interrupted = True

    def _await_traceback(self, effect: AwaitTraceback) -> None:
        self.tell(TracebackComplete(effect.call))

    def _explain(self, effect: ExplainFailure) -> None:
        self.tell(self._evidence.explain(effect, self._handles[effect.call]))

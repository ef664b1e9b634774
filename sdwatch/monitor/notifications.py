"""Messages to people who are away, sent by a thread for each address. Nothing waits for these."""

from __future__ import annotations

import logging
import queue
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sdwatch.notify.delivery import Delivery, in_words
from sdwatch.notify.send import send
from sdwatch.policy.failure.lasting import LastingStates
from sdwatch.policy.notify.message import Message, json_of
from sdwatch.policy.notify.pace import Paces
from sdwatch.policy.notify.pending import Pending, due_at, message_at, sent, take
from sdwatch.policy.notify.settings import NotifyConfig, targets_of
from sdwatch.policy.notify.target import Target
from sdwatch.policy.report.notice import Notice, Topic
from sdwatch.spool.diagnostics import read_json
from sdwatch.spool.manifest import MANIFEST
from sdwatch.system.clock import Clock, iso
from sdwatch.system.log_events import LogEvent, about

log = logging.getLogger("sdwatch.monitor")

STOP_LIMIT_S = 5.0
"""Seconds that a stop waits at most for what is pending."""

TOPICS = frozenset(
    {
        *(Topic.DONE, Topic.FAILED, Topic.CANCELLED, Topic.ON_HOLD, Topic.RESUMED),
        *(Topic.WORK_LEFT, Topic.QUEUE_EMPTY),
    }
)
_END_LIMIT_S = 0.5  # to end the process that sends
_FIRST_PAUSE, _LONGEST_PAUSE = 30.0, 3600.0  # seconds until a message is tried again
_LONGEST_MANIFEST = 4_000_000  # bytes


class Send(Protocol):
    """Sends a body to a target; see notify/send.py."""

    def __call__(
        self, target: Target, body: dict[str, Any], *, given_up: Callable[[], bool]
    ) -> Delivery: ...


class Notifications:
    """Passes what happens to each target of `config`. `report`: gets a line when messages do not
    arrive: once, then at growing intervals, and when they do again. Any thread may call `take`."""

    def __init__(
        self,
        config: NotifyConfig,
        clock: Clock,
        report: Callable[[str], None],
        *,
        paces: Paces = Paces(),  # noqa: B008 - it is frozen
        deliver: Send = send,
    ) -> None:
        self._threads = [
            _TargetThread(target, clock, report, paces, deliver, config.prompts)
            for target in targets_of(config)
        ]

    def open(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def take(self, notice: Notice) -> None:
        """Note that something happened. Returns at once."""
        if notice.topic in TOPICS:
            for thread in self._threads:
                thread.events.put(notice)

    def status(self) -> list[dict[str, Any]]:
        """Return the targets that messages do not reach now, and why."""
        return [
            {"target": thread.target.name, **failing}
            for thread in self._threads
            if (failing := thread.failing)
        ]

    def close(self, hurry: threading.Event) -> None:
        """Send what is pending, for at most STOP_LIMIT_S and not once `hurry` is set; then drop
        it."""
        deadline = time.monotonic() + STOP_LIMIT_S
        for thread in self._threads:
            thread.events.put(None)
        for thread in self._threads:
            while thread.is_alive() and time.monotonic() < deadline and not hurry.is_set():
                thread.join(0.05)
        for thread in self._threads:
            thread.given_up.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(_END_LIMIT_S)


@dataclass(eq=False)
class _TargetThread(threading.Thread):
    target: Target
    clock: Clock
    report: Callable[[str], None]
    paces: Paces
    deliver: Send
    prompts: bool
    events: queue.SimpleQueue[Notice | None] = field(default_factory=queue.SimpleQueue)
    given_up: threading.Event = field(default_factory=threading.Event)
    failing: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(name=f"notify {self.target.name}", daemon=True)
        self._pending = Pending()
        self._refusals = LastingStates()
        self._pause = _FIRST_PAUSE
        self._not_before = -float("inf")

    def run(self) -> None:
        """Send messages until the monitor stops, then what is pending."""
        try:
            while self._note_events():
                self._send_if_due(stopping=False)
            self._send_if_due(stopping=True)
        except Exception:
            # The thread's outer edge: jobs run on without messages.
            log.exception(
                "internal error; %s gets no more messages",
                self.target.name,
                extra=about(LogEvent.INTERNAL_ERROR),
            )
            self.failing = {"why": "internal error", "since": iso(self.clock.wall())}

    def _note_events(self) -> bool:
        """Wait for what happens, or until a message is due; return whether to continue."""
        now, due = self.clock.monotonic(), due_at(self._pending, self.paces)
        timeout = None if due is None else max(0.0, max(due, self._not_before) - now)
        try:
            event = self.events.get(timeout=timeout)
            while event is not None:
                self._pending = take(self._pending, event, self.clock.monotonic())
                event = self.events.get_nowait()
        except queue.Empty:
            return True
        return False

    def _send_if_due(self, *, stopping: bool) -> None:
        now = self.clock.monotonic()
        if now < self._not_before and not stopping:
            return
        message = message_at(self._pending, now, self.paces, stopping=stopping)
        if message is None or self.given_up.is_set():
            return
        body = json_of(message, socket.gethostname(), self._prompts_of(message))
        delivery = self.deliver(self.target, body, given_up=self.given_up.is_set)
        now = self.clock.monotonic()
        if delivery.arrived:
            self._pending = sent(self._pending, message, now, self.paces)
            self._works_again(now)
        elif not self.given_up.is_set():
            self._fails(delivery, now)

    def _prompts_of(self, message: Message) -> dict[str, str]:
        if not self.prompts:
            return {}
        return {failed.subject: prompt_in(Path(failed.place)) for failed in message.named}

    def _works_again(self, now: float) -> None:
        self._pause, self._not_before, self.failing = _FIRST_PAUSE, -float("inf"), {}
        if lasted := self._refusals.is_over("", now):
            self.report(f"notifications: {self.target.name} gets messages again, after {lasted}")

    def _fails(self, delivery: Delivery, now: float) -> None:
        self._not_before = now + self._pause
        self._pause = min(_LONGEST_PAUSE, 2 * self._pause)
        why = in_words(delivery)
        since = self.failing.get("since") or iso(self.clock.wall())
        self.failing = {"why": why, "since": since}
        key = (delivery.result, delivery.status)
        if line := self._refusals.persists("", key, why, now):
            self.report(f"notifications: {self.target.name} gets no messages: {line}")


def prompt_in(run_folder: Path) -> str:
    """Return the prompt of the first stage of a published run; '' if it cannot be read."""
    job = read_json(run_folder, MANIFEST, _LONGEST_MANIFEST).get("job")
    stages = job.get("stages") if isinstance(job, dict) else None
    for stage in stages if isinstance(stages, list) else ():
        for fields in stage.values() if isinstance(stage, dict) else ():
            if isinstance(fields, dict) and isinstance(fields.get("prompt"), str):
                return str(fields["prompt"])
    return ""

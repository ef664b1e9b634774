"""Send messages to one address, on a thread of its own. Nothing waits for these."""

from __future__ import annotations

import logging
import queue
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sdwatch.notify.delivery import Delivery, in_words
from sdwatch.notify.send import send
from sdwatch.policy.failure.lasting import LastingStates
from sdwatch.policy.notify.message import Message, json_of
from sdwatch.policy.notify.pending import Paces, Pending, due_at, message_at, sent, take
from sdwatch.policy.notify.target import Target
from sdwatch.policy.report.notice import Notice
from sdwatch.spool.diagnostics import read_json
from sdwatch.spool.manifest import MANIFEST
from sdwatch.system.clock import Clock, iso
from sdwatch.system.log_events import LogEvent, about

log = logging.getLogger("sdwatch.monitor")

_FIRST_PAUSE, _LONGEST_PAUSE = 30.0, 3600.0  # seconds until a message is tried again
_LONGEST_MANIFEST = 4_000_000  # bytes


class Send(Protocol):
    """Sends a body to a target; see notify/send.py."""

    def __call__(
        self, target: Target, body: dict[str, Any], *, given_up: Callable[[], bool]
    ) -> Delivery: ...


@dataclass(eq=False)
class MessageThread(threading.Thread):
    """Sends what is put into `events` to `target`. `prompts`: of failed runs, too. `failing`: why
    messages do not arrive, and since when; {} where they do."""

    target: Target
    clock: Clock
    report: Callable[[str], None]
    prompts: bool
    paces: Paces = Paces()  # noqa: RUF009 - it is frozen
    deliver: Send = send
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

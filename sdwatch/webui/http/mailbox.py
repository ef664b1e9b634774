"""What a waiting call may receive: each run has one mailbox, and other threads post to it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from sdwatch.errors import Probes, RunCancelledError, RunStoppedError, WebUIError
from sdwatch.webui.http.reply import Reply


@dataclass(frozen=True)
class Replied:
    """The helper thread of this POST has its reply, or the error it ended in."""

    post: object
    result: Reply | WebUIError


@dataclass(frozen=True)
class Exited:
    """The process of this incarnation ended. `code`: its exit code, where that was seen."""

    incarnation: int
    code: int | None


@dataclass(frozen=True)
class Stalled:
    """The POST in flight makes no progress: why, for people, and whether the WebUI still
    answers."""

    reason: str
    probes: Probes = field(default_factory=Probes)


Message: TypeAlias = Replied | Exited | Stalled


class Mailbox:
    """Any thread posts, the run's thread waits. Giving up (a cancel, or the monitor's stop) happens
    once and is permanent; `given_up` is an event for those who wait for something else."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._messages: deque[Message] = deque()
        self._why_given_up: RunCancelledError | RunStoppedError | None = None
        self.given_up = threading.Event()

    def post(self, message: Message) -> None:
        """Add a message. Never blocks for long."""
        with self._condition:
            self._messages.append(message)
            self._condition.notify_all()

    def forget_stalls(self) -> None:
        """Drop the stalls of earlier POSTs, before another one goes out."""
        with self._condition:
            self._messages = deque(m for m in self._messages if not isinstance(m, Stalled))

    def cancel(self) -> None:
        """Give the run up because somebody cancelled it."""
        self._give_up(RunCancelledError("cancelled"))

    def stop(self) -> None:
        """Give the run up because the monitor stops without more grace for calls, or the lane is on
        hold."""
        self._give_up(RunStoppedError("the monitor was stopped"))

    def wait(
        self, wanted: Callable[[Message], bool], timeout: float | None = None
    ) -> Message | None:
        """Return the next wanted message, or None after `timeout` seconds. Messages before it are
        stale and dropped. Raises RunCancelledError or RunStoppedError when the run was given up."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._condition:
            while True:
                self.raise_if_given_up()
                while self._messages:
                    if wanted(message := self._messages.popleft()):
                        return message
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return None
                self._condition.wait(left)

    def seen(self, wanted: Callable[[Message], bool]) -> Message | None:
        """Return the first wanted message without removing it, or None."""
        with self._condition:
            return next((message for message in self._messages if wanted(message)), None)

    def raise_if_given_up(self) -> None:
        """Raise RunCancelledError or RunStoppedError if the run was given up."""
        if self._why_given_up is not None:
            raise self._why_given_up

    def _give_up(self, why: RunCancelledError | RunStoppedError) -> None:
        with self._condition:
            # A cancel outranks a stop: the run must end, not resume at the next start.
            if not isinstance(self._why_given_up, RunCancelledError):
                self._why_given_up = why
            self.given_up.set()
            self._condition.notify_all()

"""What a waiting call may hear: each run has one mailbox, and who knows something posts to it."""

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
    """The WebUI's process of this generation ended."""

    incarnation: int
    code: int | None


@dataclass(frozen=True)
class Stalled:
    """The POST in flight makes no progress; why, in words, and whether the WebUI answers still."""

    reason: str
    probes: Probes = field(default_factory=Probes)


Message: TypeAlias = Replied | Exited | Stalled


class Mailbox:
    """Any thread posts, the run's thread waits. Giving up (a cancel, the monitor's stop) is said
    once and holds from then on; `given_up` is an event for those who wait for something else."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._messages: deque[Message] = deque()
        self._why_given_up: RunCancelledError | RunStoppedError | None = None
        self.given_up = threading.Event()

    def post(self, message: Message) -> None:
        """Put a message in; never blocks for long."""
        with self._condition:
            self._messages.append(message)
            self._condition.notify_all()

    def forget_stalls(self) -> None:
        """A POST goes out: what is in here of a stall was said of an earlier one."""
        with self._condition:
            self._messages = deque(m for m in self._messages if not isinstance(m, Stalled))

    def cancel(self) -> None:
        """Somebody cancelled the run."""
        self._give_up(RunCancelledError("cancelled"))

    def stop(self) -> None:
        """The monitor stops, with no more grace for calls in flight; or the lane is on hold."""
        self._give_up(RunStoppedError("the monitor was stopped"))

    def wait(
        self, wanted: Callable[[Message], bool], timeout: float | None = None
    ) -> Message | None:
        """The next wanted message, None after `timeout` seconds; all others before it are stale
        and dropped. Raises RunCancelledError or RunStoppedError when the run was given up."""
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
        """The first wanted message that is in here, left where it is; None for none."""
        with self._condition:
            return next((message for message in self._messages if wanted(message)), None)

    def raise_if_given_up(self) -> None:
        """Raises RunCancelledError or RunStoppedError when the run was given up."""
        if self._why_given_up is not None:
            raise self._why_given_up

    def _give_up(self, why: RunCancelledError | RunStoppedError) -> None:
        with self._condition:
            # A cancel outranks a stop: the run must end, not go on at the next start.
            if not isinstance(self._why_given_up, RunCancelledError):
                self._why_given_up = why
            self.given_up.set()
            self._condition.notify_all()

"""The permit of one WebUI: only its holder may send to the WebUI, stop it or start it.

A run holds it for one call and for handling that call's failure. The supervisor holds it whenever
the WebUI needs attention and no run has it. So a failure is handled before the next call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from sdwatch.errors import RunStoppedError
from sdwatch.webui.http.mailbox import Mailbox, Message

_CHECK_INTERVAL_S = 0.25  # for what sends no notification, such as the end of a cool-down


class Permit:
    """One for each lane."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._holder: Mailbox | None = None
        self._supervisor = False
        self._closed = False

    @property
    def taken(self) -> bool:
        """Return whether somebody has it."""
        return self._holder is not None or self._supervisor

    def acquire(self, mailbox: Mailbox, may: Callable[[], bool]) -> None:
        """Wait until it is free and `may` allows it. Raises RunCancelledError, RunStoppedError."""
        with self._condition:
            while True:
                mailbox.raise_if_given_up()
                if self._closed:
                    raise RunStoppedError("the monitor was stopped")
                if not self.taken and may():
                    self._holder = mailbox
                    return
                self._condition.wait(_CHECK_INTERVAL_S)

    def acquire_for_supervisor(self) -> bool:
        """Acquire it for the supervisor if it is free. Return whether that worked."""
        with self._condition:
            if self.taken or self._closed:
                return False
            self._supervisor = True
            return True

    def release(self) -> None:
        """Release it."""
        with self._condition:
            self._holder = None
            self._supervisor = False
            self._condition.notify_all()

    def notify(self, message: Message) -> None:
        """Post a message to the run that has it, if one has."""
        with self._condition:
            if self._holder is not None:
                self._holder.post(message)

    def changed(self) -> None:
        """Wake up those who wait: what their `may` depends on has changed."""
        with self._condition:
            self._condition.notify_all()

    def close(self, stop_holder: bool) -> None:
        """Give it to nobody any more. `stop_holder`: the run that has it does not wait for a reply,
        so it is stopped at once."""
        with self._condition:
            self._closed = True
            if stop_holder and self._holder is not None:
                self._holder.stop()
            self._condition.notify_all()

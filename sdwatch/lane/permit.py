"""The permit of one WebUI: whoever has it, and nobody else, may send to it, stop it or start it.

A run has it for one call and for settling that call's failure; the keeper whenever the WebUI needs
care and no run has it. So a failure is settled before the permit is given on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from sdwatch.errors import RunStoppedError
from sdwatch.webui.http.mailbox import Mailbox, Message

_CHECK_INTERVAL_S = 0.25  # seconds: for what nobody announces, as the end of a cool-down


class Permit:
    """One for each lane."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._holder: Mailbox | None = None
        self._supervisor = False
        self._closed = False

    @property
    def taken(self) -> bool:
        """Whether somebody has it."""
        return self._holder is not None or self._supervisor

    def acquire(self, mailbox: Mailbox, may: Callable[[], bool]) -> None:
        """Wait until nobody has it and `may` allows. Raises RunCancelledError, RunStoppedError."""
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
        """For the keeper: take it if nobody has it; whether it was taken."""
        with self._condition:
            if self.taken or self._closed:
                return False
            self._supervisor = True
            return True

    def release(self) -> None:
        """Whoever has it gives it back."""
        with self._condition:
            self._holder = None
            self._supervisor = False
            self._condition.notify_all()

    def notify(self, message: Message) -> None:
        """Post to the run that has it, if one has."""
        with self._condition:
            if self._holder is not None:
                self._holder.post(message)

    def changed(self) -> None:
        """What `may` looks at changed: those who wait look again."""
        with self._condition:
            self._condition.notify_all()

    def close(self, stop_holder: bool) -> None:
        """Nobody gets it any more. `stop_holder`: the run that has it waits for no reply, so it
        is stopped at once."""
        with self._condition:
            self._closed = True
            if stop_holder and self._holder is not None:
                self._holder.stop()
            self._condition.notify_all()

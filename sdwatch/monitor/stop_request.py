"""How the monitor is asked to stop: by a call, by signals, or by the end of the session."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from types import FrameType

from sdwatch import system
from sdwatch.system import signals

_HURRIED_STOP_S = 3.0  # seconds that a stop may take after the second request
_REPORT_INTERVAL_S = 10.0  # between two lines about a stop that waits
_REPORT_AFTER_S = 0.5  # most stops wait for nothing


class StopRequest:
    """`hurry_up`: called on the second request. `wake`: called on each. Both on any thread."""

    def __init__(self, *, hurry_up: Callable[[], None], wake: Callable[[], None]) -> None:
        self.made = threading.Event()
        self.hurry = threading.Event()  # it was made a second time
        self.seconds_left: float | None = None  # for calls in flight
        self._report_at = float("inf")  # so many seconds left: the next line about it
        self._hurry_up = hurry_up
        self._wake = wake
        self._signals: queue.SimpleQueue[int] = queue.SimpleQueue()

    def make(self) -> None:
        """Ask the monitor to stop. The second request ends the grace time of calls in flight and
        of the WebUI. May be called from any thread."""
        if self.made.is_set():
            self.hurry.set()
            self._hurry_up()
        self.made.set()
        self._wake()

    def make_on_signals(self) -> None:
        """Stop on signals and at the end of the session. A second signal ends the process within
        seconds, whatever it waits for. Call this on the main thread."""
        threading.Thread(target=self._handle_signals, name="signals", daemon=True).start()
        signals.catch(self._on_signal)
        system.when_session_ends(self._on_session_end)

    def wait_at_most(self, seconds: float) -> None:
        """Start to wait for calls in flight."""
        self._report_at = seconds - _REPORT_AFTER_S

    def counts_down(self, left: float) -> bool:
        """Note the seconds left, and return whether another second has passed."""
        before, self.seconds_left = self.seconds_left or 0.0, left
        return int(left) != int(before)

    def is_worth_a_line(self, left: float) -> bool:
        """Return whether people should read now how long the stop still waits."""
        if left > self._report_at or self.hurry.is_set():
            return False
        self._report_at = left - _REPORT_INTERVAL_S
        return True

    def waited(self) -> None:
        """No call is in flight any more."""
        self.seconds_left = None

    def _on_session_end(self) -> None:
        """Stop as on a second Ctrl-C: the console was closed, the user logs off, or Windows shuts
        down. The process is ended within a few seconds, or as soon as this returns. Runs are
        suspended, and the WebUI is stopped unless `leave_running` is on."""
        self.make()
        self.make()
        threading.Event().wait(_HURRIED_STOP_S)
        _exit_now()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._signals.put(number)

    def _handle_signals(self) -> None:
        """Runs on a thread of its own: a handler may interrupt the main thread inside any lock,
        and only the `put` of this queue is safe there."""
        is_again = signals.Again()
        while True:
            number = self._signals.get()
            again = is_again(number)
            if again or not self.made.is_set():
                self.make()
            if again:
                end = threading.Timer(_HURRIED_STOP_S, _exit_now)
                end.daemon = True
                end.start()


def _exit_now() -> None:
    """End the process. Unfinished work is in the journals; a WebUI that still runs is adopted."""
    signals.end(
        signals.INTERRUPTED,
        "ended without a clean stop; what was under way resumes at the next start",
    )

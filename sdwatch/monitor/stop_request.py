"""Requests that the monitor stop: by a call, by signals, by a file, by the end of the session."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from types import FrameType

from sdwatch import system
from sdwatch.config import Config
from sdwatch.policy.lane.turn import longest_end
from sdwatch.spool.folders import Spool
from sdwatch.spool.heartbeat import INTERVAL
from sdwatch.system import signals
from sdwatch.system.clock import Clock

_HURRIED_STOP_S = 3.0  # seconds that a stop may take after the second request
_REPORT_INTERVAL_S = 10.0  # between two lines about a stop that waits
_REPORT_AFTER_S = 0.5  # most stops wait for nothing
_BESIDES_S = 30.0  # for records, for reaping what was killed, for a slow disk


def longest_stop(config: Config) -> float:
    """Return the seconds that a clean stop may take: a service manager should wait that long before
    it kills. First the calls in flight end, then all lanes at once, then what is left of each
    WebUI."""
    graces = [webui.stop_grace for webui in config.webuis]
    slowest = max(map(longest_end, graces), default=0.0)
    return config.stop_grace + slowest + sum(graces) + _BESIDES_S


class StopFile:
    """A person's request to stop, for every wrapper, container or share from which no signal can be
    sent: the file `stop` or `stop.txt` in the root of `spool`. `stop`: called for a new one.
    `report`: gets lines for people.

    What is there now is an old request, and ignored: the monitor never removes a person's file, and
    would otherwise stop at every start."""

    def __init__(
        self,
        spool: Spool,
        *,
        clock: Clock,
        stop: Callable[[], None],
        report: Callable[[str], None],
    ) -> None:
        self._spool = spool
        self._clock = clock
        self._stop = stop
        self._report = report
        self._next = 0.0
        self._old = self._present() or {}
        for name in self._old:
            report(f"the file {name} in the spool is older than this start, and is ignored")

    @property
    def ignored(self) -> list[str]:
        """Return the names of the files that were there at the start, and still are."""
        return sorted(self._old)

    def check(self) -> None:
        """Ask the monitor to stop if the file is new. Looks once a second at most."""
        now = self._clock.monotonic()
        if now < self._next or (there := self._present()) is None:
            return
        self._next = now + INTERVAL
        new = [name for name, written in there.items() if self._old.get(name) != written]
        self._old = {name: written for name, written in there.items() if name not in new}
        if new:
            self._report(f"stopping: asked by the file {new[0]} in the spool")
            self._stop()

    def _present(self) -> dict[str, int] | None:
        """Return when each was written, in ns by the clock of the spool's disk, for comparing with
        itself only; None if the spool cannot be read now."""
        try:
            return self._spool.stop_files()
        except OSError:
            return None


class StopRequest:
    """A request to stop. `hurry_up`: called on the second request. `wake`: called on each. Both on
    any thread."""

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

    def line(self, left: float) -> str:
        """Return what people should read now about how long the stop still waits, or ''."""
        if left > self._report_at or self.hurry.is_set():
            return ""
        self._report_at = left - _REPORT_INTERVAL_S
        return (
            f"stopping: waiting at most {left:.0f} s for the call under way "
            "(a second Ctrl-C stops it at once; either way the job resumes at the next start)"
        )

    def waited(self) -> None:
        """Note that no call is in flight any more."""
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
        """Handle signals on a thread of its own: a handler may interrupt the main thread inside any
        lock, and only the `put` of this queue is safe there."""
        is_again = signals.SecondRequest()
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

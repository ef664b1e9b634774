"""Do something every few minutes, on a thread of its own: a share that hangs delays nothing
else."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from sdwatch.system.clock import Clock, join
from sdwatch.system.log_events import LogEvent, about

log = logging.getLogger("sdwatch.monitor")

_STOP_WAIT_S = 5.0  # seconds that a stop waits for what is under way


class Rounds:
    """Has `act` done every `interval` seconds, first after `first` seconds. `stopping`: set once
    what is under way should end."""

    def __init__(
        self, name: str, act: Callable[[], None], clock: Clock, *, first: float, interval: float
    ) -> None:
        self.stopping = threading.Event()
        self._name = name
        self._act = act
        self._clock = clock
        self._first = first
        self._interval = interval
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)

    def open(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop the thread. What is left is done at the next start."""
        self.stopping.set()
        if self._thread.ident is not None:
            join(self._thread, _STOP_WAIT_S)

    def _live(self) -> None:
        pause = self._first
        while not self._clock.wait(self.stopping, pause):
            pause = self._interval
            try:
                self._act()
            except Exception:
                # The thread's outer edge: the next round tries again.
                log.exception(
                    "%s: internal error", self._name, extra=about(LogEvent.INTERNAL_ERROR)
                )

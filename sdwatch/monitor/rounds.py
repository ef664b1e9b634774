"""Do what is due every few minutes, on a thread of its own: a share that hangs delays nothing
else."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from sdwatch.system.clock import Clock, join
from sdwatch.system.log_events import LogEvent, about

log = logging.getLogger("sdwatch.monitor")

_INTERVAL = 300.0  # seconds
_STOP_WAIT_S = 5.0  # seconds that a stop waits for what is under way


class Rounds:
    """Has `act` done after `first` seconds, and again and again. Once `stopping` is set, what is
    under way should end."""

    def __init__(
        self,
        name: str,
        clock: Clock,
        stopping: threading.Event,
        act: Callable[[], None],
        *,
        first: float = 0.0,
    ) -> None:
        self._name = name
        self._clock = clock
        self._stopping = stopping
        self._act = act
        self._first = first
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the thread. What is left is done at the next start."""
        self._stopping.set()
        join(self._thread, _STOP_WAIT_S)

    def _live(self) -> None:
        pause = self._first
        while not self._clock.wait(self._stopping, pause):
            pause = _INTERVAL
            try:
                self._act()
            except Exception:
                # The thread's outer edge: the next round tries again.
                log.exception(
                    "%s: internal error", self._name, extra=about(LogEvent.INTERNAL_ERROR)
                )

"""Time as sdwatch sees it: handed in, so that tests can move it.

Waiting times within one boot are kept on the boot clock (it continues while the machine sleeps, and
nobody can set it); the wall clock serves people, and what must outlast a reboot.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Protocol

from sdwatch import system

_SLICE = 0.2


class Clock(Protocol):
    """What the rest of sdwatch may know of time. All values are seconds."""

    def monotonic(self) -> float:
        """For measuring how long something takes within this process."""

    def boot_time(self) -> float:
        """Since the machine's start, sleep included."""

    def wall(self) -> float:
        """Since 1970, as the machine believes."""

    def boot_id(self) -> str:
        """Return an id of this boot of the machine."""

    def wait(self, event: threading.Event, timeout: float) -> bool:
        """Wait for `event`, at most `timeout` seconds; whether it is set."""


class SystemClock:
    """The machine's own clocks."""

    def monotonic(self) -> float:
        return time.monotonic()

    def boot_time(self) -> float:
        return system.boot_time()

    def wall(self) -> float:
        return time.time()

    def boot_id(self) -> str:
        return system.boot_id()

    def wait(self, event: threading.Event, timeout: float) -> bool:
        return event.wait(max(0.0, timeout))


def join(thread: threading.Thread, seconds: float | None = None) -> None:
    """Wait for a thread's end, at most `seconds`, in slices: on Windows a signal's handler runs
    only between two waits of the main thread."""
    deadline = None if seconds is None else time.monotonic() + seconds
    while thread.is_alive():
        left = _SLICE if deadline is None else min(_SLICE, deadline - time.monotonic())
        if left <= 0:
            return
        thread.join(left)


def iso(wall: float) -> str:
    """Return a time for people and files: UTC, to the millisecond, `2026-11-23T06:52:43.123Z`."""
    text = datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")

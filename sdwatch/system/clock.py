"""Clocks, passed in as arguments so that tests can move the time.

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
    """The times that sdwatch uses, in seconds."""

    def monotonic(self) -> float:
        """Return a time for measuring durations within this process."""

    def boot_time(self) -> float:
        """Return the time since the machine's start, sleep included."""

    def wall(self) -> float:
        """Return the time since 1970, by the machine's clock."""

    def boot_id(self) -> str:
        """Return an id of this boot of the machine."""

    def wait(self, event: threading.Event, timeout: float) -> bool:
        """Wait for `event`, at most `timeout` seconds; return whether it is set."""


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

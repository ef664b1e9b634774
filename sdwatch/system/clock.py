"""Clocks, passed in as arguments so that tests can move the time.

Waiting times within one boot are kept on the boot clock (it continues while the machine sleeps, and
nobody can set it); the wall clock serves people, and what must outlast a reboot.
"""

from __future__ import annotations

import math
import threading
import time
from datetime import UTC, datetime
from typing import Protocol

from sdwatch import system


class Clock(Protocol):
    """The times that sdwatch uses, in seconds."""

    def monotonic(self) -> float:
        """Return a time for measuring durations within this process, while the machine is awake."""

    def boot_time(self) -> float:
        """Return the time since the machine's start, sleep included."""

    def wall(self) -> float:
        """Return the time since 1970, by the machine's clock."""

    def boot_id(self) -> str:
        """Return an id of this boot of the machine."""

    def utc_offset(self, wall: float) -> float:
        """Return how far the machine's local time is ahead of UTC, at this time since 1970."""

    def wait(self, event: threading.Event, timeout: float) -> bool:
        """Wait for `event`, at most `timeout` seconds; return whether it is set."""


class SystemClock:
    """The machine's own clocks."""

    def monotonic(self) -> float:
        return system.awake_time()

    def boot_time(self) -> float:
        return system.boot_time()

    def wall(self) -> float:
        return time.time()

    def boot_id(self) -> str:
        return system.boot_id()

    def utc_offset(self, wall: float) -> float:
        if hasattr(time, "tzset"):
            time.tzset()  # somebody may have moved the machine to another zone
        return time.localtime(max(0.0, wall)).tm_gmtoff

    def wait(self, event: threading.Event, timeout: float) -> bool:
        return event.wait(max(0.0, timeout))


def join(thread: threading.Thread, seconds: float | None = None) -> None:
    """Wait for the end of a thread that was started, at most `seconds`, as `wait` does."""
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    while thread.is_alive() and (left := deadline - time.monotonic()) > 0:
        thread.join(min(system.LONGEST_WAIT, left))


def wait(event: threading.Event, seconds: float) -> bool:
    """Wait for `event` on the main thread, at most `seconds`; return whether it is set. In slices
    on Windows: there a signal's handler runs only between two waits."""
    deadline = time.monotonic() + seconds
    while not event.wait(min(system.LONGEST_WAIT, max(0.0, deadline - time.monotonic()))):
        if time.monotonic() >= deadline:
            return False
    return True


def iso(wall: float) -> str:
    """Return a time for people and files: UTC, to the millisecond, `2026-11-23T06:52:43.123Z`."""
    text = datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")

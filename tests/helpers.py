"""What several tests share: waiting for a condition, free ports, a clock that tests move."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psutil

from sdwatch import system

T = TypeVar("T")

KILL = getattr(signal, "SIGKILL", signal.SIGTERM)
"""Sent by os.kill or psutil it ends a process at once: Windows has this one way for both names."""

TERMINATED = 1 if sys.platform == "win32" else -signal.SIGTERM
"""The exit code after Popen.terminate(), of a process that does not handle it."""

TO_BE_ASKED: int = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) | getattr(
    subprocess, "CREATE_NO_WINDOW", 0
)
"""For Popen's `creationflags`: a group and a console of its own, for `ask_to_stop` on Windows."""

PATIENCE = 3.0 if sys.platform == "win32" else 1.0
"""Factor on the deadlines of tests: Python takes seconds to start under wine or a virus scanner."""


def wait_until(condition: Callable[[], T], timeout: float = 20.0, why: str = "") -> T:
    """Poll until `condition` gives something true, and return that; fail after `timeout` s (on
    Windows PATIENCE times as many)."""
    timeout *= PATIENCE
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {why or condition}")
        pause.wait(0.01)


def ask_to_stop(process: subprocess.Popen[Any]) -> None:
    """Ask for a clean stop, as a service manager does: SIGTERM; on Windows Ctrl-Break."""
    if sys.platform == "win32":
        system.ask_to_end([], process.pid, "")
    else:
        process.terminate()


def is_console(process: psutil.Process) -> bool:
    """Windows gives each process without a window one that holds its console."""
    try:
        return process.name().lower() == "conhost.exe"
    except psutil.NoSuchProcess:
        return False


def ended_by(number: int) -> int:
    """Return the exit code of a process that ended by a signal: Windows knows only the number."""
    return number if sys.platform == "win32" else -number


def open_handles(process: psutil.Process | None = None) -> int:
    """How many descriptors a process has open (this one, without an argument)."""
    process = process or psutil.Process()
    counted: int = process.num_handles() if sys.platform == "win32" else process.num_fds()
    return counted


def free_port() -> int:
    """A TCP port on the loopback that nobody listened on a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


@dataclass
class FakeClock:
    """A clock that stands still until a test moves it. See sdwatch/system/clock.py."""

    now: float = 1000.0
    wall_now: float = 1_790_000_000.0
    boot: str = "boot-1"
    waited: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def boot_time(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.wall_now

    def boot_id(self) -> str:
        return self.boot

    def wait(self, event: threading.Event, timeout: float) -> bool:
        """Move the time on by `timeout` at once, unless the event is set already."""
        if event.is_set():
            return True
        self.waited.append(timeout)
        self.advance(timeout)
        return event.is_set()

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.wall_now += seconds

    def reboot(self, wall: float, boot: str = "boot-2") -> None:
        """Another boot: the boot clock begins anew, and the wall clock may be set wrong."""
        self.now, self.wall_now, self.boot = 0.0, wall, boot

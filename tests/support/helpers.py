"""What several tests share: waiting for a condition, free ports, a clock that tests move."""

from __future__ import annotations

import functools
import itertools
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

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

RESET = struct.pack("HH" if sys.platform == "win32" else "ii", 1, 0)
"""For SO_LINGER: closing the connection resets it."""

PATIENCE = 3.0 if sys.platform == "win32" else 1.0
"""Factor on what a process gets to start and to end: seconds under wine or a virus scanner."""

UNHURRIED = 5.0
"""Factor on the limits that only a test reaches that hangs. They cost nothing otherwise, and on a
machine with ten other things to do, what takes two seconds takes a minute."""

_POLLING = 0.1 if sys.platform == "win32" else 0.01
"""Seconds between two looks. Each look at a file takes 10 ms under wine, and slows all others."""

_SELDOM = max(_POLLING, 0.05)
"""Seconds between two looks of who has waited for long: looks take from what is waited for."""


def wait_until(condition: Callable[[], T], timeout: float = 20.0, why: str = "") -> T:
    """Poll until `condition` gives something true, and return that; fail after UNHURRIED times
    `timeout` s."""
    timeout *= UNHURRIED
    began = time.monotonic()
    deadline = began + timeout
    pause = threading.Event()
    while True:
        value = condition()
        if value:
            return value
        if (now := time.monotonic()) > deadline:
            raise AssertionError(f"not within {timeout} s: {why or condition}")
        pause.wait(min(max(_POLLING, (now - began) / 10), _SELDOM))


class Terminable(Protocol):
    """What `ask_to_stop` needs of a process."""

    @property
    def pid(self) -> int: ...

    def terminate(self) -> None: ...


def ask_to_stop(process: Terminable) -> None:
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
    """A TCP port on the loopback that nobody listens on.

    Never one that a system hands out by itself (Linux: from 32768, Windows: from 49152): between
    this answer and the start of a WebUI, any connection of another test could get it. And never
    twice: each worker has ports of its own.
    """
    while True:
        port = next(_ports_of(os.getpid()))
        with socket.socket() as s, suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port


@functools.cache
def _ports_of(process: int) -> Iterator[int]:
    """Ports for one process, which a fork of it does not share. A worker of the tests has its own,
    and starts anywhere among them, since two sessions may run at once."""
    del process
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    own = range(10_000, 31_600)
    if worker:
        own = own[int(worker) % 16 * 1_350 :][:1_350]
    begin = random.SystemRandom().randrange(len(own))
    return itertools.cycle([*own[begin:], *own[:begin]])


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

    def utc_offset(self, _: float) -> float:
        return 0.0

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
        """Boot again: the boot clock starts from 0, and the wall clock may be set wrong."""
        self.now, self.wall_now, self.boot = 0.0, wall, boot


def kill_family(process: subprocess.Popen[Any]) -> None:
    """Kill a process with all its descendants, and reap it."""
    family = [psutil.Process(process.pid)]
    with suppress(psutil.NoSuchProcess):
        family += family[0].children(recursive=True)
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()

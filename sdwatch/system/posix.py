"""Linux and macOS: clocks, ports, the end of a session."""

from __future__ import annotations

import functools
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from sdwatch.system.listening import listeners

assert sys.platform != "win32"


_CONNECT_LIMIT = 1.0  # seconds


def boot_time() -> float:
    """Return seconds since the machine's start, sleep included."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.clock_gettime(time.CLOCK_MONOTONIC)  # on macOS this one continues during sleep


@functools.cache
def boot_id() -> str:
    """Return an id of this boot of the machine."""
    if sys.platform == "linux":
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    try:
        question = ["sysctl", "-n", "kern.bootsessionuuid"]
        return subprocess.run(question, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return str(round(psutil.boot_time()))


def somebody_listens(host: str, port: int) -> bool:
    """Return whether anybody listens on that port. A connection that is neither taken nor
    refused proves nothing: behind it is a listener that does not accept, or a firewall that
    drops packets. Then the table of connections decides; where it is closed to this user, the
    answer is yes."""
    try:
        with socket.create_connection((host, port), timeout=_CONNECT_LIMIT):
            return True
    except TimeoutError:
        try:
            return bool(listeners(host, port))
        except (psutil.Error, OSError):
            return True
    except OSError:
        return False


def code_pages() -> tuple[str, ...]:
    """Return encodings of output that is not UTF-8, the likeliest first: those of Western
    Windows, because a log may lie on a share and come from there."""
    return ("cp1252", "cp850")


def cut(connection: socket.socket) -> None:
    """Free whoever is blocked in a read of a connection: shutting it down does, closing does not
    (measured)."""
    with suppress(OSError):  # not connected any more
        connection.shutdown(socket.SHUT_RDWR)


def when_session_ends(end: Callable[[], None]) -> None:
    """Do nothing: here the end of a session or of the machine is a signal."""
    del end

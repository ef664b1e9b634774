"""Linux and macOS: clocks, ports, the end of a session."""

from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from sdwatch.system.listening import listeners

assert sys.platform != "win32"


_CONNECT_LIMIT = 1.0  # seconds

_OPENED_WITHIN = 5.0  # seconds

LONGEST_WAIT = threading.TIMEOUT_MAX
"""Seconds that the main thread may wait at once: here a signal is handled in the midst of it."""


def boot_time() -> float:
    """Return seconds since the machine's start, sleep included."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.clock_gettime(time.CLOCK_MONOTONIC)  # on macOS this one continues during sleep


def awake_time() -> float:
    """Return seconds for measuring durations, sleep not included: on Linux CLOCK_MONOTONIC, on
    macOS mach_absolute_time."""
    return time.monotonic()


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


def open_on_desktop(path: Path) -> bool:
    """Open a file or folder as a double-click does. Return False where there is no desktop, or
    nothing on it opens this."""
    program = _opener()
    if program is None:
        return False
    quiet = subprocess.DEVNULL
    try:
        opener = subprocess.Popen(
            [program, str(path)], stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
        )
        return opener.wait(_OPENED_WITHIN) == 0
    except subprocess.TimeoutExpired:
        return True  # without a desktop's own helper, xdg-open lives as long as what it started
    except OSError:
        return False


def _opener() -> str | None:
    """Return the desktop's program for it; xdg-open without a display would start a text
    browser."""
    if sys.platform == "darwin":
        return shutil.which("open")
    has_display = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    return shutil.which("xdg-open") if has_display else None


def when_session_ends(end: Callable[[], None]) -> None:
    """Do nothing: here the end of a session or of the machine is a signal."""

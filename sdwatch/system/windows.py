"""Windows: clocks, ports, code pages."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import socket
import sys
from pathlib import Path

import psutil

from sdwatch.system.listening import listeners

assert sys.platform == "win32"

LONGEST_WAIT = 1.0
"""Seconds that the main thread may wait at once: here a signal is handled only after that."""


def boot_time() -> float:
    """Return seconds since the machine's start, sleep included."""
    ticks = ctypes.windll.kernel32.GetTickCount64
    ticks.restype = ctypes.c_ulonglong
    return float(ticks()) / 1000.0


def awake_time() -> float:
    """Return seconds for measuring durations, sleep not included. Python's own monotonic clock
    counts sleep here (GetTickCount64, Microsoft): after eight hours of it each call in flight
    would look stuck, and each start too long."""
    ticks = ctypes.c_ulonglong()
    ctypes.windll.kernel32.QueryUnbiasedInterruptTime(ctypes.byref(ticks))
    return ticks.value / 10_000_000.0


@functools.cache
def boot_id() -> str:
    """Return an id of this boot of the machine.

    It is the start time of the session manager, the first process of a boot: it was written down
    once, while the boot time is computed and moves with the clock.
    """
    for process in psutil.process_iter(["name"]):
        if process.info["name"] == "smss.exe":
            with contextlib.suppress(psutil.Error):
                return repr(process.create_time())
    return str(round(psutil.boot_time(), -1))


def somebody_listens(host: str, port: int) -> bool:
    """Return whether anybody listens on that port, by the table of connections, which has those
    of all users. Connecting could not tell within a second: Windows sends its SYN again, so that
    a refused connection takes about two (Microsoft KB 175523, curl#14144)."""
    try:
        return bool(listeners(host, port))
    except (psutil.Error, OSError):
        return False  # whoever is there shows when the WebUI cannot bind


def code_pages() -> tuple[str, ...]:
    """Return encodings of output that is not UTF-8, the likeliest first: what programs with
    windows use (ANSI), and what consoles and cmd.exe do (OEM)."""
    kernel = ctypes.windll.kernel32
    return f"cp{kernel.GetACP()}", f"cp{kernel.GetOEMCP()}"


def open_on_desktop(path: Path) -> bool:
    """Open a file or folder as a double-click does. Return False where nothing opens this."""
    try:
        os.startfile(path)
    except OSError:
        return False
    return True


def cut(connection: socket.socket) -> None:
    """Free whoever is blocked in a read of a connection. Shutting it down ends the reads to come;
    one that has started is freed for certain only by closing (Microsoft, shutdown and closesocket
    of WinSock 2). `detach` comes first: who reads through the object finds it closed, and never
    what gets the number of its handle next."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        if (handle := connection.detach()) != -1:
            socket.close(handle)

"""A process tree: stopped as a whole, measured as a whole, and its port."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

from sdwatch import system
from sdwatch.system.clock import Clock
from sdwatch.system.failpoints import failpoint
from sdwatch.webui.process.process_identity import (
    ProcessIdentity,
    family,
    living,
    processes,
    with_descendants,
)

_KILL_LIMIT_S = 10.0  # seconds for SIGKILL to work; what outlasts it hangs in the kernel
_CHECK_INTERVAL_S = 0.02


def stop_whole(
    find: Callable[[], list[psutil.Process]],
    *,
    group: int | None,
    job_name: str,
    grace: float,
    clock: Clock,
    hurry: threading.Event | None = None,
) -> list[psutil.Process]:
    """Ask all that `find` returns to end, and kill what is left after `grace` seconds, or once
    `hurry` is set. Return what still lives. If `hurry` is set already, nobody is asked.

    The snapshot comes before the first signal: once a parent is dead, its children cannot be found
    through it. Then `find` is called until nothing new turns up.
    """
    seen = _joined([], find())
    pids = [process.pid for process in seen]
    hurry = hurry or threading.Event()
    if seen and not hurry.is_set():
        failpoint("ask to end", Path(str(group)))
        # Without its leader the group's number may have been given to a stranger.
        system.ask_to_end(pids, group if group in pids else None, job_name)
    asked = clock.monotonic()
    while living(seen) and clock.monotonic() < asked + grace and not hurry.is_set():
        seen = _joined(seen, with_descendants(living(seen)))
        clock.wait(hurry, _CHECK_INTERVAL_S)  # only of a child does the system announce the end
    killing = clock.monotonic()
    while True:
        seen = _joined(seen, find())
        left = living(seen)
        if not left or clock.monotonic() > killing + _KILL_LIMIT_S:
            system.kill([], job_name)
            return left
        failpoint("kill", Path(str(group)))
        system.kill([process.pid for process in left], job_name)
        clock.wait(threading.Event(), _CHECK_INTERVAL_S)


def listener(processes: Iterable[psutil.Process], port: int) -> psutil.Process | None:
    """Return the one of `processes` that listens on the TCP port, or None."""
    for process in processes:
        try:
            connections = process.net_connections("tcp")
        except (psutil.Error, OSError):
            continue  # gone meanwhile
        for connection in connections:
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                return process
    return None


def listener_of(
    identity: ProcessIdentity, log_paths: tuple[Path, Path], port: int
) -> psutil.Process | None:
    """Return ours that listens on the TCP port, or None. The family is found quickly; who left it
    is not."""
    found = listener(family(identity), port)
    return found or listener(processes(identity, log_paths), port)


def owner_of(host: str, port: int) -> str | None:
    """Return who listens on host:port, for people: `pid 123 (python3)`; None if nobody does. To
    find out whose a connection is means to read the open files of all processes."""
    if not system.somebody_listens(host, port):
        return None
    try:
        pids = {pid for pid in system.listeners(host, port) if pid is not None}
    except (psutil.Error, OSError):
        pids = set()  # this user may not see them
    if pids:
        return ", ".join(_named(pid) for pid in sorted(pids))
    return "a process that this user cannot see"


def cpu_and_io(processes: Iterable[psutil.Process]) -> tuple[float, int]:
    """Return the processor seconds and I/O bytes that `processes` have used so far, in total."""
    cpu, io = 0.0, 0
    for process in processes:
        try:
            times = process.cpu_times()
            cpu += times.user + times.system
            io += system.io_bytes(process)
        except (psutil.Error, OSError):
            continue
    return cpu, io


def rss(processes: Iterable[psutil.Process]) -> int:
    """Return the bytes of memory that `processes` hold, in total; shared pages count for each."""
    total = 0
    for process in processes:
        try:
            total += process.memory_info().rss
        except (psutil.Error, OSError):
            continue
    return total


def _joined(seen: list[psutil.Process], found: Iterable[psutil.Process]) -> list[psutil.Process]:
    return [*seen, *(process for process in found if process not in seen)]


def _named(pid: int) -> str:
    try:
        return f"pid {pid} ({psutil.Process(pid).name()})"
    except (psutil.Error, OSError):
        return f"pid {pid}"

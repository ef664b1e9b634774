"""The heartbeat: which monitor works on this spool and what it does, in one small file.

Clocks of two machines are never compared: another monitor watches whether the count moves. It has
a thread of its own, so that a monitor whose main thread is busy for long does not look dead; the
main thread hands over what it does as one complete text.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from sdwatch.errors import AlreadyRunningError, RunStoppedError
from sdwatch.spool.archive import Spool
from sdwatch.spool.beat_shape import check_shape
from sdwatch.system import disk, patience
from sdwatch.system.clock import Clock, join

HEARTBEAT = "heartbeat.json"
BEGINS = "begins"
"""In the heartbeat of a monitor that is checking whether it is alone, and works on nothing yet."""

UNREADABLE = "unreadable"
"""Returned beside the worker for a heartbeat that cannot be read: whether that worker is alive is
unknown."""

INTERVAL = 1.0
"""Seconds between two beats."""

_READ_AGAIN_FOR = 0.5  # seconds: many times as long as a beat takes to be replaced

WATCHED_FOR = 5.0
"""Seconds without a change after which the monitor of a heartbeat is gone, or frozen."""


class Heartbeat:
    """This worker's file, working/<worker>/heartbeat.json, and a copy of it, `local`, for when the
    spool's share is gone. Each is replaced whole with each beat, and not synced: nothing depends on
    them after a crash. From `open` to `end` it beats by itself; `refused`: why the last beat could
    not be written."""

    def __init__(self, spool: Spool, local: Path | None = None) -> None:
        self._path = spool.working / HEARTBEAT
        self._local = local
        self._about = {"worker": spool.worker, "host": socket.gethostname(), "pid": os.getpid()}
        self._beats = 0
        self._status = "{}"  # as JSON: whole, whatever the main thread does meanwhile
        self.refused: OSError | None = None
        self._lock = threading.Lock()  # one beat at a time
        self._said = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def beat(self, status: dict[str, Any]) -> None:
        """Report now that this monitor is alive, and what it does. Raises OSError."""
        with self._lock:
            self._status = json.dumps(status, indent=1)
            disk.refresh(self._path, self._beat_here())

    def beat_here(self, status: dict[str, Any]) -> None:
        """Report it on this machine only: the spool is not there."""
        with self._lock:
            self._status = json.dumps(status, indent=1)
            self._beat_here()

    def say(self, status: dict[str, Any]) -> None:
        """Set what the monitor does; it is in the next beat, which comes at once."""
        self._status = json.dumps(status, indent=1)
        self._said.set()

    def open(self) -> None:
        """Start to beat, until `end`."""
        self._thread = threading.Thread(target=self._keep_beating, name="heartbeat", daemon=True)
        self._thread.start()

    def _keep_beating(self) -> None:
        while not self._ended.is_set():
            self._said.wait(INTERVAL)
            self._said.clear()
            try:
                with self._lock:
                    if not self._ended.is_set():
                        disk.refresh(self._path, self._beat_here())
            except OSError as error:
                self.refused = error
            else:
                self.refused = None

    def _beat_here(self) -> bytes:
        self._beats += 1
        about = json.dumps({**self._about, "beat": self._beats}, indent=1)
        status = self._status.removeprefix("{").removesuffix("}")
        body = (about if not status else about.removesuffix("\n}") + "," + status + "}").encode()
        if self._local is not None:
            with suppress(OSError):  # the one on the spool is what counts
                disk.refresh(self._local, body)
        return body

    def end(self) -> None:
        """Stop, and remove the heartbeat: the monitor stops cleanly."""
        self._ended.set()
        self._said.set()
        if self._thread is not None:
            join(self._thread, WATCHED_FOR)  # bounded: it may hang on a share that is gone
        for path in filter(None, (self._path, self._local)):
            with suppress(OSError):  # it no longer moves, which means the same
                disk.remove_quietly(path)


def read_heartbeats(root: Path) -> list[dict[str, Any]]:
    """Return the heartbeats of a spool, each with `worker`, `host`, `pid`, `beat` and the
    status; or with `worker` and UNREADABLE."""
    return [seen.beat for seen in _seen_in(root)]


def read_heartbeat(path: Path) -> list[dict[str, Any]]:
    """Return the heartbeat in one file, see `read_heartbeats`; none if the file is not there."""
    return [seen.beat for seen in _seen_at(path)]


@dataclass(frozen=True)
class _Seen:
    """A heartbeat that was read once. `touched`: mtime of the file in ns, and its size."""

    beat: dict[str, Any]
    touched: tuple[int, int]

    @property
    def worker(self) -> str:
        return str(self.beat.get("worker"))

    def is_as(self, earlier: _Seen | None) -> bool:
        """Return whether it has neither moved nor started again."""
        if earlier is None:
            return False
        if UNREADABLE in self.beat or UNREADABLE in earlier.beat:
            return self.touched == earlier.touched
        return all(self.beat.get(n) == earlier.beat.get(n) for n in ("beat", "pid"))


def _seen_in(root: Path) -> list[_Seen]:
    try:
        paths = [folder / HEARTBEAT for folder in disk.folders_in(root / "working")]
    except OSError:
        return []  # a share that is gone
    return [seen for path in paths for seen in _seen_at(path)]


def _seen_at(path: Path) -> list[_Seen]:
    """Return what is in the file; nothing if it is not there. On Windows a file that is being
    replaced may be empty or unreadable for a moment (2 of 517 reads, measured), so it is read
    again."""
    touched = (0, 0)
    try:
        with suppress(PermissionError):
            status = disk.look_at(path)
            touched = status.st_mtime_ns, status.st_size
        beat = patience.patiently(lambda: _read_beat(path), _may_pass, _READ_AGAIN_FOR)
    except FileNotFoundError:
        return []
    except (OSError, ValueError):
        beat = {"worker": path.parent.name, UNREADABLE: True}
    return [_Seen(beat, touched)]


_UNSAID: Mapping[str, Any] = {
    "host": "?", "pid": 0, "hold": "", "lanes": [], "runs": [], "counts": {}, "queued": 0,
    "waiting": {},
}  # fmt: skip
"""Of a heartbeat that does not say it."""


def _read_beat(path: Path) -> dict[str, Any]:
    """Read a heartbeat. Raises OSError, or ValueError if it is not one."""
    try:
        value = json.loads(disk.read(path))
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    check_shape(value)
    return {**_UNSAID, **value}


def _may_pass(error: Exception) -> bool:
    return not isinstance(error, FileNotFoundError)


def is_dead_here(beat: Mapping[str, Any]) -> bool:
    """Return whether its process ran on this machine and has ended; of other machines that is not
    known."""
    return beat.get("host") == socket.gethostname() and not psutil.pid_exists(beat.get("pid", 0))


def is_alive_here(beat: Mapping[str, Any]) -> bool:
    """Return whether its process runs on this machine."""
    return beat.get("host") == socket.gethostname() and not is_dead_here(beat)


def refuse_second_monitor(
    spool: Spool, clock: Clock, *, works: bool = False, stop: threading.Event | None = None
) -> dict[str, _Seen]:
    """Watch the heartbeats of others for a few seconds. Raises AlreadyRunningError naming the
    one that moves. A heartbeat that does not move is of a monitor that is gone, and blocks
    nobody: these are returned, by worker. `works`: this monitor works already, and was frozen;
    it gives way to those that work, and those that are only starting give way to it. Raises
    RunStoppedError once `stop` is set."""
    return _watch_others(spool, clock, {}, lambda beat: not (works and beat.get(BEGINS)), stop)


def give_way(
    spool: Spool, clock: Clock, still: Mapping[str, _Seen], stop: threading.Event | None = None
) -> None:
    """Give way to a monitor that started at the same moment, and so was not seen by
    `refuse_second_monitor`, which returned `still`. Called after our first beat and before the
    first claim: each beats before it reads, so at least one of two sees the other. A monitor
    that works already stays; of those that are starting, the one whose worker sorts first.
    Raises AlreadyRunningError, RunStoppedError."""
    _watch_others(
        spool,
        clock,
        still,
        lambda beat: not beat.get(BEGINS) or str(beat.get("worker")) < spool.worker,
        stop,
    )


def _watch_others(
    spool: Spool,
    clock: Clock,
    still: Mapping[str, _Seen],
    gives_way_to: Callable[[Mapping[str, Any]], bool],
    stop: threading.Event | None,
) -> dict[str, _Seen]:
    before = {seen.worker: seen for seen in _seen_in(spool.root)}
    before.pop(spool.worker, None)
    if all(seen.is_as(still.get(worker)) for worker, seen in before.items()):
        return before
    if clock.wait(stop or threading.Event(), WATCHED_FOR):
        raise RunStoppedError("the monitor was stopped")
    for seen in _seen_in(spool.root):
        earlier = before.get(seen.worker)
        if earlier is None or seen.is_as(earlier) or not gives_way_to(seen.beat):
            continue
        # The earlier one may have more of it.
        who = earlier.beat if UNREADABLE in seen.beat else seen.beat
        raise AlreadyRunningError(
            f"another monitor works on {spool.root}: worker {seen.worker}, {_where(who)}. "
            "Stop it first, or use another spool"
        )
    return before


def _where(beat: Mapping[str, Any]) -> str:
    if UNREADABLE in beat:
        return "whose heartbeat changes and cannot be read"
    return f"process {beat.get('pid')} on {beat.get('host')}"

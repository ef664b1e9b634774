"""The heartbeat: who works on this spool, and what it does, in one small file for all to read.

Clocks of two machines are never compared: another monitor watches whether the count moves. It is
beaten by a thread of its own, so that a monitor whose main thread is busy for long does not look
dead: what it does is said by the main thread, as a text that is whole.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from sdwatch.clock import Clock, join
from sdwatch.errors import AlreadyRunningError, RunStoppedError
from sdwatch.spool.archive import Spool

HEARTBEAT = "heartbeat.json"
BEGINS = "begins"
"""In the heartbeat of a monitor that looks whether it is alone, and works on nothing yet."""

INTERVAL = 1.0
"""Seconds between two beats."""

WATCHED_FOR = 5.0
"""Seconds after which a heartbeat that has not moved is of a monitor that is gone, or frozen."""


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
        """Say now that this monitor lives, and what it does. Raises OSError."""
        with self._lock:
            self._status = json.dumps(status, indent=1)
            _replace(self._path, self._beat_here())

    def beat_here(self, status: dict[str, Any]) -> None:
        """Say so on this machine only: the spool is not there."""
        with self._lock:
            self._status = json.dumps(status, indent=1)
            self._beat_here()

    def say(self, status: dict[str, Any]) -> None:
        """What it does from now on, told with the next beat, which comes at once."""
        self._status = json.dumps(status, indent=1)
        self._said.set()

    def open(self) -> None:
        """Beat from now on, until the end."""
        self._thread = threading.Thread(target=self._keep_beating, name="heartbeat", daemon=True)
        self._thread.start()

    def _keep_beating(self) -> None:
        while not self._ended.is_set():
            self._said.wait(INTERVAL)
            self._said.clear()
            try:
                with self._lock:
                    if not self._ended.is_set():
                        _replace(self._path, self._beat_here())
            except OSError as error:
                self.refused = error
            else:
                self.refused = None

    def _beat_here(self) -> str:
        self._beats += 1
        about = json.dumps({**self._about, "beat": self._beats}, indent=1)
        status = self._status.removeprefix("{").removesuffix("}")
        body = about if not status else about.removesuffix("\n}") + "," + status + "}"
        if self._local is not None:
            with suppress(OSError):  # the one on the spool is what counts
                _replace(self._local, body)
        return body

    def end(self) -> None:
        """The monitor stops in order: no heartbeat is left."""
        self._ended.set()
        self._said.set()
        if self._thread is not None:
            join(self._thread, WATCHED_FOR)  # not for ever: it may hang on a share that is gone
        for path in filter(None, (self._path, self._local)):
            with suppress(OSError):  # it stands still from now on, which says the same
                path.unlink(missing_ok=True)


def _replace(path: Path, body: str) -> None:
    temporary = path.with_suffix(".tmp")
    try:
        temporary.write_text(body, encoding="utf-8")
        os.replace(temporary, path)
    except OSError:  # a full disk: the room that the file has is still ours
        temporary.unlink(missing_ok=True)
        path.write_text(body, encoding="utf-8")


def read_heartbeats(root: Path) -> list[dict[str, Any]]:
    """What the workers of a spool say, each with `worker`, `host`, `pid`, `beat` and its status."""
    try:
        paths = sorted((root / "working").glob(f"*/{HEARTBEAT}"))
    except OSError:
        return []  # a share that is gone
    return [beat for path in paths for beat in read_heartbeat(path)]


def read_heartbeat(path: Path) -> list[dict[str, Any]]:
    """The heartbeat in one file; none where it cannot be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [value] if isinstance(value, dict) else []


def is_dead_here(beat: Mapping[str, Any]) -> bool:
    """Whether it is of a process of this machine that has ended; of others that cannot be seen."""
    return beat.get("host") == socket.gethostname() and not psutil.pid_exists(beat.get("pid", 0))


def is_alive_here(beat: Mapping[str, Any]) -> bool:
    """Whether it is of a process of this machine that lives."""
    return beat.get("host") == socket.gethostname() and not is_dead_here(beat)


def refuse_second_monitor(
    spool: Spool, clock: Clock, *, works: bool = False, stop: threading.Event | None = None
) -> dict[str, Any]:
    """Watch the heartbeats of others for a few seconds. Raises AlreadyRunningError naming the one
    that moves. A heartbeat that stands still is of a monitor that is gone and blocks nobody: these
    are returned, by worker. `works`: this monitor does so already, and was frozen; it gives way to
    those that work, and those that only begin give way to it. Raises RunStoppedError once `stop`
    is set."""
    return _watch_others(spool, clock, {}, lambda beat: not (works and beat.get(BEGINS)), stop)


def give_way(
    spool: Spool, clock: Clock, still: Mapping[str, Any], stop: threading.Event | None = None
) -> None:
    """After the first beat of our own, and before anything is claimed: who began in the same moment
    was not seen before (see `refuse_second_monitor`, which returned `still`). Each beats before it
    looks, so that one of two at least sees the other. Whoever works already stays, and of those
    that begin the one whose worker comes first. Raises AlreadyRunningError, RunStoppedError."""
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
    still: Mapping[str, Any],
    gives_way_to: Callable[[Mapping[str, Any]], bool],
    stop: threading.Event | None,
) -> dict[str, Any]:
    before = {str(beat.get("worker")): beat for beat in read_heartbeats(spool.root)}
    before.pop(spool.worker, None)
    if all(_is_as(beat, still.get(worker)) for worker, beat in before.items()):
        return before
    if clock.wait(stop or threading.Event(), WATCHED_FOR):
        raise RunStoppedError("the monitor was stopped")
    for beat in read_heartbeats(spool.root):
        earlier = before.get(str(beat.get("worker")))
        if earlier is not None and not _is_as(beat, earlier) and gives_way_to(beat):
            raise AlreadyRunningError(
                f"another monitor works on {spool.root}: worker {beat.get('worker')}, process "
                f"{beat.get('pid')} on {beat.get('host')}. Stop it first, or use another spool"
            )
    return before


def _is_as(beat: Mapping[str, Any], earlier: Mapping[str, Any] | None) -> bool:
    """Whether it has not moved, nor begun anew."""
    return earlier is not None and all(beat.get(n) == earlier.get(n) for n in ("beat", "pid"))

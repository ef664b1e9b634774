"""The heartbeat: who works on this spool, and what it does, in one small file for all to read.

Clocks of two machines are never compared: another monitor watches whether the count moves.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from sdwatch.clock import Clock
from sdwatch.errors import AlreadyRunningError
from sdwatch.spool.archive import Spool

HEARTBEAT = "heartbeat.json"
INTERVAL = 1.0
"""Seconds between two beats."""

WATCHED_FOR = 5.0
"""Seconds after which a heartbeat that has not moved is of a monitor that is gone, or frozen."""


class Heartbeat:
    """This worker's file, working/<worker>/heartbeat.json, and a copy of it, `local`, for when the
    spool's share is gone. Each is replaced whole with each beat, and not synced: nothing depends on
    them after a crash."""

    def __init__(self, spool: Spool, local: Path | None = None) -> None:
        self._path = spool.working / HEARTBEAT
        self._local = local
        self._about = {"worker": spool.worker, "host": socket.gethostname(), "pid": os.getpid()}
        self._beats = 0

    def beat(self, status: dict[str, Any]) -> None:
        """Say that this monitor lives, and what it does. Raises OSError."""
        _replace(self._path, self.beat_here(status))

    def beat_here(self, status: dict[str, Any]) -> str:
        """Say so on this machine only: the spool is not there. What was said."""
        self._beats += 1
        body = json.dumps({**self._about, "beat": self._beats, **status}, indent=1)
        if self._local is not None:
            with suppress(OSError):  # the one on the spool is what counts
                _replace(self._local, body)
        return body

    def end(self) -> None:
        """The monitor stops in order: no heartbeat is left."""
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


def refuse_second_monitor(spool: Spool, clock: Clock) -> None:
    """Watch the heartbeats of others for a few seconds. Raises AlreadyRunningError naming the one
    that moves. A heartbeat that stands still is of a monitor that is gone and blocks nobody."""
    before = {beat.get("worker"): beat for beat in read_heartbeats(spool.root)}
    before.pop(spool.worker, None)
    if not before:
        return
    clock.wait(threading.Event(), WATCHED_FOR)
    for beat in read_heartbeats(spool.root):
        earlier = before.get(beat.get("worker"))
        if earlier is not None and earlier.get("beat") != beat.get("beat"):
            raise AlreadyRunningError(
                f"another monitor works on {spool.root}: worker {beat.get('worker')}, process "
                f"{beat.get('pid')} on {beat.get('host')}. Stop it first, or use another spool"
            )

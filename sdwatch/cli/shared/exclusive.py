"""Send something by hand, alone with the WebUI, while the monitor waits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sdwatch.config import same_address
from sdwatch.spool.folders import Spool
from sdwatch.spool.heartbeat import UNREADABLE, read_heartbeats, watched_for
from sdwatch.system import disk

STILL_BUSY = "the WebUI is still busy; waiting for its current call to finish (Ctrl-C to cancel)"

_LOOK_EVERY = 0.2
_UNKNOWN: dict[str, Any] = {"busy": True}
"""The lane of a monitor whose heartbeat cannot be read: it may use this WebUI."""


@contextmanager
def exclusive_use(url: str, spool: Spool) -> Iterator[None]:
    """Keep the monitors of this spool from sending to that WebUI: put them on hold and wait for
    the call under way. Otherwise a call sent by hand, which may kill the WebUI, would cost an
    innocent run its attempts. Raises OSError."""
    if not _lanes(spool, url):
        yield
        return
    ours = None if spool.hold_file() else spool.root / "hold"
    try:
        if ours is not None:
            try:
                disk.touch(ours, exist_ok=False)
            except FileExistsError:
                ours = None  # somebody's own, made in this moment
            print("a monitor runs on this spool; it is on hold until this command ends")
        _wait_until_idle(spool, url)
        yield
    finally:
        if ours is not None:
            disk.remove(ours)


def _wait_until_idle(spool: Spool, url: str) -> None:
    """Wait until each running monitor reports that it is on hold and not using this WebUI."""
    last: dict[str, tuple[object, float]] = {}  # of each, its last beat and when that came
    announced = False
    while True:
        now, states = time.monotonic(), []
        for worker, said, lane in _lanes(spool, url):
            if worker not in last or last[worker][0] != said.get("beat"):
                last[worker] = said.get("beat"), now
            if now - last[worker][1] < watched_for(said):
                # A lane on hold has no call under way: it is busy with its WebUI, maybe forever.
                in_a_call = bool(lane.get("busy")) and not lane.get("hold")
                states.append((bool(said.get("hold")), in_a_call))
        if all(on_hold and not busy for on_hold, busy in states):
            return
        if not announced and all(on_hold for on_hold, _ in states):
            announced = True
            print(STILL_BUSY)
        time.sleep(_LOOK_EVERY)


def _lanes(spool: Spool, url: str) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Return the workers with that WebUI, each with its heartbeat and its lane."""
    return [
        (str(said["worker"]), said, lane)
        for said in read_heartbeats(spool.root)
        for lane in said.get("lanes", [_UNKNOWN | {"url": url}] if UNREADABLE in said else [])
        if same_address(str(lane.get("url"))) == same_address(url)
    ]

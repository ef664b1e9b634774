"""Say in one line what a monitor does, from its status. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def status_line(status: Mapping[str, Any]) -> str:
    """Return `2 running, 1 suspended, 14 queued; forge: on hold: no checkpoint`, from what the
    heartbeat has (monitor.status)."""
    return "; ".join(_parts(status))


def suspended_in(status: Mapping[str, Any]) -> int:
    """Return how many runs wait in working/."""
    return sum(not run["lane"] for run in status.get("runs", ()))


def queued_in(status: Mapping[str, Any]) -> int:
    """Return how many jobs wait in inbox/. The heartbeat counts what is suspended as queued too."""
    return max(0, int(status.get("queued", 0)) - suspended_in(status))


def _parts(status: Mapping[str, Any]) -> Iterator[str]:
    suspended = suspended_in(status)
    running = len(status["runs"]) - suspended
    waits = f"{suspended} suspended, " if suspended else ""
    yield f"{running} running, {waits}{queued_in(status)} queued"
    if status["hold"]:
        yield f"on hold: {status['hold']}"
    for lane in status["lanes"]:
        if lane["hold"]:
            yield f"{lane['name']}: on hold: {lane['hold']}"
        elif lane["cooldown_left"]:
            yield f"{lane['name']}: cooling down"
        else:
            yield f"{lane['name']}: {lane['state']}"
    cluster = status.get("cluster", {})
    if cluster.get("broker"):
        yield "the broker does not answer"
    if boxes := cluster.get("boxes", {}):
        yield f"{sum(box['answers'] for box in boxes.values())} of {len(boxes)} boxes answer"

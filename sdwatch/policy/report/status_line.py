"""Say in one line what a monitor does, from its status, and in a few how a box of a cluster is.
Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sdwatch.policy.failure.facts import Diagnosis
from sdwatch.policy.failure.lasting import in_words
from sdwatch.policy.kinds.table import title_of
from sdwatch.policy.privacy.printable import counted


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


def not_ready_in(status: Mapping[str, Any]) -> int:
    """Return how many jobs are not ready: still arriving, or waiting for a WebUI or a person. What
    waits for its time is ready."""
    waiting = status.get("waiting_count", len(status.get("waiting", {})))
    return int(waiting - status.get("waiting_for_time", 0))


def crashes_in_words(in_a_row: int, last: str) -> str:
    """Return `1 crash`, `1 crash (stuck)` or `3 crashes in a row, the last: stuck`. `last`: what
    the last of them was, "" where that is not known."""
    if in_a_row == 1:
        return "1 crash" if last in ("", Diagnosis.CRASH) else f"1 crash ({last})"
    return f"{in_a_row} crashes in a row" + (f", the last: {last}" if last else "")


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


# -- boxes

_NAMED = 3
"""Checkpoints that are named."""


def box_state(box: Mapping[str, Any]) -> str:
    """Return in a few words whether a box takes jobs."""
    if not box["answers"]:
        return f"gone: has not shown itself for {in_words(box['seconds_ago'])}"
    if box["held"]:
        return "held"
    if box["drained"]:
        return "drained"
    if box["paused"]:
        return "on hold"
    return "takes jobs" if box["places"] else "takes no jobs now"


def box_lines(name: str, box: Mapping[str, Any]) -> Iterator[str]:
    """Yield how a box is, then each of its lanes."""
    runs = box["runs"] if isinstance(box["runs"], int) else len(box["runs"])
    words = [box_state(box), f"{runs} of {counted(box['places'], 'place')} taken"]
    if box["answers"]:
        words.append(f"seen {box['seconds_ago']:.0f} s ago")
    yield f"{name}: {', '.join(words)}"
    if box["paused"]:
        yield f"  on hold: {box['paused']}"
    for lane in box["lanes"]:
        yield f"  {lane['name']:<12} {'; '.join(_lane_words(lane, answers=box['answers']))}"


def _lane_words(lane: Mapping[str, Any], *, answers: bool) -> Iterator[str]:
    """Yield what is to say about a lane of a box. `answers`: how it is now is known."""
    if answers:
        yield "ready" if lane["ready"] else "on hold" if lane["hold"] else "not ready"
    yield title_of(lane["kind"])
    if lane["hold"]:
        yield lane["hold"]
    if lane["tags"]:
        yield f"tags: {', '.join(lane['tags'])}"
    if lane["loaded"]:
        yield f"loaded: {lane['loaded']}"
    if lane["checkpoint_count"]:
        named = lane["checkpoints"][:_NAMED]
        more = lane["checkpoint_count"] - len(named)
        yield f"checkpoints: {', '.join(named)}" + (f" and {more} more" if more > 0 else "")

"""Whether the monitor of a heartbeat is alive, for whoever reads it again and again. Clocks of two
machines are never compared: what counts is whether it moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sdwatch.policy.page.overview import Presence
from sdwatch.spool.heartbeat import UNREADABLE, is_certainly_here, is_dead_here, watched_for
from sdwatch.system.clock import Clock


@dataclass
class _Watched:
    """`beat`: the last count and process; `since`: when it came, on our monotonic clock; `moved`:
    it has moved since we first saw it."""

    beat: object
    since: float
    moved: bool = False


class PresenceWatch:
    """Remembers the heartbeats, by worker."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._watched: dict[str, _Watched] = {}

    def of(self, beat: Mapping[str, Any]) -> Presence:
        """Return whether the monitor of a heartbeat, read just now, is alive."""
        if UNREADABLE in beat:
            return Presence.NOT_KNOWN
        if is_dead_here(beat):
            return Presence.GONE
        worker, now = str(beat.get("worker")), self._clock.monotonic()
        count = beat.get("beat"), beat.get("pid")
        watched = self._watched.get(worker)
        if watched is None or watched.beat != count:
            watched = self._watched[worker] = _Watched(count, now, moved=watched is not None)
        if now - watched.since > watched_for(beat):
            return Presence.GONE  # or frozen
        return Presence.RUNNING if watched.moved or is_certainly_here(beat) else Presence.NOT_KNOWN

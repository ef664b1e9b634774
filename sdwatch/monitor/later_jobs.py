"""Which jobs wait for a time, as of this round of the monitor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sdwatch.monitor.suspended import SuspendedRun
from sdwatch.policy.job.when import ANY_TIME, Waits, When, waits_in_words
from sdwatch.spool.arrival import Arrival
from sdwatch.system.clock import Clock


class LaterJobs:
    """Says for each job whether it may start. Used by the main thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset = clock.utc_offset
        self._now = clock.wall()
        # As of now, by identity: many jobs have the same, and hashing one takes longer than asking.
        self._known: dict[int, tuple[When, Waits | None]] = {}

    def look_at_clock(self) -> None:
        """Start a new round: the wall clock may have been set to any other time. Within a second,
        which may have many rounds, nothing changes."""
        if int(now := self._clock.wall()) != int(self._now):
            self._now = now
            self._known.clear()

    def waits(self, when: When) -> Waits | None:
        """Return what such a job waits for, None where it may start."""
        if when is ANY_TIME:
            return None
        if (known := self._known.get(id(when))) is None:
            known = self._known[id(when)] = when, when.waits(self._now, self._offset)
        return known[1]

    def may_start(self, arrival: Arrival) -> bool:
        """Return whether a job of the inbox may start now."""
        return self.waits(arrival.when) is None

    def may_resume(self, suspended: SuspendedRun) -> bool:
        """Return whether a run in working/ may resume now."""
        return self.waits(suspended.when) is None

    def status(self, when: When) -> dict[str, Any]:
        """Return until when such a job waits (seconds since 1970) and by which field, for the
        heartbeat; nothing where it may start."""
        waits = self.waits(when)
        return {"waits_until": waits.until, "waits_for": str(waits.field)} if waits else {}

    def first(self, whens: Iterable[When]) -> tuple[int, str]:
        """Return how many of these wait for a time, and for what the first of them does."""
        waits = [each for each in map(self.waits, whens) if each is not None]
        if not waits:
            return 0, ""
        first = min(waits, key=lambda each: each.until)
        return len(waits), waits_in_words(first, self._now, self._offset)

    def why(self, when: When) -> str:
        """Return until when such a job waits, and why; '' where it may start."""
        waits = self.waits(when)
        return "" if waits is None else waits_in_words(waits, self._now, self._offset)

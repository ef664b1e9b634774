"""Count the restarts of one WebUI by their cause, from the records of its history."""

from __future__ import annotations

from sdwatch.policy.lane.crashes import Record

RECYCLED, OTHER = "recycled", "other"
"""Causes beside those of a crash (a Diagnosis or an IdleFailure). OTHER: after a hold, or because
its process ended cleanly."""


class Restarts:
    """The restarts since this monitor started; its first start is none."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._kind = ""
        self._has_started = False

    def note(self, record: Record) -> None:
        """Note a record: what comes before a start is its cause."""
        if record.event == "crash":
            self._kind = str(record.fields.get("kind", OTHER))
        elif record.event == "recycled":
            self._kind = RECYCLED
        elif record.event == "start":
            if self._has_started or self._kind:
                kind = self._kind or OTHER
                self.counts[kind] = self.counts.get(kind, 0) + 1
            self._kind, self._has_started = "", True

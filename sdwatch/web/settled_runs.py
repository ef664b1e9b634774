"""Count what has happened in the runs of done/ and failed/, from run.json. A run there never
changes, so each is read once, and counts on after it was removed."""

from __future__ import annotations

import json
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sdwatch.policy.failure.facts import Diagnosis
from sdwatch.policy.job.calls.payload import stage_of
from sdwatch.policy.job.stage.stage_kinds import STAGES
from sdwatch.policy.page.times import wall_of
from sdwatch.spool.folders import Spool
from sdwatch.spool.manifest import MANIFEST
from sdwatch.system import EntryKind, disk

BOUNDS = (1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
"""Seconds: the upper bounds of the histogram, for pictures of a second up to videos."""

OTHER = "other"
"""For a value that sdwatch does not write: a label has few values, whatever is in a file."""

BUSY_OVER = 3600.0
"""Seconds over which the busy share is taken."""

_OUTCOMES = {"done", "failed", "cancelled"}
_MOST_LANES = 20


@dataclass
class Histogram:
    """`counts`: how many were within each bound, and above all of them; `total`: seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        """Count a duration."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds


class SettledRuns:
    """The runs of `spool` that have ended, since this process started to look. For one thread."""

    def __init__(self, spool: Spool) -> None:
        self._folders = (spool.done, spool.failed)
        self._known: set[str] = set()
        self._unread: list[tuple[Any, str]] = []
        self.jobs: Counter[str] = Counter()
        self.images = 0
        self.calls: Counter[tuple[str, str]] = Counter()
        """By stage and outcome of the attempt."""
        self.failures: Counter[str] = Counter()
        """By diagnosis."""
        self.durations: dict[str, Histogram] = {}
        self.busy: dict[str, deque[tuple[float, float]]] = {}
        """By lane: when its last calls started and ended, by the monitor's clock."""
        self.unreadable = 0

    @property
    def is_whole(self) -> bool:
        """Return whether all were read that are there. Until then the counts would show a night's
        work as done in a minute."""
        return not self._unread

    def refresh(self, seconds: float) -> None:
        """Read what is new, for at most so many seconds; the next time continues. Raises OSError
        if a folder cannot be listed."""
        if not self._unread:
            self._unread = list(self._new())
        until = time.monotonic() + seconds
        while self._unread:
            folder, name = self._unread.pop()
            self._read(folder / name)
            if time.monotonic() >= until:
                return

    def _new(self) -> Iterator[tuple[Any, str]]:
        there: set[str] = set()
        for folder in self._folders:
            try:
                names = disk.names_by_kind(folder)[EntryKind.FOLDER]
            except FileNotFoundError:
                continue
            names = [name for name in names if not name.startswith(".")]
            there.update(names)
            yield from ((folder, name) for name in sorted(names) if name not in self._known)
        self._known = there  # what was removed is forgotten, and stays counted

    def _read(self, folder: Any) -> None:
        try:
            manifest = json.loads(disk.read(folder / MANIFEST))
            if not isinstance(manifest, dict):
                raise ValueError("it is not a mapping")
            self._count(manifest)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self.unreadable += 1

    def _count(self, manifest: Mapping[str, Any]) -> None:
        self.jobs[_known(manifest.get("outcome"), _OUTCOMES)] += 1
        stages = (manifest.get("job") or {}).get("stages") or []
        lane = str((manifest.get("webui") or {}).get("name", ""))[:200]
        for call in manifest.get("calls") or []:
            stage = _stage_of(str(call.get("call", "")), stages)
            self.images += sum(  # no grids, and only what is part of the result
                not image.get("grid") and image.get("kept", True) is True
                for image in call.get("images") or []
            )
            for attempt in call.get("attempts") or []:
                self._count_attempt(attempt, stage, lane)

    def _count_attempt(self, attempt: Mapping[str, Any], stage: str, lane: str) -> None:
        outcome = _known(attempt.get("outcome"), {"finished", "failed", "given_up"})
        self.calls[stage, outcome] += 1
        if outcome == "failed":
            self.failures[_known(attempt.get("diagnosis"), set(Diagnosis))] += 1
        began, ended = wall_of(attempt.get("began")), wall_of(attempt.get("ended"))
        if began is None or ended is None or not 0 <= ended - began < 10**7:
            return
        self.durations.setdefault(stage, Histogram()).add(ended - began)
        if lane in self.busy or len(self.busy) < _MOST_LANES:
            self.busy.setdefault(lane, deque(maxlen=20_000)).append((began, ended))

    def busy_ratio(self, lane: str, now: float) -> float:
        """Return the share of the time before `now` (by the monitor's clock) for which this lane
        had a call, of runs that have ended."""
        since = now - BUSY_OVER
        calls = self.busy.get(lane, ())
        spent = sum(max(0.0, min(end, now) - max(start, since)) for start, end in calls)
        return min(1.0, spent / BUSY_OVER)


def _stage_of(call: str, stages: list[Any]) -> str:
    """Return the kind of stage of a call `STAGE.NUMBER`."""
    number = stage_of(call)
    index = int(number) - 1 if number.isascii() and number.isdecimal() and len(number) < 4 else -1
    named = stages[index] if 0 <= index < len(stages) else {}
    return _known(next(iter(named), ""), set(STAGES))


def _known(value: object, values: set[Any]) -> str:
    return str(value) if isinstance(value, str) and value in values else OTHER

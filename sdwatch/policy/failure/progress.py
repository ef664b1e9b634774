"""Decide whether a call still makes progress: stuck is not busy. Pure; each sample has its time.

While steps are expected, progress is a step, a bar that moves, or a log line that is not our
probe's. Processor time and I/O count only in the stepless phases (loading, switching a
checkpoint, upscaling), and those are bounded by a limit of their own, because a hung GPU call can
spin a core forever.

A heartbeat, a poll, a retry or a warning differs from the one before in its timestamp, its count or
its id: a call that hangs may print one each second. News is a line in other words, or a number that
says how far something has come (per cent, n of m, an amount of bytes) and is larger than before.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TypeVar

from sdwatch.errors import Probes

K = TypeVar("K")
V = TypeVar("V")

_MOST = 2000
"""So many different lines are remembered; the oldest is forgotten first."""

_NO_DIGITS = str.maketrans("", "", "0123456789")
_NO_WORDS = re.compile(r"[\W_\d]+")
_UUID = re.compile(r"\b[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}\b", re.IGNORECASE)
_HEX = re.compile(r"\b(?:0x[0-9a-f]+|(?=[a-f]*\d)[0-9a-f]{6,})\b", re.IGNORECASE)
_RANDOM = re.compile(r"\b(?=\w{6})[a-z]*+\d++[a-z]++\d\w*+\b", re.IGNORECASE)
"""An id of letters and digits in turns."""

_AMOUNT = r"(\d+(?:[.,]\d+)?)\s?([kKMGT]?)"
_PER_CENT = re.compile(r"(\d+(?:\.\d+)?)\s?%")
_OF = re.compile(rf"{_AMOUNT}(?:i?B)?(?:\s?/\s?|[ -]of[ -]){_AMOUNT}")
_BYTES = re.compile(r"(\d+(?:[.,]\d+)?)\s?([kKMGT]?)i?B\b(?!/s|ps)")
_UNITS = {"": 1, "k": 1 << 10, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_AGAIN = re.compile(r"\b(?:re-?tr(?:y|ies)|retrying|attempts?|tries|try(?:ing)?)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Position:
    """What a line says of how far something has come: per cent, a share (0 to 1), bytes;
    negative where it says nothing of it."""

    per_cent: float = -1.0
    share: float = -1.0
    size: float = -1.0

    def is_beyond(self, other: Position) -> bool:
        """Return whether it is further in any of them."""
        ahead = self.per_cent > other.per_cent or self.share > other.share
        return ahead or self.size > other.size

    def furthest(self, other: Position) -> Position:
        """Return the larger of each."""
        return Position(
            max(self.per_cent, other.per_cent),
            max(self.share, other.share),
            max(self.size, other.size),
        )


NOWHERE = Position()


def position_in(text: str) -> Position:
    """Return how far a line says that something has come. The number of a retry is none: more of
    them are not more of the work."""
    if _AGAIN.search(text):
        return NOWHERE
    shares = [_bytes(n, unit) / whole for n, unit, m, of in _OF.findall(text)
              if (whole := _bytes(m, of)) > 1 and _bytes(n, unit) <= whole]  # fmt: skip
    return Position(
        max(map(float, _PER_CENT.findall(text)), default=-1.0),
        max(shares, default=-1.0),
        max((_bytes(n, unit) for n, unit in _BYTES.findall(text)), default=-1.0),
    )


def _bytes(number: str, unit: str) -> float:
    return float(number.replace(",", ".")) * _UNITS[unit]


def substance(text: str) -> str:
    """Return the words of a line, without numbers, ids and signs: what lines that repeat each other
    have in common."""
    for ids in (_UUID, _HEX, _RANDOM):
        text = ids.sub(" ", text)
    return _NO_WORDS.sub(" ", text).strip().casefold()


class News:
    """What one log has said, from its first line on."""

    def __init__(self) -> None:
        self._furthest: dict[str, Position] = {}  # by substance
        self._plain: dict[str, None] = {}  # known lines without digits, that say nothing of how far
        self._bars: dict[tuple[str, str], object] = {}

    def is_in_line(self, text: str) -> bool:
        """Return whether this line says something that none before it said."""
        without_digits = text.translate(_NO_DIGITS)
        if without_digits in self._plain:  # of a flood all but the first, and fast
            return False
        words, position = substance(text), position_in(text)
        known = self._furthest.pop(words, None)
        _keep(self._furthest, words, position.furthest(known or NOWHERE))
        if position == NOWHERE:
            _keep(self._plain, without_digits, None)
        return bool(words) if known is None else position.is_beyond(known)

    def is_in_bar(self, label: str, position: str) -> bool:
        """Return whether this bar stands elsewhere than when it was last drawn. Bars of one label
        that end elsewhere are different ones, so that a redraw of two in turns moves neither."""
        return self._has_moved(substance(label), position.partition("/")[2], position)

    def is_in_drawn(self, text: str) -> bool:
        """Return whether text that is drawn over, in no form that is known, has moved: like a line,
        but that it may begin again from nothing, as a bar does for the next picture."""
        position = position_in(text)
        if position == NOWHERE:
            return self.is_in_line(text)
        return self._has_moved(substance(text), "", position)

    def _has_moved(self, label: str, end: str, position: object) -> bool:
        moved = self._bars.pop((label, end), None) != position
        _keep(self._bars, (label, end), position)
        return moved


def _keep(known: dict[K, V], key: K, value: V) -> None:
    """Keep a value as the newest; drop the oldest where there is no more room."""
    if len(known) >= _MOST:
        del known[next(iter(known))]
    known[key] = value


# Processor seconds between two samples that are work and not the idling of a server's threads.
_WORK_CPU_SECONDS = 0.2
_WORK_IO_BYTES = 1 << 20


@dataclass(frozen=True)
class Sample:
    """What was measured of a running call at one moment.

    `at`: seconds on the monotonic clock. `position`: whatever of /progress changes when the
    generation moves (job, job_no, step, progress), None where no reply came. `unanswered`: how the
    probe failed, '' where it was answered, with whatever status. `stepless`: no steps
    are expected now. `log_activity`: a count that grows with each line and each bar frame.
    `cpu`, `io`: processor seconds and bytes of the whole tree so far.
    """

    at: float
    position: tuple[object, ...] | None
    stepless: bool
    log_activity: int
    cpu: float
    io: int
    unanswered: str = ""


@dataclass(frozen=True)
class Limits:
    """Limits in seconds: without progress; in one stepless phase; for the whole call; for an answer
    to one question about its progress."""

    stall: float
    stepless: float
    call: float
    answer: float = 5.0


class ProgressWatch:
    """Follows one call from its start. `probes`: whether the WebUI has answered since the call last
    made progress."""

    def __init__(self, began: float, limits: Limits) -> None:
        self._began = began
        self._limits = limits
        self._moved = began
        self._stepless_since = began
        self._last: Sample | None = None
        self.probes = Probes()

    def add(self, sample: Sample) -> str:
        """Add a sample; return why the call is stuck, in words, or ''."""
        last = self._last
        if last is not None and sample.position is None:  # unanswered is not yet moved
            sample = replace(sample, position=last.position)
        self._last = sample
        if not sample.stepless:
            self._stepless_since = sample.at
        if last is None or _moved(last, sample):
            self._moved = sample.at
            self.probes = Probes()
        else:
            self._count(sample)
        limits = self._limits
        if sample.at >= self._began + limits.call:
            return f"the call took longer than its limit of {limits.call:g} s"
        if sample.at >= self._stepless_since + limits.stepless:
            return f"the WebUI made no step for {limits.stepless:g} s, the limit for loading"
        if sample.at >= self._moved + limits.stall:
            return f"the WebUI made no progress for {limits.stall:g} s"
        return ""

    def _count(self, sample: Sample) -> None:
        seen = self.probes
        self.probes = Probes(
            seen.answered + (not sample.unanswered),
            seen.unanswered + bool(sample.unanswered),
            round(sample.at - self._moved, 1),
            sample.unanswered or seen.last,
        )

    @property
    def due(self) -> float:
        """Return when the call will be stuck without progress, in seconds on the samples' clock."""
        limits = self._limits
        return min(
            self._began + limits.call,
            self._stepless_since + limits.stepless,
            self._moved + limits.stall,
        )


def _moved(last: Sample, now: Sample) -> bool:
    if now.position != last.position or now.log_activity != last.log_activity:
        return True
    worked = now.cpu - last.cpu >= _WORK_CPU_SECONDS or now.io - last.io >= _WORK_IO_BYTES
    return now.stepless and worked

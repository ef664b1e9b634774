"""When a job may start: from a time on, and in windows of the local day. Pure.

Local time is a function: `offset(instant)` returns the seconds by which local time is ahead of UTC
at that instant. A window is the time between two instants, not a comparison of clock readings, so
it neither flickers nor closes twice where a clock is set back. A time that a change to summer time
skips is the moment of the change. Of one that comes twice the first is meant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

Offset = Callable[[float], float]
"""Seconds that local time is ahead of UTC, by the instant (seconds since 1970)."""

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_DAY = 24 * 60
WINDOW = re.compile(
    r"([A-Za-z][-A-Za-z, ]*\s)?([0-9]{1,2}):([0-9]{2})\s*-\s*([0-9]{1,2}):([0-9]{2})"
)
TIME = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[ Tt]\s*(?P<time>[0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?))?"
    r"\s*(?P<zone>[Zz]|[-+][0-9]{2}:?[0-9]{2})?"
)
_YEARS = range(1971, 2500)
_SEARCHED = 16
"""Days: a window of one weekday is found in them, also if a change of the clocks swallows one."""


class TimeField(StrEnum):
    """Why a job waits for a time; the names of its fields."""

    NOT_BEFORE = "not_before"
    ONLY = "only"


@dataclass(frozen=True)
class Waits:
    """Until when (seconds since 1970) a job waits, and by which field."""

    until: float
    field: TimeField


@dataclass(frozen=True)
class Window:
    """A part of the day. `start`, `end`: minutes since midnight, local; an end that is not after
    the start is on the next day. `days`: of the start, Monday is 0."""

    start: int
    end: int
    days: frozenset[int] = frozenset(range(7))

    def on(self, day: date, offset: Offset) -> tuple[float, float]:
        """Return the instants at which the window of this day opens and closes."""
        midnight = datetime(day.year, day.month, day.day)
        end = self.end if self.end > self.start else self.end + _DAY
        opens, closes = (midnight + timedelta(minutes=each) for each in (self.start, end))
        return instant_of(opens, offset), instant_of(closes, offset)


@dataclass(frozen=True)
class When:
    """When a job may start. `not_before`: local time where it has no zone; `only`: its windows, ()
    for any time."""

    not_before: datetime | None = None
    only: tuple[Window, ...] = ()

    def waits(self, now: float, offset: Offset) -> Waits | None:
        """Return what a job waits for at this instant, None where it may start."""
        start, why = now, TimeField.ONLY
        if self.not_before is not None and (at := instant_of(self.not_before, offset)) > now:
            start, why = at, TimeField.NOT_BEFORE
        opens = next_opening(self.only, start, offset)
        if opens > start:
            return Waits(opens, TimeField.ONLY)
        return Waits(start, why) if start > now else None


ANY_TIME = When()


def next_opening(windows: Sequence[Window], instant: float, offset: Offset) -> float:
    """Return the first instant, this one or later, that is in one of the windows; this one
    without windows."""
    if not windows:
        return instant
    today = local(instant, offset).date()
    days = [today + timedelta(days=number) for number in range(-1, _SEARCHED)]
    near = (w.on(day, offset) for day in days for w in windows if day.weekday() in w.days)
    fit = (opens for opens, closes in near if opens < closes and instant < closes)
    return max(instant, min(fit))


# -- local time


def local(instant: float, offset: Offset) -> datetime:
    """Return what a local clock shows at an instant."""
    return _EPOCH + timedelta(seconds=instant + offset(instant))


def instant_of(time: datetime, offset: Offset) -> float:
    """Return the instant of a time; local where it has no zone."""
    if time.tzinfo is not None:
        return time.timestamp()
    as_utc = (time - _EPOCH).total_seconds()
    # No zone is a day or more from UTC, so these are the offsets before and after any change.
    offsets = {offset(as_utc - _A_DAY), offset(as_utc + _A_DAY)}
    meant = [as_utc - each for each in offsets if offset(as_utc - each) == each]
    if meant:
        return min(meant)
    return _change(as_utc - max(offsets), as_utc - min(offsets), offset)


def _change(before: float, after: float, offset: Offset) -> float:
    """Return the instant between these two at which the clocks change, to the second."""
    old = offset(before)
    while after - before > 1:
        middle = (before + after) // 2
        before, after = (middle, after) if offset(middle) == old else (before, middle)
    return after


_EPOCH = datetime(1970, 1, 1)
_A_DAY = 86400.0


# -- as people write it


def parse_window(text: str) -> Window:
    """Return a window such as `22:00-07:00` or `mon-fri 22:00-07:00`. Raises ValueError."""
    found = WINDOW.fullmatch(text.strip())
    if found is None:
        raise ValueError(text)
    days, *times = found.groups()
    start, end = _minutes(*times[:2]), _minutes(*times[2:])
    if start in (_DAY, end):
        raise ValueError(text)
    return Window(start, end, _days(days.strip()) if days else frozenset(range(7)))


def _minutes(hours: str, minutes: str) -> int:
    at = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or at > _DAY:
        raise ValueError(f"{hours}:{minutes}")
    return at


def _days(text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in re.split(r"\s*,\s*", text):
        first, dash, last = (each.strip() for each in part.partition("-"))
        start, end = _weekday(first), _weekday(last if dash else first)
        days |= {(start + i) % 7 for i in range((end - start) % 7 + 1)}
    return frozenset(days)


_FULL = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def _weekday(name: str) -> int:
    low = name.lower()
    return DAYS.index(low) if low in DAYS else _FULL.index(low)  # ValueError for any other


def parse_time(text: str) -> datetime:
    """Return a time such as `2026-12-01 22:00`, `2026-12-01` (its midnight), or with a zone
    `2026-12-01T22:00:00Z` or `… 22:00 +01:00`. Raises ValueError."""
    found = TIME.fullmatch(text.strip())
    if found is None:
        raise ValueError(text)
    hours, _, rest = (found["time"] or "00:00").partition(":")
    zone = "+00:00" if found["zone"] in ("Z", "z") else found["zone"] or ""
    made = datetime.fromisoformat(f"{found['day']}T{hours:0>2}:{rest}{zone}")
    if made.year not in _YEARS:
        raise ValueError(text)
    return made


def waits_in_words(waits: Waits, now: float, offset: Offset) -> str:
    """Return what a job waits for, for people: `waits until 22:00: only`."""
    at = local(waits.until, offset)
    soon = waits.until - now < _A_DAY
    seconds = ":%S" if at.second else ""
    shown = at.strftime(f"%H:%M{seconds}" if soon else f"%Y-%m-%d %H:%M{seconds}")
    return f"waits until {shown}: {waits.field}"

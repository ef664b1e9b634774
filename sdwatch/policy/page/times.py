"""Times and durations in words. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def duration(seconds: float) -> str:
    """Return `40 s`, `12 min`, `1 h 05 min`, `3 days`."""
    whole = max(0, round(seconds))
    if whole < 100:
        return f"{whole} s"
    if whole < 100 * _MINUTE:
        return f"{round(whole / _MINUTE)} min"
    if whole < 2 * _DAY:
        hours, minutes = divmod(round(whole / _MINUTE), 60)
        return f"{hours} h {minutes:02} min"
    return f"{round(whole / _DAY)} days"


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def clock_time(wall: float, offset: int, now: float, *, seconds: bool = False) -> str:
    """Return `03:12`, with the date before it if that is not the day of `now`: `24 Nov 03:12`.
    `offset`: seconds by which the reader's clocks are ahead of UTC; `seconds`: `03:12:45`."""
    at, today = _local(wall, offset), _local(now, offset)
    shown = at.strftime("%H:%M:%S" if seconds else "%H:%M")
    if at.date() == today.date():
        return shown
    if at.year == today.year:
        return f"{at.day} {_MONTHS[at.month - 1]} {shown}"
    return f"{at:%Y-%m-%d} {shown}"


def zone(offset: int) -> str:
    """Return `UTC+1`, `UTC-3:30`, `UTC`."""
    hours, minutes = divmod(abs(offset) // _MINUTE, 60)
    sign = "-" if offset < 0 else "+"
    if not offset:
        return "UTC"
    return f"UTC{sign}{hours}:{minutes:02}" if minutes else f"UTC{sign}{hours}"


def iso(wall: float) -> str:
    """Return a time as the journal has it; the nearest one that has a date there."""
    at = _in_utc(wall)
    return at.isoformat(timespec="milliseconds")[:-6] + "Z"


def wall_of(text: object) -> float | None:
    """Return the time of a text in that form; None for anything else."""
    try:
        at = datetime.fromisoformat(text) if isinstance(text, str) else None
        return at.timestamp() if at is not None and at.tzinfo is not None else None
    except (ValueError, OverflowError, OSError):
        return None


def _local(wall: float, offset: int) -> datetime:
    return _in_utc(wall).astimezone(timezone(timedelta(seconds=offset)))


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


_FIRST, _LAST = 86_400.0, 253_370_764_800.0  # the second day, and the start of the year 9999


def _in_utc(wall: float) -> datetime:
    """Return the nearest time that has a date in every zone and on every system. A disk may give a
    file any mtime, and a journal or a WebUI may name any time: no page must break on it."""
    # datetime.fromtimestamp knows no year after 3000 on Windows.
    return _EPOCH + timedelta(seconds=min(max(_FIRST, wall), _LAST))

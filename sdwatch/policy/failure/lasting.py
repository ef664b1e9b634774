"""Report a lasting state (a full disk, a missing share) once, then at growing intervals, and when
it ends; or what comes and goes, once while it does. Pure: the caller passes the time,
in seconds on a monotonic clock."""

from __future__ import annotations

from collections.abc import Container, Hashable
from dataclasses import dataclass

FIRST = 60.0
"""Seconds until it is reported again; they double each time."""

LONGEST = 3600.0


@dataclass
class _State:
    key: Hashable
    since: float
    again_at: float
    pause: float = FIRST


class LastingStates:
    """Lasting states by the name of a run or a lane. For one thread."""

    def __init__(self) -> None:
        self._states: dict[str, _State] = {}

    def is_on(self, name: str) -> bool:
        """Return whether the state lasts."""
        return name in self._states

    def lasts(self, name: str, seconds: float, now: float) -> bool:
        """Return whether the state has lasted for so many seconds."""
        state = self._states.get(name)
        return state is not None and now - state.since >= seconds

    def persists(self, name: str, key: Hashable, what: str, now: float) -> str:
        """Note that the state lasts; return the line to report now, made from `what`, or ''. `key`:
        identifies the reason."""
        state = self._states.get(name)
        if state is None:
            self._states[name] = _State(key, now, now + FIRST)
            return what
        other, state.key = state.key != key, key
        if other:
            return what
        if now < state.again_at:
            return ""
        state.pause = min(LONGEST, 2 * state.pause)
        state.again_at = now + state.pause
        return f"still, after {in_words(now - state.since)}: {what}"

    def is_over(self, name: str, now: float) -> str:
        """Note that the state has ended; return how long it lasted, in words, or ''."""
        state = self._states.pop(name, None)
        return "" if state is None else in_words(now - state.since)


class Recurring:
    """What comes and goes, by its name: it is over when it was away for FIRST. For one thread."""

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}  # when it was seen last

    def is_new(self, name: str, now: float) -> bool:
        """Note that it is there; return whether it was not before, or is over since then."""
        is_new = name not in self._seen
        self._seen[name] = now
        return is_new

    def forget(self, now: float, but: Container[str] = ()) -> None:
        """Forget what is over. `but`: what is there, although it was not noted."""
        self._seen = {
            name: seen for name, seen in self._seen.items() if now - seen < FIRST or name in but
        }


def key_of(error: Exception) -> Hashable:
    """Return what identifies an error that lasts."""
    return type(error).__name__, getattr(error, "errno", None)


def in_words(seconds: float) -> str:
    """Return a duration in words: 40 s, 5 min, 2 h 10 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    if not hours:
        return f"{minutes} min"
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"

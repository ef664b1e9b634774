"""A state that lasts (a full disk, a share that is gone) is reported once, then at growing
intervals, and at its end. Pure: time comes in, in seconds on a monotonic clock."""

from __future__ import annotations

from dataclasses import dataclass

from sdwatch.policy.alike import without_numbers

FIRST = 60.0
"""Seconds after which it is reported again; twice as many each time after that."""

LONGEST = 3600.0


@dataclass
class _State:
    what: str
    since: float
    again_at: float
    pause: float = FIRST


class Lasting:
    """States by their name: of a run, of a lane. For one thread."""

    def __init__(self) -> None:
        self._states: dict[str, _State] = {}

    def is_on(self, name: str) -> bool:
        """Whether it lasts."""
        return name in self._states

    def goes_on(self, name: str, what: str, now: float) -> str:
        """It is so, for the reason `what`: the line to report now, or ''. Another number in the
        reason is no other reason."""
        state = self._states.get(name)
        if state is None:
            self._states[name] = _State(what, now, now + FIRST)
            return what
        other = without_numbers(state.what) != without_numbers(what)
        state.what = what
        if other:
            return what
        if now < state.again_at:
            return ""
        state.pause = min(LONGEST, 2 * state.pause)
        state.again_at = now + state.pause
        return f"still, after {in_words(now - state.since)}: {what}"

    def is_over(self, name: str, now: float) -> str:
        """It is not so any more: how long it lasted, in words; '' where it was not so before."""
        state = self._states.pop(name, None)
        return "" if state is None else in_words(now - state.since)


def in_words(seconds: float) -> str:
    """A duration: 40 s, 5 min, 2 h 10 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    if not hours:
        return f"{minutes} min"
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"

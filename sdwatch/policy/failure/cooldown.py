"""How long is waited where nothing crashed, and what a wait is measured by. Pure.

After a crash the cool-down is waited out: see History in policy/lane/crashes.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sdwatch.policy.failure.hold_reason import Cure

STABLE_AFTER = 3
"""So many consecutive successful calls end a row of crashes. Idle time never does."""


@dataclass(frozen=True)
class Instant:
    """A moment on both clocks: seconds since 1970, seconds since boot, and which boot it was."""

    wall: float
    boot: float
    boot_id: str


_ASKED_AGAIN = (2.0, 5.0, 10.0, 20.0, 30.0)

_SOON = 60.0


def asked_again_after(number: int) -> float:
    """Return the seconds until an unusable WebUI is checked or started again, after it was found
    unusable n times in a row (n from 1). There was no crash, so there is no cool-down: whoever
    fixes it should not have to wait."""
    return _ASKED_AGAIN[min(number, len(_ASKED_AGAIN)) - 1]


_SENT_AGAIN = (2.0, 600.0, 3600.0, 86400.0)


def sent_again_after(number: int) -> float:
    """Return the seconds until a WebUI is tested again whose calls showed it to be unusable n times
    in a row (n from 1), although it passed its self-test in between. A call may be sent five times
    (SENT_AT_MOST): the next morning it must not have failed."""
    return _SENT_AGAIN[min(number, len(_SENT_AGAIN)) - 1]


def is_waited_for(
    cure: Cure, crashes_in_a_row: int, held_for: float, cooldown: Sequence[float]
) -> bool:
    """Return whether `run --once` waits for a hold to end: if a restart may cure it, until the list
    is exhausted; if time may, for the sum of the list plus a minute. `held_for`: seconds."""
    if cure is Cure.RESTART:
        return crashes_in_a_row <= len(cooldown)
    return cure is Cure.TIME and held_for <= sum(cooldown) + _SOON

"""The cool-down: how long nothing is started or sent after a crash.

A function of the crash history and of nothing else: no jitter, so the same history gives the same
waiting (promise 6). Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sdwatch.policy.failure.hold_reason import Cure

STABLE_AFTER = 3
"""So many consecutive successful calls end a row of crashes. Idle time never does."""


@dataclass(frozen=True)
class Instant:
    """A moment on both clocks: seconds since 1970, seconds since boot, and which boot it was."""

    wall: float
    boot: float
    boot_id: str


@dataclass(frozen=True)
class Crash:
    """One crash in the history. `kind`: what it was, such as a failed canary. `runs`: the different
    jobs in a row that crashed the WebUI, for a crash that stands for all of them."""

    kind: str
    at: Instant
    runs: tuple[str, ...] = ()


def delay_after(number: int, cooldown: Sequence[float]) -> float:
    """Return the wait after the n-th consecutive crash (n from 1), in seconds; the last one
    repeats."""
    return cooldown[min(number, len(cooldown)) - 1]


def entry_of(crashes: Sequence[Crash], cooldown: Sequence[float]) -> float:
    """Return the wait after the last of `crashes` (consecutive), in seconds: the longest where it
    stands for several jobs."""
    return cooldown[-1] if crashes[-1].runs else delay_after(len(crashes), cooldown)


def remaining(crashes: Sequence[Crash], cooldown: Sequence[float], now: Instant) -> float:
    """Return the seconds still to wait after the last of `crashes` (consecutive, oldest first).

    Within one boot the boot clock counts, which nobody can set. After a reboot only the wall
    clock is left, and it may be wrong: what it says is clamped to [0, entry].
    """
    if not crashes:
        return 0.0
    last = crashes[-1].at
    entry = entry_of(crashes, cooldown)
    same_boot = now.boot_id == last.boot_id
    passed = now.boot - last.boot if same_boot else now.wall - last.wall
    return min(max(entry - passed, 0.0), entry)


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


def on_this_boot(crashes: Sequence[Crash], cooldown: Sequence[float], now: Instant) -> list[Crash]:
    """Return the crashes for a monitor that starts now: the rest of a cool-down from before a
    reboot is computed once from the wall clock, and runs on the boot clock from then on."""
    if not crashes or crashes[-1].at.boot_id == now.boot_id:
        return list(crashes)
    passed = entry_of(crashes, cooldown) - remaining(crashes, cooldown, now)
    at = Instant(now.wall - passed, now.boot - passed, now.boot_id)
    return [*crashes[:-1], replace(crashes[-1], at=at)]

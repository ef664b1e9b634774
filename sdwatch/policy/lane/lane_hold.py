"""The hold of one lane as a value: why nothing is sent to its WebUI, what releases it, and when its
WebUI is checked again. Pure.

Its waits are not the cool-down, which follows a crash (crash_history.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sdwatch.policy.failure.facts import Diagnosis
from sdwatch.policy.failure.hold_reason import Cure, HoldReason
from sdwatch.policy.lane.instant import Instant

_MOST_KEPT = 5

UNTIL_IDLE = math.inf
"""For `still_counts_for`: a generation without progress counts as busy forever."""

_ASKED_AGAIN = (2.0, 5.0, 10.0, 20.0, 30.0)


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


_SOON = 60.0


def is_waited_for(
    cure: Cure, crashes_in_a_row: int, held_for: float, cooldown: Sequence[float]
) -> bool:
    """Return whether `run --once` waits for a hold to end: if a restart may cure it, until the list
    is exhausted; if time may, for the sum of the list plus a minute. `held_for`: seconds."""
    if cure is Cure.RESTART:
        return crashes_in_a_row <= len(cooldown)
    return cure is Cure.TIME and held_for <= sum(cooldown) + _SOON


@dataclass(frozen=True)
class CrashSeen:
    """A crash, as a hold's history has it. `why`: what was seen, in words; `wait`: the cool-down
    after it, in seconds. `run`: whose call it was, '' without one; it may have been named after its
    prompt, and is never redacted."""

    diagnosis: Diagnosis
    why: str = ""
    wait: float = 0.0
    run: str = ""


@dataclass(frozen=True)
class Tried:
    """One attempt, and when (on the wall clock)."""

    at: float
    what: HoldReason | CrashSeen


@dataclass(frozen=True)
class HoldState:
    """`reason`: why the lane is on hold, None without a hold. `has_printed`: the WebUI printed
    something about it. `since`: on the wall clock, 0 without a hold. `still_counts_for`: seconds
    for which a generation without progress counts as busy. `needs_self_test`: a call found what no
    probe can see. `in_a_row`: holds since a call succeeded; `by_calls`: those of them that a call
    caused, although a self-test had passed since the one before. `tried`: the last attempts since
    then; `before`: how many more."""

    reason: HoldReason | None = None
    has_printed: bool = True
    since: float = 0.0
    still_counts_for: float = 0.0
    needs_self_test: bool = False
    in_a_row: int = 0
    by_calls: int = 0
    started_as: HoldReason | None = None
    tried: tuple[Tried, ...] = ()
    before: int = 0

    def start(
        self,
        reason: HoldReason,
        now: Instant,
        *,
        still_counts_for: float = 0.0,
        needs_self_test: bool = False,
        by_call: bool = False,
    ) -> HoldState:
        """Start a hold that a call or a probe has caused."""
        started = replace(
            self,
            in_a_row=self.in_a_row + 1,
            by_calls=self.by_calls + by_call,
            still_counts_for=still_counts_for,
            needs_self_test=needs_self_test,
            started_as=reason,
        )
        return started.update(reason, now, retried=True)

    def update(
        self, reason: HoldReason, now: Instant, *, retried: bool = False, has_printed: bool = True
    ) -> HoldState:
        """Set the reason. `retried`: something was tried again, so it is recorded although the
        reason may be the same."""
        is_new = retried or self.reason is None or reason.key != self.reason.key
        changed = self.record(reason, now) if is_new else self
        return replace(
            changed, reason=reason, has_printed=has_printed, since=changed.since or now.wall
        )

    def record(self, what: HoldReason | CrashSeen, now: Instant) -> HoldState:
        """Record an event: if a hold follows, it is part of its history."""
        tried = (*self.tried, Tried(now.wall, what))
        dropped = max(0, len(tried) - _MOST_KEPT)
        return replace(self, tried=tried[-_MOST_KEPT:], before=self.before + dropped)

    def restore(self, now: Instant) -> HoldState:
        """Set the reason that the hold started with: it still applies."""
        reason = self.started_as or self.reason
        return self if reason is None else self.update(reason, now)

    def release(self) -> HoldState:
        """Release it because a person has fixed the cause: a probe is enough, and no self-test is
        due."""
        return replace(self, still_counts_for=0.0, needs_self_test=False)

    def clear(self) -> HoldState:
        """End the hold: the lane resumes."""
        return HoldState(
            in_a_row=self.in_a_row, by_calls=self.by_calls, tried=self.tried, before=self.before
        )

    def succeeded(self) -> HoldState:
        """Forget earlier holds: a call succeeded."""
        return replace(self, in_a_row=0, by_calls=0, tried=(), before=0)

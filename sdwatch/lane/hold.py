"""The hold of one lane: why nothing is sent to its WebUI, and what releases it."""

from __future__ import annotations

from sdwatch.policy.failure.hold_reason import Held, HoldReason
from sdwatch.system.clock import Clock, iso

_MOST_KEPT = 5


class Hold:
    """`held` is None without a hold. Written by whoever has the WebUI's permit. It is replaced as a
    whole, so other threads may read it at any time."""

    def __init__(self, clock: Clock) -> None:
        self.held: Held | None = None
        self.since = 0.0  # on the wall clock; 0 while there is none
        self.still_counts_for = (
            0.0  # seconds for which a generation without progress counts as busy
        )
        self.needs_self_test = False  # a call found what no probe can see
        self._in_a_row = 0
        self._started_as: HoldReason | None = None
        self._tried: tuple[tuple[str, str], ...] = ()  # since a call succeeded; the last of them
        self._before = 0  # so many more
        self._clock = clock

    @property
    def reason(self) -> str:
        """Return the cause, or ''."""
        held = self.held
        return held.hold_reason.cause if held else ""

    def start(
        self,
        hold_reason: HoldReason,
        *,
        still_counts_for: float = 0.0,
        needs_self_test: bool = False,
    ) -> int:
        """Start a hold that a call or a probe has caused. Return how many there were in a row.
        `still_counts_for`: seconds for which a generation without progress keeps the WebUI busy."""
        self._in_a_row += 1
        self.still_counts_for = still_counts_for
        self.needs_self_test = needs_self_test
        self._started_as = hold_reason
        self.update(hold_reason, retried=True)
        return self._in_a_row

    def update(self, hold_reason: HoldReason, *, retried: bool = False) -> None:
        """Set the reason. `retried`: something was tried again, so it is recorded although the
        reason may be the same."""
        now = self._clock.wall()
        self.since = self.since or now
        if retried or self.held is None or hold_reason.key != self.held.hold_reason.key:
            self.record(hold_reason.cause)
        self.held = Held(hold_reason, iso(self.since), self._tried, self._before)

    def record(self, what: str) -> None:
        """Record an event: if a hold follows, it is part of its history."""
        tried = (*self._tried, (iso(self._clock.wall()), what))
        self._before += max(0, len(tried) - _MOST_KEPT)
        self._tried = tried[-_MOST_KEPT:]

    def restore(self) -> None:
        """Set the reason that the hold started with: it still applies."""
        if hold_reason := self._started_as or (self.held and self.held.hold_reason):
            self.update(hold_reason)

    def release(self) -> None:
        """Release it because a person has fixed the cause: a probe is enough, and no self-test is
        due."""
        self.still_counts_for, self.needs_self_test = 0.0, False

    def clear(self) -> None:
        """End the hold: the lane resumes."""
        self.held, self.since, self._started_as = None, 0.0, None
        self.still_counts_for, self.needs_self_test = 0.0, False

    def succeeded(self) -> None:
        """Forget earlier holds: a call succeeded."""
        self._in_a_row = 0
        self._tried, self._before = (), 0

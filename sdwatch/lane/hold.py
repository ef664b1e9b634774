"""The hold of one lane: why nothing is sent to its WebUI, and what it takes to go on."""

from __future__ import annotations

from sdwatch.policy.failure.hold_reason import Held, HoldReason
from sdwatch.system.clock import Clock, iso

_MOST_KEPT = 5


class Hold:
    """`held` is None while there is none. Written by whoever has the WebUI's permit; what is held
    is replaced as a whole, so that others may read it meanwhile."""

    def __init__(self, clock: Clock) -> None:
        self.held: Held | None = None
        self.since = 0.0  # on the wall clock; 0 while there is none
        self.still_counts_for = 0.0  # seconds for which a generation that stands still holds it
        self.needs_self_test = False  # a call found what no probe can see, so a canary must pass
        self._in_a_row = 0
        self._started_as: HoldReason | None = None
        self._tried: tuple[tuple[str, str], ...] = ()  # since a call succeeded; the last of them
        self._before = 0  # so many more
        self._clock = clock

    @property
    def reason(self) -> str:
        """Its cause, or ''."""
        held = self.held
        return held.hold_reason.cause if held else ""

    def start(
        self,
        hold_reason: HoldReason,
        *,
        still_counts_for: float = 0.0,
        needs_self_test: bool = False,
    ) -> int:
        """A call, or a probe, found that it cannot be used: how often that was so in a row."""
        self._in_a_row += 1
        self.still_counts_for = still_counts_for
        self.needs_self_test = needs_self_test
        self._started_as = hold_reason
        self.update(hold_reason, retried=True)
        return self._in_a_row

    def update(self, hold_reason: HoldReason, *, retried: bool = False) -> None:
        """On hold for this reason, by itself or instead of another. `anew`: something was tried
        again, and it is to be told although the reason may be the same."""
        now = self._clock.wall()
        self.since = self.since or now
        if retried or self.held is None or hold_reason.key != self.held.hold_reason.key:
            self.record(hold_reason.cause)
        self.held = Held(hold_reason, iso(self.since), self._tried, self._before)

    def record(self, what: str) -> None:
        """It happened: should it come to a hold, its story begins here."""
        tried = (*self._tried, (iso(self._clock.wall()), what))
        self._before += max(0, len(tried) - _MOST_KEPT)
        self._tried = tried[-_MOST_KEPT:]

    def restore(self) -> None:
        """What it began for is still so, whatever was said since."""
        if hold_reason := self._started_as or (self.held and self.held.hold_reason):
            self.update(hold_reason)

    def release(self) -> None:
        """A person says that it is to go on, and has seen to it: a probe is enough."""
        self.still_counts_for, self.needs_self_test = 0.0, False

    def clear(self) -> None:
        """It goes on."""
        self.held, self.since, self._started_as = None, 0.0, None
        self.still_counts_for, self.needs_self_test = 0.0, False

    def succeeded(self) -> None:
        """A call succeeded: the next hold is the first of its row."""
        self._in_a_row = 0
        self._tried, self._before = (), 0

"""How often there may be a message of one kind. Pure: times are seconds on a monotonic clock."""

from __future__ import annotations

from dataclasses import dataclass, replace

MINUTE, HOUR = 60.0, 3600.0


@dataclass(frozen=True)
class Pacing:
    """The seconds between messages. `settle`: how long something must last until there is a
    message; `gaps`: the least pauses after the first, second ... message in a row, the last of them
    from then on; `calm`: after so long without a message they start again with the first."""

    settle: float
    gaps: tuple[float, ...]
    calm: float = 8 * HOUR


@dataclass(frozen=True)
class Pace:
    """How many messages of one kind there were in a row, and when the last one was."""

    messages: int = 0
    last: float = 0.0

    def earliest(self, pacing: Pacing) -> float:
        """Return when the next one may be sent."""
        if not self.messages:
            return -float("inf")
        return self.last + pacing.gaps[min(self.messages, len(pacing.gaps)) - 1]

    def sent(self, pacing: Pacing, now: float) -> Pace:
        """Return it after one more message."""
        calm = self.messages and now - self.last >= pacing.calm
        return replace(self, messages=1 if calm else self.messages + 1, last=now)


NEVER = Pace()


@dataclass(frozen=True)
class Paces:
    """The pacing of each kind of message. Back again keeps the pace of its lane's holds."""

    failed: Pacing = Pacing(15.0, (10 * MINUTE, HOUR, 3 * HOUR))
    hold: Pacing = Pacing(15.0, (5 * MINUTE, 30 * MINUTE, 2 * HOUR))
    empty: Pacing = Pacing(MINUTE, (5 * MINUTE, 15 * MINUTE, HOUR))

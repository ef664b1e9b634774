"""Decide when there is a message, from what happened and when: one for a bad night, not hundreds.

Pure. `take` notes an event, `message_at` says which message is due, `sent` notes that it arrived:
until then nothing of it is forgotten. What changes back before its message is due needs none. All
times are seconds on a monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from sdwatch.policy.notify.message import (
    MOST_NAMED,
    NONE,
    Counts,
    LaneBack,
    LaneHold,
    Message,
)
from sdwatch.policy.report.notice import Notice, Topic

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


@dataclass(frozen=True)
class _Lane:
    """A lane, or `everything`. `changed`: when it last came on hold or back; `held_since`: when the
    hold started that people know of; `known`: whether they know that it is on hold; `times`: how
    often it came on hold since the last message about it."""

    on_hold: bool = False
    text: str = ""
    changed: float = 0.0
    held_since: float = 0.0
    known: bool = False
    times: int = 0
    pace: Pace = NEVER


@dataclass(frozen=True)
class Pending:
    """What people do not know yet. `failures`: new ones; those in `named` will be shown;
    `failed_at`: the first of them; `empty_since`: None while there is work."""

    counts: Counts = NONE
    failures: int = 0
    named: tuple[Notice, ...] = ()
    failed_at: float = 0.0
    failed_pace: Pace = NEVER
    empty_since: float | None = None
    empty_pace: Pace = NEVER
    lanes: Mapping[str, _Lane] = field(default_factory=dict)


def take(pending: Pending, notice: Notice, now: float) -> Pending:
    """Return what is pending after this happened."""
    counts = pending.counts
    match notice.topic:
        case Topic.DONE:
            return replace(pending, counts=replace(counts, done=counts.done + 1))
        case Topic.CANCELLED:
            return replace(pending, counts=replace(counts, cancelled=counts.cancelled + 1))
        case Topic.FAILED:
            return replace(
                pending,
                counts=replace(counts, failed=counts.failed + 1),
                failures=pending.failures + 1,
                named=(*pending.named, notice)[:MOST_NAMED],
                failed_at=pending.failed_at if pending.failures else now,
            )
        case Topic.ON_HOLD | Topic.RESUMED:
            lane = pending.lanes.get(notice.subject, _Lane())
            changed = _after(lane, notice, now)
            return replace(pending, lanes={**pending.lanes, notice.subject: changed})
        case Topic.QUEUE_EMPTY if pending.empty_since is None:
            return replace(pending, empty_since=now)
        case Topic.WORK_LEFT:
            return replace(pending, empty_since=None)
    return pending


def _after(lane: _Lane, notice: Notice, now: float) -> _Lane:
    on_hold = notice.topic is Topic.ON_HOLD
    if on_hold == lane.on_hold:
        return replace(lane, text=notice.text)  # on hold for another reason, or still
    since = now if on_hold and not lane.known else lane.held_since
    times = lane.times + on_hold
    text = notice.text
    return replace(lane, on_hold=on_hold, text=text, changed=now, held_since=since, times=times)


def due_at(pending: Pending, paces: Paces) -> float | None:
    """Return when the next message is due if nothing else happens; None for never."""
    return min(_due(pending, paces), default=None)


def _due(pending: Pending, paces: Paces) -> Iterator[float]:
    if pending.failures:
        settled = pending.failed_at + paces.failed.settle
        yield max(settled, pending.failed_pace.earliest(paces.failed))
    if pending.empty_since is not None and pending.counts:
        settled = pending.empty_since + paces.empty.settle
        yield max(settled, pending.empty_pace.earliest(paces.empty))
    for lane in pending.lanes.values():
        if lane.on_hold != lane.known:
            yield max(lane.changed + paces.hold.settle, lane.pace.earliest(paces.hold))


def message_at(
    pending: Pending, now: float, paces: Paces, *, stopping: bool = False
) -> Message | None:
    """Return the message that is due, with all that has settled; None for none. `stopping`: there
    is no later, so all that is pending is due."""
    due = due_at(pending, paces)
    if due is None or (now < due and not stopping):
        return None
    settled = [
        (name, lane)
        for name, lane in pending.lanes.items()
        if lane.on_hold != lane.known and (stopping or now >= lane.changed + paces.hold.settle)
    ]
    empty = pending.empty_since is not None and bool(pending.counts)
    return Message(
        pending.counts,
        pending.failures,
        pending.named,
        tuple(LaneHold(name, lane.text, lane.times) for name, lane in settled if lane.on_hold),
        tuple(
            LaneBack(name, lane.changed - lane.held_since)
            for name, lane in settled
            if not lane.on_hold
        ),
        empty and (stopping or now >= (pending.empty_since or 0.0) + paces.empty.settle),
    )


def sent(pending: Pending, message: Message, now: float, paces: Paces) -> Pending:
    """Return what is pending after a message arrived. Call it before `take` notes what happened
    since the message was made."""
    about = {hold.name for hold in message.holds} | {lane.name for lane in message.back}
    lanes = {
        name: _known(lane, now, paces) if name in about else lane
        for name, lane in pending.lanes.items()
    }
    after = replace(pending, lanes=lanes, failures=0, named=())
    if message.failures:
        after = replace(after, failed_pace=pending.failed_pace.sent(paces.failed, now))
    if message.emptied:
        after = replace(after, counts=NONE, empty_pace=pending.empty_pace.sent(paces.empty, now))
    return after


def _known(lane: _Lane, now: float, paces: Paces) -> _Lane:
    pace = lane.pace.sent(paces.hold, now)
    return replace(lane, known=lane.on_hold, times=0, pace=pace)

"""What the dispatcher does next about one run: a function of what is written down. Pure.

It is asked again after every change, after a restart too, and keeps no state of its own: the
run's journal in the shared spool says what was handed over and which lines came back, the log at
the broker says the rest. `handed_over` is in the journal before the epoch is granted, and
`taken_back` after the log says so: a run that may be on a box is never resumed here.

Besides: which messages for boxes are stuck or left over. A work queue can lose sight of a message:
it is in the stream, and no consumer is given it (nats-server#7680). The log decides what a message
is for, so a message may be removed and sent once more at any time: it only says to a box that it
should look at a log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from sdwatch.policy.cluster.entries import BoxEnd, Closed, Ended, TakenBack, TakenFor
from sdwatch.policy.cluster.run_log import Phase, RunLog
from sdwatch.policy.failure.ledger import HandedOver


@dataclass(frozen=True, slots=True)
class Wish:
    """What is wanted of the run. `box`: where it is to go, '' for nowhere; `wanted_back`: why it is
    not to stay there; `published`: it is in done/ or failed/."""

    box: str = ""
    wanted_back: TakenFor | None = None
    published: bool = False


@dataclass(frozen=True, slots=True)
class NoteHandedOver:
    """Write `handed_over` to the run's journal."""

    epoch: int
    box: str


@dataclass(frozen=True, slots=True)
class Grant:
    """Store the run's files, and append Granted."""

    epoch: int
    box: str


@dataclass(frozen=True, slots=True)
class Offer:
    """See to it that the message for the box is there."""

    epoch: int
    box: str


@dataclass(frozen=True, slots=True)
class NoteTakenBack:
    """Write `taken_back` to the run's journal. The run may go elsewhere."""

    epoch: int
    because: TakenFor


@dataclass(frozen=True, slots=True)
class Finish:
    """All that counts is here: publish the run."""

    ended: Ended


@dataclass(frozen=True, slots=True)
class Forget:
    """Remove the run's objects, its message, and all entries of its log but the last."""


@dataclass(frozen=True, slots=True)
class Wait:
    """There is nothing to do."""


DispatcherAction: TypeAlias = (
    NoteHandedOver | Grant | Offer | TakenBack | NoteTakenBack | Finish | Closed | Forget | Wait
)


def dispatcher_step(log: RunLog, journal: HandedOver, wish: Wish) -> DispatcherAction:
    """Return what to do next; an entry is to be appended. `journal`: what the run's journal in the
    shared spool says. Entries that count were applied to it before."""
    if wish.published:
        return _after_publication(log, journal)
    if not journal.is_out:
        if log.is_held:  # in an epoch that this journal does not know
            return TakenBack(log.epoch, TakenFor.LOG_LOST)
        if wish.box and wish.wanted_back is None:
            return NoteHandedOver(max(log.epoch, journal.epoch) + 1, wish.box)
        return Wait()
    if log.epoch < journal.epoch:
        return _not_granted(journal, wish)
    if log.epoch > journal.epoch:
        if log.is_held:
            return TakenBack(log.epoch, TakenFor.LOG_LOST)
        return NoteTakenBack(journal.epoch, TakenFor.LOG_LOST)
    return _with_the_box(log, journal, wish)


def _after_publication(log: RunLog, journal: HandedOver) -> DispatcherAction:
    if log.is_held:
        return TakenBack(log.epoch, TakenFor.CANCELLED)
    if log.phase is Phase.NONE and journal.epoch:  # a box may have a copy, and learns it from this
        return Closed(journal.epoch)
    return Closed(log.epoch) if log.phase in (Phase.ENDED, Phase.TAKEN_BACK) else Forget()


def _not_granted(journal: HandedOver, wish: Wish) -> DispatcherAction:
    """The epoch was not granted yet, or the broker has lost the log. Then a box that has the run
    may continue in the same epoch and stores its lines once more, unless some of them are here."""
    if wish.wanted_back is not None:
        return NoteTakenBack(journal.epoch, wish.wanted_back)
    if journal.lines:
        return NoteTakenBack(journal.epoch, TakenFor.LOG_LOST)
    return Grant(journal.epoch, journal.box)


def _with_the_box(log: RunLog, journal: HandedOver, wish: Wish) -> DispatcherAction:
    if log.phase is Phase.ENDED:
        assert log.ended is not None
        if log.ended.outcome is BoxEnd.REFUSED:
            return TakenBack(log.epoch, TakenFor.REFUSED)
        if log.ended.outcome is BoxEnd.GIVEN_BACK:
            return TakenBack(log.epoch, TakenFor.GIVEN_BACK)
        if journal.lines < log.lines:  # they count, and could not be read
            return TakenBack(log.epoch, TakenFor.LOG_LOST)
        return Finish(log.ended)
    if not log.is_held:
        return NoteTakenBack(log.epoch, log.taken_for or TakenFor.LOG_LOST)
    if wish.wanted_back is not None:
        return TakenBack(log.epoch, wish.wanted_back)
    return Offer(log.epoch, log.box) if log.phase is Phase.GRANTED else Wait()


# -- messages for boxes


@dataclass(frozen=True, slots=True)
class WorkMessage:
    """A message in the stream. `waited`: seconds for which the dispatcher has seen it there while
    the box answered and had a free place."""

    seq: int
    box: str
    run: str
    epoch: int
    waited: float = 0.0


def reconcile(
    messages: list[WorkMessage], logs: Mapping[str, RunLog], stuck_after: float
) -> list[tuple[WorkMessage, bool]]:
    """Return the messages to remove, each with whether it is to be sent again: it is stuck, while
    nobody waits for the others. `logs`: of all runs that are out, by run; a run that is not in it
    is not out. `stuck_after`: seconds."""
    found = []
    for message in messages:
        log = logs.get(message.run)
        if log is None or not _is_for(log, message):
            found.append((message, False))
        elif log.phase is Phase.GRANTED and message.waited >= stuck_after:
            found.append((message, True))
    return found


def _is_for(log: RunLog, message: WorkMessage) -> bool:
    if log.phase is Phase.NONE or log.epoch < message.epoch:
        return True  # it is about to be granted, or read late
    return log.is_held and (log.epoch, log.box) == (message.epoch, message.box)

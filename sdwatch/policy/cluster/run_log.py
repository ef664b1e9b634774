"""What a run's log says: which box has the run, in which epoch, and what of it counts. Pure.

This fold is the fence. Both sides read the same entries in the same order, so both know the same of
every entry: whether it counts. An entry of an older epoch never does, nor does one after the epoch
was taken back or had ended, nor lines with a gap before them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from sdwatch.policy.cluster.entries import (
    Accepted,
    Closed,
    Ended,
    Entry,
    Granted,
    LinesStored,
    TakenBack,
    TakenFor,
)


class Phase(StrEnum):
    """Where the newest epoch of a run is. NONE: it was never handed over, or its log is gone."""

    NONE = "none"
    GRANTED = "granted"
    ACCEPTED = "accepted"
    ENDED = "ended"
    TAKEN_BACK = "taken back"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class RunLog:
    """A run's log so far. `seq`: sequence of its last entry, for the next compare-and-set; `lines`:
    lines of the box's journal that count in this epoch; `manifest`: of its files at the start."""

    seq: int = 0
    epoch: int = 0
    box: str = ""
    phase: Phase = Phase.NONE
    lines: int = 0
    manifest: str = ""
    ended: Ended | None = None
    taken_for: TakenFor | None = None

    @property
    def is_held(self) -> bool:
        """Return whether a box has the run, or is to get it."""
        return self.phase in (Phase.GRANTED, Phase.ACCEPTED)


def with_entry(log: RunLog, seq: int, entry: Entry | None) -> tuple[RunLog, bool]:
    """Return the log with one more entry, and whether that entry counts. `entry`: None for what is
    not an entry; it moves the sequence only. Entries that the log has change nothing."""
    if seq <= log.seq:
        return log, False
    after = replace(log, seq=seq)
    if entry is None or not _counts(log, entry):
        return after, False
    return _applied(after, entry), True


def with_entry_for_box(log: RunLog, seq: int, entry: Entry | None) -> RunLog:
    """Return the log of a box with one more entry. All entries before the last one are removed when
    a log is closed, so a box that was away hears of neither a taking back nor a newer epoch: that
    it is closed is the end, whatever the box has."""
    after, counts = with_entry(log, seq, entry)
    is_end = isinstance(entry, Closed) and seq > log.seq and entry.epoch >= log.epoch
    return with_entry(RunLog(), seq, entry)[0] if is_end and not counts else after


def _counts(log: RunLog, entry: Entry) -> bool:
    if isinstance(entry, Granted):
        return not log.is_held and entry.epoch > log.epoch
    if isinstance(entry, Closed) and log.phase is Phase.NONE:
        return True  # all before it is forgotten, or was lost
    if entry.epoch != log.epoch:
        return False
    if isinstance(entry, Closed):
        return log.phase is not Phase.CLOSED and not log.is_held
    if isinstance(entry, TakenBack):
        return log.is_held or log.phase is Phase.ENDED
    if isinstance(entry, Accepted):
        return log.phase is Phase.GRANTED
    if log.phase is not Phase.ACCEPTED:
        return False
    return (entry.first if isinstance(entry, LinesStored) else entry.lines) == log.lines


def _applied(log: RunLog, entry: Entry) -> RunLog:
    match entry:
        case Granted():
            return RunLog(log.seq, entry.epoch, entry.box, Phase.GRANTED, manifest=entry.manifest)
        case Accepted():
            return replace(log, phase=Phase.ACCEPTED)
        case LinesStored():
            return replace(log, lines=log.lines + entry.count)
        case Ended():
            return replace(log, phase=Phase.ENDED, ended=entry)
        case TakenBack():
            return replace(log, phase=Phase.TAKEN_BACK, ended=None, taken_for=entry.because)
        case Closed():
            return replace(log, epoch=entry.epoch, phase=Phase.CLOSED)

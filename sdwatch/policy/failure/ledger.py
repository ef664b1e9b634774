"""Read from a run's journal which calls are finished and how often each was tried. Pure.

There is one ledger per run; a run that was suspended, stopped or orphaned resumes at its first
unfinished call. The records are the lines of journal.jsonl, each a mapping with at least `event`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sdwatch.errors import JournalError
from sdwatch.policy.failure.recovery import CUT_OFFS

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Image:
    """One recorded image: its file in images/, sha256 in hex, size in bytes, width and height in
    pixels, and whether it is a grid (a contact sheet of the WebUI, never passed to the next stage).
    """

    name: str
    sha256: str
    size: int
    width: int
    height: int
    grid: bool = False


@dataclass
class CallLedger:
    """One call. `counted`: failed attempts that count; `excused`: those that the self-test blamed
    on the WebUI; `cut_offs`: cut short by the monitor's own death; `given_up`: by a clean stop;
    `images`: None until it is finished."""

    counted: int = 0
    excused: int = 0
    cut_offs: int = 0
    given_up: int = 0
    sent: int = 0
    images: tuple[Image, ...] | None = None
    open: bool = False


@dataclass
class Ledger:
    """The whole run so far."""

    calls: dict[str, CallLedger] = field(default_factory=dict)
    job_id: str = ""
    seeds: list[Any] | None = None
    ended: str = ""
    claimed: dict[str, Any] = field(default_factory=dict)
    evidence: list[str] = field(default_factory=list)

    def call(self, call_id: str) -> CallLedger:
        """Return this call's ledger; an empty one if it was never started."""
        return self.calls.setdefault(call_id, CallLedger())

    def take(self, record: Record) -> None:
        """Apply one record of the journal; unknown events change nothing."""
        event = record.get("event")
        if event == "claimed":
            self.claimed = dict(record)
        elif event == "planned":
            self.job_id = str(record.get("job_id", ""))
            self.seeds = list(record["seeds"])
        elif event == "job_changed":  # results of an incomplete job are not part of the whole one
            self.seeds = None
            self.calls.clear()
        elif event == "evidence":
            self.evidence.extend(record["files"])
        elif event == "ended":
            self.ended = str(record["outcome"])
        elif event in _CALL_EVENTS:
            _CALL_EVENTS[event](self.call(str(record["call"])), record)

    def close_cut_offs(self) -> None:
        """Count each call that was started and not finished as cut off by the monitor's own death;
        for the end of a journal."""
        for call in self.calls.values():
            if call.open:
                call.open = False
                call.cut_offs += 1

    def too_many_cut_offs(self) -> str:
        """Return the call in which the monitor died too often, or ''."""
        for call_id, call in self.calls.items():
            if call.images is None and call.cut_offs > CUT_OFFS:
                return call_id
        return ""


def read_ledger(records: Iterable[Record]) -> Ledger:
    """Return the ledger of a journal. Raises JournalError if sdwatch never writes such records."""
    ledger = Ledger()
    for number, record in enumerate(records, 1):
        try:
            ledger.take(record)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise JournalError(
                f"record {number} of the journal cannot be read: {error!r}"
            ) from error
    ledger.close_cut_offs()
    return ledger


def _started(call: CallLedger, record: Record) -> None:
    del record
    if call.open:  # started twice with no end in between: the first was cut off
        call.cut_offs += 1
    call.open = True
    call.sent += 1


def _failed(call: CallLedger, record: Record) -> None:
    call.open = False
    call.counted += bool(record.get("counted", True))


def _proven(call: CallLedger, record: Record) -> None:
    if record["excused"]:
        call.counted -= 1
        call.excused += 1


def _given_up(call: CallLedger, record: Record) -> None:
    del record
    call.given_up += call.open
    call.open = False


def _finished(call: CallLedger, record: Record) -> None:
    call.open = False
    call.images = tuple(Image(**image) for image in record["images"])


_CALL_EVENTS = {
    "call_started": _started,
    "call_failed": _failed,
    "call_proven": _proven,
    "call_given_up": _given_up,
    "call_finished": _finished,
}

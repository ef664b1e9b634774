"""Read from a run's journal which calls are finished and how often each was tried. Pure.

There is one ledger per run; a run that was suspended, stopped or orphaned resumes at its first
unfinished call. The records are the lines of journal.jsonl, each a mapping with at least `event`;
those of earlier versions are renamed when they are read (earlier_records.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sdwatch.errors import JournalError
from sdwatch.policy.failure.recovery import CUT_OFFS, SENT_AT_MOST, Action
from sdwatch.policy.job.calls.oom_ladder import Rung, rung_of

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Image:
    """One recorded image: its file in images/, sha256 in hex, size in bytes, width and height in
    pixels, and whether it is a grid (a contact sheet of the WebUI, never passed to the next stage).
    `kept`: it is part of the result; of others only their names are left once a run ends.
    """

    name: str
    sha256: str
    size: int
    width: int
    height: int
    grid: bool = False
    kept: bool = True

    @property
    def recorded(self) -> dict[str, Any]:
        """Return it in the form of the journal."""
        return {key: value for key, value in asdict(self).items() if key != "kept"}


@dataclass(frozen=True, slots=True)
class LeftCall:
    """A call that a death has left in flight: on the lane of this name, to this incarnation.
    `log_offset`: the bytes that each file of the WebUI's output had before."""

    lane: str
    incarnation: int
    log_offset: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OtherFile:
    """One recorded file that is not a still picture: its file in files/, sha256 in hex, size in
    bytes."""

    name: str
    sha256: str
    size: int

    @property
    def recorded(self) -> dict[str, Any]:
        """Return it in the form of the journal."""
        return asdict(self)


@dataclass(slots=True)
class CallLedger:
    """One call. `counted`: failed attempts that count; `excused`: those that the self-test blamed
    on the WebUI; `crash_count`: of the WebUI, by this call and not excused; `cut_offs`: cut short
    by the monitor's own death; `given_up`: by a clean stop; `images`: None until it is finished;
    `files`: what else it made;
    `over`: the record by which it failed for good, None unless it did; `rungs`: what it was changed
    to after it ran out of memory, as far as that was reached."""

    counted: int = 0
    excused: int = 0
    crash_count: int = 0
    cut_offs: int = 0
    given_up: int = 0
    sent: int = 0
    images: tuple[Image, ...] | None = None
    files: tuple[OtherFile, ...] = ()
    open: bool = False
    over: Record | None = None
    rungs: tuple[Rung, ...] = ()

    @property
    def failed(self) -> int:
        """Return how many attempts failed, counted or not."""
        return self.sent - self.given_up - self.cut_offs - self.open

    @property
    def pictures(self) -> tuple[Image, ...]:
        """Return the images that are there."""
        return tuple(image for image in self.images or () if image.kept)

    @property
    def was_cut_off_too_often(self) -> bool:
        """Return whether the monitor died too often in this call, which is not finished."""
        return self.images is None and self.cut_offs > CUT_OFFS

    @property
    def may_be_sent(self) -> bool:
        """Return whether the call may be sent once more (promise 3)."""
        sent = self.sent - self.given_up
        return not self.was_cut_off_too_often and sent < SENT_AT_MOST


@dataclass(frozen=True, slots=True)
class HandedOver:
    """`epoch`: of the newest hand-over of the run to a box; `lines`: records since then; `is_out`:
    it was not taken back; `received`: this is the box's copy, which is removed once the run is
    published where it came from."""

    epoch: int = 0
    box: str = ""
    lines: int = 0
    is_out: bool = False
    received: bool = False


@dataclass
class Ledger:
    """The calls of a run so far. `random_seed`: from which all is picked that the job leaves to
    chance; None if that is only the seeds; `used`: the digests of the files outside of the job that
    it is read with; `evidence`: its files, each with the call that wrote it last ('' for one of a
    job that was replaced); `outputs`: the name of each image's output, planned or made; `made`: the
    images whose outputs are made; `outputs_refused`: why some are not, ''. `seconds`: that all
    attempts took together, without those that a death cut off. `left`: the call that a death has
    left in flight. `handed_over`: to another machine, see docs/cluster.md."""

    calls: dict[str, CallLedger] = field(default_factory=dict)
    job_id: str = ""
    seeds: list[Any] | None = None
    random_seed: int | None = None
    used: dict[str, str] = field(default_factory=dict)
    ended: str = ""
    claimed: dict[str, Any] = field(default_factory=dict)
    evidence: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)
    outputs_refused: str = ""
    seconds: float = 0.0
    left: LeftCall | None = None
    _last_start: Record = field(default_factory=dict)
    handed_over: HandedOver = field(default_factory=lambda: HandedOver())

    def call(self, call_id: str) -> CallLedger:
        """Return this call's ledger; an empty one if it was never started."""
        return self.calls.setdefault(call_id, CallLedger())

    def apply(self, record: Record) -> None:
        """Apply one record of the journal; unknown events change nothing."""
        event = record.get("event")
        if self.handed_over.is_out:
            self.handed_over = replace(self.handed_over, lines=self.handed_over.lines + 1)
        if event in _HAND_OVERS:
            self.handed_over = _HAND_OVERS[event](self.handed_over, record)
        elif event in _RUN_EVENTS:
            _RUN_EVENTS[event](self, record)
        elif event in _CALL_EVENTS:
            _CALL_EVENTS[event](self.call(str(record["call"])), record)
            if event == "call_started":
                self._last_start = record
            if event in _ENDS:
                self.seconds += seconds_of(record)

    def _claim(self, record: Record) -> None:
        self.claimed = dict(record)

    def _plan(self, record: Record) -> None:
        self.job_id = str(record.get("job_id", ""))
        self.seeds = list(record["seeds"])
        random_seed = record.get("random_seed")
        self.random_seed = None if random_seed is None else int(random_seed)
        self.used = {str(k): str(v) for k, v in dict(record.get("used") or {}).items()}

    def _start_over(self, _: Record) -> None:
        """Forget the results of an incomplete job: they are not part of the whole one."""
        self.seeds = None
        self.calls.clear()
        self.evidence = dict.fromkeys(self.evidence, "")
        self.outputs.clear()
        self.made.clear()

    def _add_evidence(self, record: Record) -> None:
        self.evidence |= dict.fromkeys(map(str, record["files"]), str(record.get("call", "")))

    def _drop_images(self, record: Record) -> None:
        names = frozenset(map(str, record["images"]))
        for call in self.calls.values():
            if call.images and any(image.name in names for image in call.images):
                call.images = tuple(
                    replace(image, kept=image.kept and image.name not in names)
                    for image in call.images
                )

    def _plan_outputs(self, record: Record) -> None:
        self.outputs.update({str(k): str(v) for k, v in record["outputs"].items()})

    def _make_outputs(self, record: Record) -> None:
        self.made.update(map(str, record["images"]))
        self.outputs_refused = ""

    def _refuse_outputs(self, record: Record) -> None:
        self.outputs_refused = str(record["why"])

    def _end(self, record: Record) -> None:
        self.ended = str(record["outcome"])

    def close_cut_offs(self) -> None:
        """Count each call that was started and not finished as cut off by the monitor's own death;
        for the end of a journal."""
        for call in self.calls.values():
            if call.open:
                call.open = False
                call.cut_offs += 1
                self.left = _left_call(self._last_start)


def read_ledger(records: Iterable[Record]) -> Ledger:
    """Return the ledger of a journal. Raises JournalError if sdwatch never writes such records."""
    ledger = Ledger()
    for number, record in enumerate(records, 1):
        try:
            ledger.apply(record)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise JournalError(
                f"record {number} of the journal cannot be read: {error!r}"
            ) from error
    ledger.close_cut_offs()
    return ledger


def _out(_: HandedOver, record: Record) -> HandedOver:
    return HandedOver(int(record["epoch"]), str(record["box"]), is_out=True)


_HAND_OVERS: dict[Any, Callable[[HandedOver, Record], HandedOver]] = {
    "handed_over": _out,
    "received": lambda now, _: replace(now, is_out=False, received=True),
    "taken_back": lambda now, _: HandedOver(now.epoch),
}


def _started(call: CallLedger, _: Record) -> None:
    if call.open:  # started twice with no end in between: the first was cut off
        call.cut_offs += 1
    call.open = True
    call.over = None
    call.sent += 1


def _left_call(record: Record) -> LeftCall | None:
    """Return where the call of a `call_started` record went; None where that does not say it:
    with an external WebUI, and in journals that do not have it yet."""
    lane, incarnation = record.get("lane"), record.get("incarnation")
    offset = record.get("log_offset")
    if not (isinstance(lane, str) and isinstance(incarnation, int) and isinstance(offset, list)):
        return None
    if not all(isinstance(size, int) and 0 <= size < _MOST_BYTES for size in offset):
        return None
    return LeftCall(lane, incarnation, tuple(offset))


_MOST_BYTES = 2**60  # what no file has


def _failed(call: CallLedger, record: Record) -> None:
    call.open = False
    call.counted += bool(record.get("counted", True))
    call.crash_count += bool(record.get("crashed"))
    call.over = _if_over(record)


def _self_tested(call: CallLedger, record: Record) -> None:
    if record["excused"]:
        call.counted -= 1
        call.excused += 1
        call.crash_count = 0
    elif record.get("action") == Action.TEST_AGAIN:
        call.crash_count += 1
    call.over = _if_over(record)


def _if_over(record: Record) -> Record | None:
    return record if record.get("action") == Action.FAIL else None


def _given_up(call: CallLedger, _: Record) -> None:
    call.given_up += call.open
    call.open = False


def _finished(call: CallLedger, record: Record) -> None:
    call.open = False
    call.images = tuple(map(_image, record["images"]))
    call.files = tuple(map(_other_file, record.get("other_files", ())))


def _changed(call: CallLedger, record: Record) -> None:
    call.rungs += (rung_of(record),)


_IN_NO_NAME = re.compile(r"[\0\ud800-\udc7f\udd00-\udfff]")
"""What a system takes in no name of a file; JSON can write all of it."""


def _image(recorded: Record) -> Image:
    image = Image(**recorded)
    _check_name(image.name)
    return image


def _other_file(recorded: Record) -> OtherFile:
    file = OtherFile(**recorded)
    _check_name(file.name)
    return file


def _check_name(name: object) -> None:
    if not isinstance(name, str) or _IN_NO_NAME.search(name):
        raise ValueError("a name is none that a file can have")


_CALL_EVENTS = {
    "call_started": _started,
    "call_failed": _failed,
    "call_self_tested": _self_tested,
    "call_given_up": _given_up,
    "call_finished": _finished,
    "oom_step": _changed,
}

_RUN_EVENTS = {
    "claimed": Ledger._claim,
    "planned": Ledger._plan,
    "job_changed": Ledger._start_over,
    "evidence": Ledger._add_evidence,
    "images_dropped": Ledger._drop_images,
    "outputs_planned": Ledger._plan_outputs,
    "outputs_made": Ledger._make_outputs,
    "outputs_refused": Ledger._refuse_outputs,
    "ended": Ledger._end,
}

EVENTS = (*_RUN_EVENTS, *_CALL_EVENTS, *_HAND_OVERS)
"""All that change a ledger. A journal has `same_fault` too: a note that changes nothing."""

_ENDS = ("call_finished", "call_failed", "call_given_up")
"""Each ends an attempt, and says how many seconds it took."""


def seconds_of(record: Mapping[str, Any]) -> float:
    """Return how long an attempt took, by its record; 0 if that is not a number."""
    given = record.get("seconds")
    if not isinstance(given, int | float) or isinstance(given, bool):
        return 0.0
    return float(given) if 0 <= given < _LONGEST else 0.0


_LONGEST = 10**7  # seconds; nothing takes four months

"""The error envelope: everything that is known about why a run failed. error.json and WHY.txt are
written from it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, TypeVar

from sdwatch.errors import FileProblems, JobUnfitError, Probes, Problem
from sdwatch.policy.failure.diagnosis import advice_for
from sdwatch.policy.failure.earlier_records import with_codes
from sdwatch.policy.failure.facts import Blamed, Diagnosis, whose_fault
from sdwatch.policy.failure.hold_reason import HoldReason
from sdwatch.policy.failure.recovery import CUT_OFFS, Action, Ground
from sdwatch.policy.job.job import Stage
from sdwatch.policy.privacy.printable import printable


class Unsent(StrEnum):
    """Diagnoses of runs that no reply of a WebUI has ended; codes, as error.json has them."""

    CANCELLED = "cancelled"
    CUT_OFF = "cut off"
    TIMED_OUT = "timed out"
    UNREADABLE = "unreadable"
    BROKE = "internal error"


CANARY_HEALTHY = "it was healthy"
"""What error.json says about a self-test that the WebUI passed."""


@dataclass(frozen=True)
class FailedAttempt:
    """One failed attempt of a call.

    `at`: when it failed (UTC); `seconds`: how long it took; `status`: HTTP status or None;
    `incarnation`: which life of the WebUI; `crashed`: it ended that life; `evidence`: what decided
    the diagnosis; `lines`: the lines of the WebUI's output that matter, None if unknown; `probes`:
    whether the WebUI still answered during a stuck call; `first_call`: it was the first of its
    incarnation; `lane`: whose incarnation it was (earlier journals have neither); `after`: seconds
    until its reply, None if nobody measured; `action`, `ground` and `why`: what the gate decided,
    and the ground in words; `decision`: all of that in one text. `failure`: identifies the failure,
    see FailureKey.digest; `repeats`: `evidence` only repeats `message`. `blames`: whom the
    signature blames, if not whom the diagnosis usually means.
    """

    at: str
    seconds: float
    diagnosis: str
    status: int | None
    message: str
    incarnation: int
    exit_code: int | None
    counted: bool
    decision: str = ""
    crashed: bool = False
    evidence: str = ""
    lines: tuple[str, ...] | None = None
    probes: Probes | None = None
    first_call: bool = False
    after: float | None = None
    action: Action | None = None
    ground: Ground | None = None
    why: str = ""
    failure: str = ""
    repeats: bool = False
    lane: str = ""
    blames: Blamed | None = None


@dataclass(frozen=True)
class FailedPoint:
    """A point of a job that failed. `values`: what makes it differ from others, for people, without
    prompts; `call`: '' if none was started."""

    number: int
    values: str
    diagnosis: str
    message: str
    call: str = ""


@dataclass(frozen=True)
class ErrorEnvelope:
    """Why a run failed.

    `stage`: the kind of the stage; `call`: `stage.number`, '' if no call was started; `evidence`:
    files, relative to the run's folder; `canary`: the result of the self-test in words;
    `self_test_passed`: the same as a value, None if there was no self-test; `failure`: identifies
    the failure of the attempt whose message this is, '' for none; `failed_points`: of a job with
    several points; all else is about the first of them then.
    """

    error: str
    diagnosis: str
    blame: Blamed
    message: str
    advice: str
    stage: str = ""
    call: str = ""
    attempts: tuple[FailedAttempt, ...] = ()
    incarnation: int | None = None
    exit_code: int | None = None
    evidence: tuple[str, ...] = ()
    canary: str = ""
    self_test_passed: bool | None = None
    failure: str = ""
    failed_points: tuple[FailedPoint, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the content of error.json."""
        return asdict(self) | {
            "attempts": [asdict(attempt) for attempt in self.attempts],
            "evidence": list(self.evidence),
            "failed_points": [asdict(point) for point in self.failed_points],
        }


def attempt_from(record: Mapping[str, Any]) -> FailedAttempt:
    """Return the attempt that a `call_failed` record of the journal describes. Raises TypeError or
    ValueError for a record that sdwatch never writes."""
    record = with_codes(record)
    return FailedAttempt(
        at=str(record.get("at", "")),
        seconds=float(record.get("seconds", 0.0)),
        diagnosis=str(record.get("diagnosis", "")),
        status=record.get("status"),
        message=str(record.get("message", "")),
        incarnation=int(record.get("incarnation", record.get("generation", 0))),
        exit_code=record.get("exit_code"),
        counted=bool(record.get("counted", True)),
        decision=str(record.get("decision", "")),
        crashed=bool(record.get("crashed", False)),
        evidence=str(record.get("evidence", "")),
        lines=_lines(record.get("lines")),
        probes=_probes(record.get("probes")),
        first_call=record.get("first_call") is True,
        after=_seconds(record.get("after")),
        action=_code(Action, record.get("action")),
        ground=_code(Ground, record.get("ground")),
        why=str(record.get("why", "")),
        failure=str(record.get("failure", "")),
        repeats=record.get("repeats") is True,
        lane=str(record.get("lane", "")),
        blames=_code(Blamed, record.get("blame")),
    )


def envelope_of(
    failed: Mapping[str, Any],
    over: Mapping[str, Any],
    stage: str,
    attempts: tuple[FailedAttempt, ...],
    evidence: tuple[str, ...],
) -> ErrorEnvelope:
    """Return the failure of a call from its journal: `failed` is the record of its last attempt,
    `over` the one by which it failed for good, that or a self-test's. Raises ValueError for a
    diagnosis that sdwatch never writes."""
    diagnosis = Diagnosis(str(failed.get("diagnosis", "")))
    unhealthy = over.get("unhealthy") if "self_test_passed" in over else None
    explained, tested = (_code(Blamed, record.get("blame")) for record in (failed, over))
    return ErrorEnvelope(
        error=str(failed.get("error", "")),
        diagnosis=diagnosis,
        blame=whose_fault(diagnosis, explained, tested),
        message=attempts[-1].message,
        advice=str(failed.get("advice") or advice_for(diagnosis)),
        stage=stage,
        attempts=attempts,
        incarnation=attempts[-1].incarnation,
        exit_code=attempts[-1].exit_code,
        evidence=evidence,
        canary="" if unhealthy is None else str(unhealthy) or CANARY_HEALTHY,
        self_test_passed=None if unhealthy is None else not unhealthy,
        failure=attempts[-1].failure,
    )


_C = TypeVar("_C", bound=StrEnum)


def _code(kind: type[_C], value: object) -> _C | None:
    """Return the code, or None if this version does not know it."""
    return next((code for code in kind if code == value), None)


def _probes(value: object) -> Probes | None:
    """Read recorded probes. Raises TypeError or ValueError if sdwatch never writes such."""
    if not isinstance(value, Mapping):
        return None
    return Probes(
        int(value.get("answered", 0)),
        int(value.get("unanswered", 0)),
        float(value.get("seconds", 0.0)),
        str(value.get("last", "")),
    )


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def _lines(value: object) -> tuple[str, ...] | None:
    return tuple(map(str, value)) if isinstance(value, list) else None


def with_attempts(envelope: ErrorEnvelope, records: Iterable[Mapping[str, Any]]) -> ErrorEnvelope:
    """Add what was tried, from the run's journal, to the envelope of a run that ended for another
    reason than its last call's failure."""
    if envelope.attempts:
        return envelope
    failed, passed, self_test_failure = _left_unfinished(records, envelope.call)
    if not failed:
        return envelope
    try:
        attempts = tuple(attempt_from(record) for record in failed)
    except (TypeError, ValueError):  # no version of sdwatch writes such a record
        return envelope
    advice = envelope.advice
    if envelope.diagnosis == Unsent.CANCELLED:
        advice += ' Before that, a call had already failed: see "What was tried".'
    return replace(
        envelope,
        advice=advice,
        call=envelope.call or str(failed[-1].get("call", "")),
        attempts=attempts,
        canary=envelope.canary or self_test_failure,
        self_test_passed=passed if envelope.self_test_passed is None else envelope.self_test_passed,
    )


def _left_unfinished(
    records: Iterable[Mapping[str, Any]], call: str
) -> tuple[list[Mapping[str, Any]], bool | None, str]:
    """Return the failures of `call`, or of the unfinished call that failed last; False if the WebUI
    failed the self-test after it, else None; and why it failed that, for people."""
    failed: dict[str, list[Mapping[str, Any]]] = {}
    self_test_failure: dict[str, str] = {}
    for record in records:
        name, event = str(record.get("call", "")), record.get("event")
        if event == "job_changed":
            failed.clear()
            self_test_failure.clear()
        elif event == "call_finished":
            failed.pop(name, None)
        elif event == "call_failed":
            failed[name] = [*failed.pop(name, []), record]
        elif event == "call_self_tested":
            self_test_failure[name] = str(record.get("unhealthy") or "")
    name = call or next(reversed(failed), "")
    why = self_test_failure.get(name, "")
    return failed.get(name, []), False if why else None, why


def _bad_request(
    error: str, message: str, advice: str, stage: str = "", call: str = ""
) -> ErrorEnvelope:
    return ErrorEnvelope(
        error=error,
        diagnosis=Diagnosis.BAD_REQUEST,
        blame=Blamed.JOB,
        message=message,
        advice=advice,
        stage=stage,
        call=call,
    )


def job_envelope(error: FileProblems, url: str = "URL") -> ErrorEnvelope:
    """Return the envelope of a job file that cannot be run. `url`: of the WebUI that refused it."""
    file = printable(error.file)
    first, *others = [problem.located(file) for problem in error.problems]
    more = [f"and {len(others)} more:", *others] if others else []
    what = "the job file is wrong"
    how = "`sdwatch check FILE` finds such mistakes before you drop a job."
    if isinstance(error, JobUnfitError):
        what = "no WebUI here can do this job as it is"
        how = f"`sdwatch check --against {url} FILE` finds such mistakes before you drop a job."
    return _bad_request(
        error=type(error).__name__,
        message="\n  ".join([f"{what}: {first}", *more]),
        advice=f"Correct it and drop it into the inbox again. {how}",
    )


def cancelled_envelope() -> ErrorEnvelope:
    """Return the envelope of a run that somebody cancelled."""
    return ErrorEnvelope(
        error="RunCancelledError",
        diagnosis=Unsent.CANCELLED,
        blame=Blamed.PERSON,
        message="somebody cancelled this run",
        advice="The images that were already finished are kept.",
    )


def timed_out_envelope(limit: float) -> ErrorEnvelope:
    """Return the envelope of a run whose calls took longer than its job allows: `limit` seconds."""
    return ErrorEnvelope(
        error="RunTimedOutError",
        diagnosis=Unsent.TIMED_OUT,
        blame=Blamed.JOB,
        message=f"its calls took longer than its timeout of {limit:g} s",
        advice="The images that were already finished are kept. If the job needs more time, give "
        "it a longer `timeout`, or none, and retry it.",
    )


def held_envelope(hold_reason: HoldReason, evidence: Iterable[str]) -> ErrorEnvelope:
    """Return the envelope of a run that waited too long for a WebUI on hold."""
    return ErrorEnvelope(
        error="HeldTooLong",
        diagnosis=Diagnosis.NOT_USABLE,
        blame=Blamed.WEBUI,
        message=f"the WebUI was on hold for longer than hold_max: {hold_reason.cause}",
        advice=f"{hold_reason.advice} Then retry the job; it is probably fine.".lstrip(),
        evidence=tuple(evidence),
    )


def failed_point(number: int, values: str, envelope: ErrorEnvelope) -> FailedPoint:
    """Return a point that failed for the reason in `envelope`."""
    first, *_ = envelope.message.splitlines() or [""]
    return FailedPoint(number, values, str(envelope.diagnosis), first, envelope.call)


def points_envelope(
    first: ErrorEnvelope, failed: Sequence[FailedPoint], points: int
) -> ErrorEnvelope:
    """Return the envelope of a run with some points that failed. `first`: that of the first of
    them; `points`: how many there are."""
    are = "1 of {} points failed" if len(failed) == 1 else f"{len(failed)} of {{}} points failed"
    return replace(
        first,
        message=f"{are.format(points)}; the first: {first.message}",
        failed_points=tuple(failed),
    )


def cut_short(envelope: ErrorEnvelope, failed: Sequence[FailedPoint]) -> ErrorEnvelope:
    """Return the envelope of a run that ended before all its points were made. `failed`: those that
    had failed by then."""
    return replace(envelope, failed_points=tuple(failed))


CUT_SHORT = (Unsent.CANCELLED, Unsent.TIMED_OUT)
"""Why a run ends in the middle of a point that may have no mistake."""


def died_here_envelope(call_id: str) -> ErrorEnvelope:
    """Return the envelope of a run in which the monitor died too often in the same call."""
    return ErrorEnvelope(
        error="MonitorDied",
        diagnosis=Unsent.CUT_OFF,
        blame=Blamed.SDWATCH,
        message=f"sdwatch was killed {CUT_OFFS + 1} times during this call",
        advice="The system's log says what killed sdwatch each time (often too little memory). "
        "Fix that, then run the job again.",
        call=call_id,
    )


def no_image_envelope(file: str, number: int, stage: Stage, giver: int) -> ErrorEnvelope:
    """Return the envelope of a stage that has no image to work on. `number`: its own; `giver`:
    that of the stage whose images it takes."""
    kind = stage.kind
    column = stage.node.column if stage.node else 1
    what = f"stage {number} ({kind}) has no image to work on: stage {giver} made none"
    return _bad_request(
        error="NoImage",
        message=Problem(stage.line, column, what).located(printable(file)),
        advice="Give the stage an image of its own, or let it work on a stage that makes one.",
        stage=kind,
    )


def no_picture_envelope(kind: str, call_id: str, name: str, why: str) -> ErrorEnvelope:
    """Return the envelope of an unusable image; `why` follows its name, such as `is cut off`."""
    return _bad_request(
        error="NoPicture",
        message=f"{printable(name)} {why}",
        advice="Save it again as PNG, JPEG or WebP; `max_image` in the config limits its size.",
        stage=kind,
        call=call_id,
    )


def not_kept_envelope(kind: str, call_id: str, name: str) -> ErrorEnvelope:
    """Return the envelope of a call whose image was needed on the way only, and is not kept."""
    return _bad_request(
        error="NotKept",
        message=f"the image {printable(name)} was not kept (`keep: last`)",
        advice="Run the job again with `keep: all`.",
        stage=kind,
        call=call_id,
    )


def lost_image_envelope(kind: str, call_id: str, name: str) -> ErrorEnvelope:
    """Return the envelope of a call whose image is gone."""
    return _bad_request(
        error="LostImage",
        message=f"the image {printable(name)} is gone",
        advice="Somebody removed it while the job was running. Run the job again.",
        stage=kind,
        call=call_id,
    )


def unreadable_envelope(name: str, why: str) -> ErrorEnvelope:
    """Return the envelope of a job whose file is there but could not be read for too long."""
    return ErrorEnvelope(
        error="Unreadable",
        diagnosis=Unsent.UNREADABLE,
        blame=Blamed.MACHINE,
        message=f"{printable(name)} cannot be read: {why}",
        advice="Permit the user that sdwatch runs as to read it, then drop the job again.",
    )


def broken_envelope(what: str) -> ErrorEnvelope:
    """Return the envelope of a run that an internal error ended."""
    return ErrorEnvelope(
        error="SdwatchBroke",
        diagnosis=Unsent.BROKE,
        blame=Blamed.SDWATCH,
        message=f"internal error: {what}",
        advice="Please report it, with the zip that the last command below makes. The job is kept "
        "in this folder.",
    )

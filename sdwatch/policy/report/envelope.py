"""The error envelope: all that is known of why a run failed. Pure; error.json and WHY.txt are
made from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, TypeVar

from sdwatch.errors import FileProblems, JobUnfitError, Probes
from sdwatch.policy.failure.facts import Blamed, Diagnosis
from sdwatch.policy.failure.hold_reason import HoldReason
from sdwatch.policy.failure.older import with_codes
from sdwatch.policy.failure.recovery import CUT_OFFS, Action, Ground
from sdwatch.policy.privacy.printable import printable


class Unsent(StrEnum):
    """Diagnoses of runs that no reply of a WebUI has ended; codes, as error.json has them."""

    CANCELLED = "cancelled"
    CUT_OFF = "cut off"
    UNREADABLE = "unreadable"
    BROKE = "sdwatch broke"


CANARY_WELL = "it was well"
"""What error.json says of a self-test that the WebUI passed."""


@dataclass(frozen=True)
class FailedAttempt:
    """One attempt of the call that failed. `at`: when it failed (UTC); `seconds`: how long it
    took; `status`: HTTP status or None; `incarnation`: which life of the WebUI; `crashed`: it cost
    the WebUI that life; `evidence`: what decided the diagnosis; `lines`: what matters of what the
    WebUI printed during it, None where that is not known; `probes`: of a stuck one, whether the
    WebUI still answered; `first_call`: of its incarnation, False in journals of versions that did
    not know; `after`: seconds until its reply, None where that was not measured. `action`, `ground`
    and `why`: what the gate decided, and the ground for people; `decision`: all of that in one.
    `failure`: by which it is told from others, see FailureKey.digest; `repeats`: `evidence` says
    what `message` says."""

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


@dataclass(frozen=True)
class ErrorEnvelope:
    """`stage`: its kind; `call`: `stage.number`,
    '' where no call was begun. `evidence`: files, relative to the run's folder; `canary`: what it
    said, in words, where it was asked; `self_test_passed`: the same as a value, None where it was
    not asked. `failure`: of the attempt whose message this is, '' where it is of none."""

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

    def as_json(self) -> dict[str, Any]:
        """As error.json has it."""
        return asdict(self) | {
            "attempts": [asdict(attempt) for attempt in self.attempts],
            "evidence": list(self.evidence),
        }


def attempt_from(record: Mapping[str, Any]) -> FailedAttempt:
    """From a `call_failed` record of the journal."""
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
    )


_C = TypeVar("_C", bound=StrEnum)


def _code(kind: type[_C], value: object) -> _C | None:
    """None for one that this version does not know."""
    return next((code for code in kind if code == value), None)


def _probes(value: object) -> Probes | None:
    """Raises TypeError, ValueError."""
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
    """Of a run that ended for another reason than its last call's failure: what had been tried
    before, from its journal."""
    if envelope.attempts:
        return envelope
    failed, passed, self_test_failure = _left_unfinished(records, envelope.call)
    if not failed:
        return envelope
    try:
        attempts = tuple(attempt_from(record) for record in failed)
    except (TypeError, ValueError):  # of a journal that nobody of us wrote so
        return envelope
    advice = envelope.advice
    if envelope.diagnosis == Unsent.CANCELLED:
        advice += " It had failed before that: what was tried says how."
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
    """The failures of `call`, or of the call that failed last and was not finished; whether the
    WebUI passed the self-test after it, None where there was none that it failed; and why it
    failed, for people."""
    failed: dict[str, list[Mapping[str, Any]]] = {}
    self_test_failure: dict[str, str] = {}
    for record in records:
        name, event = str(record.get("call", "")), record.get("event")
        if event == "job_changed":
            failed.clear()
        elif event == "call_finished":
            failed.pop(name, None)
        elif event == "call_failed":
            failed[name] = [*failed.pop(name, []), record]
        elif event == "call_proven":
            self_test_failure[name] = str(record.get("unwell") or "")
    name = call or next(reversed(failed), "")
    why = self_test_failure.get(name, "")
    return failed.get(name, []), False if why else None, why


def decisions_in(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the recovery gate decided, in order, from a run's journal."""
    return [
        {
            "at": record.get("at", ""),
            "call": record.get("call", ""),
            "diagnosis": record.get("diagnosis", "") or _canary_said(record),
            "decision": record["decision"],
            **{key: record[key] for key in ("action", "ground") if key in record},
        }
        for record in records
        if record.get("event") in ("call_failed", "call_proven") and "decision" in record
    ]


def _canary_said(record: Mapping[str, Any]) -> str:
    return f"canary: {record.get('unwell') or 'the WebUI is well'}"


def job_envelope(error: FileProblems, url: str = "URL") -> ErrorEnvelope:
    """For a job file that cannot be run as it is. `url`: of the WebUI that refused it."""
    file = printable(error.file)
    first, *others = [problem.located(file) for problem in error.problems]
    more = [f"and {len(others)} more:", *others] if others else []
    what, how = "the job file is wrong", "`sdwatch check FILE` tells before."
    if isinstance(error, JobUnfitError):
        what = "no WebUI here can do this job as it is"
        how = f"`sdwatch check --against {url} FILE` tells before."
    return ErrorEnvelope(
        error=type(error).__name__,
        diagnosis=Diagnosis.BAD_REQUEST,
        blame=Blamed.JOB,
        message="\n  ".join([f"{what}: {first}", *more]),
        advice=f"Correct it and drop it into the inbox again. {how}",
    )


def cancelled_envelope() -> ErrorEnvelope:
    """For a run that somebody cancelled."""
    return ErrorEnvelope(
        error="RunCancelledError",
        diagnosis=Unsent.CANCELLED,
        blame=Blamed.PERSON,
        message="somebody cancelled this run",
        advice="Images that were finished before are kept.",
    )


def held_envelope(hold_reason: HoldReason, evidence: Sequence[str]) -> ErrorEnvelope:
    """For a run that waited too long for a WebUI on hold."""
    return ErrorEnvelope(
        error="HeldTooLong",
        diagnosis=Diagnosis.NOT_USABLE,
        blame=Blamed.WEBUI,
        message=f"the WebUI was on hold for longer than hold_max: {hold_reason.cause}",
        advice=f"{hold_reason.advice} Then retry the job; it is probably fine.".lstrip(),
        evidence=tuple(evidence),
    )


def died_here_envelope(call_id: str) -> ErrorEnvelope:
    """For a run in whose same call the monitor died once too often."""
    return ErrorEnvelope(
        error="MonitorDied",
        diagnosis=Unsent.CUT_OFF,
        blame=Blamed.SDWATCH,
        message=f"the monitor died {CUT_OFFS + 1} times in this call",
        advice="See the system's log for what ended sdwatch each time (often too little memory).",
        call=call_id,
    )


def no_image_envelope(number: int, kind: str) -> ErrorEnvelope:
    """For a stage that has nothing to work on."""
    return ErrorEnvelope(
        error="NoImage",
        diagnosis=Diagnosis.BAD_REQUEST,
        blame=Blamed.JOB,
        message=f"stage {number} ({kind}) has no image to work on: the stage before made none",
        advice="Give the stage an image of its own, or a stage before it that makes one.",
        stage=kind,
    )


def no_picture_envelope(kind: str, call_id: str, name: str, why: str) -> ErrorEnvelope:
    """For an image that cannot be used; `why` goes on after its name, as `is cut off`."""
    return ErrorEnvelope(
        error="NoPicture",
        diagnosis=Diagnosis.BAD_REQUEST,
        blame=Blamed.JOB,
        message=f"{printable(name)} {why}",
        advice="Save it anew as PNG, JPEG or WebP; `max_image` in the config bounds its size.",
        stage=kind,
        call=call_id,
    )


def lost_image_envelope(kind: str, call_id: str, name: str) -> ErrorEnvelope:
    """For an image that a call needs and that is not there."""
    return ErrorEnvelope(
        error="LostImage",
        diagnosis=Diagnosis.BAD_REQUEST,
        blame=Blamed.JOB,
        message=f"{printable(name)} is not there any more",
        advice="Somebody took it away while the run was under way. Run it again.",
        stage=kind,
        call=call_id,
    )


def unreadable_envelope(name: str, why: str) -> ErrorEnvelope:
    """For a file of the job that was there and could not be read for too long."""
    return ErrorEnvelope(
        error="Unreadable",
        diagnosis=Unsent.UNREADABLE,
        blame=Blamed.MACHINE,
        message=f"{printable(name)} cannot be read: {why}",
        advice="Let the user of sdwatch read it, then drop the job into the inbox again.",
    )


def broken_envelope(what: str) -> ErrorEnvelope:
    """For a run that sdwatch itself cannot bring to an end."""
    return ErrorEnvelope(
        error="SdwatchBroke",
        diagnosis=Unsent.BROKE,
        blame=Blamed.SDWATCH,
        message=f"sdwatch itself broke on this run: {what}",
        advice="Please report it, with sdwatch.log of the state folder. The job is kept here.",
    )

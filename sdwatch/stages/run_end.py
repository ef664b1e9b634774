"""How far a run is, how it ended, and the errors that end it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from sdwatch.errors import SdwatchError, WebUINoResultError
from sdwatch.policy.failure.ledger import CallLedger
from sdwatch.policy.failure.recovery import SENT_AT_MOST
from sdwatch.policy.report.decisions import sent_too_often
from sdwatch.policy.report.envelope import ErrorEnvelope, died_here_envelope


class RunEnd(StrEnum):
    """How a run's thread ended. A stopped run stays in working/ and resumes later; a run is gone if
    somebody removed its folder."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    STOPPED = "stopped"
    GONE = "gone"


@dataclass(frozen=True)
class Place:
    """How far a run is: stage `stage` of `stages`, of this kind, and in it call `call` of `calls`;
    at point `point` of `points`, where there are several."""

    stage: int
    stages: int
    kind: str
    call: int
    calls: int
    point: int = 0
    points: int = 0

    def __str__(self) -> str:
        stage = f"stage {self.stage} of {self.stages} ({self.kind})"
        point = f"point {self.point} of {self.points}, " if self.points else ""
        return f"{point}{stage}, call {self.call} of {self.calls}"


class CallFailedError(SdwatchError):
    """A call failed for good. The run fails with this envelope."""

    def __init__(self, envelope: ErrorEnvelope) -> None:
        super().__init__(envelope.message)
        self.envelope = envelope


def call_failed(envelope: ErrorEnvelope, call_id: str, call: CallLedger) -> CallFailedError:
    """Return the error of a call. Where it was only asked for a result, because it may not be sent
    again, that is why it failed."""
    envelope = replace(envelope, call=call_id)
    if envelope.error == WebUINoResultError.__name__:
        if call.was_cut_off_too_often:
            envelope = replace(died_here_envelope(call_id), evidence=envelope.evidence)
        else:
            *_, before, _ = envelope.attempts
            envelope = sent_too_often(envelope, SENT_AT_MOST, before)
    return CallFailedError(envelope)


class JobChangedError(SdwatchError):
    """Somebody wrote to the job after it was read."""

"""How far a run is, how it ends, and the errors that end it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sdwatch.errors import SdwatchError
from sdwatch.policy.report.envelope import ErrorEnvelope


class Ending(StrEnum):
    """How a run's thread ended. A stopped run stays in working/ and resumes later; a run is gone if
    somebody removed its folder."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    STOPPED = "stopped"
    GONE = "gone"


@dataclass(frozen=True)
class Place:
    """How far a run is: stage `stage` of `stages`, of this kind, and in it call `call` of
    `calls`."""

    stage: int
    stages: int
    kind: str
    call: int
    calls: int

    def __str__(self) -> str:
        stage = f"stage {self.stage} of {self.stages} ({self.kind})"
        return f"{stage}, call {self.call} of {self.calls}"


class CallFailedError(SdwatchError):
    """A call failed for good. The run fails with this envelope."""

    def __init__(self, envelope: ErrorEnvelope) -> None:
        super().__init__(envelope.message)
        self.envelope = envelope


class JobChangedError(SdwatchError):
    """Somebody wrote to the job after it was read."""


class RunGoneError(SdwatchError):
    """Somebody removed the run's folder."""

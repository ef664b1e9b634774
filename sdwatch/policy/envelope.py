"""The error envelope: all that is known of why a run failed. Pure; error.json and WHY.txt are
made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class FailedAttempt:
    """One attempt of the call that failed. `at`: when it failed (UTC); `seconds`: how long it
    took; `status`: HTTP status or None; `generation`: which life of the WebUI."""

    at: str
    seconds: float
    diagnosis: str
    status: int | None
    message: str
    generation: int
    exit_code: int | None
    counted: bool
    decision: str = ""


@dataclass(frozen=True)
class ErrorEnvelope:
    """`blame`: job, WebUI, machine or sdwatch. `stage`: its kind; `call`: `stage.number`, ''
    where no call was begun. `evidence`: files, relative to the run's folder."""

    error: str
    diagnosis: str
    blame: str
    message: str
    advice: str
    stage: str = ""
    call: str = ""
    attempts: tuple[FailedAttempt, ...] = ()
    generation: int | None = None
    exit_code: int | None = None
    evidence: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As error.json has it."""
        return asdict(self) | {
            "attempts": [asdict(attempt) for attempt in self.attempts],
            "evidence": list(self.evidence),
        }


def attempt_from(record: Mapping[str, Any]) -> FailedAttempt:
    """From a `call_failed` record of the journal."""
    return FailedAttempt(
        at=str(record.get("at", "")),
        seconds=float(record.get("seconds", 0.0)),
        diagnosis=str(record.get("diagnosis", "")),
        status=record.get("status"),
        message=str(record.get("message", "")),
        generation=int(record.get("generation", 0)),
        exit_code=record.get("exit_code"),
        counted=bool(record.get("counted", True)),
        decision=str(record.get("decision", "")),
    )

"""What the recovery gate decided in a run, for error.json; and the envelope of a call that it
lets nobody send again. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from sdwatch.policy.failure.diagnosis import advice_for
from sdwatch.policy.failure.facts import Diagnosis, whose_fault
from sdwatch.policy.failure.recovery import Action, Decision, Ground
from sdwatch.policy.report.envelope import ErrorEnvelope, FailedAttempt


def decisions_in(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what the recovery gate decided, oldest first, from a run's journal."""
    return [
        {
            "at": record.get("at", ""),
            "call": record.get("call", ""),
            "diagnosis": record.get("diagnosis", "")
            or f"canary: {record.get('unhealthy') or 'the WebUI is healthy'}",
            "decision": record["decision"],
            **{key: record[key] for key in ("action", "ground") if key in record},
        }
        for record in records
        if record.get("event") in ("call_failed", "call_self_tested") and "decision" in record
    ]


def sent_too_often(envelope: ErrorEnvelope, sent: int, last: FailedAttempt) -> ErrorEnvelope:
    """Return the envelope of a call that was sent `sent` times, the last time without a record of
    how that ended. `last`: the last failure that was recorded."""
    diagnosis = Diagnosis(last.diagnosis)
    why = Decision(Action.FAIL, Ground.SENT_TOO_OFTEN, times=sent).why
    return replace(
        envelope,
        diagnosis=diagnosis,
        blame=whose_fault(diagnosis),
        message=f"{why}; the last failure that was recorded: {last.message}",
        advice=advice_for(diagnosis),
        failure=last.failure,
    )

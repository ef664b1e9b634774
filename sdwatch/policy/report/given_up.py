"""The envelope of a call that may not be sent again. Pure."""

from __future__ import annotations

from dataclasses import replace

from sdwatch.policy.failure.diagnosis import advice_for
from sdwatch.policy.failure.facts import Diagnosis, whose_fault
from sdwatch.policy.failure.recovery import Action, Decision, Ground
from sdwatch.policy.report.envelope import ErrorEnvelope, FailedAttempt


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

"""Read what earlier versions wrote into a run's journal: other names, and words for codes. Pure.

Versions up to 0.1 wrote a decision of the recovery gate as `ACTION (why)`, and nothing that
identifies a failure. Runs that they suspended resume, and their WHY.txt says what happened before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from sdwatch.policy.failure.recovery import Action, Ground

_SELF_TESTED = {"well": "self_test_passed", "unwell": "unhealthy"}


EARLIER_DIAGNOSES = {"sdwatch broke": "internal error"}
"""Diagnoses of an error.json as earlier versions called them."""


def renamed_envelope(envelope: Any) -> dict[str, Any]:
    """Return the content of an error.json with the diagnosis that it has in this version; {} for
    what is no such content."""
    if not isinstance(envelope, dict):
        return {}
    diagnosis = envelope.get("diagnosis")
    known = EARLIER_DIAGNOSES.get(diagnosis) if isinstance(diagnosis, str) else None
    return envelope | {"diagnosis": known} if known else envelope


def renamed(record: Any) -> Any:
    """Return a record with the event and the keys that it has in this version; anything else as it
    is."""
    if not isinstance(record, dict) or record.get("event") != "call_proven":
        return record
    known = {_SELF_TESTED.get(key, key): value for key, value in record.items()}
    return known | {"event": "call_self_tested"}


_ACTIONS = {
    "fail": Action.FAIL,
    "restart and retry": Action.RESTART,
    "wait until it answers, then retry": Action.WAIT,
    "retry": Action.RETRY,
    "interrupt, then retry": Action.INTERRUPT,
    "ask the canary": Action.SELF_TEST,
    "restart, then test again": Action.TEST_AGAIN,
    "hold": Action.HOLD,
}
_TRACED = "two jobs were proven to bring the same failure on themselves"


def with_codes(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a `call_failed` or `call_self_tested` record with the codes that it lacks; a record of
    this version is unchanged."""
    if "action" in record:
        return dict(record)
    words, _, why = str(record.get("decision", "")).partition(" (")
    why = why.removesuffix(")")
    message, evidence = str(record.get("message", "")), str(record.get("evidence", ""))
    return {
        **record,
        "action": _ACTIONS.get(words),
        "ground": Ground.TRACED_BEFORE if _TRACED in why else None,
        "why": why,
        "failure": hashlib.sha256(message.encode()).hexdigest()[:16],
        "repeats": evidence in message,
    }

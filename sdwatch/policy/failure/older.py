"""Read journals of earlier versions, which had words instead of codes. Pure.

Versions up to 0.1 wrote a decision of the recovery gate as `ACTION (why)`, and nothing that
identifies a failure. Runs that they suspended resume, and their WHY.txt says what happened before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from sdwatch.policy.failure.recovery import Action, Ground

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
_PROVEN = "two jobs were proven to bring the same failure on themselves"


def with_codes(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a `call_failed` or `call_proven` record with the codes that it lacks; a record of this
    version is unchanged."""
    if "action" in record:
        return dict(record)
    words, _, why = str(record.get("decision", "")).partition(" (")
    why = why.removesuffix(")")
    message, evidence = str(record.get("message", "")), str(record.get("evidence", ""))
    return {
        **record,
        "action": _ACTIONS.get(words),
        "ground": Ground.PROVEN_BEFORE if _PROVEN in why else None,
        "why": why,
        "failure": hashlib.sha256(message.encode()).hexdigest()[:16],
        "repeats": evidence in message,
    }

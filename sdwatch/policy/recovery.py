"""The recovery gate: every failed call passes this one function. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sdwatch.policy.verdict import Diagnosis

COUNTED_ATTEMPTS = 2
"""A call is tried once, and once more after one restart (promise 3)."""

SENT_AT_MOST = 5
"""The hard bound on how often one call is sent, whatever did not count (promise 3)."""

CUT_OFFS = 2
"""So often may the monitor's own death cut off the same call without it counting."""


class Action(StrEnum):
    """What to do about a failed call."""

    FAIL = "fail"
    RESTART = "restart and retry"
    INTERRUPT = "interrupt, then retry"
    HOLD = "hold"


@dataclass(frozen=True)
class Decision:
    """What the gate returned, and why: written to the journal as it is."""

    action: Action
    why: str


_NOT_THE_CALLS_FAULT = (Diagnosis.NOT_USABLE, Diagnosis.BUSY, Diagnosis.STORAGE)


def counts(diagnosis: Diagnosis) -> bool:
    """Whether a failure so diagnosed is one of the call's counted attempts."""
    return diagnosis not in _NOT_THE_CALLS_FAULT


def decide(diagnosis: Diagnosis, attempts: int, recovery: bool = True, sent: int = 1) -> Decision:
    """What to do after a failure.

    `attempts`: counted attempts of this call so far, this one included. `recovery`: False is
    fail-fast (config `recovery: off`). `sent`: how often it was sent, counted or not.
    """
    if diagnosis is Diagnosis.BAD_REQUEST:
        return Decision(Action.FAIL, "the request itself is wrong; a restart cannot help")
    if sent >= SENT_AT_MOST:
        return Decision(Action.FAIL, f"it was sent {sent} times, and no answer was of use")
    if not counts(diagnosis):
        return Decision(Action.HOLD, "nothing is wrong with the job; it waits")
    if not recovery:
        return Decision(Action.FAIL, "recovery is off in the config")
    if attempts >= COUNTED_ATTEMPTS:
        return Decision(Action.FAIL, f"the same call has failed {attempts} times")
    if diagnosis is Diagnosis.STUCK:
        return Decision(Action.INTERRUPT, "no progress; an interrupt may free it")
    return Decision(Action.RESTART, "a restart may cure it")

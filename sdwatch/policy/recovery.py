"""The recovery gate: every failed call passes through here. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sdwatch.policy.verdict import Diagnosis

COUNTED_ATTEMPTS = 2
"""A call is tried once, and once more after one restart (promise 3)."""

EXCUSED_ATTEMPTS = 1
"""So many attempts of a call may the canary blame on the WebUI."""

CUT_OFFS = 2
"""So often may the monitor's own death cut off the same call without it counting."""

SENT_AT_MOST = COUNTED_ATTEMPTS + EXCUSED_ATTEMPTS + CUT_OFFS
"""The hard bound on how often one call is sent, whatever did not count (promise 3). What a stop
gave up in order is not one of them: no fault is behind it."""


class Action(StrEnum):
    """What to do about a failed call."""

    FAIL = "fail"
    RESTART = "restart and retry"
    WAIT = "wait until it answers, then retry"
    RETRY = "retry"
    INTERRUPT = "interrupt, then retry"
    CANARY = "ask the canary"
    HOLD = "hold"


@dataclass(frozen=True)
class Decision:
    """What the gate returned, and why: written to the journal as it is."""

    action: Action
    why: str


PROVEN = "two jobs were proven to bring the same failure on themselves"
"""Why a call is not tried again before the canary is asked."""

_NOT_THE_CALLS_FAULT = (Diagnosis.NOT_USABLE, Diagnosis.BUSY, Diagnosis.STORAGE)


def counts(diagnosis: Diagnosis) -> bool:
    """Whether a failure so diagnosed is one of the call's counted attempts."""
    return diagnosis not in _NOT_THE_CALLS_FAULT


_ENDS_A_LIFE = (Diagnosis.CRASH, Diagnosis.STUCK, Diagnosis.POISONED)


def is_crash(diagnosis: Diagnosis, poisons: bool, decision: Decision) -> bool:
    """Whether the WebUI must be restarted after a failure. A second server error from a WebUI that
    still answers does not yet say so: the canary will. `poisons`: see Verdict."""
    again = decision.action in (Action.RESTART, Action.WAIT)
    return poisons or diagnosis in _ENDS_A_LIFE or again


def decide(
    diagnosis: Diagnosis,
    attempts: int,
    recovery: bool = True,
    sent: int = 1,
    known: bool = False,
    *,
    managed: bool = True,
) -> Decision:
    """What to do after a failure.

    `attempts`: counted attempts of this call so far, this one included. `recovery`: False is
    fail-fast (config `recovery: off`). `sent`: how often it was sent, counted or not, and not given
    up in order by a stop. `known`: the same failure was proven twice to be a job's own. `managed`:
    the WebUI is ours to restart.
    """
    if diagnosis is Diagnosis.BAD_REQUEST:
        return Decision(Action.FAIL, "the request itself is wrong; a restart cannot help")
    if not counts(diagnosis):
        if sent >= SENT_AT_MOST:
            return Decision(Action.FAIL, f"it was sent {sent} times, and no answer was of use")
        return Decision(Action.HOLD, "nothing is wrong with the job; it waits")
    if not recovery:
        return Decision(Action.FAIL, "recovery is off in the config")
    if attempts >= COUNTED_ATTEMPTS:
        why = f"the same call has failed {attempts} times"
        if diagnosis is Diagnosis.INTERRUPTED:
            return Decision(Action.FAIL, f"{why}, and somebody ended it")
        return Decision(Action.CANARY, f"{why}: the job, or the WebUI?")
    if known:
        return Decision(Action.CANARY, f"{PROVEN}: this one, too?")
    if sent >= SENT_AT_MOST:
        return Decision(Action.FAIL, f"it was sent {sent} times, and no answer was of use")
    if diagnosis is Diagnosis.INTERRUPTED:
        return Decision(Action.RETRY, "somebody ended it; the WebUI is well")
    if diagnosis is Diagnosis.STUCK:
        return Decision(Action.INTERRUPT, "no progress; an interrupt may free it")
    return bring_up("a restart may cure it", managed)


def bring_up(why: str, managed: bool) -> Decision:
    """Have the WebUI brought up, then try again: by a restart, where it is ours."""
    if managed:
        return Decision(Action.RESTART, why)
    return Decision(Action.WAIT, "sdwatch did not start this WebUI, and cannot restart it")


def after_canary(unwell: str, excused: int, sent: int) -> Decision:
    """What to do about a call that has failed twice, now that the WebUI was put to the proof.

    `unwell`: why the canary failed, or ''. `excused`: how many attempts of this call the canary
    blamed on the WebUI before; `sent`: how often it was sent.
    """
    if not unwell:
        return Decision(Action.FAIL, "the WebUI is well: it drew the canary, and not this")
    if excused >= EXCUSED_ATTEMPTS:
        why = "the WebUI drew the canary before this call, and not after it"
        return Decision(Action.FAIL, f"{why}: {unwell}")
    if sent >= SENT_AT_MOST:
        return Decision(Action.FAIL, f"it was sent {sent} times, and the WebUI is unwell: {unwell}")
    return Decision(Action.HOLD, f"the WebUI is unwell: {unwell}")

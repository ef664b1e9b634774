"""The recovery gate: every failed call passes through here. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum

from sdwatch.policy.facts import Blamed, Diagnosis

COUNTED_ATTEMPTS = 2
"""A call is tried once, and once more after one restart (promise 3)."""

EXCUSED_ATTEMPTS = 1
"""So many attempts of a call may the self-test blame on the WebUI."""

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
    TEST_AGAIN = "restart, then test again"
    HOLD = "hold"


@dataclass(frozen=True)
class Decision:
    """What the gate returned, and why: written to the journal as it is."""

    action: Action
    why: str
    blame: Blamed | None = None  # of a call that failed for good after a self-test

    @property
    def excuses(self) -> bool:
        """Of a decision after a self-test: whether the last attempt does not count."""
        return self.action in (Action.HOLD, Action.RETRY)


PROVEN = "two jobs were proven to bring the same failure on themselves"
"""Why a call is tried again without a restart before."""

_NOT_THE_CALLS_FAULT = (Diagnosis.NOT_USABLE, Diagnosis.BUSY, Diagnosis.STORAGE)


def counts(diagnosis: Diagnosis) -> bool:
    """Whether a failure so diagnosed is one of the call's counted attempts."""
    return diagnosis not in _NOT_THE_CALLS_FAULT


_ENDS_A_LIFE = (Diagnosis.CRASH, Diagnosis.STUCK, Diagnosis.POISONED)


def is_crash(diagnosis: Diagnosis, poisons: bool, decision: Decision) -> bool:
    """Whether the WebUI must be restarted after a failure. A second server error from a WebUI that
    still answers does not yet say so: the self-test will. `poisons`: see Verdict."""
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
    time_limit: bool = False,
) -> Decision:
    """Return what to do after a failure.

    `attempts`: counted attempts of this call so far, this one included. `recovery`: False is
    fail-fast (config `recovery: off`). `sent`: how often it was sent, counted or not, and not given
    up in order by a stop. `known`: the same failure was proven twice to be a job's own, and leaves
    the WebUI healthy: its second attempt needs no restart. `managed`: the WebUI is ours to restart.
    `time_limit`: a proxy was shown to give up calls of this length.
    """
    if diagnosis is Diagnosis.BAD_REQUEST:
        return Decision(Action.FAIL, "the request itself is wrong; a restart cannot help")
    if time_limit:
        return Decision(Action.FAIL, "a proxy gave it up twice after the same time")
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
    if sent >= SENT_AT_MOST:
        return Decision(Action.FAIL, f"it was sent {sent} times, and no answer was of use")
    if known:
        return Decision(Action.RETRY, f"{PROVEN}: no restart before this one's second attempt")
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


class SelfTest(Enum):
    """What a self-test after the second failure of a call showed."""

    PASSED = "on the incarnation on which the call failed"
    PASSED_AFTER_RESTART = "on a fresh one; that of the failed call did not live, or not pass"
    FAILED = "and the WebUI can be restarted and tested again"
    HELD = "on a fresh incarnation, or on a WebUI that is not ours: the lane is on hold"


def after_self_test(
    result: SelfTest, unhealthy: str = "", *, first_call: bool, excused: int, sent: int
) -> Decision:
    """Return what to do about a call that has failed twice, now that the WebUI was tested.

    `unhealthy`: why the self-test failed, or ''. `first_call`: its last attempt was the first call
    of its incarnation, so that no earlier call can have harmed that. `excused`: how many attempts
    of this call were blamed on the WebUI before; `sent`: how often it was sent. A decision that
    `excuses` gives the call its one last attempt: at once, or when the hold is over.
    """
    if result is SelfTest.PASSED:
        why = "the WebUI is healthy: it passed its self-test, and not this"
        return Decision(Action.FAIL, why, Blamed.JOB)
    if excused >= EXCUSED_ATTEMPTS:
        return Decision(Action.FAIL, _last(result, unhealthy), Blamed.JOB)
    if result is SelfTest.FAILED:
        return Decision(Action.TEST_AGAIN, f"the WebUI fails its self-test: {unhealthy}")
    if result is SelfTest.PASSED_AFTER_RESTART and first_call:
        why = "a fresh WebUI passes its self-test, and failed this as its first call"
        return Decision(Action.FAIL, why, Blamed.JOB)
    if sent >= SENT_AT_MOST:
        return Decision(
            Action.FAIL, f"it was sent {sent} times, and no answer was of use", Blamed.WEBUI
        )
    if result is SelfTest.PASSED_AFTER_RESTART:
        why = "the WebUI was unusable until its restart: that attempt does not count"
        return Decision(Action.RETRY, why)
    return Decision(Action.HOLD, f"the WebUI fails its self-test: {unhealthy}")


def _last(result: SelfTest, unhealthy: str) -> str:
    if result is SelfTest.PASSED_AFTER_RESTART:
        return "this was its last attempt; the WebUI passes its self-test after a restart"
    return f"this was its last attempt; the WebUI passed its self-test before it: {unhealthy}"

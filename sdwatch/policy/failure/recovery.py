"""The recovery gate: every failed call passes through here. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum

from sdwatch.policy.failure.facts import Blamed, Diagnosis

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
    """What to do about a failed call. The values are what journals have."""

    FAIL = "fail"
    RESTART = "restart"
    WAIT = "wait"
    RETRY = "retry"
    INTERRUPT = "interrupt"
    SELF_TEST = "self-test"
    TEST_AGAIN = "test-again"
    HOLD = "hold"


class Ground(StrEnum):
    """Why the gate decided so. The values are what journals have."""

    REQUEST_WRONG = "request-wrong"
    TIME_LIMIT = "time-limit"
    SENT_TOO_OFTEN = "sent-too-often"
    NOT_THE_JOB = "not-the-job"
    RECOVERY_OFF = "recovery-off"
    NO_RECOVERY = "no-recovery"
    FAILED_TWICE = "failed-twice"
    ENDED_TWICE = "ended-twice"
    PROVEN_BEFORE = "proven-before"
    ENDED_BY_SOMEBODY = "ended-by-somebody"
    NO_PROGRESS = "no-progress"
    FREED = "freed"
    NOT_FREED = "not-freed"
    MAY_CURE = "may-cure"
    NOT_OURS = "not-ours"
    HEALTHY = "healthy"
    HEALTHY_WHEN_FRESH = "healthy-when-fresh"
    WAS_UNUSABLE = "was-unusable"
    UNHEALTHY = "unhealthy"
    LAST_AND_HEALTHY = "last-and-healthy"
    LAST_AND_UNHEALTHY = "last-and-unhealthy"


PROVEN = "two jobs were proven to bring the same failure on themselves"
"""For people: why a call is tried again without a restart before."""

ACTIONS = {
    Action.FAIL: "fail",
    Action.RESTART: "restart and retry",
    Action.WAIT: "wait until it answers, then retry",
    Action.RETRY: "retry",
    Action.INTERRUPT: "interrupt, then retry",
    Action.SELF_TEST: "ask the canary",
    Action.TEST_AGAIN: "restart, then test again",
    Action.HOLD: "hold",
}
_GROUNDS = {
    Ground.REQUEST_WRONG: "the request itself is wrong; a restart cannot help",
    Ground.TIME_LIMIT: "a proxy gave it up twice after the same time",
    Ground.SENT_TOO_OFTEN: "it was sent {times} times, and no answer was of use",
    Ground.NOT_THE_JOB: "nothing is wrong with the job; it waits",
    Ground.RECOVERY_OFF: "recovery is off in the config",
    Ground.NO_RECOVERY: "this client knows of no recovery",
    Ground.FAILED_TWICE: "the same call has failed {times} times: the job, or the WebUI?",
    Ground.ENDED_TWICE: "the same call has failed {times} times, and somebody ended it",
    Ground.PROVEN_BEFORE: f"{PROVEN}: no restart before this one's second attempt",
    Ground.ENDED_BY_SOMEBODY: "somebody ended it; the WebUI is well",
    Ground.NO_PROGRESS: "no progress; an interrupt may free it",
    Ground.FREED: "no progress; an interrupt freed it",
    Ground.NOT_FREED: "no progress, and an interrupt did not free it",
    Ground.MAY_CURE: "a restart may cure it",
    Ground.NOT_OURS: "sdwatch did not start this WebUI, and cannot restart it",
    Ground.HEALTHY: "the WebUI is healthy: it passed its self-test, and not this",
    Ground.HEALTHY_WHEN_FRESH: (
        "a fresh WebUI passes its self-test, and failed this as its first call"
    ),
    Ground.WAS_UNUSABLE: "the WebUI was unusable until its restart: that attempt does not count",
    Ground.UNHEALTHY: "the WebUI fails its self-test: {unhealthy}",
    Ground.LAST_AND_HEALTHY: (
        "this was its last attempt; the WebUI passes its self-test after a restart"
    ),
    Ground.LAST_AND_UNHEALTHY: (
        "this was its last attempt; the WebUI passed its self-test before it: {unhealthy}"
    ),
}


@dataclass(frozen=True)
class Decision:
    """What the gate returned. `times`: how often the call failed, or was sent, where the ground
    counts that; `unhealthy`: for people, why the WebUI failed its self-test."""

    action: Action
    ground: Ground
    blame: Blamed | None = None  # of a call that failed for good after a self-test
    times: int = 0
    unhealthy: str = ""

    @property
    def excuses(self) -> bool:
        """Of a decision after a self-test: whether the last attempt does not count."""
        return self.action in (Action.HOLD, Action.RETRY)

    @property
    def why(self) -> str:
        """The ground, for people."""
        return _GROUNDS[self.ground].format(times=self.times, unhealthy=self.unhealthy)

    @property
    def words(self) -> str:
        """All of it, for people."""
        return f"{ACTIONS[self.action]} ({self.why})"


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
        return Decision(Action.FAIL, Ground.REQUEST_WRONG)
    if time_limit:
        return Decision(Action.FAIL, Ground.TIME_LIMIT)
    if not counts(diagnosis):
        if sent >= SENT_AT_MOST:
            return Decision(Action.FAIL, Ground.SENT_TOO_OFTEN, times=sent)
        return Decision(Action.HOLD, Ground.NOT_THE_JOB)
    if not recovery:
        return Decision(Action.FAIL, Ground.RECOVERY_OFF)
    if attempts >= COUNTED_ATTEMPTS:
        if diagnosis is Diagnosis.INTERRUPTED:
            return Decision(Action.FAIL, Ground.ENDED_TWICE, times=attempts)
        return Decision(Action.SELF_TEST, Ground.FAILED_TWICE, times=attempts)
    if sent >= SENT_AT_MOST:
        return Decision(Action.FAIL, Ground.SENT_TOO_OFTEN, times=sent)
    if known:
        return Decision(Action.RETRY, Ground.PROVEN_BEFORE)
    if diagnosis is Diagnosis.INTERRUPTED:
        return Decision(Action.RETRY, Ground.ENDED_BY_SOMEBODY)
    if diagnosis is Diagnosis.STUCK:
        return Decision(Action.INTERRUPT, Ground.NO_PROGRESS)
    return bring_up(Ground.MAY_CURE, managed)


def bring_up(ground: Ground, managed: bool) -> Decision:
    """Have the WebUI brought up, then try again: by a restart, where it is ours."""
    if managed:
        return Decision(Action.RESTART, ground)
    return Decision(Action.WAIT, Ground.NOT_OURS)


class SelfTestResult(Enum):
    """What a self-test after the second failure of a call showed."""

    PASSED = "on the incarnation on which the call failed"
    PASSED_AFTER_RESTART = "on a fresh one; that of the failed call did not live, or not pass"
    FAILED = "and the WebUI can be restarted and tested again"
    HELD = "on a fresh incarnation, or on a WebUI that is not ours: the lane is on hold"


def after_self_test(
    result: SelfTestResult, unhealthy: str = "", *, first_call: bool, excused: int, sent: int
) -> Decision:
    """Return what to do about a call that has failed twice, now that the WebUI was tested.

    `unhealthy`: why the self-test failed, or ''. `first_call`: its last attempt was the first call
    of its incarnation, so that no earlier call can have harmed that. `excused`: how many attempts
    of this call were blamed on the WebUI before; `sent`: how often it was sent. A decision that
    `excuses` gives the call its one last attempt: at once, or when the hold is over.
    """
    if result is SelfTestResult.PASSED:
        return Decision(Action.FAIL, Ground.HEALTHY, Blamed.JOB)
    if excused >= EXCUSED_ATTEMPTS:
        is_healthy = result is SelfTestResult.PASSED_AFTER_RESTART
        ground = Ground.LAST_AND_HEALTHY if is_healthy else Ground.LAST_AND_UNHEALTHY
        return Decision(Action.FAIL, ground, Blamed.JOB, unhealthy=unhealthy)
    if result is SelfTestResult.FAILED:
        return Decision(Action.TEST_AGAIN, Ground.UNHEALTHY, unhealthy=unhealthy)
    if result is SelfTestResult.PASSED_AFTER_RESTART and first_call:
        return Decision(Action.FAIL, Ground.HEALTHY_WHEN_FRESH, Blamed.JOB)
    if sent >= SENT_AT_MOST:
        return Decision(Action.FAIL, Ground.SENT_TOO_OFTEN, Blamed.WEBUI, times=sent)
    if result is SelfTestResult.PASSED_AFTER_RESTART:
        return Decision(Action.RETRY, Ground.WAS_UNUSABLE)
    return Decision(Action.HOLD, Ground.UNHEALTHY, unhealthy=unhealthy)

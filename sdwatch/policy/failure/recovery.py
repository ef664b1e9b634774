"""The recovery gate: decide what happens after each failed call. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, StrEnum

from sdwatch.policy.failure.facts import Blamed, Diagnosis

COUNTED_ATTEMPTS = 2
"""Counted attempts per call: the first, and one more after one restart (promise 3)."""

EXCUSED_ATTEMPTS = 1
"""Attempts per call that don't count because the self-test then blamed the WebUI."""

CUT_OFFS = 2
"""Attempts per call that don't count because the monitor's own death cut them short."""

SENT_AT_MOST = COUNTED_ATTEMPTS + EXCUSED_ATTEMPTS + CUT_OFFS
"""The hard limit on how often one call is sent, whatever did not count (promise 3). Attempts given
up by a clean stop are not included: no failure is behind them."""


class Action(StrEnum):
    """What to do about a failed call. The values are written to journals."""

    FAIL = "fail"
    RESTART = "restart"
    WAIT = "wait"
    RETRY = "retry"
    INTERRUPT = "interrupt"
    SELF_TEST = "self-test"
    TEST_AGAIN = "test-again"
    HOLD = "hold"


class Ground(StrEnum):
    """Why the gate decided so. The values are written to journals."""

    REQUEST_WRONG = "request-wrong"
    TIME_LIMIT = "time-limit"
    SENT_TOO_OFTEN = "sent-too-often"
    NOT_THE_JOB = "not-the-job"
    RECOVERY_OFF = "recovery-off"
    NO_RECOVERY = "no-recovery"
    FAILED_TWICE = "failed-twice"
    ENDED_TWICE = "ended-twice"
    TRACED_BEFORE = "proven-before"
    ENDED_BY_SOMEBODY = "ended-by-somebody"
    NO_PROGRESS = "no-progress"
    FREED = "freed"
    NOT_FREED = "not-freed"
    MAY_CURE = "may-cure"
    NOT_OURS = "not-ours"
    HEALTHY = "healthy"
    HEALTHY_WHEN_FRESH = "healthy-when-fresh"
    WAS_UNUSABLE = "was-unusable"
    WAS_GONE = "was-gone"
    UNHEALTHY = "unhealthy"
    LAST_AND_HEALTHY = "last-and-healthy"
    LAST_AND_UNHEALTHY = "last-and-unhealthy"


TRACED_TO_OTHERS = "the same failure was traced to two other jobs"
"""For people: why a call is tried again without a restart before it."""

ACTIONS = {
    Action.FAIL: "fail the job",
    Action.RESTART: "restart and retry",
    Action.WAIT: "wait until it answers, then retry",
    Action.RETRY: "retry",
    Action.INTERRUPT: "interrupt, then retry",
    Action.SELF_TEST: "run the self-test",
    Action.TEST_AGAIN: "restart, then test again",
    Action.HOLD: "hold",
}
_GROUNDS = {
    Ground.REQUEST_WRONG: "the request itself is wrong; a restart cannot help",
    Ground.TIME_LIMIT: "a proxy aborted it twice after the same time",
    Ground.SENT_TOO_OFTEN: "gave up after {times} attempts without a usable reply",
    Ground.NOT_THE_JOB: "the job is not at fault, so it waits",
    Ground.RECOVERY_OFF: "recovery is off in the config",
    Ground.NO_RECOVERY: "this client does no recovery",
    Ground.FAILED_TWICE: (
        "the same call failed {times} times; this shows whether the job or the WebUI is at fault"
    ),
    Ground.ENDED_TWICE: "failed {times} times, the last time because somebody interrupted it",
    Ground.TRACED_BEFORE: f"{TRACED_TO_OTHERS}, so no restart is needed before the second attempt",
    Ground.ENDED_BY_SOMEBODY: "somebody interrupted it; the WebUI is healthy",
    Ground.NO_PROGRESS: "no progress; an interrupt may free it",
    Ground.FREED: "no progress; an interrupt freed it",
    Ground.NOT_FREED: "no progress, and an interrupt did not free it",
    Ground.MAY_CURE: "a restart may fix it",
    Ground.NOT_OURS: "sdwatch did not start this WebUI and cannot restart it",
    Ground.HEALTHY: "the WebUI passed its self-test and fails only this call",
    Ground.HEALTHY_WHEN_FRESH: (
        "this was the first call after a restart and failed, and the WebUI passed its self-test: "
        "no other call can have harmed it, so it is the job"
    ),
    Ground.WAS_UNUSABLE: "the WebUI was unusable until its restart, so that attempt does not count",
    Ground.WAS_GONE: "the WebUI was gone, and is healthy again, so that attempt does not count",
    Ground.UNHEALTHY: "the WebUI fails its self-test: {unhealthy}",
    Ground.LAST_AND_HEALTHY: (
        "this was its last attempt; the WebUI passed its self-test before it, and again after it"
    ),
    Ground.LAST_AND_UNHEALTHY: (
        "this was its last attempt; the WebUI passed its self-test before it and fails it now: "
        "{unhealthy}"
    ),
}


@dataclass(frozen=True)
class Decision:
    """What the gate decided. `times`: how often the call failed or was sent, if the ground counts
    that; `unhealthy`: why the WebUI failed its self-test, for people. `excuses`: after a self-test,
    the call's last attempt does not count."""

    action: Action
    ground: Ground
    blame: Blamed | None = None  # of a call that failed for good after a self-test
    times: int = 0
    unhealthy: str = ""
    excuses: bool = False

    @property
    def why(self) -> str:
        """Return the ground, for people."""
        return _GROUNDS[self.ground].format(times=self.times, unhealthy=self.unhealthy)

    @property
    def words(self) -> str:
        """Return action and ground, for people."""
        return f"{ACTIONS[self.action]} ({self.why})"


_NOT_THE_CALLS_FAULT = (Diagnosis.NOT_USABLE, Diagnosis.BUSY, Diagnosis.STORAGE)


def counts(diagnosis: Diagnosis) -> bool:
    """Return whether a failure with this diagnosis counts as one of the call's attempts."""
    return diagnosis not in _NOT_THE_CALLS_FAULT


_ENDS_A_LIFE = (Diagnosis.CRASH, Diagnosis.STUCK, Diagnosis.POISONED)


def needs_restart(diagnosis: Diagnosis, poisons: bool, decision: Decision) -> bool:
    """Return whether the WebUI must be restarted after a failure. After a second server error from
    a WebUI that still answers, the self-test decides that. `poisons`: see Explanation."""
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

    `attempts`: counted attempts of this call so far, including this one. `recovery`: False means
    fail-fast (config `recovery: off`). `sent`: how often the call was sent, counted or not, without
    the attempts that a clean stop gave up. `known`: the same failure was traced to two other jobs
    and leaves the WebUI healthy, so the second attempt needs no restart. `managed`: sdwatch may
    restart the WebUI. `time_limit`: a proxy was shown to abort calls of this length.
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
        return Decision(Action.RETRY, Ground.TRACED_BEFORE)
    if diagnosis is Diagnosis.INTERRUPTED:
        return Decision(Action.RETRY, Ground.ENDED_BY_SOMEBODY)
    if diagnosis is Diagnosis.STUCK:
        return Decision(Action.INTERRUPT, Ground.NO_PROGRESS)
    return restart_or_wait(Ground.MAY_CURE, managed)


def restart_or_wait(ground: Ground, managed: bool) -> Decision:
    """Return the decision to bring the WebUI up and retry: by a restart if it is managed, else by
    waiting for it."""
    if managed:
        return Decision(Action.RESTART, ground)
    return Decision(Action.WAIT, Ground.NOT_OURS)


class BlameTest(Enum):
    """What the self-test shows after a call has failed twice: it decides whom to blame."""

    PASSED = "on the incarnation on which the call failed"
    PASSED_AFTER_RESTART = "on a fresh one; that of the failed call was gone or failed the test"
    PASSED_AFTER_OUTAGE = "on an external WebUI, which was gone after the failed call"
    FAILED = "the WebUI can be restarted and tested again"
    HELD = "failed on a fresh incarnation or on an external WebUI: the lane is on hold"


_PASSED = (BlameTest.PASSED_AFTER_RESTART, BlameTest.PASSED_AFTER_OUTAGE)


def after_self_test(
    result: BlameTest, unhealthy: str = "", *, first_call: bool, excused: int, sent: int
) -> Decision:
    """Return what to do about a call that has failed twice, now that the WebUI was tested.

    `unhealthy`: why the self-test failed, or ''. `first_call`: the call's last attempt was the
    first call of its incarnation, so no earlier call can have harmed that. `excused`: attempts of
    this call that were already blamed on the WebUI; `sent`: how often it was sent. A decision that
    `excuses` gives the call one last attempt: at once, or when the hold is over."""
    if result is BlameTest.PASSED:
        return Decision(Action.FAIL, Ground.HEALTHY, Blamed.JOB)
    if excused >= EXCUSED_ATTEMPTS:
        is_healthy = result in _PASSED
        ground = Ground.LAST_AND_HEALTHY if is_healthy else Ground.LAST_AND_UNHEALTHY
        return Decision(Action.FAIL, ground, Blamed.JOB, unhealthy=unhealthy)
    if result is BlameTest.FAILED:
        return Decision(Action.TEST_AGAIN, Ground.UNHEALTHY, unhealthy=unhealthy)
    if result is BlameTest.PASSED_AFTER_RESTART and first_call:
        return Decision(Action.FAIL, Ground.HEALTHY_WHEN_FRESH, Blamed.JOB)
    if sent >= SENT_AT_MOST:
        return Decision(Action.FAIL, Ground.SENT_TOO_OFTEN, Blamed.WEBUI, times=sent)
    if result is BlameTest.PASSED_AFTER_RESTART:
        return Decision(Action.RETRY, Ground.WAS_UNUSABLE, excuses=True)
    if result is BlameTest.PASSED_AFTER_OUTAGE:
        return Decision(Action.RETRY, Ground.WAS_GONE, excuses=True)
    return Decision(Action.HOLD, Ground.UNHEALTHY, unhealthy=unhealthy, excuses=True)


# -- which replies prove that a proxy gives calls up after a fixed time. nginx, HAProxy, gradio.live
# and Cloudflare abort a call then, while the WebUI behind them keeps generating for nobody
# (A1111#9722, #10301). A test picture is too short to show that.

GIVEN_UP_BY_PROXIES = frozenset({408, 502, 503, 504, 522, 524, 598, 599})
"""HTTP statuses of a proxy that waited in vain: 504 is the standard's; 502 and 503 are what some
load balancers answer; 522 and 524 are Cloudflare's; 598 and 599 are in use without a standard."""

SHORTEST = 0.5
"""Seconds: whoever refuses a call outright (503 of a queue that is full, 502 of a WebUI that is
down) does so at once, and no proxy's limit is that short."""

_TOLERANCE = 1.0
_SHARE = 0.05
"""Two durations are equal within a second, or 5 % of the longer. A proxy counts from the request it
has read or the last byte it sent, some in ticks of a second, and the network and a loaded machine
add less than that; generations that differ by so little are one length for the purpose."""


def may_still_generate(status: int | None, seconds: float) -> bool:
    """Return whether the WebUI may still work on a call after this status and so many seconds."""
    return status in GIVEN_UP_BY_PROXIES and seconds >= SHORTEST


def time_limit(
    status: int | None, seconds: float, earlier: Iterable[tuple[int | None, float]]
) -> float | None:
    """Return the limit in seconds that two attempts of one call prove; None where they do not.

    `status` and `seconds` of the attempt that has just failed, and of each of the `earlier` ones.
    The WebUI was idle and answered probes through the same proxy before each, so that neither a
    queue nor a dead WebUI explains equal durations.
    """
    if not may_still_generate(status, seconds):
        return None
    same = [
        before
        for answered, before in earlier
        if may_still_generate(answered, before)
        and abs(before - seconds) <= max(_TOLERANCE, _SHARE * max(before, seconds))
    ]
    return min(*same, seconds) if same else None


def limit_in_words(seconds: float) -> str:
    """Return a limit as a proxy's config has it, as far as can be measured: `60 s`, `1.5 s`."""
    rounded = f"{seconds:.1f}" if seconds < 10 else f"{seconds:.0f}"
    return f"{rounded.removesuffix('.0')} s"

"""The reason that a lane is on hold: the cause, who is to blame, and what to do about it. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from sdwatch.policy.failure.diagnosis import Explanation
from sdwatch.policy.failure.facts import Blamed, Diagnosis, whose_fault
from sdwatch.policy.failure.signatures import Signature
from sdwatch.policy.kinds.kind import Kind
from sdwatch.policy.kinds.unknown import UNKNOWN


class Cure(Enum):
    """What ends a hold. A failed start that only a person can fix does not count as a crash."""

    RESTART = "a restart may cure it"
    TIME = "it may go away by itself"
    PERSON = "somebody must do something"


class Lack(Enum):
    """What a WebUI that answers lacks, so that nothing can be sent to it."""

    PASSWORD = "the right user name and password"
    CHECKPOINT = "a checkpoint"
    API = "its API"
    OTHER = "something else"


class StartFailure(Enum):
    """Why a start did not lead to a ready WebUI."""

    ENDED = "its process ended"
    TOO_LATE = "it was not ready in time"
    NO_SIGN_OF_LIFE = "it did nothing for too long"
    UNUSABLE = "it answers but lacks something"
    SERVER_DIED = "its server ended while its process is still running"
    PORT_TAKEN = "another process has its port"
    BY_ITS_LOG = "its log says so"
    GIVEN_UP = "sdwatch stopped waiting for it"


class HoldCode(Enum):
    """Why one lane, or every lane, sends nothing."""

    OTHER = "another reason, which the caller gives"
    START_FAILED = "its WebUI does not start"
    NOT_STARTED = "nothing was started"
    STATE_UNWRITABLE = "the state folder cannot be written"
    CANNOT_KILL = "a process of its WebUI survives being killed"
    OPERATION_HANGS = "a start or stop of its WebUI hangs"
    LACKS_SOMETHING = "its WebUI answers but cannot be used as it is"
    NO_ANSWER = "its WebUI does not answer"
    FAILED_SELF_TEST = "its WebUI fails the self-test"
    SELF_TEST_DUE = "its self-test waits until a person's hold is released"
    FOUND_BY_CALL = "a call showed that its WebUI cannot be used"
    OCCUPIED = "its WebUI hangs in a generation that nobody waits for"
    CRASHED_REPEATEDLY = "too many jobs in a row crashed its WebUI"
    INTERNAL_ERROR = "internal error"
    PERSON = "a person's hold file"
    NO_ROOM = "the spool's disk is full"
    SHARE_GONE = "the spool's share is gone"
    SPOOL_UNREADABLE = "the spool cannot be read"
    DISK_REFUSES = "the spool's disk refuses to write"


@dataclass(frozen=True)
class HoldKey:
    """Identifies a hold. `facts`: values, and what a WebUI wrote; no text that sdwatch made for
    people, and no number that changes each time."""

    code: HoldCode = HoldCode.OTHER
    facts: tuple[Hashable, ...] = ()


@dataclass(frozen=True)
class HoldReason:
    """Why one lane is on hold.

    `cause`: one sentence; `advice`: what to do; `blame`: who is to blame; `lines`: the lines of the
    WebUI's output that matter, free of prompts; `failed_runs`: run ids of the runs that failed
    because of it; `cure`: what ends it; `key`: identifies it.
    """

    cause: str
    advice: str = ""
    blame: Blamed = Blamed.WEBUI
    lines: tuple[str, ...] = ()
    failed_runs: tuple[str, ...] = ()
    cure: Cure = Cure.PERSON
    key: HoldKey = HoldKey()

    def __str__(self) -> str:
        return self.cause


@dataclass(frozen=True)
class NoCall:
    """Why no call may start on any lane; `text`: for people; `frees`: the GPU is wanted."""

    text: str
    key: HoldKey
    frees: bool = False

    def __str__(self) -> str:
        return self.text

    @property
    def may_pass(self) -> bool:
        """Return whether it may end in a moment without a person: a disk refused something."""
        return self.key.code in _MAY_PASS


_MAY_PASS = {HoldCode.SHARE_GONE, HoldCode.SPOOL_UNREADABLE, HoldCode.DISK_REFUSES}


@dataclass(frozen=True)
class Held:
    """A lane that is on hold. `since`: UTC; `tried`: time (UTC) and result of each attempt, oldest
    first; `before`: how many earlier attempts are left out."""

    hold_reason: HoldReason
    since: str
    tried: tuple[tuple[str, str], ...] = ()
    before: int = 0


_NOT_OURS = "Restart your WebUI yourself: sdwatch did not start it and cannot restart it."
_START_FAILED = (
    "The WebUI's own output usually says why. If it does not, start the WebUI once by hand, with "
    "the `command` and in the `cwd` from the config"
)
_LIMITS = {StartFailure.TOO_LATE: "start_limit", StartFailure.NO_SIGN_OF_LIFE: "stall"}
"""The config key that lets a start take longer, for the failures that a longer wait may avoid."""

_NOT_STARTED = (
    "Correct `command`, `cwd`, `env` or `url` in the config: they say how the WebUI is started "
    "(`sdwatch check` names the line). Then restart sdwatch."
)
_IT_MAY_COME = "Nothing yet: sdwatch keeps checking."
_WITHOUT = {
    Lack.PASSWORD: (
        "Put those {password} into the config as `username` and `password`, then restart sdwatch."
    ),
    Lack.CHECKPOINT: "Put a checkpoint into its models folder (models/Stable-diffusion).",
    Lack.API: "Start it with --api.",
    Lack.OTHER: "Fix what the first line says about the WebUI's setup.",
}


def start_failed(
    how: str,
    known: Signature | None,
    failure: StartFailure = StartFailure.ENDED,
    advice: str = "",
    kind: Kind = UNKNOWN,
) -> HoldReason:
    """Return the reason that a managed WebUI did not start.

    `how`: it ended, or was not ready in time, in words; `known`: the signature that its output
    fits; `advice`: where the caller has its own; `kind`: that of an earlier incarnation, as far as
    it is known.
    """
    if failure is StartFailure.PORT_TAKEN:
        return not_started(how, advice, failure)
    key = HoldKey(HoldCode.START_FAILED, (failure, known.name if known else ""))
    if known is None:
        limit = _LIMITS.get(failure)
        slow = f"; if that works and it is only slow, raise `{limit}` there and restart sdwatch"
        slow = slow if limit else ""
        cause = f"the WebUI did not start: {how}"
        return HoldReason(cause, f"{_START_FAILED}{slow}.", cure=Cure.RESTART, key=key)
    cause = f"the WebUI did not start: {known.cause} ({how})"
    cure = _cure_of(known.diagnosis, managed=True)
    words = kind.fitted(known.advice)
    return HoldReason(cause, words, known.blames or Blamed.WEBUI, cure=cure, key=key)


def not_started(why: str, advice: str = "", failure: StartFailure | None = None) -> HoldReason:
    """Return the reason that nothing was started. `failure`: None where the command cannot run."""
    cause = f"the WebUI was not started: {why}"
    key = HoldKey(HoldCode.NOT_STARTED, (failure,))
    return HoldReason(cause, advice or _NOT_STARTED, Blamed.PERSON, key=key)


def seen_by_probe(
    reason: str,
    lack: Lack,
    *,
    managed: bool,
    kind: Kind = UNKNOWN,
    facts: tuple[Hashable, ...] = (),
) -> HoldReason:
    """Return the reason that a WebUI answers but cannot be used because of `lack`; `reason`: the
    same in words; `facts`: see HoldKey."""
    advice = kind.fitted(_WITHOUT[lack])
    cause = f"the WebUI cannot be used: {reason}"
    key = HoldKey(HoldCode.LACKS_SOMETHING, (lack, *facts))
    if lack is Lack.PASSWORD:  # the config is wrong, and the WebUI as it should be
        return HoldReason(cause, advice, Blamed.PERSON, key=key)
    return HoldReason(cause, _restart_too(advice, managed), key=key)


def no_answer(reason: str, *, managed: bool, facts: tuple[Hashable, ...] = ()) -> HoldReason:
    """Return the reason that a WebUI does not answer as it should now; `facts`: see HoldKey."""
    key = HoldKey(HoldCode.NO_ANSWER, facts)
    cause = f"the WebUI is not ready: {reason}"
    if managed:
        return HoldReason(cause, _IT_MAY_COME, cure=Cure.TIME, key=key)
    advice = (
        "If it is not running, start it yourself: sdwatch did not start it and cannot restart it. "
        "If it is running, check that `url` in the config is its address."
    )
    return HoldReason(cause, advice, Blamed.PERSON, key=key)


def failed_self_test(what: str, explanation: Explanation, *, managed: bool) -> HoldReason:
    """Return the reason that a WebUI failed its self-test. `what`: the picture it was asked for."""
    cause = f"{what} failed: {explanation.cause}"
    advice = explanation.advice if managed else f"{_NOT_OURS} {explanation.advice}"
    key = HoldKey(HoldCode.FAILED_SELF_TEST, (explanation.key,))
    cure = _cure_of(explanation.diagnosis, managed)
    return HoldReason(cause, advice, _whose(explanation), cure=cure, key=key)


def self_test_due() -> HoldReason:
    """Return the reason that a WebUI is due for a self-test that a person's hold delays."""
    cause = "the WebUI must pass a self-test, which waits until the `hold` file is removed"
    advice = "Remove the `hold` file, or type `sdwatch resume`."
    return HoldReason(cause, advice, cure=Cure.TIME, key=HoldKey(HoldCode.SELF_TEST_DUE))


def found_by_call(cause: str, explanation: Explanation, *, managed: bool) -> HoldReason:
    """Return the reason that a call showed a WebUI to be unusable. `cause`: that of `explanation`,
    free of prompts."""
    who = Blamed.PERSON if explanation.diagnosis is Diagnosis.BUSY else _whose(explanation)
    advice = (
        explanation.advice if who is Blamed.PERSON else _restart_too(explanation.advice, managed)
    )
    key = HoldKey(HoldCode.FOUND_BY_CALL, (explanation.key,))
    return HoldReason(cause, advice, who, cure=_cure_of(explanation.diagnosis, managed), key=key)


def hangs_elsewhere(reason: HoldReason) -> HoldReason:
    """Return the reason that an external WebUI hangs in sdwatch's own generation; `reason`: as the
    call showed it."""
    cause = f"{reason.cause}. The generation is sdwatch's own, and an interrupt did not free it"
    return replace(reason, cause=cause, advice=_HANGS)


_HANGS = (
    "Restart the WebUI by hand: it hangs, or the thread that generates has ended, so it accepts "
    "everything and generates nothing. sdwatch did not start it and cannot restart it, and resumes "
    "once it is idle."
)


def occupied() -> HoldReason:
    """Return the reason that an external WebUI hangs in a generation that nobody waits for."""
    cause = (
        "the WebUI still runs a prompt of sdwatch's own that was cancelled or given up, and an "
        "interrupt did not end it"
    )
    return HoldReason(cause, _HANGS, cure=Cure.TIME, key=HoldKey(HoldCode.OCCUPIED))


def crashed_repeatedly(runs: Sequence[str]) -> HoldReason:
    """Return the reason that a WebUI crashed on several jobs in a row. `runs`: their run ids."""
    return HoldReason(
        f"{len(runs)} different jobs in a row crashed the WebUI although it passes its self-test: "
        "the jobs or the WebUI may be the cause",
        "Compare their WHY.txt in failed/. If the process ended the same way each time, fix the "
        "WebUI, its driver or the machine first. If each job asks for something very large, "
        "change the jobs.",
        Blamed.UNKNOWN,
        failed_runs=tuple(runs),
        cure=Cure.TIME,
        key=HoldKey(HoldCode.CRASHED_REPEATEDLY, tuple(runs)),
    )


def no_room(reason: str) -> HoldReason:
    """Return the reason that the spool's disk is full."""
    advice = (
        "Free space on that disk (`retention` in the config limits done/ and failed/), or lower "
        "`min_free`."
    )
    return HoldReason(reason, advice, Blamed.MACHINE, key=HoldKey(HoldCode.NO_ROOM))


def internal_error(error: str) -> HoldReason:
    """Return the reason that sdwatch has an error of its own."""
    advice = "Please report it, with sdwatch.log from the state folder. sdwatch keeps trying."
    cause = f"internal error: {error}"
    key = HoldKey(HoldCode.INTERNAL_ERROR)
    return HoldReason(cause, advice, Blamed.SDWATCH, cure=Cure.RESTART, key=key)


def _cure_of(diagnosis: Diagnosis, managed: bool) -> Cure:
    if diagnosis is Diagnosis.BUSY:
        return Cure.TIME
    restart_helps = managed and diagnosis not in (Diagnosis.NOT_USABLE, Diagnosis.STORAGE)
    return Cure.RESTART if restart_helps else Cure.PERSON


def _whose(explanation: Explanation) -> Blamed:
    """Return who is to blame; never the job, because the request has worked before."""
    who = whose_fault(explanation.diagnosis, explanation.blames)
    return Blamed.WEBUI if who is Blamed.JOB else who


def _restart_too(advice: str, managed: bool) -> str:
    return advice if managed else f"{advice} {_NOT_OURS}"

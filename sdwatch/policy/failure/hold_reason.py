"""What keeps a WebUI from being used: the cause, whose it is, and what to do about it. Pure; its
lane is on hold for it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import Enum

from sdwatch.policy.failure.advice import fitted
from sdwatch.policy.failure.diagnosis import Explanation, blame_for
from sdwatch.policy.failure.facts import Blamed, Diagnosis
from sdwatch.policy.failure.signatures import Signature
from sdwatch.policy.job.catalogue import Kind


class Cure(Enum):
    """What ends a hold. A start that failed in a way that only a person can cure is no crash."""

    RESTART = "a restart may cure it"
    TIME = "it may pass by itself"
    PERSON = "somebody must do something"


class Lack(Enum):
    """What a WebUI that answers does not have, so that nothing can be sent to it."""

    PASSWORD = "the right user name and password"
    CHECKPOINT = "a checkpoint"
    API = "its API"
    OTHER = "something else"


class StartFailure(Enum):
    """Why the wait for a start ended without a WebUI."""

    ENDED = "its process ended"
    TOO_LATE = "it was not ready in time"
    NO_SIGN_OF_LIFE = "it did nothing for too long"
    UNUSABLE = "it answers, and lacks something"
    SERVER_DIED = "its server ended, and its process lives on"
    PORT_TAKEN = "another process has its port"
    BY_ITS_LOG = "its log says so"
    GIVEN_UP = "it was not waited for any longer"


class HoldCode(Enum):
    """Why a lane, or every lane, sends nothing."""

    OTHER = "something that a caller knows"
    NO_START = "its WebUI does not start"
    NOT_BEGUN = "nothing was started"
    LACKS_SOMETHING = "its WebUI answers, and cannot be used as it is"
    NO_ANSWER = "its WebUI does not answer"
    FAILED_SELF_TEST = "its WebUI fails the self-test"
    TO_BE_TESTED = "its self-test waits for a person's hold to end"
    FOUND_BY_CALL = "a call found that its WebUI cannot be used"
    DOUBTED_JOBS = "too many jobs in a row ended its WebUI"
    BROKEN_HERE = "sdwatch itself broke"
    PERSON = "a person's hold file"
    NO_ROOM = "the spool's disk is full"
    SHARE_GONE = "the spool's share is gone"
    SPOOL_UNREADABLE = "the spool cannot be read"
    DISK_REFUSES = "the spool's disk takes nothing"


@dataclass(frozen=True)
class HoldKey:
    """By which one hold is told from another. `facts`: values, and what a WebUI wrote; no word that
    sdwatch made of them for people, and no number that is another each time."""

    code: HoldCode = HoldCode.OTHER
    facts: tuple[Hashable, ...] = ()


@dataclass(frozen=True)
class HoldReason:
    """`cause`: one sentence; `advice`: what to do, in this case; `blame`: whose it is; `lines`: the
    WebUI's output that matters, free of prompts; `spent`: runs that failed by it; `cure`: what ends
    it; `key`: by which it is told from another."""

    cause: str
    advice: str = ""
    blame: Blamed = Blamed.WEBUI
    lines: tuple[str, ...] = ()
    spent: tuple[str, ...] = ()
    cure: Cure = Cure.PERSON
    key: HoldKey = HoldKey()

    def __str__(self) -> str:
        return self.cause


@dataclass(frozen=True)
class NoCall:
    """Why no call may begin on any lane; `text`: for people."""

    text: str
    key: HoldKey

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Held:
    """A lane that is on hold. `since`: UTC; `tried`: when (UTC) and what was seen then, oldest
    first; `before`: so many more were seen before these."""

    hold_reason: HoldReason
    since: str
    tried: tuple[tuple[str, str], ...] = ()
    before: int = 0


_NOT_OURS = "Restart your WebUI yourself: sdwatch did not start it, and cannot."
_NO_START = (
    "Its own output usually says why. Start it once by hand with the `command` of the config"
)
_LIMITS = {StartFailure.TOO_LATE: "start_limit", StartFailure.NO_SIGN_OF_LIFE: "stall"}
"""What in the config lets a start take longer, where that is what ended it."""

_NOT_BEGUN = (
    "Correct that: `command`, `cwd`, `env` and `url` in the config say how it is started, and "
    "`sdwatch check` names the line."
)
_IT_MAY_COME = "It is looked at again by itself."
_WITHOUT = {
    Lack.PASSWORD: "Put those {password} into the config as `username` and `password`.",
    Lack.CHECKPOINT: "Put one into its models folder (models/Stable-diffusion).",
    Lack.API: "Start it with --api.",
    Lack.OTHER: "Mend its set-up as said above.",
}


def no_start(
    how: str,
    known: Signature | None,
    failure: StartFailure = StartFailure.ENDED,
    lack: Lack | None = None,
    advice: str = "",
) -> HoldReason:
    """Our WebUI did not come up. `how`: it ended, or was not ready in time, in words; `known`: what
    its output tells; `lack`: what its own answers tell, so that nothing else is to be guessed;
    `advice`: where `how` comes with its own."""
    if lack is not None:
        return seen_by_probe(how, lack, managed=True)
    if failure is StartFailure.PORT_TAKEN:
        return not_begun(how, advice)
    key = HoldKey(HoldCode.NO_START, (failure, known.name if known else ""))
    if known is None:
        limit = _LIMITS.get(failure)
        slow = f"; if that works and it is only slow, raise `{limit}` there" if limit else ""
        cause = f"the WebUI did not start: {how}"
        return HoldReason(cause, f"{_NO_START}{slow}.", cure=Cure.RESTART, key=key)
    cause = f"the WebUI did not start: {known.cause} ({how})"
    cure = _cure_of(known.diagnosis, managed=True)
    # Of a WebUI that has not answered yet, nobody knows which kind it is.
    words = fitted(known.advice, Kind.UNKNOWN)
    return HoldReason(cause, words, known.blames or Blamed.WEBUI, cure=cure, key=key)


def not_begun(why: str, advice: str = "") -> HoldReason:
    """Nothing was started."""
    cause = f"the WebUI was not started: {why}"
    return HoldReason(cause, advice or _NOT_BEGUN, Blamed.PERSON, key=HoldKey(HoldCode.NOT_BEGUN))


def seen_by_probe(
    reason: str,
    lack: Lack,
    *,
    managed: bool,
    kind: Kind = Kind.UNKNOWN,
    facts: tuple[Hashable, ...] = (),
) -> HoldReason:
    """It answers, and cannot be used as it is, for want of `lack`; `reason`: that in words;
    `facts`: see HoldKey."""
    advice = fitted(_WITHOUT[lack], kind)
    cause = f"the WebUI cannot be used: {reason}"
    key = HoldKey(HoldCode.LACKS_SOMETHING, (lack, *facts))
    return HoldReason(cause, _restart_too(advice, managed), key=key)


def no_answer(reason: str, *, managed: bool, facts: tuple[Hashable, ...] = ()) -> HoldReason:
    """It does not answer as it should, now; `facts`: see HoldKey."""
    key = HoldKey(HoldCode.NO_ANSWER, facts)
    cause = f"the WebUI is not ready: {reason}"
    if managed:
        return HoldReason(cause, _IT_MAY_COME, cure=Cure.TIME, key=key)
    advice = (
        "Start your WebUI yourself, or see that `url` in the config is its address: sdwatch did "
        "not start it, and cannot."
    )
    return HoldReason(cause, advice, Blamed.PERSON, key=key)


def failed_proof(what: str, explanation: Explanation, *, managed: bool) -> HoldReason:
    """It could not make a picture that any WebUI can, `what`."""
    cause = f"{what} failed: {explanation.cause}"
    advice = explanation.advice if managed else f"{_NOT_OURS} {explanation.advice}"
    key = HoldKey(HoldCode.FAILED_SELF_TEST, (explanation.key,))
    cure = _cure_of(explanation.diagnosis, managed)
    return HoldReason(cause, advice, _whose(explanation), cure=cure, key=key)


def unproven() -> HoldReason:
    """It has failed a canary, and is not asked again while a person's hold is there."""
    cause = "it failed the canary, and the next one waits for the hold to end"
    return HoldReason(cause, cure=Cure.TIME, key=HoldKey(HoldCode.TO_BE_TESTED))


def found_by_call(cause: str, explanation: Explanation, *, managed: bool) -> HoldReason:
    """A call found that it cannot be used. `cause`: the verdict's, free of prompts."""
    who = Blamed.PERSON if explanation.diagnosis is Diagnosis.BUSY else _whose(explanation)
    advice = (
        explanation.advice if who is Blamed.PERSON else _restart_too(explanation.advice, managed)
    )
    key = HoldKey(HoldCode.FOUND_BY_CALL, (explanation.key,))
    return HoldReason(cause, advice, who, cure=_cure_of(explanation.diagnosis, managed), key=key)


def doubted_jobs(runs: Sequence[str]) -> HoldReason:
    """Jobs were spent in a row on a WebUI that died each time."""
    return HoldReason(
        f"{len(runs)} different jobs in a row crashed it, though it draws the canary: perhaps it "
        "is not the jobs",
        "Compare their WHY.txt in failed/: where all tell of the same end of the process, it is "
        "the WebUI, its driver or the machine, and that is to be mended first. Where each asks for "
        "something very large, it is the jobs.",
        Blamed.UNKNOWN,
        spent=tuple(runs),
        cure=Cure.TIME,
        key=HoldKey(HoldCode.DOUBTED_JOBS, tuple(runs)),
    )


def no_room(reason: str) -> HoldReason:
    """The spool's disk is full."""
    advice = (
        "Make room on that disk (`retention` in the config keeps done/ and failed/ small), or set "
        "a smaller `min_free`."
    )
    return HoldReason(reason, advice, Blamed.MACHINE, key=HoldKey(HoldCode.NO_ROOM))


def broken_here(error: str) -> HoldReason:
    """A mistake of sdwatch itself."""
    advice = "Please report it, with sdwatch.log of the state folder."
    cause = f"sdwatch itself broke: {error}"
    key = HoldKey(HoldCode.BROKEN_HERE)
    return HoldReason(cause, advice, Blamed.SDWATCH, cure=Cure.RESTART, key=key)


def _cure_of(diagnosis: Diagnosis, managed: bool) -> Cure:
    if diagnosis is Diagnosis.BUSY:
        return Cure.TIME
    restart_helps = managed and diagnosis not in (Diagnosis.NOT_USABLE, Diagnosis.STORAGE)
    return Cure.RESTART if restart_helps else Cure.PERSON


def _whose(explanation: Explanation) -> Blamed:
    """No job's: what was sent was well before."""
    who = explanation.blames or blame_for(explanation.diagnosis)
    return Blamed.WEBUI if who is Blamed.JOB else who


def _restart_too(advice: str, managed: bool) -> str:
    return advice if managed else f"{advice} {_NOT_OURS}"

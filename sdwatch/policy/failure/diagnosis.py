"""What a failed call means: facts in, a diagnosis and a cause in words out. Pure.

Known failures are told by their signatures (signatures.yaml); here is what is left for the others,
by the class of the error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from sdwatch.errors import (
    WebUIBadRequestError,
    WebUIBusyError,
    WebUIError,
    WebUIInterruptedError,
    WebUINotUsableError,
    WebUIReplyError,
    WebUIServerError,
    WebUIStuckError,
    WebUIUnreachableError,
)
from sdwatch.policy.failure.advice import fitted
from sdwatch.policy.failure.exits import exit_in_words
from sdwatch.policy.failure.facts import Blamed, Diagnosis, FailureFacts
from sdwatch.policy.failure.failure_key import FailureKey
from sdwatch.policy.failure.matching import match
from sdwatch.policy.failure.opaque import is_generic, says_nothing
from sdwatch.policy.failure.reply_checks import BadReply
from sdwatch.policy.failure.signatures import Signature
from sdwatch.policy.failure.tracebacks import Traceback, may_follow, own
from sdwatch.policy.job.catalogue import Kind

__all__ = [
    "Diagnosis",
    "Drawn",
    "Explanation",
    "FailureFacts",
    "advice_for",
    "as_proven",
    "blame_for",
    "by_time_limit",
    "depends_on_size",
    "drawn_advice",
    "judge",
    "what_failed",
]


@dataclass(frozen=True)
class Explanation:
    """A diagnosis, and one sentence that a person understands. `key`: by which the failure is told
    from others. `evidence`: which of the facts decided, in words; `repeats`: the cause says that
    already. `poisons`: whatever the call's end, the WebUI is unusable until it is restarted.
    `blames`: where the diagnosis alone would say another."""

    diagnosis: Diagnosis
    cause: str
    advice: str
    key: FailureKey
    evidence: str = ""
    repeats: bool = False
    poisons: bool = False
    blames: Blamed | None = None

    @property
    def is_known(self) -> bool:
        """Whether a signature explains it."""
        return bool(self.key.signature)


_BY_ERROR: tuple[tuple[type[WebUIError], Diagnosis], ...] = (
    (WebUIBadRequestError, Diagnosis.BAD_REQUEST),
    (WebUINotUsableError, Diagnosis.NOT_USABLE),
    (WebUIBusyError, Diagnosis.BUSY),
    (WebUIStuckError, Diagnosis.STUCK),
    (WebUIInterruptedError, Diagnosis.INTERRUPTED),
    (WebUIServerError, Diagnosis.SERVER_ERROR),
    (WebUIReplyError, Diagnosis.SILENT),
    (WebUIUnreachableError, Diagnosis.CRASH),
)

_ADVICE = {
    Diagnosis.BAD_REQUEST: "Correct the job file and drop it again; the WebUI itself is well.",
    Diagnosis.CRASH: (
        "If the same job ends it again, try a smaller size or batch_size, and update the GPU's "
        "driver."
    ),
    Diagnosis.SERVER_ERROR: (
        "Something went wrong inside the WebUI. If it is about memory, try a smaller size; if "
        "about a setting of this job, change that."
    ),
    Diagnosis.STUCK: (
        "If this job is only slow on this machine, raise `stall` for the WebUI in the config; "
        "else restart the WebUI, and do without the job's scripts one by one."
    ),
    Diagnosis.OUT_OF_MEMORY: (
        "Try a smaller width, height, batch_size or upscaling, a smaller checkpoint, or "
        "{less_memory}; see that nothing else uses the GPU."
    ),
    Diagnosis.NAN: (
        "The checkpoint or its VAE produces NaNs: {vae_precision}; else {full_precision}, or name "
        "another checkpoint."
    ),
    Diagnosis.POISONED: (
        "The WebUI answered and could not draw any more; it was restarted. If it happens again "
        "with the same checkpoint or script, do without that."
    ),
    Diagnosis.INTERRUPTED: (
        "Somebody pressed Interrupt or Skip in the WebUI. Let sdwatch have it for itself, and run "
        "the job again."
    ),
    Diagnosis.SILENT: (
        "The WebUI said success and delivered no usable image: try the job without scripts and "
        "extensions."
    ),
    Diagnosis.BUSY: "Somebody else uses this WebUI: wait for them, or give it to sdwatch alone.",
    Diagnosis.NOT_USABLE: "Mend the WebUI's set-up as said above.",
    Diagnosis.STORAGE: "Make room, or mend the permissions.",
}

_OF_A_200: Mapping[str, str] = {
    "one_colour": (
        "Such a picture usually comes of NaNs in the VAE: {vae_precision}, {another_vae}, or take "
        "another checkpoint. If the picture is meant to be so: `checks: {one_colour: warn}` in the "
        "config."
    ),
    "size": (
        "Something made it another size than the job asks for: an extension, a script, or a "
        "setting of the WebUI. Ask for a multiple of 64, do without the extension, or let it pass: "
        "`checks: {size: warn}` in the config."
    ),
    "model": (
        "It drew with another checkpoint than the job names: it could not load that one, or "
        "somebody changed it in the WebUI in between. Try to load it there by hand; it may be "
        "broken, or too large for the memory."
    ),
    "sampler": "Name a sampler that the WebUI lists: it takes another for one it does not know.",
    "scheduler": "Name a scheduler that the WebUI lists, or none: it takes another by itself.",
    "seed": (
        "It drew with another seed than the job gives, so the picture cannot be made again: an "
        "extension or a style changes it. Do without, or: `checks: {seed: warn}` in the config."
    ),
    "count": (
        "Some of the pictures did not come. Ask for one at a time (batch_size: 1, and more n_iter)."
    ),
    "upscale_unchanged": (
        "The upscaler did nothing, usually because its weights could not be loaded. Take another "
        "upscaler, as Lanczos, or put its file where the WebUI looks."
    ),
    "one_colour_upscale": (
        "Such a picture comes of a broken upscaler: take another one. If it is meant to be so: "
        "`checks: {one_colour_upscale: warn}` in the config."
    ),
    "extension": (
        "An extension raised an exception, and the WebUI generated without it: the log says which. "
        "Correct what the job gives it, or update it or switch it off in the WebUI; to let such "
        "pictures pass: `checks: {extension: warn}` in the config."
    ),
    "fallback": (
        "What it passed over, as a LoRA that it has not, is said above: correct that in the job, "
        "or let it pass: `checks: {fallback: warn}` in the config."
    ),
    BadReply.NO_IMAGE: (
        "It said success and sent no picture: an exception inside, or a script that only saves. "
        "Save nothing by scripts, and try the job without them."
    ),
    BadReply.A_PATH: (
        "Ask for pictures: sdwatch keeps none of what a WebUI only saves by itself. A checkpoint "
        "for videos makes one picture where the job asks for one frame."
    ),
    BadReply.NO_JSON: (
        "Whatever answered was not the WebUI as it should: see that `url` in the config is its own "
        "address and no proxy cuts replies short."
    ),
    BadReply.NO_PICTURE: (
        "The picture came broken: the WebUI's disk may be full, or a proxy between has changed it. "
        "Its format is a setting of the WebUI: try png."
    ),
}
"""What to do about a reply that was no success, by the kind of the finding (see success.py) or of
what it lacked. No advice points to the log: what is to be found there, WHY.txt says (story.py)."""

_BROKEN_OFF = (
    "The connection broke, and no process was seen to end. If a proxy stands between, give the "
    "WebUI's own address in the config. If the WebUI runs on another machine, see there whether it "
    "ended."
)


def judge(facts: FailureFacts, signatures: Iterable[Signature] = ()) -> Explanation:
    """The verdict on one failed call. The earlier cause wins: a connection that broke because the
    process ended is a crash, whatever error it shows as."""
    found = match(facts, signatures)
    explanation = _by_error(facts)
    if found is None:
        return explanation
    signature, evidence = found
    # What ended the process explains the crash, and does not make it another thing: the WebUI is
    # gone, and a restart is due.
    crashed = explanation.diagnosis is Diagnosis.CRASH
    why = signature.cause
    if signature.asks_for_memory and facts.memory:
        why = f"{why} ({facts.memory})"
    diagnosis = Diagnosis.CRASH if crashed else signature.diagnosis
    return Explanation(
        diagnosis,
        f"{explanation.cause}: {why}" if crashed else f"{signature.cause} ({facts.error})",
        fitted(signature.advice, facts.kind),
        _key(facts, diagnosis, signature.name),
        evidence,
        poisons=signature.poisons,
        blames=signature.blames,
    )


def _key(
    facts: FailureFacts, diagnosis: Diagnosis, signature: str = "", raised: Traceback | None = None
) -> FailureKey:
    error = facts.error
    return FailureKey(
        diagnosis,
        signature,
        type(error).__name__,
        error.stage,
        error.status,
        facts.exit_code if facts.process_gone else None,
        (error.kind, error.said, *error.facts, str(raised or "")),
    )


def _by_error(facts: FailureFacts) -> Explanation:
    """Without a signature: by the end of the process, else by the class of the error."""
    error = facts.error
    if facts.process_gone:
        exit_code = exit_in_words(facts.exit_code)
        cause = f"the WebUI died during the call ({exit_code})"
        explanation = _explanation(facts, Diagnosis.CRASH, cause, exit_code)
        return replace(explanation, repeats=True)
    for kind, diagnosis in _BY_ERROR:
        if isinstance(error, kind):
            evidence = f"HTTP {error.status}" if error.status else ""
            advice = _OF_A_200.get(error.kind, "") if error.status == 200 else ""
            if diagnosis is Diagnosis.CRASH:  # the process was not seen to end
                advice = _BROKEN_OFF
            raised = _raised(facts)
            cause = _with_what_was_raised(error, raised)
            return _explanation(facts, diagnosis, cause, evidence, advice, raised)
    return _explanation(facts, Diagnosis.SERVER_ERROR, str(error), "")


def _raised(facts: FailureFacts) -> Traceback | None:
    """What the call's log has of it, where the reply has no text of an exception: an AssertionError
    without a message is explained by the line that raised it."""
    error = facts.error
    if not may_follow(error) or not (error.status == 200 or says_nothing(error)):
        return None
    return own(facts.log, error)


def _with_what_was_raised(error: WebUIError, raised: Traceback | None) -> str:
    if raised is None:
        return str(error)
    if not error.kind or error.status == 200:
        return f"{error}; its log: {raised}"
    return f"{error}, raised in {raised.frame}" if raised.frame else str(error)


def _explanation(
    facts: FailureFacts,
    diagnosis: Diagnosis,
    cause: str,
    evidence: str,
    advice: str = "",
    raised: Traceback | None = None,
) -> Explanation:
    words = fitted(advice or _ADVICE[diagnosis], facts.kind)
    return Explanation(diagnosis, cause, words, _key(facts, diagnosis, raised=raised), evidence)


def advice_for(diagnosis: Diagnosis, kind: Kind = Kind.UNKNOWN) -> str:
    """Return what to do about it, in the words of this kind of WebUI."""
    return fitted(_ADVICE[diagnosis], kind)


_PROVEN_AS = (Diagnosis.SERVER_ERROR, Diagnosis.OUT_OF_MEMORY, Diagnosis.NAN)
"""Failures by which the WebUI stays up: a job's own can be told before it costs a restart."""


def what_failed(
    explanation: Explanation, error: WebUIError, checkpoint: str = ""
) -> FailureKey | None:
    """By which a failure is told from others; None where it must not be taken for a job's own: by
    it the WebUI ended, or its reply has no word of what went wrong, or a generic one, and no
    signature knows it. `checkpoint`: which one the call names; a black picture may be of its
    NaNs."""
    key = explanation.key
    if explanation.diagnosis is Diagnosis.SILENT:
        return replace(key, said=(*key.said, checkpoint))
    unexplained = not explanation.is_known and (says_nothing(error) or is_generic(error))
    return None if unexplained or explanation.diagnosis not in _PROVEN_AS else key


def as_proven(explanation: Explanation) -> Explanation:
    """This very failure was twice proven to be a job's own."""
    evidence = f"{explanation.evidence}, which two jobs were proven to bring on themselves"
    return replace(explanation, evidence=evidence)


class Drawn(Enum):
    """Whether a WebUI that is healthy draws a plain picture as large as that of a failed call."""

    CAN = "so it is not the size alone"
    CANNOT = "nor was so large a call seen to succeed"
    COULD_BEFORE = "it does not, though as large a call has succeeded"
    NOT_ASKED = "it was not asked, or gave no answer"


_MEMORY_OR_NAN = (Diagnosis.OUT_OF_MEMORY, Diagnosis.NAN)

_DRAWN = {
    Drawn.CAN: (
        "A plain picture of this size works on this machine, so it is what the job adds to it: its "
        "scripts, LoRAs, ControlNet, refiner or upscaler."
    ),
    Drawn.CANNOT: "This machine cannot draw that size, not even a plain picture in two steps.",
    Drawn.COULD_BEFORE: (
        "This machine cannot draw that size now, not even a plain picture in two steps. It could "
        "before: see what else uses its memory, and whether the checkpoint is a larger one."
    ),
}


def depends_on_size(diagnosis: str) -> bool:
    """Whether a plain picture of the call's size tells what to advise."""
    return diagnosis in _MEMORY_OR_NAN


def drawn_advice(drawn: Drawn, advice: str) -> str:
    """The advice of a call that ran out of memory or into NaNs, with what such a picture showed."""
    return " ".join(filter(None, (_DRAWN.get(drawn, ""), advice)))


def by_time_limit(explanation: Explanation, limit: str) -> Explanation:
    """Of a call that a proxy gave up twice after the same time, `limit` in words: `60 s`."""
    return replace(
        explanation,
        cause=(
            f"a proxy in front of the WebUI gives a call up after {limit}, and this one takes "
            f"longer ({explanation.evidence}, twice after the same time)"
        ),
        advice=(
            f"This call takes longer than {limit}. Give the WebUI's own address as `url` in the "
            "config, without a proxy or tunnel between; or raise the proxy's limit (nginx: "
            "proxy_read_timeout; HAProxy: timeout server; Cloudflare and gradio.live have fixed "
            "ones); or make the call shorter: fewer steps, a smaller size, batch_size: 1."
        ),
        blames=Blamed.MACHINE,
    )


def blame_for(diagnosis: Diagnosis) -> Blamed:
    """Whose fault it is, as long as the canary has not said more."""
    if diagnosis is Diagnosis.STORAGE:
        return Blamed.MACHINE
    if diagnosis is Diagnosis.INTERRUPTED:
        return Blamed.PERSON
    return Blamed.JOB if diagnosis is Diagnosis.BAD_REQUEST else Blamed.WEBUI

"""Explain a failed call: facts in, a diagnosis and its cause in words out. Pure.

Known failures have signatures (signatures.yaml); all others are explained here, by the class of the
error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

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
from sdwatch.policy.failure.exits import exit_in_words
from sdwatch.policy.failure.facts import Blamed, Diagnosis, FailureFacts, FailureKey
from sdwatch.policy.failure.matching import match
from sdwatch.policy.failure.recovery import TRACED_TO_OTHERS
from sdwatch.policy.failure.reply_checks import BadReply
from sdwatch.policy.failure.signatures import Signature
from sdwatch.policy.failure.tracebacks import Traceback, is_generic, may_follow, own, says_nothing
from sdwatch.policy.job.stage.stage_kinds import PROMPTS
from sdwatch.policy.kinds.kind import Kind
from sdwatch.policy.kinds.unknown import UNKNOWN
from sdwatch.policy.workflow import WORKFLOW

__all__ = [
    "Diagnosis",
    "Explanation",
    "FailureFacts",
    "SizeTest",
    "advice_for",
    "as_traced_before",
    "by_time_limit",
    "depends_on_size",
    "diagnose",
    "key_to_trace",
    "size_advice",
]


@dataclass(frozen=True)
class Explanation:
    """A diagnosis with one sentence for people.

    `key`: identifies the failure. `evidence`: which of the facts decided, in words; `repeats`: the
    cause already says that. `poisons`: however the call ended, the WebUI is unusable until it is
    restarted. `blames`: who is to blame, if not the one that the diagnosis usually means; a
    self-test after two failures has the last word.
    """

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
        """Return whether a signature explains it."""
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
    Diagnosis.BAD_REQUEST: "Correct the job file and drop it again; the WebUI itself is healthy.",
    Diagnosis.CRASH: (
        "If the same job crashes the WebUI again, lower the size or batch_size, and update the "
        "GPU's driver."
    ),
    Diagnosis.SERVER_ERROR: (
        "Something failed inside the WebUI. If the error is about memory, lower the size; if it "
        "is about a setting of this job, change that setting."
    ),
    Diagnosis.STUCK: (
        "If this job is only slow on this machine, raise `stall` for the WebUI in the config. "
        "If the job uses {add_ons}, remove them one by one."
    ),
    Diagnosis.OUT_OF_MEMORY: (
        "Lower width, height, batch_size or the upscaling, use a smaller checkpoint, or "
        "{less_memory}. Check that nothing else uses the GPU."
    ),
    Diagnosis.NAN: (
        "The checkpoint or its VAE produces NaNs: {vae_precision}. If that does not help, "
        "{full_precision}, or use another checkpoint."
    ),
    Diagnosis.POISONED: (
        "The WebUI answered but could no longer generate, so it was restarted. If it happens again "
        "with the same checkpoint or script, remove that from the job."
    ),
    Diagnosis.INTERRUPTED: (
        "Somebody pressed Interrupt or Skip in the WebUI. Run the job again, and ask others not to "
        "use this WebUI meanwhile."
    ),
    Diagnosis.SILENT: (
        "The WebUI reported success but delivered no usable image. If the job uses scripts or "
        "extensions, try it without them; if not, read the WebUI's output."
    ),
    Diagnosis.BUSY: (
        "Somebody else is using this WebUI, or a generation hangs in it. Wait until it ends, or "
        "let only sdwatch use the WebUI; if nobody uses it, restart it by hand."
    ),
    Diagnosis.NOT_USABLE: "Fix what the first line says about the WebUI's setup.",
    Diagnosis.STORAGE: "Free space on the WebUI's disk, or fix the permissions of its folders.",
}

_OF_A_200: Mapping[str, str] = {
    "one_colour": (
        "The usual cause of such a picture is NaNs in the VAE: {vae_precision}, {another_vae}, or "
        "use another checkpoint. If the picture is meant to look like this, set `checks: "
        "{one_colour: warn}` in the config."
    ),
    "size": (
        "An extension, a script or a setting of the WebUI changed the size that the job asks for. "
        "If that size is not a multiple of 64, ask for one that is; otherwise remove the extension "
        "or the script. To accept such pictures, set `checks: {size: warn}` in the config."
    ),
    "model": (
        "The WebUI used another checkpoint than the job names: it could not load that one, or "
        "somebody switched the checkpoint in the meantime. Try to load it in the WebUI by hand; it "
        "may be broken, or too large for the memory."
    ),
    "sampler": (
        "Name a sampler that the WebUI lists: it silently replaces one that it does not know."
    ),
    "scheduler": (
        "Name a scheduler that the WebUI lists, or none: it silently replaces one that it does not "
        "know."
    ),
    "seed": (
        "The WebUI used another seed than the job gives, so the picture cannot be reproduced: an "
        "extension or a style changes the seed. Remove it, or set `checks: {seed: warn}` in the "
        "config."
    ),
    "count": (
        "Some of the pictures are missing. Ask for one at a time (batch_size: 1, and more n_iter)."
    ),
    "upscale_unchanged": (
        "The upscaler did nothing, usually because its weights could not be loaded. Use another "
        "upscaler such as Lanczos, or put the weights where the WebUI looks for them."
    ),
    "one_colour_upscale": (
        "The usual cause of such a picture is a broken upscaler: use another one. If the picture "
        "is meant to look like this, set `checks: {one_colour_upscale: warn}` in the config."
    ),
    "extension": (
        "An extension raised an exception, and the WebUI generated without it; the log names it. "
        "Correct what the job gives it, or update or disable it in the WebUI. To accept such "
        "pictures, set `checks: {extension: warn}` in the config."
    ),
    "fallback": (
        "The message names what the WebUI left out, such as a LoRA that it does not have. Correct "
        "it in the job; to accept such pictures, set `checks: {fallback: warn}` in the config."
    ),
    BadReply.NO_IMAGE: (
        "The WebUI reported success but sent no picture: it had an exception, or a script only "
        "saves. If the job uses scripts, try it without them."
    ),
    BadReply.NO_FILE: (
        "The file is damaged or gone: the WebUI's disk may be full, or something removes files "
        "from its output folder. If it is so each time, try another format in the node that saves "
        "it."
    ),
    BadReply.A_PATH: (
        "Ask for pictures: sdwatch cannot keep what a WebUI only saves to its own disk. A "
        "checkpoint for videos makes one picture if the job asks for one frame."
    ),
    BadReply.NO_JSON: (
        "The reply did not come from a working WebUI. Check that `url` in the config is its own "
        "address and that no proxy cuts replies short."
    ),
    BadReply.NO_PICTURE: (
        "The picture is damaged: the WebUI's disk may be full, or a proxy in between has changed "
        "it. The format is a setting of the WebUI: try png."
    ),
}
"""What to do about a 200 that is not a success, by the kind of the finding (see reply_checks.py) or
of what the reply lacked. No advice points to the log; WHY.txt does, if there is one to read."""

_WORDS_OF_NODE = {
    Diagnosis.STUCK: "it was in node",
    Diagnosis.CRASH: "the last node that it reported:",
}

_BROKEN_OFF = (
    "The connection broke, but no process was seen to end. If there is a proxy in between, use the "
    "WebUI's own address as `url` in the config. If the WebUI runs on another machine, check there "
    "whether it crashed."
)


def diagnose(facts: FailureFacts, signatures: Iterable[Signature] = ()) -> Explanation:
    """Return the explanation of one failed call. The earlier cause wins: a connection that broke
    because the process ended is a crash, whatever the error is.

    Asked for a job's call by webui/http/failure_evidence.py, before the recovery gate
    decides, and for a self-test by lane/self_test.py."""
    found = match(facts, signatures)
    explanation = _by_error(facts)
    if found is None:
        return explanation
    signature, evidence = found
    # A signature explains why the process ended; it is still a crash that needs a restart.
    crashed = explanation.diagnosis is Diagnosis.CRASH
    why = signature.cause
    if signature.asks_for_memory and facts.memory:
        why = f"{why} ({facts.memory})"
    diagnosis = Diagnosis.CRASH if crashed else signature.diagnosis
    return Explanation(
        diagnosis,
        f"{explanation.cause}: {why}" if crashed else f"{signature.cause} ({facts.error})",
        facts.kind.fitted(signature.advice),
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
    """Explain a failure that no signature fits: by the process's end, else by the error's class."""
    error = facts.error
    if facts.process_gone:
        exit_code = exit_in_words(facts.exit_code)
        # It sends that a node started, and may die before that has left it.
        at = f", after it reported node {facts.node}" if facts.node else ""
        cause = f"the WebUI died during the call{at} ({exit_code})"
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
            if facts.node and diagnosis in _WORDS_OF_NODE:
                cause = f"{cause}; {_WORDS_OF_NODE[diagnosis]} {facts.node}"
            return _explanation(facts, diagnosis, cause, evidence, advice, raised)
    return _explanation(facts, Diagnosis.SERVER_ERROR, str(error), "")


def _raised(facts: FailureFacts) -> Traceback | None:
    """Return the call's own traceback from the log if the reply has no text of an exception: the
    line that raised an AssertionError without a message explains it."""
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
    words = facts.kind.fitted(advice or _ADVICE[diagnosis])
    return Explanation(diagnosis, cause, words, _key(facts, diagnosis, raised=raised), evidence)


def advice_for(diagnosis: Diagnosis, kind: Kind = UNKNOWN) -> str:
    """Return what to do about a diagnosis, with the flags of this kind of WebUI."""
    return kind.fitted(_ADVICE[diagnosis])


_LEAVES_WEBUI_RUNNING = (Diagnosis.SERVER_ERROR, Diagnosis.OUT_OF_MEMORY, Diagnosis.NAN)
"""Failures that leave the WebUI running, so that a job's own may be known before a restart."""


def key_to_trace(
    explanation: Explanation, error: WebUIError, checkpoint: str = ""
) -> FailureKey | None:
    """Return what identifies a failure; None if it must not be traced to a job: the WebUI ended,
    or no signature fits and the reply says nothing or only something generic. `checkpoint`:
    the one that the call names, because a black picture may come from its NaNs."""
    key = explanation.key
    if explanation.diagnosis is Diagnosis.SILENT:
        return replace(key, said=(*key.said, checkpoint))
    unexplained = not explanation.is_known and (says_nothing(error) or is_generic(error))
    return None if unexplained or explanation.diagnosis not in _LEAVES_WEBUI_RUNNING else key


def as_traced_before(explanation: Explanation) -> Explanation:
    """Note that the same failure was traced to two other jobs."""
    evidence = f"{explanation.evidence}; {TRACED_TO_OTHERS}"
    return replace(explanation, evidence=evidence)


class SizeTest(Enum):
    """The result of a size test: a plain picture of the failed call's size on a healthy WebUI."""

    PASSED = "yes, so the size alone is not the cause"
    FAILED = "no, and no call of that size has ever succeeded"
    PASSED_BEFORE = "no, although a call of that size has succeeded before"
    NOT_RUN = "it was not asked, or did not answer"


_MEMORY_OR_NAN = (Diagnosis.OUT_OF_MEMORY, Diagnosis.NAN)

_ADDED_FAILS = (
    "A plain picture of this size works on this machine, so the cause is what the job adds: its "
    "batch_size, scripts, LoRAs, ControlNet, refiner or upscaler. Leave out one after the other. "
    "If the job needs them all:"
)
_SIZE_TESTS = {
    SizeTest.PASSED: (
        "A plain two-step picture of this size works now. Run the job again as it is. If it fails "
        "again:"
    ),
    SizeTest.FAILED: (
        "This machine cannot generate that size, not even a plain picture in two steps."
    ),
    SizeTest.PASSED_BEFORE: (
        "This machine cannot generate that size now, not even a plain picture in two steps, but it "
        "could before. Check what else uses its memory, and whether the checkpoint is larger."
    ),
}

_PLAIN_FAILS_TOO = (
    "A plain picture in two steps with the same checkpoint failed, too, so neither the prompt nor "
    "the steps are the cause."
)


def depends_on_size(diagnosis: str) -> bool:
    """Return whether the advice depends on a size test."""
    return diagnosis in _MEMORY_OR_NAN


def size_advice(
    size_test: SizeTest, diagnosis: str, advice: str, payload: Mapping[str, Any]
) -> str:
    """Return the advice for a failure of memory or NaNs, with what the size test showed. `payload`:
    of the call that failed."""
    shown = _SIZE_TESTS.get(size_test, "")
    if diagnosis == Diagnosis.NAN and size_test in (SizeTest.FAILED, SizeTest.PASSED_BEFORE):
        shown = _PLAIN_FAILS_TOO  # the size test was made with the same checkpoint
    if size_test is SizeTest.PASSED and _adds_something(payload):
        shown = _ADDED_FAILS
    return " ".join(filter(None, (shown, advice)))


_ADDED = ("script_name", "alwayson_scripts", "refiner_checkpoint", "enable_hr", "init_images")


def _adds_something(payload: Mapping[str, Any]) -> bool:
    """Return whether a call asks for more than a plain picture."""
    prompts = (str(payload.get(name, "")) for name in PROMPTS)
    return (
        any(payload.get(name) for name in (*_ADDED, WORKFLOW))
        or (payload.get("batch_size") or 1) != 1
        or any(map(_NETWORK, prompts))
    )


_NETWORK = re.compile(r"<\w+:").search


def by_time_limit(explanation: Explanation, limit: str) -> Explanation:
    """Explain a call that a proxy aborted twice after the same time; `limit` in words: `60 s`."""
    return replace(
        explanation,
        cause=(
            f"a proxy in front of the WebUI aborts calls after {limit}, and this one takes longer "
            f"({explanation.evidence}, twice after the same time)"
        ),
        advice=(
            f"This call takes longer than {limit}. Use the WebUI's own address as `url` in the "
            "config, without a proxy or tunnel; or raise the proxy's limit (nginx: "
            "proxy_read_timeout; HAProxy: timeout server; Cloudflare and gradio.live have fixed "
            "ones); or make the call shorter: fewer steps, a smaller size, batch_size: 1."
        ),
        blames=Blamed.MACHINE,
    )

"""What a failed call means: facts in, a diagnosis and a cause in words out. Pure.

Known failures are told by their signatures (signatures.yaml); here is what is left for the others,
by the class of the error.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

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
from sdwatch.policy.facts import Diagnosis, Facts
from sdwatch.policy.signatures import Signature, match, says_nothing

__all__ = [
    "Diagnosis",
    "Facts",
    "Verdict",
    "advice_for",
    "as_proven",
    "blame_for",
    "exit_in_words",
    "judge",
    "what_failed",
]


@dataclass(frozen=True)
class Verdict:
    """A diagnosis, and one sentence that a person understands. `evidence`: which of the facts
    decided, in words. `poisons`: whatever the call's end, the WebUI is of no use until it is
    restarted. `blames`: job, WebUI or machine, where the diagnosis alone would say another."""

    diagnosis: Diagnosis
    cause: str
    advice: str
    evidence: str = ""
    poisons: bool = False
    blames: str = ""


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
        "Read the last lines of webui_tail.log. A process that is killed without a word has often "
        "run out of memory: try a smaller size or batch_size."
    ),
    Diagnosis.SERVER_ERROR: (
        "The traceback in webui_tail.log names what went wrong inside the WebUI. If it is about "
        "memory, try a smaller size; if about a setting of this job, change that."
    ),
    Diagnosis.STUCK: (
        "If this job is only slow on this machine, raise `stall` for the WebUI in the config; "
        "else look in webui_tail.log for what it was doing last."
    ),
    Diagnosis.OUT_OF_MEMORY: (
        "Try a smaller width, height, batch_size or upscaling, or start the WebUI with less memory "
        "in use (--medvram, a smaller checkpoint); see that nothing else uses the GPU."
    ),
    Diagnosis.NAN: (
        "The checkpoint or its VAE computes numbers that are none: try another VAE, --no-half-vae "
        "or --no-half, or another checkpoint."
    ),
    Diagnosis.POISONED: (
        "The WebUI answered and could not draw any more; it was restarted. If it happens again "
        "with the same checkpoint or script, do without that."
    ),
    Diagnosis.INTERRUPTED: (
        "Somebody pressed Interrupt or Skip in the WebUI. Let sdwatch have it for itself, and run "
        "the job again."
    ),
    Diagnosis.SILENT: "Read webui_tail.log: the WebUI said success and delivered no usable image.",
    Diagnosis.BUSY: "Somebody else uses this WebUI; nothing is to be done, or give it to sdwatch.",
    Diagnosis.NOT_USABLE: "Mend the WebUI's set-up as said above; the jobs wait meanwhile.",
    Diagnosis.STORAGE: "Make room, or mend the permissions; the jobs wait meanwhile.",
}


# Written out, since Windows does not know them and may read of them on a share.
_SIGNALS = {6: ", SIGABRT", 9: ", SIGKILL", 11: ", SIGSEGV", 15: ", SIGTERM"}
_WINDOWS_STATUS = {
    0xC0000005: ", access violation",
    0xC0000017: ", out of memory",
    0xC000012D: ", out of memory: the commit limit was reached",
    0xC000013A: ", Ctrl+C",
    0xC0000409: ", stack buffer overrun",
}


def exit_in_words(code: int | None) -> str:
    """An exit code as people say it: `exit code 1`, `killed by signal 9, SIGKILL` (a negative
    code, of POSIX), `exit code 0xC0000005, access violation` (a status of Windows)."""
    if code is None:
        return "exit code unknown"
    if code < 0:
        return f"killed by signal {-code}{_SIGNALS.get(-code, '')}"
    if code > 0x7FFFFFFF:
        return f"exit code 0x{code:X}{_WINDOWS_STATUS.get(code, '')}"
    return f"exit code {code}"


def judge(facts: Facts, signatures: Iterable[Signature] = ()) -> Verdict:
    """The verdict on one failed call. The earlier cause wins: a connection that broke because the
    process ended is a crash, whatever error it shows as."""
    found = match(facts, signatures)
    verdict = _by_error(facts)
    if found is None:
        return verdict
    signature, evidence = found
    # What ended the process explains the crash, and does not make it another thing: the WebUI is
    # gone, and a restart is due.
    crashed = verdict.diagnosis is Diagnosis.CRASH
    return Verdict(
        Diagnosis.CRASH if crashed else signature.diagnosis,
        f"{verdict.cause}: {signature.cause}" if crashed else f"{signature.cause} ({facts.error})",
        signature.advice,
        evidence,
        signature.poisons,
        signature.blames,
    )


def _by_error(facts: Facts) -> Verdict:
    """Without a signature: by the end of the process, else by the class of the error."""
    error = facts.error
    if facts.process_gone:
        exit_code = exit_in_words(facts.exit_code)
        cause = f"the WebUI died during the call ({exit_code})"
        return _verdict(Diagnosis.CRASH, cause, exit_code)
    for kind, diagnosis in _BY_ERROR:
        if isinstance(error, kind):
            return _verdict(diagnosis, str(error), f"HTTP {error.status}" if error.status else "")
    return _verdict(Diagnosis.SERVER_ERROR, str(error), "")


def _verdict(diagnosis: Diagnosis, cause: str, evidence: str) -> Verdict:
    return Verdict(diagnosis, cause, advice_for(diagnosis), evidence)


def advice_for(diagnosis: Diagnosis) -> str:
    """What to do about it, in words."""
    return _ADVICE[diagnosis]


_PROVEN_AS = (Diagnosis.SERVER_ERROR, Diagnosis.OUT_OF_MEMORY, Diagnosis.NAN)
"""Failures by which the WebUI stays up: a job's own can be told before it costs a restart."""


def what_failed(verdict: Verdict, error: WebUIError) -> str:
    """By which a failure is told from others; '' where it must not be taken for a job's own: by it
    the WebUI ended, or neither its reply nor its log had a word of what went wrong."""
    unexplained = verdict.cause == str(error) and says_nothing(error)
    return "" if unexplained or verdict.diagnosis not in _PROVEN_AS else verdict.cause


def as_proven(verdict: Verdict) -> Verdict:
    """This very failure was twice proven to be a job's own."""
    evidence = f"{verdict.evidence}, which two jobs were proven to bring on themselves"
    return replace(verdict, evidence=evidence)


def blame_for(diagnosis: Diagnosis) -> str:
    """Whose fault it is, as long as the canary has not said more."""
    if diagnosis is Diagnosis.STORAGE:
        return "machine"
    if diagnosis is Diagnosis.INTERRUPTED:
        return "person"
    return "job" if diagnosis is Diagnosis.BAD_REQUEST else "WebUI"

"""The facts of a failed call, the possible diagnoses, and what identifies a failure: values and
what the WebUI wrote, never texts that sdwatch made for people. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, replace
from enum import StrEnum
from typing import Any

from sdwatch.errors import WebUIError
from sdwatch.policy.kinds.kind import Kind
from sdwatch.policy.kinds.unknown import UNKNOWN


class Diagnosis(StrEnum):
    """What kind of failure it was. The gate decides by it, see recovery.py."""

    BAD_REQUEST = "bad request"
    CRASH = "crash"
    SERVER_ERROR = "server error"
    OUT_OF_MEMORY = "out of memory"
    NAN = "NaN"
    POISONED = "poisoned"
    STUCK = "stuck"
    SILENT = "silent"
    INTERRUPTED = "interrupted"
    BUSY = "busy"
    NOT_USABLE = "not usable"
    STORAGE = "storage"


class Blamed(StrEnum):
    """Who is to blame. UNKNOWN: the jobs or the WebUI."""

    JOB = "job"
    WEBUI = "WebUI"
    MACHINE = "machine"
    PERSON = "person"
    SDWATCH = "sdwatch"
    UNKNOWN = "unknown"


def whose_fault(
    diagnosis: Diagnosis, explained: Blamed | None = None, tested: Blamed | None = None
) -> Blamed:
    """Return whom a failure is blamed on.

    What a self-test has shown counts most: on a WebUI that passes it, a call that fails twice is
    the job's fault (`tested`; None without a self-test, or where it decided nothing). Then what the
    signature or the rule that explained the failure says (`explained`; None where it does not).
    Then what the diagnosis usually means: a bad request is the job's fault, storage the machine's,
    an interrupt a person's, and all else the WebUI's, until a self-test shows more. What puts a
    WebUI on hold is never blamed on a job, see hold_reason.py.
    """
    return tested or explained or _MEANS.get(diagnosis, Blamed.WEBUI)


_MEANS = {
    Diagnosis.BAD_REQUEST: Blamed.JOB,
    Diagnosis.STORAGE: Blamed.MACHINE,
    Diagnosis.INTERRUPTED: Blamed.PERSON,
}


@dataclass(frozen=True)
class FailureFacts:
    """What is known of one failed call.

    `process_gone`: our WebUI's process was seen to end during it, with `exit_code`. `log`: the
    WebUI's lines since the call was sent, oldest first. `memory_low`: whether the machine had
    almost no free memory just before, None if nobody checked; `memory`: the same in words.
    `names_checkpoint`: the call names files to load, so one that cannot be loaded is the job's
    fault. `kind`: of the WebUI that failed. `once_lines`: lines since its start that it prints only
    once, see Way. `node`: of a workflow, the one that started last, for messages; or ''."""

    error: WebUIError
    process_gone: bool = False
    exit_code: int | None = None
    log: tuple[str, ...] = ()
    memory_low: bool | None = None
    names_checkpoint: bool = False
    memory: str = ""
    kind: Kind = UNKNOWN
    once_lines: tuple[str, ...] = ()
    node: str = ""


def is_memory_low(available: float, total: float) -> bool:
    """Return whether a machine with so many bytes has almost none left."""
    return available < _LOW * total


_LOW = 0.03

_FILES_TO_LOAD = ("sd_model_checkpoint", "sd_vae", "forge_additional_modules", "refiner_checkpoint")


def checkpoint_named(payload: Mapping[str, Any]) -> str:
    """Return the checkpoint that a call's fields name, or ''."""
    settings = payload.get("override_settings")
    named = settings.get("sd_model_checkpoint") if isinstance(settings, Mapping) else None
    return str(named or "")


def names_checkpoint(payload: Mapping[str, Any]) -> bool:
    """Return whether a call's fields name a checkpoint, or a file that is loaded with one."""
    settings = payload.get("override_settings")
    named = {**(settings if isinstance(settings, Mapping) else {}), **payload}
    return any(named.get(name) for name in _FILES_TO_LOAD)


_NUMBER = re.compile(r"(?<!allocate )\b(?:0x[0-9a-fA-F]+|\d+(?:[.,]\d+)*)")
"""Free memory, addresses and process ids change each time; how much was requested does not."""

_TEXT = re.compile(r"<text [^<>]{1,100}>(?:[\s,]{0,9}<text [^<>]{1,100}>)*")
"""The placeholder of a job's text, which differs from text to text."""


@dataclass(frozen=True)
class FailureKey:
    """Two failures with the same key are the same failure. `signature`: the name of the one that
    explains it, or ''; `error`: the class of sdwatch's error; `status`: HTTP; `exit_code`: of the
    process that ended by it; `said`: what the WebUI wrote of it, and the names and numbers in which
    a reply that is not a success differs from what was asked for."""

    diagnosis: Diagnosis
    signature: str = ""
    error: str = ""
    stage: str = ""
    status: int | None = None
    exit_code: int | None = None
    said: tuple[str, ...] = ()

    def shared(self, hide: Callable[[str], str]) -> FailureKey:
        """Return the key without the texts of the job, which `hide` takes out, and without numbers
        that are others each time: equal for two jobs that fail alike."""
        hidden = (_TEXT.sub("<text>", hide(text)) for text in self.said)
        return replace(self, said=tuple(_NUMBER.sub("#", text) for text in hidden))

    @property
    def digest(self) -> str:
        """Return 16 hex digits, as journals have it."""
        return hashlib.sha256(repr(astuple(self)).encode()).hexdigest()[:16]

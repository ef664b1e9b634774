"""What is known of a failed call, and the words for what it can turn out to be. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sdwatch.errors import WebUIError
from sdwatch.policy.job.catalogue import Kind


class Diagnosis(StrEnum):
    """The rows of the recovery gate's table."""

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
    """Whose fault something is. UNKNOWN: it may be the jobs, or the WebUI."""

    JOB = "job"
    WEBUI = "WebUI"
    MACHINE = "machine"
    PERSON = "person"
    SDWATCH = "sdwatch"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class FailureFacts:
    """What is known of one failed call. `process_gone`: our WebUI's process was seen to end during
    it, with `exit_code`. `log`: the WebUI's lines since the call was sent, oldest first.
    `memory_low`: whether the machine had next to no memory left just before, None where nobody
    looked; `memory`: what it had, in words. `names_checkpoint`: the call asked for files of its own
    choice, so that one which cannot be loaded is the job's. `kind`: of the WebUI that failed.
    `printed`: what it printed since its start of what is printed once in a life, see Way."""

    error: WebUIError
    process_gone: bool = False
    exit_code: int | None = None
    log: tuple[str, ...] = ()
    memory_low: bool | None = None
    names_checkpoint: bool = False
    memory: str = ""
    kind: Kind = Kind.UNKNOWN
    printed: tuple[str, ...] = ()


_FILES_TO_LOAD = ("sd_model_checkpoint", "sd_vae", "forge_additional_modules", "refiner_checkpoint")


def checkpoint_named(payload: Mapping[str, Any]) -> str:
    """The checkpoint that a call's fields name, or ''."""
    settings = payload.get("override_settings")
    named = settings.get("sd_model_checkpoint") if isinstance(settings, Mapping) else None
    return str(named or "")


def names_checkpoint(payload: Mapping[str, Any]) -> bool:
    """Whether a call's fields name a checkpoint, or what is loaded together with one."""
    settings = payload.get("override_settings")
    named = {**(settings if isinstance(settings, Mapping) else {}), **payload}
    return any(named.get(name) for name in _FILES_TO_LOAD)

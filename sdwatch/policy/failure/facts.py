"""What is known of a failed call, and the possible diagnoses. Pure."""

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
    """Who is to blame. UNKNOWN: the jobs or the WebUI."""

    JOB = "job"
    WEBUI = "WebUI"
    MACHINE = "machine"
    PERSON = "person"
    SDWATCH = "sdwatch"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class FailureFacts:
    """What is known of one failed call.

    `process_gone`: our WebUI's process was seen to end during it, with `exit_code`. `log`: the
    WebUI's lines since the call was sent, oldest first. `memory_low`: whether the machine had
    almost no free memory just before, None if nobody checked; `memory`: the same in words.
    `names_checkpoint`: the call names files to load, so one that cannot be loaded is the job's
    fault. `kind`: of the WebUI that failed. `printed`: lines since its start that it prints only
    once, see Way."""

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
    """Return the checkpoint that a call's fields name, or ''."""
    settings = payload.get("override_settings")
    named = settings.get("sd_model_checkpoint") if isinstance(settings, Mapping) else None
    return str(named or "")


def names_checkpoint(payload: Mapping[str, Any]) -> bool:
    """Return whether a call's fields name a checkpoint, or a file that is loaded with one."""
    settings = payload.get("override_settings")
    named = {**(settings if isinstance(settings, Mapping) else {}), **payload}
    return any(named.get(name) for name in _FILES_TO_LOAD)

"""Identify a failure by values and by what the WebUI wrote, never by texts that sdwatch made for
people. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace

from sdwatch.policy.failure.facts import Diagnosis

_NUMBER = re.compile(r"(?<!allocate )\b(?:0x[0-9a-fA-F]+|\d+(?:[.,]\d+)*)")
"""Free memory, addresses and process ids change each time; how much was requested does not."""

_TEXT = re.compile(r"<text [^<>]{1,100}>(?:[\s,]{0,9}<text [^<>]{1,100}>)*")
"""The placeholder of a job's text, which differs from text to text."""


def what_is_shared(text: str) -> str:
    """Return what two texts of a WebUI about the same failure have in common."""
    return _NUMBER.sub("#", _TEXT.sub("<text>", text))


@dataclass(frozen=True)
class FailureKey:
    """Two failures with the same key are the same failure. `signature`: the name of the one that
    explains it, or ''; `error`: the class of sdwatch's error; `status`: HTTP; `exit_code`: of the
    process that ended by it; `said`: what the WebUI wrote of it, and the names and numbers in which
    a reply that is no success differs from what was asked for."""

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
        return replace(self, said=tuple(what_is_shared(hide(text)) for text in self.said))

    @property
    def digest(self) -> str:
        """16 hex digits, as journals have it."""
        return hashlib.sha256(repr(astuple(self)).encode()).hexdigest()[:16]

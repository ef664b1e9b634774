"""Signatures: what a failure looks like and what it means. The data model; signature_file.py reads
the YAML, matching.py finds the signature that explains a failure. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from sdwatch.policy.failure.facts import Blamed, Diagnosis

PIECES = ("rror", "not ", "iled", "ERRO", "tion", "vali", "emor", "TATU", "lloc", "vice", "Errn")
"""Four letters each that many texts have which are looked for: where a whole log has not even
these, most of its 280 searches are saved."""


class Proves(StrEnum):
    """What a signature proves of a failure."""

    POISONED = "poisoned"
    HOLD = "hold"
    JOB = "job"
    ADVICE = "advice"


_PROVEN_BY = {
    Diagnosis.POISONED: Proves.POISONED,
    Diagnosis.NOT_USABLE: Proves.HOLD,
    Diagnosis.STORAGE: Proves.HOLD,
    Diagnosis.BUSY: Proves.HOLD,
    Diagnosis.BAD_REQUEST: Proves.JOB,
}


@dataclass(frozen=True)
class Way:
    """One way to recognize a failure. Everything that is given must hold. `begins`: plain text with
    which every match of `log` starts, as far as that is known. `also`: what another line must fit.
    `printed`: a line since the WebUI's start that it prints only once in its life."""

    status: tuple[int, ...] = ()
    kind: re.Pattern[str] | None = None
    said: re.Pattern[str] | None = None
    log: re.Pattern[str] | None = None
    exit: tuple[int, ...] = ()
    memory_low: bool | None = None
    names_checkpoint: bool = False
    begins: str = ""
    also: re.Pattern[str] | None = None
    printed: re.Pattern[str] | None = None

    @cached_property
    def pieces(self) -> frozenset[str]:
        """The pieces of PIECES that its beginning has."""
        return frozenset(piece for piece in PIECES if piece in self.begins)

    @cached_property
    def by_body(self) -> bool:
        """Whether the error body decides."""
        return self.kind is not None or self.said is not None

    @cached_property
    def by_end(self) -> bool:
        """Whether the end of the process decides."""
        return bool(self.exit) or self.memory_low is not None

    @cached_property
    def by_log(self) -> bool:
        """Whether the log alone decides."""
        return self.log is not None and not self.by_body and not self.by_end

    @cached_property
    def by_status(self) -> bool:
        """Whether the bare HTTP status decides."""
        return not self.by_body and not self.by_end and self.log is None


@dataclass(frozen=True)
class Signature:
    """One row of the data; signatures.yaml says what each field is. `builtin`: it came with
    sdwatch, and is not the user's own."""

    name: str
    ways: tuple[Way, ...]
    diagnosis: Diagnosis
    cause: str
    advice: str
    source: str
    poisons: bool = False
    blames: Blamed | None = None
    during: str = ""
    vague: bool = False
    ends_start: bool = False
    says: tuple[str, ...] = ()
    yields: bool = False
    builtin: bool = field(default=False, compare=False)

    @property
    def proves(self) -> tuple[Proves, ...]:
        """What follows from it, beside its cause and its advice."""
        proven = [_PROVEN_BY.get(self.diagnosis, Proves.ADVICE)]
        if self.poisons and Proves.POISONED not in proven:
            proven.append(Proves.POISONED)
        return tuple(each for each in proven if each is not Proves.ADVICE) or (Proves.ADVICE,)

    @property
    def tells_the_end(self) -> bool:
        """Whether it knows how the process ended. Who is killed from outside dies of that,
        whatever its log has complained about before."""
        return self.diagnosis is Diagnosis.CRASH and not self.vague

    @property
    def asks_for_memory(self) -> bool:
        """Whether it depends on how much memory was left, which belongs to its cause then."""
        return any(way.memory_low is False for way in self.ways)

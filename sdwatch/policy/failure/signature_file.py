"""Read a file of signatures: signatures.yaml beside this module, or one of the user's. Pure."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from sdwatch.errors import FileProblems
from sdwatch.policy.failure.exits import codes_of, unsigned
from sdwatch.policy.failure.expression import MOST_IN_A_ROW, is_slow
from sdwatch.policy.failure.facts import Blamed, Diagnosis
from sdwatch.policy.failure.signatures import Signature, Way
from sdwatch.policy.job.document import parse_document
from sdwatch.policy.job.schema import Reading, read_model, readable


def parse_signatures(data: bytes, file: str, *, builtin: bool = False) -> tuple[Signature, ...]:
    """Return the signatures in `data`, in their order. Raises FileProblems, placed in `file`."""
    listed, problems = read_model(parse_document(data, file), _File, "the file")
    if listed is None:
        raise FileProblems(file, readable(problems))
    return tuple(entry.signature(builtin) for entry in listed.signatures)


_GROUPS = re.compile(r"\\.|\([^()]*\)|\[[^\]]*\]")


def beginning(pattern: str) -> str:
    """Return plain text with which every match of a regular expression starts; '' if unknown."""
    plain = re.match(r"[\w :']*", pattern)
    if plain is None or "|" in _GROUPS.sub("", pattern):
        return ""
    text = plain.group()
    return text[:-1] if pattern[len(text) : len(text) + 1] in ("?", "*", "{") else text


_SLOW = (
    "may take forever: it repeats what repeats itself, or has more than "
    f"{MOST_IN_A_ROW} repeats in a row that fit the same text, as .* does"
)


class _Read(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _exit_codes(text: str) -> tuple[int, ...]:
    """The codes of a signal that is named, or a number: a status of Windows without its sign."""
    return codes_of(text) or (unsigned(int(text, 0)),)


_EXIT = Reading(_exit_codes, "a whole number, or the name of a signal, as SIGSEGV")


class _When(_Read):
    status: tuple[int, ...] = ()
    kind: str | None = None
    said: str | None = None
    log: str | None = None
    also: str | None = None
    exit: tuple[Annotated[tuple[int, ...], _EXIT], ...] = ()
    memory_low: bool | None = None
    names_checkpoint: bool = False
    printed: str | None = None

    @field_validator("kind", "said", "log", "also", "printed")
    @classmethod
    def _an_expression(cls, text: str) -> str:
        try:
            re.compile(text)
        except (re.error, OverflowError) as error:
            raise ValueError(f"is not a regular expression: {error}") from None
        except RecursionError:
            raise ValueError("has too many groups within each other") from None
        if is_slow(text):
            raise ValueError(_SLOW)
        return text

    @field_validator("log", "also", "printed")
    @classmethod
    def _not_any_line(cls, text: str) -> str:
        if re.search(text, ""):
            raise ValueError("would fit every line")
        return text

    @model_validator(mode="after")
    def _something(self) -> _When:
        if not self.model_fields_set - {"names_checkpoint", "printed"}:
            raise ValueError("names nothing to recognize it by")
        if self.also is not None and self.log is None:
            raise ValueError("also is for another line than that of log")
        if self.printed is not None and not self.model_fields_set & {"kind", "said", "status"}:
            raise ValueError("what was printed once explains a failure only beside its reply")
        return self

    def way(self) -> Way:
        return Way(
            self.status,
            _compiled(self.kind),
            _compiled(self.said),
            _compiled(self.log),
            tuple(code for each in self.exit for code in each),
            self.memory_low,
            self.names_checkpoint,
            beginning(self.log or ""),
            _compiled(self.also),
            _compiled(self.printed),
        )


_DIAGNOSIS = Reading(Diagnosis, "one of " + ", ".join(Diagnosis))


_BLAMES = Reading(Blamed, "one of " + ", ".join(Blamed))


_WAITED_FOR = (Diagnosis.STORAGE, Diagnosis.BUSY, Diagnosis.NOT_USABLE)


class _Entry(_Read):
    name: Annotated[str, Field(min_length=1)]
    when: Annotated[tuple[_When, ...], Field(min_length=1)]
    diagnosis: Annotated[Diagnosis, _DIAGNOSIS]
    cause: Annotated[str, Field(min_length=1)]
    advice: Annotated[str, Field(min_length=1)]
    source: Annotated[str, Field(min_length=1)]
    poisons: bool = False
    blames: Annotated[Blamed, _BLAMES] | None = None
    during: Literal["start", "call"] | None = None
    vague: bool = False
    ends_start: bool = False
    says: tuple[str, ...] = ()
    yields: bool = False

    @model_validator(mode="after")
    def _cured_by_a_restart(self) -> _Entry:
        if self.poisons and self.diagnosis in _WAITED_FOR:
            raise ValueError(f"poisons asks for a restart, which does not cure {self.diagnosis!s}")
        return self

    def signature(self, builtin: bool) -> Signature:
        return Signature(
            self.name,
            tuple(when.way() for when in self.when),
            self.diagnosis,
            self.cause,
            self.advice,
            self.source,
            self.poisons,
            self.blames,
            self.during or "",
            self.vague,
            self.ends_start,
            self.says,
            self.yields,
            builtin,
        )


class _File(_Read):
    signatures: Annotated[tuple[_Entry, ...], Field(min_length=1)]

    @field_validator("signatures")
    @classmethod
    def _each_once(cls, entries: tuple[_Entry, ...]) -> tuple[_Entry, ...]:
        names = [entry.name for entry in entries]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f'"{name}" is there twice; keep one')
        return entries


def _compiled(text: str | None) -> re.Pattern[str] | None:
    return None if text is None else re.compile(text, re.MULTILINE)

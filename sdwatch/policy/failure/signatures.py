"""Signatures: what a failure looks like and what it means. The data model; signature_file.py reads
the YAML, matching.py finds the signature that explains a failure. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property
from typing import Annotated, Any, Literal, TypeAlias, cast

from pydantic import ConfigDict, Field, PlainValidator, PrivateAttr, ValidationInfo, model_validator
from pydantic_core import PydanticKnownError

from sdwatch.policy.failure.exits import codes_of, unsigned
from sdwatch.policy.failure.expression import BuiltinExpression, Expression
from sdwatch.policy.failure.facts import Blamed, Diagnosis
from sdwatch.policy.job.text.typed_values import ONE_OR_MORE, Whole, Written, reading

PIECES = ("rror", "not ", "iled", "ERRO", "tion", "vali", "emor", "TATU", "lloc", "vice", "Errn")
"""Four letters each that many texts have which are looked for: where a whole log has not even
these, most of its 280 searches are saved."""

Compile: TypeAlias = Callable[[str], Expression]
"""Makes an expression of its text; the context in which a file of signatures is read. Raises
ValueError."""

_OF_LINES = ("log", "also", "printed")
_GROUPS = re.compile(r"\\.|\([^()]*\)|\[[^\]]*\]")


def _compiled(text: Any, info: ValidationInfo) -> Expression:
    if isinstance(text, list | dict):
        raise PydanticKnownError("string_type")
    expression = cast(Compile, info.context)(text) if isinstance(text, str) else text
    if isinstance(expression, BuiltinExpression):
        return expression  # not compiled yet; tests check all of them
    if info.field_name in _OF_LINES and expression.search(""):
        raise ValueError("would fit every line")
    return cast(Expression, expression)


def _exit_codes(text: str) -> tuple[int, ...]:
    """Return the codes of a signal that is named, or a number: a status of Windows without its
    sign."""
    return codes_of(text) or (unsigned(int(text, 0)),)


_Compiled: TypeAlias = Annotated[Expression, PlainValidator(_compiled)]
_EXIT = reading(_exit_codes, "a whole number, or the name of a signal, as SIGSEGV")


class Way(Written):
    """One way to recognize a failure. Everything that is given must hold. `also`: what another line
    must fit. `printed`: a line since the WebUI's start that it prints only once in its life.
    `node`: the class of the node of a workflow that raised."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    status: Annotated[tuple[Whole, ...], ONE_OR_MORE] = ()
    kind: _Compiled | None = None
    said: _Compiled | None = None
    node: _Compiled | None = None
    log: _Compiled | None = None
    also: _Compiled | None = None
    exit: Annotated[tuple[Annotated[tuple[int, ...], _EXIT], ...], ONE_OR_MORE] = ()
    memory_low: bool | None = None
    names_checkpoint: bool = False
    printed: _Compiled | None = None

    @model_validator(mode="after")
    def _something(self) -> Way:
        if not self.model_fields_set - {"names_checkpoint", "printed"}:
            raise ValueError(
                "names nothing by which a failure is recognized, such as `log` or `said`"
            )
        if self.also is not None and self.log is None:
            raise ValueError("`also` needs `log` beside it")
        if self.printed is not None and not self.model_fields_set & {"kind", "said", "status"}:
            raise ValueError("`printed` needs `kind`, `said` or `status` beside it")
        return self

    @cached_property
    def exits(self) -> tuple[int, ...]:
        """Return all exit codes that fit."""
        return tuple(code for codes in self.exit for code in codes)

    @cached_property
    def fixed_start(self) -> str:
        """Return plain text with which every match of `log` starts, as far as that is known."""
        return fixed_start(self.log.pattern if self.log else "")

    @cached_property
    def pieces(self) -> frozenset[str]:
        """Return the pieces of PIECES that its beginning has."""
        return frozenset(piece for piece in PIECES if piece in self.fixed_start)

    @cached_property
    def by_body(self) -> bool:
        """Return whether the error body decides."""
        return self.kind is not None or self.said is not None or self.node is not None

    @cached_property
    def by_end(self) -> bool:
        """Return whether the end of the process decides."""
        return bool(self.exit) or self.memory_low is not None

    @cached_property
    def by_log(self) -> bool:
        """Return whether the log alone decides."""
        return self.log is not None and not self.by_body and not self.by_end

    @cached_property
    def by_status(self) -> bool:
        """Return whether the bare HTTP status decides."""
        return not self.by_body and not self.by_end and self.log is None


def fixed_start(pattern: str) -> str:
    """Return plain text with which every match of a regular expression starts; '' if unknown."""
    plain = re.match(r"[\w :']*", pattern)
    if plain is None or "|" in _GROUPS.sub("", pattern):
        return ""
    text = plain.group()
    return text[:-1] if pattern[len(text) : len(text) + 1] in ("?", "*", "{") else text


_WAITED_FOR = (Diagnosis.STORAGE, Diagnosis.BUSY, Diagnosis.NOT_USABLE)
_Words: TypeAlias = Annotated[str, Field(min_length=1)]


class Signature(Written):
    """One row of the data; signatures.yaml says what each field is."""

    name: _Words
    when: Annotated[tuple[Way, ...], Field(min_length=1), ONE_OR_MORE]
    diagnosis: Diagnosis
    cause: _Words
    advice: _Words
    source: _Words
    poisons: bool = False
    blames: Blamed | None = None
    during: Literal["start", "call"] | None = None
    vague: bool = False
    ends_start: bool = False
    says: Annotated[tuple[str, ...], ONE_OR_MORE] = ()
    yields: bool = False
    _builtin: bool = PrivateAttr(False)

    @model_validator(mode="after")
    def _cured_by_a_restart(self, info: ValidationInfo) -> Signature:
        self._builtin = info.context is BuiltinExpression
        if self.poisons and self.diagnosis in _WAITED_FOR:
            raise ValueError(
                f"`poisons` needs another diagnosis: a restart does not fix {self.diagnosis!s}"
            )
        return self

    @cached_property  # asked of all of them for each failure
    def builtin(self) -> bool:
        """Return whether it came with sdwatch, and is not the user's own."""
        return self._builtin

    @property
    def knows_the_exit(self) -> bool:
        """Return whether it knows how the process ended. Who is killed from outside dies of that,
        whatever its log has complained about before."""
        return self.diagnosis is Diagnosis.CRASH and not self.vague

    @property
    def asks_for_memory(self) -> bool:
        """Return whether it depends on how much memory was left, which belongs to its cause
        then."""
        return any(way.memory_low is False for way in self.when)

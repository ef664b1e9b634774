"""Signatures: what a failure looks like, and what it means. Data in (signatures.yaml beside this
file, and perhaps one of the user's), a signature and the evidence for it out. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from sdwatch.errors import (
    FileProblems,
    WebUIError,
    WebUIReplyError,
    WebUIServerError,
    WebUIUnreachableError,
)
from sdwatch.policy.failure.error_lines import error_blocks
from sdwatch.policy.failure.exits import codes_of, unsigned, was_killed, was_told_to_end
from sdwatch.policy.failure.expression import MOST_IN_A_ROW, is_slow
from sdwatch.policy.failure.facts import Blamed, Diagnosis, FailureFacts
from sdwatch.policy.failure.mentions import first_said
from sdwatch.policy.failure.noise import decisive, without_noise
from sdwatch.policy.job.document import parse_document
from sdwatch.policy.job.schema import Reading, read_model, readable

_LONGEST_LINE = 4000
"""Of a log line so much is looked at: what a failed search costs may grow with its square. Its end
is what counts: SD.Next names an exception behind a long dict of what it was called with."""

_HALF_LINE = _LONGEST_LINE // 2
_SHOWN = 300
"""A line that is longer is not shown, but what of it fits: of half a prompt nobody would know that
it is one, and it would escape the redaction."""

_PIECES = ("rror", "not ", "iled", "ERRO", "tion", "vali", "emor", "TATU", "lloc", "vice", "Errn")
"""Four letters each that many texts have which are looked for: where a whole log has not even
these, most of its 280 searches are saved."""

# A body that says nothing about the cause: none, the server's own text, a page for browsers, and
# what stable-diffusion.cpp says of every failure (source).
_SAYS_NOTHING = re.compile(
    r"\s*+(Internal Server Error\s*|generate_image returned \w{1,20} results\s*|<.*)?",
    re.DOTALL | re.IGNORECASE,
)

# What Python says where something before went wrong and was caught: a part is missing that should
# have come of it. Such a text tells where that was noticed and nothing of the cause (A1111#14623,
# amdgpu#355, reForge#292).
_GENERIC = re.compile(
    r"""\W*(cannot unpack non-iterable )?'?NoneType'? object\b
    |(object|argument) of type '?NoneType'?
    |unsupported operand type[^\n]*'NoneType'
    |'[<>=]{1,2}' not supported between [^\n]*'NoneType'
    |[^\n]*\b(not|got|found) '?NoneType\b
    |(list|tuple|string) (assignment )?index out of range
    |pop (from|index) (empty|out)
    |(not enough|too many) values to unpack
    |(cannot access )?local variable \S+ (referenced before|where it is not associated)
    |generator didn't yield
    """.replace("\n    ", ""),
    re.IGNORECASE,
)


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

_DEADLY = (Diagnosis.CRASH, Diagnosis.OUT_OF_MEMORY, Diagnosis.POISONED, Diagnosis.STORAGE)
"""What can end a process; a name that it did not find cannot."""


@dataclass(frozen=True)
class Way:
    """One way to tell a failure. All that is given must hold. `begins`: the plain text that all
    which fits `log` begins with, as far as that is known. `also`: what another line must fit.
    `printed`: a line since the WebUI was started, of those that it prints once in its life."""

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
        """The pieces of _PIECES that its beginning has."""
        return frozenset(piece for piece in _PIECES if piece in self.begins)

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


def parse_signatures(data: bytes, file: str, *, builtin: bool = False) -> tuple[Signature, ...]:
    """The signatures that `data` lists, in its order. Raises FileProblems, placed in `file`."""
    listed, problems = read_model(parse_document(data, file), _File, "the file")
    if listed is None:
        raise FileProblems(file, readable(problems))
    return tuple(entry.signature(builtin) for entry in listed.signatures)


def match(facts: FailureFacts, signatures: Iterable[Signature]) -> tuple[Signature, str] | None:
    """The signature that explains a failed call, and in words which evidence decided.

    The order of evidence, each before what stands below it:

    1. the end of the process, before all that it shows as;
    2. what the body says, where a signature knows it, unless that only tells of what an earlier
       fault of the same call has left behind (`yields`);
    3. what the log of the call says clearly, where the body says nothing, has a generic text that
       no signature knows, or only tells of something left behind;
    4. what the body says of that;
    5. what the log says vaguely, where the body says nothing;
    6. the bare status.
    """
    known = [signature for signature in signatures if signature.during != "start"]
    seen = _Seen.of(facts)
    error = facts.error
    if facts.process_gone or isinstance(error, WebUIUnreachableError):
        deadly = [signature for signature in known if signature.diagnosis in _DEADLY]
        return _by_traces(deadly, seen)
    if error.status is None:
        return None
    return (
        _by_body(known, seen)
        or _by_log(facts, known, seen)
        or _first(known, seen, lambda way: way.by_status)
    )


def printed_once(
    facts: FailureFacts, signatures: Iterable[Signature]
) -> tuple[re.Pattern[str], ...]:
    """Return the `printed` of every way that fits a failed call but for that: what is to be looked
    for in all that the WebUI printed since its start."""
    seen = _Seen.of(facts)
    return tuple(
        way.printed
        for signature in signatures
        for way in signature.ways
        if way.printed is not None and seen.evidence_for(replace(way, printed=None))
    )


def _by_body(known: list[Signature], seen: _Seen) -> tuple[Signature, str] | None:
    """What the reply says; unless that is only what an earlier fault of the same call has left,
    which the log tells of."""
    found = _first(known, seen, lambda way: way.by_body)
    if found is None or not (found[0].yields or found[0].vague):
        return found
    last, _ = found
    earlier = _by_clear_lines([signature for signature in known if signature is not last], seen)
    if earlier is None:
        return found
    first, evidence = earlier
    return replace(first, poisons=first.poisons or last.poisons), evidence


def _by_log(
    facts: FailureFacts, known: list[Signature], seen: _Seen
) -> tuple[Signature, str] | None:
    """What the log tells where the body does not name the cause: says nothing at all, or complains
    of a value that is missing, which then is what is left of an earlier, clearer event."""
    if _is_opaque(facts):
        return _by_traces(known, seen)
    return _by_clear_lines(known, seen) if _complains_of_a_value(facts.error) else None


@dataclass(frozen=True)
class FailedStart:
    """A start that did not become ready. `outputs`: the lines of each of its streams, oldest first.
    `exit_code`: None where the process lives on or the code was not seen. `memory_low`: see Facts.
    """

    outputs: tuple[Sequence[str], ...]
    exit_code: int | None = None
    memory_low: bool | None = None


def why_not_started(start: FailedStart, signatures: Iterable[Signature]) -> Signature | None:
    """Return the signature that explains a failed start; None where nothing is known.

    The upper of two is taken. A line that proves that a start has failed counts anywhere, any other
    only at the end of the output (see `noise.decisive`).
    """
    known = [signature for signature in signatures if signature.during != "call"]
    code = None if start.exit_code is None else unsigned(start.exit_code)
    ended = _Seen(exit_code=code, memory_low=start.memory_low)
    # Who ends so was ended by somebody else: nothing that it printed before is the cause.
    if was_told_to_end(code) or was_killed(code):
        found = _first(known, ended, lambda way: way.by_end)
        return found[0] if found else None
    whole = replace(ended, log="\n".join(_text(lines) for lines in start.outputs))
    end = replace(ended, log="\n".join(_text(decisive(lines)) for lines in start.outputs))
    for signature in known:
        seen = whole if signature.ends_start else end
        if _first([signature], seen, lambda way: way.by_log or way.by_end):
            return signature
    return None


def ends_start(line: str, signatures: Iterable[Signature]) -> bool:
    """Whether a line of a WebUI that is starting proves that it will not become ready, although its
    process lives on."""
    (text,) = without_noise([line[:_LONGEST_LINE]])
    return any(
        way.by_log and way.also is None and way.log is not None and way.log.search(text)
        for signature in signatures
        if signature.ends_start and signature.during != "call"
        for way in signature.ways
    )


def says_nothing(error: WebUIError) -> bool:
    """Whether a WebUI's reply has no word of what went wrong."""
    return _SAYS_NOTHING.fullmatch(error.said) is not None


def is_generic(error: WebUIError) -> bool:
    """Whether a WebUI's reply has the text of an exception that may follow from anything."""
    is_one = isinstance(error, WebUIServerError)
    return is_one and _GENERIC.match(error.said[:_SHOWN].strip()) is not None


# What Python says of a value that is not as the code expects it. Nobody learns from that what went
# wrong: AUTOMATIC1111#14623, amdgpu#355 and reForge#292 are memory errors that end so.
_OF_A_VALUE = (
    "TypeError",
    "AttributeError",
    "IndexError",
    "UnboundLocalError",
    "NameError",
    "ZeroDivisionError",
    "StopIteration",
)


def _complains_of_a_value(error: WebUIError) -> bool:
    if not isinstance(error, WebUIServerError):
        return False
    kind = error.kind.rpartition(".")[2]
    return kind in _OF_A_VALUE or is_generic(error)


def _is_opaque(facts: FailureFacts) -> bool:
    """Whether the error says nothing about its cause, so that the log may: a 200 without what was
    asked for, and an exception without a text. Where an exception has one, what else the log says
    is beside the point, as what SD.Next writes of the machine after each picture."""
    if isinstance(facts.error, WebUIServerError):
        return says_nothing(facts.error)
    return isinstance(facts.error, WebUIReplyError)


def _by_traces(signatures: Sequence[Signature], seen: _Seen) -> tuple[Signature, str] | None:
    """By what a failure left behind: how the process ended, and the log. A reply of a process that
    has ended counts after the log, in which its cause stands earlier."""
    own = [signature for signature in signatures if not signature.builtin]
    ours = [signature for signature in signatures if signature.builtin]
    clear = [each for each in ours if not (each.vague or each.tells_the_end)]
    return (
        _first(own, seen, _leaves_traces)
        or _first((each for each in ours if each.tells_the_end), seen, _leaves_traces)
        or _earliest(clear, seen)
        or _first(clear, seen, lambda way: way.by_body)
        or _first((each for each in ours if each.vague), seen, _leaves_traces)
    )


def _by_clear_lines(signatures: Sequence[Signature], seen: _Seen) -> tuple[Signature, str] | None:
    """By lines of the log alone, and only by those that say what failed."""
    own = [signature for signature in signatures if not signature.builtin]
    clear = [each for each in signatures if not (each.vague or each.tells_the_end)]
    return _first(own, seen, lambda way: way.by_log) or _earliest(clear, seen)


def _leaves_traces(way: Way) -> bool:
    return not way.by_status


def _earliest(signatures: Iterable[Signature], seen: _Seen) -> tuple[Signature, str] | None:
    """The one that explains the first event that the log tells of: what came later may follow from
    it. The lines of one traceback are one event, of which the upper signature is taken."""
    found = [
        (seen.line_number(way), signature, evidence)
        for signature in signatures
        for way in signature.ways
        if way.by_log and (evidence := seen.evidence_for(way))
    ]
    if not found:
        return None
    end = seen.end_of_event(min(number for number, _, _ in found))
    return next((signature, evidence) for number, signature, evidence in found if number < end)


def _first(
    signatures: Iterable[Signature], seen: _Seen, counts: Callable[[Way], bool]
) -> tuple[Signature, str] | None:
    for signature in signatures:
        for way in filter(counts, signature.ways):
            if evidence := seen.evidence_for(way):
                return signature, evidence
    return None


@dataclass(frozen=True)
class _Seen:
    """What the ways are held against."""

    status: int | None = None
    kind: str = ""
    said: str = ""
    log: str = ""
    exit_code: int | None = None
    memory_low: bool | None = None
    names_checkpoint: bool = False
    printed: str = ""

    @staticmethod
    def of(facts: FailureFacts) -> _Seen:
        error = facts.error
        return _Seen(
            status=error.status,
            kind=error.kind,
            said=error.said,
            log=_text(facts.log),
            exit_code=_exit_code(facts),
            memory_low=facts.memory_low if facts.process_gone else None,
            names_checkpoint=facts.names_checkpoint,
            printed=_text(facts.printed),
        )

    def evidence_for(self, way: Way) -> str:
        """All that speaks for it, in words; '' where something does not hold."""
        if way.log is not None and not self._may_have(way):  # most of them, so this comes first
            return ""
        if (
            (way.status and self.status not in way.status)
            or (way.exit and self.exit_code not in way.exit)
            or (way.memory_low is not None and way.memory_low is not self.memory_low)
            or (way.names_checkpoint and not self.names_checkpoint)
        ):
            return ""
        if (body := self._body(way)) is None or (line := self._line(way)) is None:
            return ""
        if (earlier := self._earlier(way)) is None:
            return ""
        return ", ".join(filter(None, (body, *self._words(way), line, earlier)))

    def _may_have(self, way: Way) -> bool:
        return way.pieces.isdisjoint(self._missing) and way.begins in self.log

    @cached_property
    def _missing(self) -> frozenset[str]:
        return frozenset(piece for piece in _PIECES if piece not in self.log)

    def line_number(self, way: Way) -> int:
        """Of the first line of the log that fits."""
        found = self._search(way)
        return self.log.count("\n", 0, found.start()) if found else 0

    def end_of_event(self, number: int) -> int:
        """The line after the error or traceback that line `number` is of."""
        lines = self.log.split("\n")
        start, end = number, number + 1
        while start and lines[start - 1].startswith(" "):
            start -= 1
        while end < len(lines) and lines[end].startswith(" "):
            end += 1
        start = max(0, start - 1)
        # All lines would cost 30 ms, and whole ones of a flood seconds.
        blocks = error_blocks([line[:_SHOWN] for line in lines[start : end + 1]])
        ends = (start + each.end for each in blocks if start + each.start <= number)
        return max([number + 1, *ends])

    def _words(self, way: Way) -> Iterator[str]:
        if way.status or way.by_body:
            yield f"HTTP {self.status}"
        if way.names_checkpoint:
            yield "the call names a checkpoint"
        if way.exit:
            yield f"exit code {self.exit_code}"
        if way.memory_low:
            yield "next to no memory was left just before"
        if way.memory_low is False:
            yield "memory was not low just before"

    def _body(self, way: Way) -> str | None:
        """'' where the body is not asked for, None where it is another one."""
        kind = way.kind is None or way.kind.search(self.kind)
        said = first_said(way.said, self.said) if way.said else None
        if not kind or (way.said and not said):
            return None
        if not way.by_body:
            return ""
        text = ": ".join(filter(None, (self.kind, _shown(said.group()) if said else "")))
        return f"the reply: {text}" if text else ""

    def _line(self, way: Way) -> str | None:
        """'' where the log is not asked for, None where no line fits."""
        if way.log is None:
            return ""
        found = self._search(way)
        if found is None:
            return None
        start = self.log.rfind("\n", 0, found.start()) + 1
        line = self.log[start:].partition("\n")[0]
        return f"log line: {line.strip() if len(line) <= _SHOWN else _shown(found.group())}"

    def _earlier(self, way: Way) -> str | None:
        """'' where nothing earlier is asked for, None where nothing such was printed."""
        if way.printed is None:
            return ""
        found = way.printed.search(self.printed)
        return f"printed since its start: {_shown(found.group())}" if found else None

    def _search(self, way: Way) -> re.Match[str] | None:
        if way.log is None or not self._may_have(way):
            return None
        found = first_said(way.log, self.log)
        return found if way.also is None or (found and way.also.search(self.log)) else None


def _exit_code(facts: FailureFacts) -> int | None:
    if not facts.process_gone or facts.exit_code is None:
        return None
    return unsigned(facts.exit_code)


def _shown(fitting: str) -> str:
    return fitting if len(fitting) <= _SHOWN else f"a text of {len(fitting):,} characters"


def _text(lines: Iterable[str]) -> str:
    return "\n".join(without_noise(map(_both_ends, lines)))


def _both_ends(line: str) -> str:
    """A line of bounded length: what is too long keeps its beginning and its end."""
    return line[:_HALF_LINE] + line[_HALF_LINE:][-_HALF_LINE:]


# --- how the file is read


_GROUPS = re.compile(r"\\.|\([^()]*\)|\[[^\]]*\]")


def beginning(pattern: str) -> str:
    """Plain text that all begins with that fits a regular expression; '' where none is known."""
    plain = re.match(r"[\w :']*", pattern)
    if plain is None or "|" in _GROUPS.sub("", pattern):
        return ""
    text = plain.group()
    return text[:-1] if pattern[len(text) : len(text) + 1] in ("?", "*", "{") else text


_SLOW = (
    "may take for ever: it repeats what repeats itself, or has more than "
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
            raise ValueError(f"is no regular expression: {error}") from None
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
            raise ValueError("names nothing to tell it by")
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

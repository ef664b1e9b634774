"""What sdwatch observed of one failure, in the form that signatures are compared with. Pure.

A text that says that something failed is not one that only mentions it: a prompt that quotes an
error, a tip, an error that is tried again, the name of a download, a line of source code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from sdwatch.policy.failure.error_lines import error_blocks
from sdwatch.policy.failure.exits import unsigned
from sdwatch.policy.failure.expression import Expression
from sdwatch.policy.failure.facts import FailureFacts
from sdwatch.policy.failure.noise import without_noise
from sdwatch.policy.failure.signatures import PIECES, Way

_MOST = 200
"""So many mentions are looked at: each costs some 10 us, and a flood could have a million."""

_PROMPT = re.compile(r"(?i)\b(?:negative[_ ])?prompts?['\"]?\s{0,3}[:=]\s{0,3}[\[(]?")
_LITERAL = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")

_BEFORE = re.compile(
    # a tip, a condition, a possibility
    r"(?i)(?:^|\W)(?:tip|hint|note)s?\s?[:\-]|\bif (?:you|there|this|it)\b|\bin case\b"
    r"|\bto (?:avoid|fix|prevent|reduce|solve)\b|\bwhen(?:ever)? (?:you|there)\b"
    r"|\b(?:may|might|can|could|will) (?:cause|lead|result|run|get|give|raise|fail|be caused)\b"
    r"|\bhelps? (?:with|against)\b|\b(?:no|without|any)\s$"
    # a warning of Python's
    r"|\b[A-Z]\w{2,20}Warning: "
)
_AFTER = re.compile(
    r"(?i)(?:\s(?:errors?|exceptions?|issues?))?\s(?:can|may|might|could|usually|happens?)\b"
    r"|\s(?:errors|exceptions|issues|problems)\b"
)
_SURVIVED = re.compile(
    r"(?i)\bretry(?:ing)?\b|\btrying again\b|\bfall(?:ing|s)? ?back\b|\bthrown while requesting\b"
    r"|\bswitched to\b|^\W*ignoring\b"
)
_BAR = re.compile(r"\d%\|")
_CODE = re.compile(r"[\s│❱>\d]{4,120}(?:raise\b|except\b|#)")


def first_said(pattern: Expression, text: str) -> re.Match[str] | None:
    """Return the first place of `text` (lines) that fits and does not only mention it."""
    for found in islice(pattern.finditer(text), _MOST):
        start = text.rfind("\n", 0, found.start()) + 1
        end = text.find("\n", found.end())
        after = text[found.end() : len(text) if end < 0 else end]
        if not is_only_mentioned(text[start : found.start()], after):
            return found
    return None


def is_only_mentioned(before: str, after: str) -> bool:
    """Return whether what stands between these two parts of a line did not happen there and
    then."""
    return (
        _BEFORE.search(before) is not None
        or _AFTER.match(after) is not None
        or _SURVIVED.search(after) is not None
        or _SURVIVED.search(before) is not None
        or _BAR.search(after) is not None
        or _CODE.match(before) is not None
        or _is_in_a_prompt(before, after)
    )


def _is_in_a_prompt(before: str, after: str) -> bool:
    """Return whether a place is in a prompt: what is not in quotes is one to the end of its
    line."""
    named = _PROMPT.search(before)
    if named is None:
        return False
    rest, at = before[named.end() :] + after, len(before) - named.end()
    if rest[:1] not in ("'", '"'):
        return True
    return any(found.start() < at < found.end() for found in _LITERAL.finditer(rest))


LONGEST_LINE = 4000
"""Of a log line so much is looked at: what a failed search costs may grow with its square. Its end
is what counts: SD.Next names an exception behind a long dict of what it was called with."""


_HALF_LINE = LONGEST_LINE // 2


_SHOWN = 300
"""A line that is longer is not shown, but what of it fits: of half a prompt nobody would know that
it is one, and it would escape the redaction."""


@dataclass(frozen=True)
class Observation:
    """The observed failure that ways are compared with."""

    status: int | None = None
    kind: str = ""
    said: str = ""
    node: str = ""
    log: str = ""
    exit_code: int | None = None
    memory_low: bool | None = None
    names_checkpoint: bool = False
    once_lines: str = ""

    @staticmethod
    def of(facts: FailureFacts) -> Observation:
        error = facts.error
        return Observation(
            status=error.status,
            kind=error.kind,
            said=error.said,
            node=error.node,
            log=joined(facts.log),
            exit_code=_exit_code(facts),
            memory_low=facts.memory_low if facts.process_gone else None,
            names_checkpoint=facts.names_checkpoint,
            once_lines=joined(facts.once_lines),
        )

    def evidence_for(self, way: Way) -> str:
        """Return all that speaks for it, in words; '' where something does not hold."""
        if way.log is not None and not self._may_have(way):  # most of them, so this comes first
            return ""
        if (
            (way.status and self.status not in way.status)
            or (way.exit and self.exit_code not in way.exits)
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
        return way.pieces.isdisjoint(self._missing) and way.fixed_start in self.log

    @cached_property
    def _missing(self) -> frozenset[str]:
        return frozenset(piece for piece in PIECES if piece not in self.log)

    def line_number(self, way: Way) -> int:
        """Return the number of the first line of the log that fits."""
        found = self._search(way)
        return self.log.count("\n", 0, found.start()) if found else 0

    def end_of_event(self, number: int) -> int:
        """Return the line after the error or traceback that line `number` is of."""
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
        if (way.status or way.by_body) and self.status is not None:
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
        """Return '' where the body is not asked for, None where it is another one."""
        kind = way.kind is None or way.kind.search(self.kind)
        said = first_said(way.said, self.said) if way.said else None
        if way.node is not None and not way.node.search(self.node):
            return None
        if not kind or (way.said and not said):
            return None
        if not way.by_body:
            return ""
        text = ": ".join(filter(None, (self.kind, _shown(said.group()) if said else "")))
        return f"the reply: {text}" if text else ""

    def _line(self, way: Way) -> str | None:
        """Return '' where the log is not asked for, None where no line fits."""
        if way.log is None:
            return ""
        found = self._search(way)
        if found is None:
            return None
        start = self.log.rfind("\n", 0, found.start()) + 1
        line = self.log[start:].partition("\n")[0]
        return f"log line: {line.strip() if len(line) <= _SHOWN else _shown(found.group())}"

    def _earlier(self, way: Way) -> str | None:
        """Return '' where nothing earlier is asked for, None where nothing such was printed."""
        if way.printed is None:
            return ""
        found = way.printed.search(self.once_lines)
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


def joined(lines: Iterable[str]) -> str:
    return "\n".join(without_noise(map(_both_ends, lines)))


def _both_ends(line: str) -> str:
    """Return a line of bounded length: a long one keeps its start and its end."""
    return line[:_HALF_LINE] + line[_HALF_LINE:][-_HALF_LINE:]

"""Find in SD.Next's log the exception that its reply does not mention. Pure.

It answers 200 to most exceptions (measured with SD.Next 058a7f0c): with its live preview and
`interrupted` after a RuntimeError or ValueError, without a picture after an AssertionError or an
exception in the VAE. Its lines of them, where ARGS is a long dict of what the pipeline was called
with:

    ERROR    Processing: step=base args=ARGS TEXT      a RuntimeError; out of memory is one, too
    ERROR    Processing: CLASS                         of the same, with a traceback
    ERROR    Processing: args=ARGS TEXT                a ValueError
    ERROR    VAE decode: TEXT                          any exception
    INFO     TEXT                                      an AssertionError
    WARNING  Processing: no results
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

_LONGEST_TEXT = 2000
"""What is longer is not shown: of half a prompt nobody would know that it is one."""

_FIELD = r"[ |\w.:-]{0,120}"  # of sdnext.log, between level and text: the module
_ERROR = re.compile(rf"\bERROR\b{_FIELD}?\b(?P<where>Processing|VAE decode): (?P<said>\S.*)")
_INFO = re.compile(r"\bINFO\b[ |]++(?:[\w-]++[ ]++\|[ ]*+)?(?P<said>\S.*)")
_NO_RESULTS = re.compile(rf"\bWARNING\b{_FIELD}?\bProcessing: no results")
_ROUTINE = re.compile(r"API |[A-Z][\w ]{0,40}: ")  # how lines begin that say what it does
_CLASS = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Z]\w*")
_ARGUMENTS = re.compile(r"(?:step=\w+ )?args=\{")
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*+'|\"(?:[^\"\\]|\\.)*+\"")


@dataclass(frozen=True)
class LoggedException:
    """An exception: its class, '' where the log does not name it, and its own text."""

    kind: str = ""
    said: str = ""

    @property
    def words(self) -> str:
        """Return `RuntimeError: its text`."""
        return ": ".join(filter(None, (self.kind, self.said)))


def logged_exception(log: Iterable[str]) -> LoggedException | None:
    """Return the first exception that the lines of a call show; None where there is none. Each line
    is a whole message, whatever it was wrapped into."""
    lines = list(log)
    found = [(at, match) for at, line in enumerate(lines) if (match := _ERROR.search(line))]
    if not found:
        return None
    texts = [text for _, match in found if not _is_class(match) and (text := _text(match["said"]))]
    kinds = [match["said"].strip() for _, match in found if _is_class(match)]
    kind = kinds[0] if kinds else ""
    last_line = _last_line(kind, lines[found[0][0] :]) if kind else ""
    return LoggedException(kind, _bounded(last_line or (texts[0] if texts else "")))


def asserted(log: Sequence[str]) -> str:
    """Return the text of an AssertionError, which is not an error in that log: the INFO line right
    before the line that reports no results. '' where there is none."""
    for before, line in pairwise(log):
        said = _INFO.search(before)
        if said and _NO_RESULTS.search(line) and not _ROUTINE.match(said["said"]):
            return _bounded(said["said"].strip())
    return ""


def _is_class(match: re.Match[str]) -> bool:
    return match["where"] == "Processing" and _CLASS.fullmatch(match["said"].strip()) is not None


def _text(said: str) -> str:
    """Return the exception's own text: what stands behind the arguments."""
    said = said.strip()
    start = _ARGUMENTS.match(said)
    if start is None:
        return said
    return said[_end_of_dict(said, start.end() - 1) :].strip()


def _end_of_dict(text: str, at: int) -> int:
    """Return the index behind the bracket that closes the one at `at`. In a line that was shortened
    in its middle none may: then behind the last one."""
    depth, start = 0, at
    while at < len(text):
        if quoted := _QUOTED.match(text, at):
            at = quoted.end()
            continue
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        at += 1
        if depth == 0:
            return at
    return max(start + 1, text.rfind("}") + 1)


def _last_line(kind: str, lines: Iterable[str]) -> str:
    """Return what the last line of its traceback says behind the class."""
    name = re.escape(kind.rpartition(".")[2])
    own = re.compile(rf"\s*(?:\w+\.)*{name}: (\S.*)")
    return next((match[1].strip() for line in lines if (match := own.match(line))), "")


def _bounded(text: str) -> str:
    if len(text) <= _LONGEST_TEXT:
        return text
    return f"a text of {len(text):,} characters"

"""Read lists of values from a text beside a job: one row of values from each line. Pure.

A row is read again whenever it is needed: of ten thousand prompts no more is kept than their text.
"""

from __future__ import annotations

import codecs
import re
from array import array
from collections.abc import Sequence
from typing import Any

from sdwatch.errors import Problem
from sdwatch.policy.job.text.document import Scalar, UnreadableError, text_of

Row = tuple[Scalar, ...]
"""A value for each name."""

LONGEST_LINE = 100_000  # characters of a row
MOST_NAMES = 100  # columns, or options

_UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


class Rows(Sequence[Row]):
    """Rows that are made whenever they are asked for."""

    def row(self, place: int) -> Row:
        """Return the row at a place, from 0. Raises IndexError."""
        raise NotImplementedError

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self.row(i) for i in range(*place.indices(len(self)))]
        return self.row(place)


class TextRows(Rows):
    """The rows of a text. `lines`: what is added to the number of each line; `problems`: rows that
    cannot be read."""

    def __init__(self, text: str, lines: int) -> None:
        self.text = text
        self.problems: list[Problem] = []
        self._offset = lines
        self._last: tuple[int, Row] = (-1, ())  # which is often asked for again
        self._starts = array("Q")
        self._lines = array("Q")

    def read_row(self, start: int, line: int) -> Row:
        """Return the row that starts at an offset and in a line (from 1)."""
        raise NotImplementedError

    def add(self, start: int, line: int) -> None:
        """Add the row that starts there."""
        self._starts.append(start)
        self._lines.append(line)

    def __len__(self) -> int:
        return len(self._starts)

    def row(self, place: int) -> Row:
        number, row = self._last
        if place != number:
            row = self.read_row(self._starts[place], self._lines[place])
            self._last = (place, row)
        return row


def text_beside(data: bytes) -> str:
    """Return the text of a file beside a job: UTF-8 as a job file, or UTF-16 with its byte order
    mark, as Excel's "Unicode Text". Raises UnreadableError. What has neither is not guessed: the
    same bytes are other letters on another machine. Each line ends in one line feed."""
    coding = _UTF16.get(data[:2])
    if coding is None or data.startswith(codecs.BOM_UTF32_LE):
        return _with_plain_ends(text_of(data))
    try:
        text = data[2:].decode(coding)
    except UnicodeDecodeError:
        message = "the file ends in the middle of a character of UTF-16, or is not UTF-16"
        raise UnreadableError(1, 1, message, unfinished=True) from None
    return _with_plain_ends(text_of(text.encode("utf-8", "replace")))


def _with_plain_ends(text: str) -> str:
    for end in ("\r\n", "\r", "\x85", "\u2028", "\u2029"):
        text = text.replace(end, "\n")
    return text


_BLANK_LINES = re.compile(r"(?:[^\S\n]*+\n)++|[^\S\n]*+\Z")


def next_line(text: str, start: int, line: int) -> tuple[int, int]:
    """Return where the next line with something in it starts, and its number, from `start` in
    `line` on; the end of the text if there is none."""
    blank = _BLANK_LINES.match(text, start)
    return (blank.end(), line + text.count("\n", start, blank.end())) if blank else (start, line)

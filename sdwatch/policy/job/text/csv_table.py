"""Read a table of values (CSV) beside a job: its first row has the names. Pure.

As Excel and other programs write it: with commas, semicolons or tabs, whichever comes first in the
row of names; a cell with one of them, a quote or a line end in it is in "quotes", and a quote in
these is written twice. A first row `sep=;` names the separator, as Excel reads it. Unlike the csv
module this knows the column of each cell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sdwatch.errors import Problem
from sdwatch.policy.job.text.document import Scalar, UnreadableError
from sdwatch.policy.job.text.text_rows import LONGEST_LINE, MOST_NAMES, Row, TextRows

_SEPARATORS = ",;\t"
_NAMED = re.compile(r"sep=(.)[ ]*(?:\n|\Z)", re.IGNORECASE)
_CELL = {
    sign: re.compile(
        rf'[ ]*+"(?P<quoted>[^"]*+(?:""[^"]*+)*+)"[ ]*+(?={sign}|\n|\Z)'
        rf"|(?P<plain>(?![ ]*\")[^{sign}\n]*+)"
    )
    for sign in _SEPARATORS
}
_MOST_ERRORS = 100


class Table(TextRows):
    """A table that has been looked through. `names`: with their places; `problems`: rows that do
    not fit. `lines`: what is added to the number of each line. Raises UnreadableError."""

    def __init__(self, text: str, most: int, lines: int = 0) -> None:
        super().__init__(text, lines)
        start, line = 0, 1
        if named := _NAMED.match(text):
            start, line = named.end(), 2
        self._separator = named[1] if named and named[1] in _SEPARATORS else _first_of(text, start)
        self.names = self._read_names(start, line)
        self._look_through(most)

    def _read_names(self, start: int, line: int) -> Row:
        start, line = self._next_row(start, line)
        cells = [*self._cells(start, line)]
        while cells and not cells[-1].text:
            cells.pop()
        if len(cells) > MOST_NAMES:
            message = f"a table has at most {MOST_NAMES} columns, not {len(cells):,}"
            raise UnreadableError(self._offset + line, 1, message)
        self._after_names = self._end
        return tuple(cells)

    def _look_through(self, most: int) -> None:
        start, line = self._next_row(*self._after_names)
        while start < len(self.text) and len(self.problems) < _MOST_ERRORS:
            if len(self) == most:
                message = f"a table has at most {most:,} rows here: max_points allows no more"
                raise UnreadableError(self._offset + line, 1, message)
            cells = [*self._cells(start, line)]
            if len(cells) < len(self.names) or any(c.text for c in cells[len(self.names) :]):
                count = f"{len(cells)} cell{'s' * (len(cells) != 1)}"
                message = f"{count} below {len(self.names)} name{'s' * (len(self.names) != 1)}"
                self.problems.append(Problem(self._offset + line, 1, message))
            else:
                self.add(start, line)
            start, line = self._next_row(*self._end)

    def _next_row(self, start: int, line: int) -> tuple[int, int]:
        """Skip rows without anything in them."""
        rows = _EMPTY[self._separator].match(self.text, start)
        end = rows.end() if rows else start
        return end, line + self.text.count("\n", start, end)

    def read_row(self, start: int, line: int) -> Row:
        cells = self._cells(start, line)
        return tuple(next(cells) for _ in self.names)

    def _cells(self, start: int, line: int) -> Iterator[Scalar]:
        """Yield the cells of the row that starts there; `_end` is behind it then."""
        cell, text, first_line = _CELL[self._separator], self.text, line
        begins = at = start
        while True:
            found = cell.match(text, at)
            where = (self._offset + line, at - begins + 1)
            if found is None:
                raise self._wrong(at, *where)
            yield _cell(found, *where)
            if breaks := found[0].count("\n"):
                line, begins = line + breaks, at + found[0].rindex("\n") + 1
            at = found.end()
            if at - start > LONGEST_LINE:
                message = f"a row has at most {LONGEST_LINE:,} characters"
                raise UnreadableError(self._offset + first_line, 1, message)
            if text[at : at + 1] != self._separator:
                break
            at += 1
        self._end = (at + 1, line + 1)

    def _wrong(self, at: int, line: int, column: int) -> UnreadableError:
        rest = re.compile(r'[ ]*"[^"]*+(?:""[^"]*+)*+(")?').match(self.text, at)
        if rest is not None and rest[1] is None:
            message = "a quote is opened here and never closed"
            return UnreadableError(line, column, message, unfinished=True)
        message = 'text follows a closing quote; a quote within "quotes" is written twice'
        return UnreadableError(line, column, message)


_EMPTY = {
    sign: re.compile(rf"(?:[ {sign}]*+\n)++(?:[ {sign}]*+\Z)?|[ {sign}]*+\Z")
    for sign in _SEPARATORS
}


def _cell(found: re.Match[str], line: int, column: int) -> Scalar:
    """Return the value of a cell. An empty one leaves the name to the job, `""` is the text without
    a letter."""
    if (quoted := found["quoted"]) is not None:
        return Scalar(quoted.replace('""', '"'), line, column, quoted=True)
    text = found["plain"].strip()
    return Scalar(text, line, column, quoted=bool(text))


def _first_of(text: str, start: int) -> str:
    """Return the separator of a table: the first sign of the row of names that may be one."""
    for found in re.compile(r'"[^"]*+"?|[,;\t\n]').finditer(text, start):
        if found[0] in _SEPARATORS:
            return found[0]
        if found[0] == "\n" and text[start : found.start()].strip():
            break
    return ","

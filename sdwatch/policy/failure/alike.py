"""Lines that differ in their numbers only, as one with a count: a flood is no evidence. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

MOST = 3
"""So many lines alike may stand below each other."""

_NO_DIGITS = str.maketrans("", "", "0123456789")
_COUNT = re.compile(r"  \((\d+) such lines, but for numbers\)$")


def as_one(lines: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Of each long run of lines alike the last, with its place and how many they are; all others as
    they are. What is indented belongs to a line above it, and stays."""
    for _, run in groupby(range(len(lines)), key=lambda at: _kind(lines[at], at)):
        places = list(run)
        total = sum(_count(lines[at]) for at in places)
        if total > MOST:
            yield places[-1], told(plain(lines[places[-1]]), total)
        else:
            yield from ((at, lines[at]) for at in places)


def told(line: str, count: int) -> str:
    """A line that stands for so many."""
    return f"{line}  ({count} such lines, but for numbers)"


def plain(line: str) -> str:
    """The line without the count of those for which it stands."""
    return _COUNT.sub("", line)


def without_numbers(line: str) -> str:
    """What lines alike have in common."""
    return plain(line).translate(_NO_DIGITS)


def _count(line: str) -> int:
    found = _COUNT.search(line)
    return int(found[1]) if found else 1


def _kind(line: str, at: int) -> str | int:
    said = without_numbers(line)
    return said if said.strip() and not said[0].isspace() else at

"""Pick lines for the wildcards of a prompt, `__animal__`, from files of lines. Pure.

A line may have wildcards in it, too. All that may be picked is looked through once: a wildcard that
contains itself, or that may become a text without end, is a mistake before the first call.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from sdwatch.errors import Problem, SpoolError
from sdwatch.policy.job.files.sources import Sources
from sdwatch.policy.job.stage.confinement import DEVICE
from sdwatch.policy.job.text.document import UnreadableError
from sdwatch.policy.job.text.text_rows import text_beside
from sdwatch.policy.naming import shown

MOST_FILES = 1_000
MOST_BYTES = 8_000_000
"""Of all files of lines of one job."""

DEEPEST = 16
"""Wildcards within wildcards."""

LONGEST = 100_000
"""Characters that a wildcard may become."""

_WILDCARD = re.compile(r"__([A-Za-z0-9](?:[\w ./-]{0,98}?[A-Za-z0-9])??)__")


@dataclass(frozen=True)
class LineFile:
    """A file of lines. `file`: its name for people; `read`: returns its bytes, or raises SpoolError
    or FileNotFoundError; `is_outside`: it is not part of the job."""

    file: str
    read: Callable[[], bytes]
    is_outside: bool = False


def wildcards_in(text: str) -> list[str]:
    """Return the names of all `__name__` in a text that a file could have."""
    found = _WILDCARD.findall(text) if "__" in text else []
    return [name for name in found if _is_plain(name)]


def _is_plain(name: str) -> bool:
    parts = name.split("/")
    return all(part.strip(". ") == part and part and not DEVICE.fullmatch(part) for part in parts)


@dataclass
class Wildcards:
    """The wildcards of one job. `find`: returns the file of a name, None where there is none: then
    `__name__` is left to the WebUI. `problems`: gets what is wrong with a file."""

    find: Callable[[str], LineFile | None]
    sources: Sources
    problems: list[Problem] = field(default_factory=list)
    _lines: dict[str, tuple[str, ...]] = field(init=False, default_factory=dict)
    _longest: dict[str, int] = field(init=False, default_factory=dict)
    _bytes: int = field(init=False, default=0)

    @property
    def are_used(self) -> bool:
        """Return whether there is a file for any of them."""
        return any(self._lines.values())

    def look_through(self, texts: Iterable[str]) -> None:
        """Read all files that may be needed for these texts, and note what is wrong with them."""
        for text in texts:
            for name in wildcards_in(text):
                self._measure(name, ())

    def longest(self, text: str) -> int:
        """Return how many characters a text may have with a line for each wildcard."""
        return len(text) + sum(self._longest.get(name, 0) for name in wildcards_in(text))

    def picked(self, text: str, chance: str) -> str:
        """Return a text with a line for each `__name__` that has a file. `chance`: the same picks
        the same."""
        return self._filled(text, random.Random(chance), 0)

    def _filled(self, text: str, draw: random.Random, depth: int) -> str:
        def line(use: re.Match[str]) -> str:
            lines = self._lines.get(use[1])
            if not lines or depth > DEEPEST:
                return use[0]
            return self._filled(draw.choice(lines), draw, depth + 1)

        return _WILDCARD.sub(line, text) if "__" in text else text

    def _measure(self, name: str, within: tuple[str, ...]) -> int:
        """Return how many characters a wildcard may become; `within`: those that lead to it."""
        if name not in self._longest:
            longest, file = len(name) + 4, self.find(name)
            self._lines[name] = ()
            try:
                if file is not None:
                    longest = self._longest_line(name, file, within)
            except FileNotFoundError:
                pass  # as if there were none
            except UnreadableError as error:
                assert file is not None
                first = self.sources.add(file.file, is_outside=file.is_outside)
                self.problems.append(replace(error.moved(first).problem, unfinished=False))
                longest = 0
            self._longest[name] = longest
        return self._longest[name]

    def _longest_line(self, name: str, file: LineFile, within: tuple[str, ...]) -> int:
        """Return how many characters the longest line may become. Raises UnreadableError,
        FileNotFoundError."""
        longest = 0
        for number, text in self._read(name, file):
            length = len(text)
            for inner in wildcards_in(text):
                if why := _endless(inner, (*within, name)):
                    raise UnreadableError(number, text.find(f"__{inner}__") + 1, why)
                length += self._measure(inner, (*within, name))
            if length > LONGEST:
                message = f"this may become a text of {length:,} characters; at most {LONGEST:,}"
                raise UnreadableError(number, 1, message)
            longest = max(longest, length)
        return longest

    def _read(self, name: str, file: LineFile) -> list[tuple[int, str]]:
        """Return the lines of a file with their numbers, without comments."""
        if len(self._lines) > MOST_FILES:
            raise UnreadableError(0, 1, f"a job uses at most {MOST_FILES:,} wildcards")
        try:
            data = file.read()
        except SpoolError as error:
            raise UnreadableError(0, 1, str(error)) from None
        self._bytes += len(data)
        if self._bytes > MOST_BYTES:
            message = f"the wildcards of a job have at most {MOST_BYTES >> 20} MB"
            raise UnreadableError(0, 1, message)
        text = text_beside(data)
        self.sources.kept += len(text)
        lines = [(n, line.strip()) for n, line in enumerate(text.split("\n"), 1)]
        lines = [(n, line) for n, line in lines if line and line[0] != "#"]
        if not lines:
            raise UnreadableError(1, 1, f"the wildcard {shown(name)} has no line to pick")
        self._lines[name] = tuple(line for _, line in lines)
        return lines


def _endless(name: str, within: Sequence[str]) -> str:
    """Return why a wildcard cannot be within these, or ''."""
    if name in within:
        way = " -> ".join([*within[within.index(name) :], name])
        return f"the wildcard {shown(name)} contains itself: {way[:200]}"
    return f"wildcards are nested deeper than {DEEPEST}" if len(within) > DEEPEST else ""

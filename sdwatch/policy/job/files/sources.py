"""Which of the files that a job is read from a place is in. Pure.

The lines of all files of a job are counted on from one to the next, so that a place anywhere in
them is a line and a column, as it would be with one file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from sdwatch.errors import Problem
from sdwatch.policy.job.text.document import LINES, Mapping, Node, Scalar


@dataclass
class Sources:
    """The files of one job by their names for people. The first is the job file, which is ''.
    `outside`: those that are not part of the job; `kept`: characters of others that are kept in
    memory with the job."""

    files: list[str] = field(default_factory=lambda: [""])
    outside: set[str] = field(default_factory=set)
    kept: int = 0

    def add(self, file: str, *, is_outside: bool = False) -> int:
        """Return what to add to the lines of another file."""
        if file not in self.files:
            self.files.append(file)
        if is_outside:
            self.outside.add(file)
        return LINES * self.files.index(file)

    def located(self, problem: Problem) -> Problem:
        """Return a problem with its file, and its line in there."""
        number, line = divmod(problem.line, LINES)
        if not number:
            return problem
        file = self.files[number]
        return replace(problem, line=line, file=file, outside=file in self.outside)

    def all_located(self, problems: Iterable[Problem]) -> list[Problem]:
        """Return the same for several."""
        return [self.located(problem) for problem in problems]

    def words(self, line: int) -> str:
        """Return a line for a message, such as `line 3` or `line 1 of animals.csv`."""
        number, line = divmod(line, LINES)
        return f"line {line} of {self.files[number]}" if number else f"line {line}"


def moved(node: Node, lines: int) -> Node:
    """Return a node of another file, with its lines counted on by so many."""
    line = node.line + lines
    if isinstance(node, Scalar):
        return replace(node, line=line)
    if isinstance(node, Mapping):
        entries = tuple((replace(k, line=k.line + lines), moved(v, lines)) for k, v in node.entries)
        return replace(node, line=line, entries=entries)
    return replace(node, line=line, items=tuple(moved(item, lines) for item in node.items))

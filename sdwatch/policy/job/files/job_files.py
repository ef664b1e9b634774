"""The files that a job is read with: those beside it, and those outside that other jobs use, too.
Pure.

A job folder with a folder `_used/` in it takes nothing from outside: it has what an earlier run
used, as `sdwatch retry --failed` puts it there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from sdwatch.errors import FileProblems, Problem, SpoolError
from sdwatch.policy.job.files.near_miss import DEFAULTS
from sdwatch.policy.job.files.sources import Sources, moved
from sdwatch.policy.job.files.wildcards import LineFile
from sdwatch.policy.job.text.document import (
    Mapping,
    MistakeError,
    Node,
    Scalar,
    UnreadableError,
    parse_document,
    text_of,
)
from sdwatch.policy.job.text.typed_values import found
from sdwatch.policy.naming import shown

Made = TypeVar("Made")

WILDCARDS = "wildcards"
"""The folder of a job folder with a file of lines for each `__name__`."""

USED = "_used"
USED_INBOX, USED_WILDCARDS = "inbox", "wildcards"
"""Folders in it: `_defaults.yaml` of the inbox and its folders, and wildcards of the config."""


@dataclass(frozen=True)
class Outside:
    """What a job takes from outside. `defaults`: the `_defaults.yaml` of the folders above it, the
    nearest first; `wildcard`: returns the file for a name such as `animal`, or None."""

    defaults: Sequence[LineFile] = ()
    wildcard: Callable[[str], LineFile | None] = lambda _: None


NOTHING = Outside()


@dataclass(frozen=True)
class JobFiles:
    """The files beside a job file: their names, relative to its folder, with `/`; None for a job
    that is a single file. `read`: returns the bytes of one, or raises SpoolError. `folder`: comes
    before their names for people. `from_outside`: what the job takes from there. `sources`: gets
    each that is read."""

    names: frozenset[str] | None
    read: Callable[[str], bytes]
    folder: str = ""
    from_outside: Outside = NOTHING
    sources: Sources = field(default_factory=Sources)

    def shown(self, name: str) -> str:
        """Return the name of a file beside the job for people."""
        return f"{self.folder}{name}"

    def beside(self, name: str) -> LineFile | None:
        """Return a file beside the job; None where there is none."""
        if self.names is None or name not in self.names:
            return None
        return LineFile(self.shown(name), partial(self.read, name))

    @property
    def outside(self) -> Outside:
        """Return what the job takes from outside, or from its folder `_used/` instead."""
        mine = [name for name in self.names or () if name.startswith(f"{USED}/")]
        if not mine:
            return self.from_outside
        deepest_first = sorted(mine, key=lambda name: -name.count("/"))
        chain = [self.beside(n) for n in deepest_first if n.endswith(f"/{DEFAULTS}")]
        return Outside(
            [file for file in chain if file is not None],
            lambda name: self.beside(f"{USED}/{USED_WILDCARDS}/{name}.txt"),
        )

    def made_of(self, node: Scalar, name: str, make: Callable[[bytes], Made]) -> Made:
        """Return what `make` makes of the bytes of a file beside the job, which `node` names.
        Raises UnreadableError."""
        first = self.sources.add(self.shown(name))
        try:
            return make(self.read(name))
        except FileNotFoundError:
            message = f"{shown(name)} is not in the job folder"
            raise MistakeError(node, message, unfinished=True) from None
        except SpoolError as error:
            raise MistakeError(node, f"{shown(name)} {error}") from None
        except UnreadableError as error:
            raise error.moved(first) from None

    def wildcard(self, name: str) -> LineFile | None:
        """Return the file of a wildcard: that of the job folder before that of the config."""
        return self.beside(f"{WILDCARDS}/{name}.txt") or self.outside.wildcard(name)


Entries = tuple[tuple[Scalar, Node], ...]


def read_defaults(files: JobFiles, problems: list[Problem]) -> list[Entries]:
    """Return the fields of each `_defaults.yaml` that a job gets, the nearest first: that of its
    own job folder, then those of the folders above."""
    own = files.beside(DEFAULTS)
    chain = [*([own] if own else []), *files.outside.defaults]
    return [_entries_of(file, files.sources, problems) for file in chain]


def _entries_of(file: LineFile, sources: Sources, problems: list[Problem]) -> Entries:
    first = sources.add(file.file, is_outside=file.is_outside)
    try:
        data = file.read()
        if _says_nothing(data):
            return ()
        root = moved(parse_document(data, file.file), first)
    except FileNotFoundError:  # it was removed a moment ago
        return ()
    except SpoolError as error:
        problems.append(Problem(first, 1, str(error)))
        return ()
    except FileProblems as error:
        problems += [replace(each, line=first + each.line) for each in error.problems]
        return ()
    if not isinstance(root, Mapping):
        message = f"{DEFAULTS} is a mapping of `field: value`, not {found(root)}"
        problems.append(Problem(root.line, root.column, message))
        return ()
    return root.entries


def _says_nothing(data: bytes) -> bool:
    """Return whether it is empty, or has only comments."""
    try:
        lines = text_of(data).splitlines()
    except UnreadableError:
        return not data.strip()
    return all(not line.strip() or line.lstrip().startswith("#") for line in lines)

"""Follow no link below the root of a spool, neither to write nor to read.

The root is chosen by the owner, in the config, and may itself be a link or a mount. Whoever may
write below it can put a link, or on Windows a junction, in the place of any folder, at any moment.
So each effect walks down from a handle of the root, one folder at a time, and is done relative to
the handle of the last one (see `holding` in sdwatch/system). Nothing is held for longer than one
effect: a share may go away, and a takeover must cut off whoever is late.

Paths outside of every spool (the state folder, what a command is given) are used as they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from sdwatch import system

FileIdentity: TypeAlias = tuple[int, int]
"""st_dev and st_ino: the same file or folder has the same, by whatever name."""

_roots: dict[str, Path] = {}  # by their text, with a separator at its end


def follow_none_below(root: Path) -> None:
    """Follow no link below `root` from now on, in this process."""
    _roots[f"{str(root).rstrip(os.sep)}{os.sep}"] = root


def root_above(path: Path) -> tuple[Path, list[str]] | None:
    """Return the root that a path lies below, and the names from there; None where there is
    none."""
    # The text of a path is in normal form. To split it costs a fraction of making paths of it,
    # which would cost more than the walk itself.
    text = str(path)
    end = text.rfind(os.sep)
    while end >= 0:
        if (root := _roots.get(text[: end + 1])) is not None:
            return root, text[end + 1 :].split(os.sep)  # noqa: PTH206
        end = text.rfind(os.sep, 0, end)
    return None


@dataclass(frozen=True)
class HeldPlace:
    """A place in a folder that is held: `name` and `fd` are what functions of `os` take as a path
    and its dir_fd. Valid while the folder is held."""

    name: str
    fd: int | None
    path: Path
    confined: bool

    def beside(self, name: str) -> str:
        """Return another name in the same folder, as functions of `os` take it."""
        return name if self.fd is not None else str(system.long_path(self.path.with_name(name)))

    def status(self) -> os.stat_result:
        """Return what lies there; a link is not followed below a root. Raises OSError."""
        return os.stat(self.name, dir_fd=self.fd, follow_symlinks=not self.confined)

    def exists(self) -> bool:
        """Return whether anything has this name, be it a link. Raises OSError."""
        try:
            os.stat(self.name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True


@contextmanager
def place(path: Path) -> Iterator[HeldPlace]:
    """Hold the folder of `path`. Raises OSError: NotADirectoryError with the path of what lies
    where a folder should, ELOOP where that is a link. OSErrors from within get the whole path."""
    found = root_above(path)
    root, names = found or (path.parent, [path.name])
    *above, name = names
    with system.holding(root, above) if found else nullcontext() as held:
        name = name if held is not None else str(system.long_path(path))
        try:
            yield HeldPlace(name, held, path, confined=found is not None)
        except OSError as error:
            if error.filename == name:
                error.filename = str(path)
            if error.filename2 == name:
                error.filename2 = str(path)
            raise


@dataclass(frozen=True)
class Folder:
    """A folder that is held: `fd`, where there is one, is to be used instead of its path. Valid
    while it is held."""

    path: str
    fd: int | None
    confined: bool

    def status(self, name: str) -> os.stat_result:
        """Return what lies in it under a name; a link is not followed below a root. Raises
        OSError."""
        if self.fd is None:
            name = f"{self.path}{os.sep}{name}"
        return os.stat(name, dir_fd=self.fd, follow_symlinks=not self.confined)


@contextmanager
def folder(path: Path) -> Iterator[Folder]:
    """Hold `path` itself, a folder. Raises OSError, see `place`."""
    found = root_above(path / "-")
    if found is None:
        yield Folder(str(system.long_path(path)), None, confined=False)
        return
    root, (*parts, _) = found
    with system.holding(root, parts) as held:
        yield Folder(str(system.long_path(path)), held, confined=True)


def open_to_read(path: Path) -> int:
    """Return a descriptor to read a file. Raises OSError: ELOOP or ENOTDIR where a link is in
    the way."""
    found = root_above(path)
    if found is None:
        return system.open_to_read(path)
    root, names = found
    return system.open_inside(root, "/".join(names))


def open_inside(folder: Path, name: str) -> int:
    """Return a descriptor to read the file `name` (relative, with `/`) below `folder`, and below
    its root: no link is followed from there on. Raises OSError: ELOOP or ENOTDIR for what leads
    outside."""
    found = root_above(folder / "-")
    if found is None or name.startswith("/"):
        return system.open_inside(folder, name)
    root, (*above, _) = found
    return system.open_inside(root, "/".join([*above, name]))

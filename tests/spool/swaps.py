"""Somebody who may write to the folders of a spool and puts a link where one of them was.

The link leads to a copy of the folder, outside of the spool, so that whatever follows it finds what
it looks for. What is written there, or moved from there, shows.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from sdwatch.system.failpoints import Failpoint


class Swap:
    """`folder` behind a link to a copy of it in `outside`, and back."""

    def __init__(self, folder: Path, outside: Path) -> None:
        self.folder = folder
        self.done = False
        self._outside = outside / folder.name
        self._away = folder.with_name(f".{folder.name}.away")
        self._before: dict[str, tuple[object, ...]] = {}

    def make(self) -> None:
        """Put the link there, if the folder is there."""
        if self.folder.is_dir() and not self.folder.is_symlink():
            shutil.copytree(self.folder, self._outside, symlinks=True)
            self._before = seen_in(self._outside)
            self.folder.rename(self._away)
            self.folder.symlink_to(self._outside, target_is_directory=True)
            self.done = True

    def undo(self) -> None:
        """Put the folder back where it was; it may have been moved meanwhile, with the link."""
        if self.done and self.folder.is_symlink():
            self.folder.unlink()
            self._away.rename(self.folder)

    def check(self) -> None:
        """Nothing outside has changed."""
        if self.done:
            assert seen_in(self._outside) == self._before, f"{self.folder.name} was followed"


class AtEffect:
    """Makes a swap at the n-th effect (from 1); 0: never. Counts them."""

    def __init__(self, number: int, swap: Swap | None = None) -> None:
        self.labels: list[str] = []
        self._number = number
        self._swap = swap

    def __call__(self, effect: Failpoint) -> None:
        self.labels.append(f"{effect.label} {effect.path.name}")
        if len(self.labels) == self._number and self._swap is not None:
            self._swap.make()


def seen_in(folder: Path) -> dict[str, tuple[object, ...]]:
    """All that lies in a folder: names, what they are, when they changed, and their bytes."""
    found: dict[str, tuple[object, ...]] = {}
    for base, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(base, name)
            status = path.lstat()
            data = path.read_bytes() if name in files and path.is_file() else b""
            found[str(path.relative_to(folder))] = (status.st_ino, status.st_mtime_ns, data)
    found["."] = (folder.stat().st_mtime_ns,)
    return found

"""What changes when a job changes, so that a job that still arrives is told from a whole one."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import TypeAlias

from sdwatch import system

Signature: TypeAlias = tuple[tuple[str, int, int, int], ...]
"""Name, inode, size and mtime (ns) of a job's file, or of all files of its folder."""


def signature_of(path: Path) -> Signature:
    """The signature of a job file or job folder as it is now. Raises OSError."""
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        return (_entry("", status),)
    entries = [_entry(name, (path / name).lstat()) for name in folder_files(path)]
    return tuple(sorted(entries)) or (_entry("", status),)


def digest(signature: Signature) -> str:
    """A signature in a few characters, for the journal."""
    return hashlib.sha256(repr(signature).encode()).hexdigest()[:16]


def folder_files(folder: Path) -> frozenset[str]:
    """All plain files below a folder, relative, with forward slashes; symlinks are left out."""
    found = []
    for base, _, names in os.walk(folder):
        for name in names:
            path = Path(base, name)
            if path.is_file() and not path.is_symlink():
                found.append(path.relative_to(folder).as_posix())
    return frozenset(found)


def _entry(name: str, status: os.stat_result) -> tuple[str, int, int, int]:
    return name, status.st_ino, status.st_size, status.st_mtime_ns


def fresh_size(path: Path) -> int:
    """The size of a file as its server says when it is opened. Raises OSError."""
    fd = system.open_to_read(path)
    try:
        return os.fstat(fd).st_size
    finally:
        os.close(fd)

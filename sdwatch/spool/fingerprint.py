"""Notice that a job has changed, so that one that is still arriving is not claimed."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

from sdwatch import system
from sdwatch.policy.job.files.job_images import FolderNames
from sdwatch.system import EntryKind, disk, links

Fingerprint: TypeAlias = tuple[tuple[str, int, int, int], ...]
"""Name, inode, size and mtime (ns) of a job's file, or of all files of its folder."""


def fingerprint_of(path: Path) -> Fingerprint:
    """Return the fingerprint of a job file or job folder as it is now. Raises OSError."""
    return fingerprint_from(path, disk.look_at(path))


def fingerprint_from(path: Path, status: os.stat_result) -> Fingerprint:
    """Return the same from a status that was just read. Raises OSError."""
    if system.is_link(status) or not stat.S_ISDIR(status.st_mode):
        return (_entry("", status),)
    entries = [_entry(name, status) for name, status in _statuses(path, folder_files(path))]
    return tuple(sorted(entries)) or (_entry("", status),)


def _statuses(top: Path, files: Iterable[str]) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the status of files below `top`, by their names there; those that are gone are left
    out. Folder by folder, since each folder is walked to. Raises OSError."""
    names: dict[str, list[str]] = defaultdict(list)
    for file in files:
        folder, separator, name = file.rpartition("/")
        names[folder + separator].append(name)
    for folder, inside in names.items():
        for name, status in disk.statuses(top / folder, inside).items():
            if isinstance(status, OSError):
                raise status
            yield f"{folder}{name}", status


def digest(fingerprint: Fingerprint) -> str:
    """Return a fingerprint in 16 characters, for the journal. Inodes are left out: on FAT they
    change when the job is moved, and the rename of the claim has compared them."""
    kept = tuple((name, size, mtime) for name, _, size, mtime in fingerprint)
    return hashlib.sha256(repr(kept).encode()).hexdigest()[:16]


DEEPEST = 32
"""Folders in folders, deeper than people make them."""

TOO_DEEP = f"a job folder has at most {DEEPEST} levels of folders in it, and this one has more"


def folder_files(folder: Path) -> FolderNames:
    """Return all plain files below a folder, relative, with forward slashes. What lies deeper than
    DEEPEST is left out."""
    entries = list(disk.entries_below(folder, DEEPEST))
    files, links = (
        [name for name, kind in entries if kind is wanted]
        for wanted in (EntryKind.FILE, EntryKind.LINK)
    )
    return FolderNames(files, links)


def placeholders(folder: Path) -> frozenset[str]:
    """Return the same for files whose content is not on this machine."""
    entries = disk.entries_below(folder, DEEPEST)
    return frozenset(name for name, kind in entries if kind is EntryKind.PLACEHOLDER)


def is_too_deep(folder: Path) -> bool:
    """Return whether folders in it lie deeper than DEEPEST."""
    entries = disk.entries_below(folder, DEEPEST)
    folders = (name for name, kind in entries if kind is EntryKind.FOLDER)
    return any(name.count("/") >= DEEPEST for name in folders)


def _entry(name: str, status: os.stat_result) -> tuple[str, int, int, int]:
    return name, status.st_ino, status.st_size, status.st_mtime_ns


def fresh_size(path: Path) -> int:
    """Return the size of a file as its server reports it at an open. Raises OSError."""
    fd = links.open_to_read(path)
    try:
        return os.fstat(fd).st_size
    finally:
        os.close(fd)

"""Every effect on disk that must survive a crash goes through here.

One place, so that the order of writes can be read; each is announced (see effects.py), so that a
test can make the n-th one fail, or be the last.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from sdwatch import system
from sdwatch.effects import announce


def make_folder(path: Path) -> None:
    """Make one folder that must not exist yet. Raises FileExistsError."""
    announce("make_folder", path)
    path.mkdir()


def ensure_folder(path: Path) -> None:
    """Make a folder with all above it, each durable in the one above; there already is as good.
    Raises OSError."""
    if path.is_dir():
        return
    ensure_folder(path.parent)
    announce("make_folder", path)
    path.mkdir(exist_ok=True)
    sync_folder(path.parent)


def write(path: Path, data: bytes) -> None:
    """Write a file whole and synced, under its name only when it is complete."""
    temporary = path.with_name(f".{path.name[:100]}.tmp")
    announce("write", temporary)
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        announce("sync", temporary)
        os.fsync(file.fileno())
    announce("rename", path, source=temporary)
    os.replace(temporary, path)


def write_json(path: Path, value: Any) -> None:
    """`write`, as indented JSON."""
    write(path, encoded(json.dumps(value, indent=2, ensure_ascii=False)) + b"\n")


def encoded(text: str) -> bytes:
    """UTF-8, also of a file name that is none: what cannot be encoded becomes an escape, which
    reads back as the same name where it stands in JSON."""
    return text.encode("utf-8", "backslashreplace")


def open_lines(path: Path) -> int:
    """Open a file of lines for appending, made if it is not there; its descriptor. A last line that
    a death left torn is closed, so that it spoils no other. Raises OSError."""
    if not path.exists():
        announce("create", path)
        path.touch()
        sync_folder(path.parent)  # else a line could be synced in a file that has no name
    fd = os.open(path, os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0))
    os.lseek(fd, max(0, os.fstat(fd).st_size - 1), os.SEEK_SET)
    if os.read(fd, 1) not in (b"", b"\n"):
        os.write(fd, b"\n")
    return fd


def append_line(fd: int, line: bytes, path: Path) -> None:
    """Append one line to an open file and sync it. Raises OSError, and then nothing of the line
    is left, as far as the disk allows: half a line would spoil the next one too."""
    before = os.fstat(fd).st_size
    try:
        announce("append", path)
        rest = memoryview(line + b"\n")
        while rest:
            rest = rest[os.write(fd, rest) :]  # a full disk takes a part and says so only then
        announce("sync", path)
        os.fsync(fd)
    except OSError:
        with suppress(OSError):
            os.ftruncate(fd, before)
        raise


def rename(source: Path, target: Path) -> None:
    """One rename; the target must not exist (checked: POSIX would replace it in silence)."""
    if os.path.lexists(target):
        raise FileExistsError(f"{target} is there already; nothing was moved")
    announce("rename", target, source=source)
    os.rename(source, target)


def sync_folder(path: Path) -> None:
    """Make names in a folder durable. Does nothing where the system has no such thing."""
    announce("sync_folder", path)
    system.sync_folder(path)


def remove(path: Path) -> None:
    """Remove one file; gone already is as good."""
    announce("remove", path)
    path.unlink(missing_ok=True)


def remove_empty_folder(path: Path) -> None:
    """Remove a folder that must be empty. Raises OSError where it is not."""
    announce("remove_folder", path)
    path.rmdir()


def remove_tree(path: Path) -> None:
    """Remove a folder with all that is in it; links are not followed. Raises OSError."""
    announce("remove_tree", path)
    try:
        shutil.rmtree(path)
    except RecursionError as error:  # a thousand folders in each other
        raise OSError(errno.ELOOP, "nested too deep to be removed", str(path)) from error


def entries_below(folder: Path, levels: int) -> Iterator[os.DirEntry[str]]:
    """What lies in a folder and in its sub-folders, down to so many levels of them; the folders of
    the level below that are named and not entered. Links are not followed; a sub-folder that
    vanishes or is closed to us is passed over. Raises OSError for `folder` itself."""
    pending = [(str(folder), 0)]
    while pending:
        path, level = pending.pop()
        try:
            entries = list(os.scandir(path))
        except OSError:
            if level == 0:
                raise
            continue
        for entry in entries:
            yield entry
            if level < levels and entry.is_dir(follow_symlinks=False):
                pending.append((entry.path, level + 1))


def free_bytes(path: Path) -> int:
    """Room left for this user on the file system of `path`."""
    return shutil.disk_usage(path).free

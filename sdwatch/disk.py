"""Every effect on disk that must survive a crash goes through here.

One place, so that the order of writes can be read; each is announced (see effects.py), so that a
test can make the n-th one fail, or be the last.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from sdwatch import system
from sdwatch.effects import announce

T = TypeVar("T")

HELD_FOR = 2.0
"""Seconds for which an effect is tried again on a file that another program holds. Virus scanners,
indexers and Explorer open new files on Windows; nearly always they let go within one."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.1
_ERROR_DIR_NOT_EMPTY = 145


_private: set[Path] = set()


def keep_private(folder: Path) -> None:
    """From now on `folder` and what is in it are made for this user alone: 0700, files 0600. What
    is there already keeps its mode. On Windows an ACL decides, which the folder inherits."""
    _private.add(folder)


def opener(path: str, flags: int) -> int:
    """For open(): a file that this makes is private where its folder is, see `keep_private`."""
    return os.open(path, flags, _mode(Path(path)))


def _mode(path: Path) -> int:
    """Of a new file, before the umask takes its bits."""
    is_private = any(path.is_relative_to(folder) for folder in _private)
    return 0o600 if is_private else 0o666


def _folder_mode(path: Path) -> int:
    return 0o700 if _mode(path) == 0o600 else 0o777


def patiently(
    effect: Callable[[], T],
    passes: Callable[[Exception], bool] | None = None,
    limit: float | None = None,
) -> T:
    """Return what `effect` returns; try it again while it fails for a reason that passes by itself.

    `passes` says which do; by default only that another program holds the file for a moment, which
    happens on Windows alone. After `limit` seconds on the same file, by default HELD_FOR, the last
    error is raised: OSError, or ValueError where `passes` is about that."""
    first, pause, until = None, _FIRST_PAUSE, 0.0
    while True:
        try:
            return effect()
        except (OSError, ValueError) as error:
            if not (passes or _is_held)(error):
                raise
            now, held = time.monotonic(), str(getattr(error, "filename", ""))
            if held != first:  # of a folder with many files the scanner holds one after the other
                limit = HELD_FOR if limit is None else limit
                first, pause, until = held, _FIRST_PAUSE, now + limit
            if now >= until:
                raise
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _is_held(error: Exception) -> bool:
    return isinstance(error, OSError) and system.is_held(error)


def open_to_read(path: Path) -> BinaryIO:
    """A file to read from, in nobody's way: on Windows it can be replaced and removed meanwhile.
    Raises OSError."""
    return os.fdopen(patiently(lambda: system.open_to_read(path)), "rb")


def open_file(path: Path) -> BinaryIO:
    """The same of a plain file only: a pipe or a device could be read for ever. Raises OSError."""
    file = open_to_read(path)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no plain file", str(path))
    return file


def read(path: Path) -> bytes:
    """All of a file. Raises OSError."""
    with open_to_read(path) as file:
        return file.read()


def touch(path: Path, *, exist_ok: bool = True) -> None:
    """Make an empty file, as a person does who puts `hold` into the spool. Raises OSError."""
    announce("create", path)
    patiently(lambda: path.touch(_mode(path), exist_ok=exist_ok))


def copy(source: Path, target: Path, *, follow_links: bool) -> None:
    """Copy a file, or a folder with all that is in it, to a name that is free. Not synced. Without
    `follow_links` a link stays a link: what it leads to is not brought in. Raises OSError."""
    if source.is_dir():
        shutil.copytree(source, target, symlinks=not follow_links, copy_function=_copy_file)
    else:
        patiently(lambda: shutil.copyfile(source, target, follow_symlinks=follow_links))


def _copy_file(source: str, target: str) -> str:
    return patiently(lambda: shutil.copy2(source, target))


def make_folder(path: Path) -> None:
    """Make one folder that must not exist yet. Raises FileExistsError."""
    announce("make_folder", path)
    path.mkdir(_folder_mode(path))


def ensure_folder(path: Path) -> None:
    """Make a folder with all above it, each durable in the one above; there already is as good.
    Raises OSError."""
    if path.is_dir():
        return
    ensure_folder(path.parent)
    announce("make_folder", path)
    path.mkdir(_folder_mode(path), exist_ok=True)
    sync_folder(path.parent)


def write(path: Path, data: bytes) -> None:
    """Write a file whole and synced, under its name only when it is complete. What was begun is
    removed where the disk refuses it; after a death `sweep_temporaries` does that."""
    temporary = path.with_name(f".{path.name[:100]}.tmp")
    try:
        announce("write", temporary)
        with patiently(lambda: open(temporary, "wb", opener=opener)) as file:
            file.write(data)
            file.flush()
            announce("sync", temporary)
            os.fsync(file.fileno())
        announce("rename", path, source=temporary)
        patiently(lambda: os.replace(temporary, path))
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def sweep_temporaries(folder: Path) -> None:
    """Remove what deaths have left of files that `write` began in `folder`; a folder that is not
    there, or a link in its place, has none. Raises OSError."""
    if folder.is_symlink() or not folder.is_dir():
        return
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        is_begun = entry.name.startswith(".") and entry.name.endswith(".tmp")
        if is_begun and entry.is_file(follow_symlinks=False):
            remove(Path(entry.path))


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
        patiently(lambda: path.touch(_mode(path)))
        sync_folder(path.parent)  # else a line could be synced in a file that has no name
    flags = os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0)
    fd = patiently(lambda: os.open(path, flags))
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
    patiently(lambda: os.rename(source, target))


def sync_folder(path: Path) -> None:
    """Make names in a folder durable. Does nothing where the system has no such thing."""
    announce("sync_folder", path)
    system.sync_folder(path)


def remove(path: Path) -> None:
    """Remove one file; gone already is as good."""
    announce("remove", path)
    patiently(lambda: path.unlink(missing_ok=True))


def remove_empty_folder(path: Path) -> None:
    """Remove a folder that must be empty. Raises OSError where it is not."""
    announce("remove_folder", path)
    patiently(path.rmdir, _is_held_or_not_empty_yet)


def remove_tree(path: Path) -> None:
    """Remove a folder with all that is in it; links are not followed. Raises OSError."""
    announce("remove_tree", path)
    try:
        patiently(lambda: shutil.rmtree(path), _is_held_or_not_empty_yet)
    except RecursionError as error:  # a thousand folders in each other
        raise OSError(errno.ELOOP, "nested too deep to be removed", str(path)) from error


def _is_held_or_not_empty_yet(error: Exception) -> bool:
    """On Windows a removed file keeps its name until the last program that reads it closes it."""
    return _is_held(error) or getattr(error, "winerror", None) == _ERROR_DIR_NOT_EMPTY


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

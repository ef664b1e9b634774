"""Do every effect on disk that must survive a crash.

In one place, so that the order of writes can be read. Each is a failpoint (see failpoints.py), so
that a test can make the n-th one fail, or be the last. Below the root of a spool none follows a
link (see links.py).
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from sdwatch import system
from sdwatch.system import Entry, EntryKind, links
from sdwatch.system.failpoints import failpoint
from sdwatch.system.long_paths import plain, too_long
from sdwatch.system.patience import is_held_now, patiently
from sdwatch.system.reading import read_at_most

_ERROR_DIR_NOT_EMPTY = 145


_private: set[Path] = set()


def keep_private(folder: Path) -> None:
    """Make `folder` and what is in it for this user alone from now on: 0700, files 0600. What
    exists keeps its mode. On Windows an ACL decides, which the folder inherits."""
    _private.add(folder)


def opener(path: str, flags: int) -> int:
    """Open a file for open(); one that is made is private where its folder is, see
    `keep_private`."""
    return os.open(system.long_path(Path(path)), flags, _permissions(Path(path)))


def _permissions(path: Path) -> int:
    """Return the mode of a new file, before the umask."""
    is_private = any(path.is_relative_to(folder) for folder in _private)
    return 0o600 if is_private else 0o666


def _folder_mode(path: Path) -> int:
    return 0o700 if _permissions(path) == 0o600 else 0o777


def open_to_read(path: Path) -> BinaryIO:
    """Open a file for reading without blocking others: on Windows it can still be replaced and
    removed. Raises OSError."""
    fd = patiently(lambda: links.open_to_read(path))
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        os.close(fd)
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return os.fdopen(fd, "rb")


def open_file(path: Path) -> BinaryIO:
    """Open a plain file for reading: a pipe or a device could be read forever. Raises OSError."""
    file = open_to_read(path)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "is not a plain file", str(path))
    return file


def is_still_written(path: Path) -> bool:
    """Return whether another program has the file open to write to it, as far as can be known. A
    link, or a file that is gone, is not."""
    try:
        with links.place(path) as at:
            return system.is_still_written(at.name, at.fd)
    except OSError:
        return False


MOST_BYTES = 64 << 20
"""The limit of a file that is read whole. None that sdwatch writes comes near; others may write."""


def read(path: Path) -> bytes:
    """Return the bytes of a plain file. Raises OSError, also for one that is too large to be
    ours."""
    with open_file(path) as file:
        data = read_at_most(file, MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise OSError(errno.EFBIG, f"has more than {MOST_BYTES >> 20} MB", str(path))
    return data


def touch(path: Path, *, exist_ok: bool = True) -> None:
    """Make an empty file, such as `hold` in the spool. Raises OSError."""
    failpoint("create", path)
    try:
        with links.place(path) as at:
            os.close(_make(at))
    except FileExistsError:
        if not exist_ok:
            raise


def copy(source: Path, target: Path, *, follow_links: bool) -> None:
    """Copy a file, or a folder with all that is in it, to a name that is free. Not synced. Without
    `follow_links` a link stays a link: what it leads to is not brought in. A pipe, a socket or a
    device is left out. Raises OSError."""
    status = system.long_path(source).stat() if follow_links else look_at(source)
    if system.is_link(status):
        with links.place(source) as old, links.place(target) as new:
            os.symlink(os.readlink(old.name, dir_fd=old.fd), new.name, dir_fd=new.fd)
    elif stat.S_ISREG(status.st_mode):
        _copy_file(source, target)
    elif stat.S_ISDIR(status.st_mode):
        with links.place(target) as new:
            os.mkdir(new.name, dir_fd=new.fd)
        for entry in entries(source):
            copy(source / entry.name, target / entry.name, follow_links=follow_links)


def _copy_file(source: Path, target: Path) -> None:
    with open_file(source) as old:
        with links.place(target) as at:
            fd = _make(at)
        with os.fdopen(fd, "wb") as new:
            shutil.copyfileobj(old, new)


def make_folder(path: Path) -> None:
    """Make one folder that must not exist yet. Raises FileExistsError."""
    failpoint("make_folder", path)
    with links.place(path) as at:
        os.mkdir(at.name, _folder_mode(path), dir_fd=at.fd)


def ensure_folder(path: Path) -> None:
    """Make a folder with all above it, each durable in the one above, unless it exists. Raises
    OSError."""
    if is_folder(path):
        return
    ensure_folder(path.parent)
    failpoint("make_folder", path)
    with links.place(path) as at:
        try:
            os.mkdir(at.name, _folder_mode(path), dir_fd=at.fd)
        except FileExistsError:
            if not stat.S_ISDIR(at.status().st_mode):
                raise
    sync_folder(path.parent)


def write(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write a file whole and synced, under its name only when it is complete. `data`: its bytes, or
    the parts of them. A part is removed if the disk refuses the rest; after a death
    `sweep_temporaries` does that."""
    temporary = path.with_name(f".{path.name[:100]}.tmp")
    try:
        failpoint("write", temporary)
        with _new_file(temporary) as file:
            file.writelines((data,) if isinstance(data, bytes) else data)
            file.flush()
            failpoint("sync", temporary)
            os.fsync(file.fileno())
        failpoint("rename", path, source=temporary)
        _replace(temporary, path)
    except OSError:
        remove_quietly(temporary)
        raise


def sweep_temporaries(folder: Path) -> None:
    """Remove the parts of files that `write` left in `folder` at a death. Does nothing if the
    folder is not there, or is a link. Raises OSError."""
    if folder.is_symlink() or not is_folder(folder):
        return
    for entry in sorted(entries(folder), key=lambda entry: entry.name):
        is_temporary = entry.name.startswith(".") and entry.name.endswith(".tmp")
        if is_temporary and entry.kind is EntryKind.FILE:
            remove(folder / entry.name)


def refresh(path: Path, data: bytes) -> None:
    """Write a file whole, that says how things stand now: not synced, since nothing depends on it
    after a crash, and not announced. On a full disk the room that it has is used again, but not
    of a file that has another name too (a hard link). Raises OSError."""
    temporary = path.with_suffix(".tmp")
    try:
        with _new_file(temporary) as file:
            file.write(data)
        _replace(temporary, path)
    except OSError:
        remove_quietly(temporary)
        if not is_file(path):
            raise
        with links.place(path) as at:
            fd = system.open_to_append(at.name, at.fd)
        with os.fdopen(fd, "r+b") as file:
            if os.fstat(fd).st_nlink > 1:
                raise
            file.truncate(0)
            file.write(data)


def _new_file(path: Path) -> BinaryIO:
    """Open a new file for writing; what a death left under its name is removed."""
    with links.place(path) as at:
        try:
            return os.fdopen(_make(at), "wb")
        except FileExistsError:
            patiently(lambda: system.remove_file(at.name, at.fd))
            return os.fdopen(_make(at), "wb")


def _make(at: links.HeldPlace) -> int:
    """Return a descriptor of a new file. Raises FileExistsError, OSError."""
    return patiently(lambda: system.open_new(at.name, at.fd, _permissions(at.path)))


def _replace(source: Path, target: Path) -> None:
    """Rename within one folder, over what is there."""
    with links.place(target) as at:
        old = at.beside(source.name)
        patiently(lambda: system.replace(old, at.name, at.fd))


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, see `write`."""
    write(path, encoded(json.dumps(value, indent=2, ensure_ascii=False)) + b"\n")


def json_lines(fields: Mapping[str, Any]) -> str:
    """Return a JSON object with a line for each field: Python indents it twenty times as slowly,
    which counts for what is written each second."""
    lines = (f"{json.dumps(name)}: {json.dumps(value)}" for name, value in fields.items())
    return "{\n" + ",\n".join(lines) + "\n}" if fields else "{}"


def encoded(text: str) -> bytes:
    """Encode as UTF-8. What cannot be encoded, in a file name, becomes an escape, which JSON reads
    back as the same name."""
    return text.encode("utf-8", "backslashreplace")


def open_lines(path: Path) -> int:
    """Open a file of lines for appending, made if it is not there; return its descriptor. A last
    line that a death left torn is ended, so that it spoils no other. Raises OSError."""
    if not exists(path):
        touch(path)
        sync_folder(path.parent)  # else a line could be synced in a file that has no name
    with links.place(path) as at:
        fd = patiently(lambda: system.open_to_append(at.name, at.fd))
    os.lseek(fd, max(0, os.fstat(fd).st_size - 1), os.SEEK_SET)
    if os.read(fd, 1) not in (b"", b"\n"):
        os.write(fd, b"\n")
    return fd


def append_line(fd: int, line: bytes, path: Path) -> None:
    """Append one line to an open file and sync it. If that fails, nothing of the line is
    left, as far as the disk allows: half a line would spoil the next one too. Raises OSError."""
    before = os.fstat(fd).st_size
    try:
        failpoint("append", path)
        rest = memoryview(line + b"\n")
        while rest:
            rest = rest[os.write(fd, rest) :]  # a full disk writes a part first
        failpoint("sync", path)
        os.fsync(fd)
    except OSError:
        with suppress(OSError):
            os.ftruncate(fd, before)
        raise


def sync_folder(path: Path) -> None:
    """Make names in a folder durable. Does nothing where the system has no such thing."""
    failpoint("sync_folder", path)
    with links.folder(path) as held:
        system.sync_folder(held.path, held.fd)


def remove(path: Path) -> None:
    """Remove one file, unless it is gone already. Raises OSError."""
    failpoint("remove", path)
    remove_quietly(path)


def remove_quietly(path: Path) -> None:
    """Remove a file that no promise depends on: not a failpoint. Raises OSError."""
    with suppress(FileNotFoundError), links.place(path) as at:
        patiently(lambda: system.remove_file(at.name, at.fd))


def remove_empty_folder(path: Path) -> None:
    """Remove a folder that must be empty. Raises OSError where it is not."""
    failpoint("remove_folder", path)
    with links.place(path) as at:
        patiently(lambda: os.rmdir(at.name, dir_fd=at.fd), _is_held_or_not_empty_yet)


def remove_tree(path: Path) -> None:
    """Remove a folder with all that is in it; links are not followed. Raises OSError."""
    failpoint("remove_tree", path)
    try:
        with links.place(path) as at:
            patiently(lambda: system.remove_tree(at.name, at.fd), _is_held_or_not_empty_yet)
    except RecursionError as error:  # a thousand nested folders
        raise OSError(errno.ELOOP, "nested too deep to be removed", str(path)) from error


def _is_held_or_not_empty_yet(error: Exception) -> bool:
    """Return whether a folder may become removable: on Windows a removed file keeps its name until
    the last program that reads it closes it."""
    return is_held_now(error) or getattr(error, "winerror", None) == _ERROR_DIR_NOT_EMPTY


def look_at(path: Path) -> os.stat_result:
    """Return the status of what lies there. Below a spool's root links are not followed, see
    links.py. Raises OSError."""
    with links.place(path) as at:
        return at.status()


def exists(path: Path) -> bool:
    """Return whether anything lies there; below a spool's root a link counts. Raises OSError,
    except for the errors that mean that there is nothing."""
    return _mode(path) is not None


def is_missing(path: Path) -> bool:
    """Return whether its folder is there and has nothing of this name. Both are read at once, so
    that a folder that comes and goes is not mistaken for one that lacks it. Raises OSError if
    the folder is not there, or is a link."""
    with links.folder(path.parent) as folder:
        return path.name not in (entry.name for entry in system.listing(folder.path, folder.fd))


def is_folder(path: Path) -> bool:
    """Return whether a folder lies there. Raises OSError as `exists` does."""
    mode = _mode(path)
    return mode is not None and stat.S_ISDIR(mode)


def is_file(path: Path) -> bool:
    """Return whether a plain file lies there. Raises OSError as `exists` does."""
    mode = _mode(path)
    return mode is not None and stat.S_ISREG(mode)


def _mode(path: Path) -> int | None:
    """Return the mode; None if nothing is there, or a link or a file is in the way. A junction
    claims to be a folder; here it is a link."""
    try:
        status = look_at(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise
    return stat.S_IFLNK if system.is_link(status) else status.st_mode


def entries(folder: Path) -> list[Entry]:
    """Return what lies in a folder. Raises OSError."""
    with links.folder(folder) as held:
        return list(system.listing(held.path, held.fd))


def names_by_kind(folder: Path) -> dict[EntryKind, list[str]]:
    """Return the same as names only: of 100,000 entries that is a third of the memory, and of the
    time. Raises OSError."""
    found: dict[EntryKind, list[str]] = {kind: [] for kind in EntryKind}
    with links.folder(folder) as held:
        for name, kind in system.listing(held.path, held.fd):
            found[kind].append(name)
    return found


def statuses(folder: Path, names: Iterable[str]) -> dict[str, os.stat_result | OSError]:
    """Return for each of these names what `look_at` returns or raises: the way to the
    folder is walked once for all of them. What is not there is left out. Raises OSError for
    `folder` itself."""
    found: dict[str, os.stat_result | OSError] = {}
    with links.folder(folder) as held:
        for name in names:
            try:
                found[name] = held.status(name)
            except FileNotFoundError:
                continue
            except OSError as error:
                found[name] = error
    return found


def folders_in(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted. Raises OSError."""
    return sorted(folder / e.name for e in entries(folder) if e.kind is EntryKind.FOLDER)


def entries_below(folder: Path, levels: int) -> Iterator[tuple[str, EntryKind]]:
    """Yield what lies in a folder and in its sub-folders, relative to it and with forward slashes,
    down to so many levels of them; the folders of the level below that are named and not entered.
    Links are not followed; a sub-folder that vanishes or is closed to us is passed over. Raises
    OSError for `folder` itself."""
    pending = [("", 0)]
    while pending:
        above, level = pending.pop()
        try:
            found = entries(folder / above)
        except OSError:
            if level == 0:
                raise
            continue
        for entry in found:
            yield above + entry.name, entry.kind
            if level < levels and entry.kind is EntryKind.FOLDER:
                pending.append((f"{above}{entry.name}/", level + 1))


def refusal(error: OSError, path: Path, *, named: bool = True) -> str:
    """Return what a disk said of `path`, or of a path below it that the error names; without
    `named` the text speaks of `path` all the same. Writing to an open file names none. Of a path
    that is too long Windows says that it is not there, which would explain nothing."""
    where = str(error.filename or path)
    why = error.strerror or in_words(error)
    if error.errno in (errno.ENOENT, errno.ENAMETOOLONG) and (long := too_long(where)):
        why = f"the path {long}; move the spool to a folder with a shorter path"
    return f"{why}: {where if named else path}"


def in_words(error: Exception) -> str:
    """Return what a disk said, or the system of a program that it does not start, without its
    number and with the path as people write it: `str(error)` has each backslash of Windows twice.
    Of an error of another kind, what it says."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error) or type(error).__name__
    names = [name for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    paths = " -> ".join(plain(os.fsdecode(name)) for name in names)
    return f"{error.strerror}: {paths}" if paths else error.strerror


def free_bytes(path: Path) -> int:
    """Return the bytes that this user may still write to the file system of `path`."""
    return shutil.disk_usage(system.long_path(path)).free

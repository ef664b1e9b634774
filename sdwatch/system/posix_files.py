"""Linux and macOS: files and folders."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from sdwatch.system.file_kinds import HELD_CODES, NOT_FOLLOWED, Entry, EntryKind

assert sys.platform != "win32"


WRITERS_BLOCK_CLAIMS = False
"""A file that somebody writes to can be renamed all the same."""

# What is only walked through need not be readable, where the system knows the difference.
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC


def sync_folder(path: str, held: int | None) -> None:
    """Make the names in a folder durable: of the one that is `held`, or else at `path`. Raises
    OSError."""
    fd = _open_held(path, held)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def long_path(path: Path) -> Path:
    """Return the path as functions of the system take it, however long: here as it is. What is
    longer than 4,096 bytes (PATH_MAX) is reached from a handle of a folder, see `holding`."""
    return path


def too_long_for_programs(path: Path) -> str:
    """Return what keeps other programs from using a path of this length: here nothing."""
    return ""


def open_to_read(path: Path) -> int:
    """Return a descriptor to read the file; a pipe is not waited for. Raises OSError, for a
    folder too."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        os.close(fd)
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return fd


def is_held(error: OSError) -> bool:
    """Return whether another program has the file open for a moment, so that the same effect may
    succeed a moment later. Never: here an open file is in nobody's way, and a PermissionError
    stays one. (What has a `winerror` comes from tests, which imitate Windows.)"""
    return getattr(error, "winerror", None) in HELD_CODES


@contextmanager
def holding(root: Path, parts: Sequence[str]) -> Iterator[int | None]:
    """Hold the folder `parts` below `root` open: its descriptor, for functions that take a dir_fd.
    Links are followed up to `root`, and from there on none is: it is walked one folder at a time
    with O_NOFOLLOW, which all of POSIX has. Raises OSError, with the path of what is in the way;
    ELOOP where it is a link."""
    fd = os.open(root, _FOLDER)
    try:
        for number, part in enumerate(parts, 1):
            try:
                if part == "..":
                    raise OSError(errno.ELOOP, "leads outside")
                inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=fd)
            except OSError as error:
                raise _in_the_way(error, fd, root.joinpath(*parts[:number])) from error
            os.close(fd)
            fd = inner
        yield fd
    finally:
        os.close(fd)


def _in_the_way(error: OSError, fd: int, path: Path) -> OSError:
    """Return the error of a walk that ended at `path`. The system says ENOTDIR of a link, too."""
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        with suppress(OSError):
            if is_link(os.stat(path.name, dir_fd=fd, follow_symlinks=False)):
                return OSError(errno.ELOOP, NOT_FOLLOWED, str(path))
    assert error.errno is not None
    return OSError(error.errno, error.strerror, str(path))


def is_link(status: os.stat_result) -> bool:
    """Return whether it leads elsewhere, by its lstat."""
    return stat.S_ISLNK(status.st_mode)


def open_inside(folder: Path, name: str) -> int:
    """Return a descriptor to read the file `name` (relative, with `/`) below `folder`. No link
    below `folder` is followed, also none that takes a place on the way in this moment; nor is a
    pipe waited for. Raises OSError: ELOOP or ENOTDIR where the name leads outside."""
    *above, last = PurePosixPath(name).parts or ("",)
    if last == ".." or name.startswith("/"):
        raise OSError(errno.ELOOP, "leads outside", name)
    with holding(folder, above) as held:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(last, flags, dir_fd=held)


def open_new(name: str, held: int | None, permissions: int = 0o666) -> int:
    """Return a descriptor to write a file that is not there yet, with these permissions less the
    umask; a link of that name is there. Raises FileExistsError, OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, permissions, dir_fd=held)


def open_to_append(name: str, held: int | None) -> int:
    """Return a descriptor to append to a file that is there, and to read it. A link is followed
    only where no folder is `held`. Raises OSError."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | (0 if held is None else os.O_NOFOLLOW)
    return os.open(name, flags, dir_fd=held)


def listing(path: str, held: int | None) -> Iterator[Entry]:
    """Yield what lies in a folder: in the one that is `held`, or else at `path`. Raises OSError."""
    fd = _open_held(path, held)
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                yield Entry(entry.name, _kind_of(entry))
    finally:
        os.close(fd)


def _kind_of(entry: os.DirEntry[str]) -> EntryKind:
    """Return the kind; call it while the folder is open: on some file systems a listing has no
    types."""
    if entry.is_file(follow_symlinks=False):  # nearly all are
        return EntryKind.FILE
    if entry.is_symlink():
        return EntryKind.LINK
    return EntryKind.FOLDER if entry.is_dir(follow_symlinks=False) else EntryKind.OTHER


def remove_file(name: str, held: int | None) -> None:
    """Remove a file, or a link. Raises OSError."""
    os.unlink(name, dir_fd=held)


def replace(old: str, new: str, held: int | None) -> None:
    """Rename within one folder, over what is there. Raises OSError."""
    os.replace(old, new, src_dir_fd=held, dst_dir_fd=held)


def remove_tree(name: str, held: int | None) -> None:
    """Remove a folder with all that is in it, also folders of ours that are read-only; no link is
    followed, also none that comes meanwhile. Raises OSError."""
    try:
        shutil.rmtree(name, dir_fd=held)
    except PermissionError:
        if not _make_writable(name, held):
            raise
        shutil.rmtree(name, dir_fd=held)


def _make_writable(name: str, held: int | None) -> bool:
    """Let us remove what is in a folder and in those below it; whether anything was in the way.
    Raises OSError."""
    was_in_the_way = False
    for _, _, _, folder in os.fwalk(name, dir_fd=held):
        mode = stat.S_IMODE(os.fstat(folder).st_mode)
        if not mode & stat.S_IWUSR:
            os.fchmod(folder, mode | stat.S_IRWXU)
            was_in_the_way = True
    return was_in_the_way


def _open_held(path: str, held: int | None) -> int:
    """Return a descriptor of a folder to list or sync; one with O_PATH is for neither."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    return os.open(path, flags) if held is None else os.open(".", flags, dir_fd=held)


def is_still_written(name: str, held: int | None) -> bool:
    """Return whether a program of this machine has the file `name` open to write to it, a file
    server such as smbd included. `held`: the folder that it is in; None for a whole
    path. False where that cannot be known: then a file counts as whole once it has stopped
    changing.

    Linux gives a read lease on a file that nobody writes to (fcntl(2), F_SETLEASE), to the owner of
    the file and to whoever has CAP_LEASE. Network file systems refuse all leases with the same
    error, so that a refusal counts only where a file of our own beside it gets one.
    """
    if sys.platform != "linux":
        return False
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(name, flags, dir_fd=held)
    except OSError:
        return False
    try:
        is_refused = stat.S_ISREG(os.fstat(fd).st_mode) and not _leased(fd)
        return is_refused and _gives_leases(str(Path(name).parent), held)
    finally:
        os.close(fd)


def _leased(fd: int) -> bool:
    """Return whether nobody writes to the open file, as far as this can be asked."""
    assert sys.platform == "linux"
    try:
        # Who opens it in between waits until the lease is given up, and we are sent a signal: one
        # that is ignored, since the usual one would end this process.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno != errno.EAGAIN
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return True


def _gives_leases(folder: str, held: int | None) -> bool:
    """Return whether a file in this folder that nobody can write to gets a lease."""
    assert sys.platform == "linux"
    try:
        flags = os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC
        written = os.open(folder, flags, 0o600, dir_fd=held)
    except OSError:
        return False
    try:
        read = os.open(f"/proc/self/fd/{written}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    finally:
        os.close(written)
    try:
        return _leased(read)
    finally:
        os.close(read)

"""Windows: files and folders."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from sdwatch.system.file_kinds import HELD_CODES, NOT_FOLLOWED, Entry, EntryKind, file_kind
from sdwatch.system.long_paths import LONGEST_FOLDER, extended, too_long, units

assert sys.platform == "win32"

import msvcrt  # noqa: E402

import pywintypes  # noqa: E402
import win32con  # noqa: E402
import win32file  # noqa: E402

WRITERS_BLOCK_CLAIMS = True
"""A file that somebody writes to can only be renamed where he opened it with FILE_SHARE_DELETE."""
_ERROR_SHARING_VIOLATION = 32
_FILE_NAME_OPENED = 0x8
_OPEN_REPARSE_POINT = 0x00200000
_NAME_SURROGATE = 0x20000000  # of a reparse tag: IsReparseTagNameSurrogate in ntifs.h


def sync_folder(path: str, held: int | None) -> None:
    """Do nothing: on Windows the file system journals names."""


def long_path(path: Path) -> Path:
    r"""Return the path as functions of the system take it, however long: where it has more than
    Windows takes by default, with `\\?\` before it. It is for calls alone; people never see it."""
    whole = str(path.absolute())
    return path if units(whole) <= LONGEST_FOLDER else Path(extended(whole))


def too_long_for_programs(path: Path) -> str:
    """Return what keeps other programs, and what this one does not do through `long_path`, from
    using a path of this length; '' where nothing does. A current folder has the limit always."""
    return too_long(str(path.absolute()))


def open_to_read(path: Path) -> int:
    """Return a descriptor to read the file that keeps nobody from replacing, renaming or
    removing it: open() would share it for reading and writing only. Raises OSError."""
    return msvcrt.open_osfhandle(int(_to_read(path, 0).Detach()), os.O_RDONLY)


def is_held(error: OSError) -> bool:
    """Return whether another program may have the file open for a moment, so that the same
    effect may succeed a moment later. open() has no `winerror`: the C runtime keeps the errno
    only."""
    if error.winerror is None:
        return error.errno == errno.EACCES
    return error.winerror in HELD_CODES


@contextlib.contextmanager
def holding(root: Path, parts: Sequence[str]) -> Iterator[int | None]:
    """Hold `root` and each folder of `parts` below it open, without FILE_SHARE_DELETE: while it
    lasts none of them can be renamed, removed or replaced, so that their paths mean what was
    looked at. Gives None: Windows has no functions relative to a folder. Each is opened as it
    lies there, and only then looked at. Raises OSError, with the path of what is in the way;
    ELOOP where it is a link or a junction."""
    with contextlib.ExitStack() as held:
        held.callback(_hold(root, 0).Close)
        path = root
        for part in parts:
            path = path / part
            if part == "..":
                raise OSError(errno.ELOOP, "leads outside", str(path))
            held.callback(_hold(path, _OPEN_REPARSE_POINT).Close)
            status = os.lstat(long_path(path))
            if is_link(status):
                raise OSError(errno.ELOOP, NOT_FOLLOWED, str(path))
            if not stat.S_ISDIR(status.st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        yield None


def _hold(path: Path, flags: int) -> Any:
    """Return a handle of a folder that keeps it in its place. To read is asked for because a
    handle that asks for nothing keeps nobody away. Raises OSError."""
    share = win32con.FILE_SHARE_READ | win32con.FILE_SHARE_WRITE
    flags |= win32con.FILE_FLAG_BACKUP_SEMANTICS  # the flag that opens folders
    return _opened(path, win32con.GENERIC_READ, share, win32con.OPEN_EXISTING, flags)


def is_link(status: os.stat_result) -> bool:
    """Return whether it leads elsewhere, by its lstat: a symbolic link, a junction, a mount point.
    Other reparse points are the file itself, kept in another way: by OneDrive until it is asked
    for, or deduplicated. The system marks those that stand for another name (name surrogates)."""
    is_reparse_point = status.st_file_attributes & stat.FILE_ATTRIBUTE_REPARSE_POINT
    return bool(is_reparse_point and status.st_reparse_tag & _NAME_SURROGATE)


def open_inside(folder: Path, name: str) -> int:
    """Return a descriptor to read the file `name` (relative, with `/`) below `folder`. What was
    opened is asked where it lies: a link or junction below `folder` shows, however late it took
    a place on the way. A folder is opened as well, as on POSIX, so that the caller sees what it
    is: an access denied would read as a file that is held. Raises OSError: ELOOP where the name
    leads outside, FileNotFoundError for an empty name."""
    if not name:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    inner = str(PurePosixPath(name)).replace("/", "\\")
    top = _to_read(folder, win32con.FILE_FLAG_BACKUP_SEMANTICS)  # the flag that opens folders
    try:
        file = _to_read(folder / inner, win32con.FILE_FLAG_BACKUP_SEMANTICS)
        try:
            wanted = _final_path(top).rstrip("\\") + "\\" + inner
            if _final_path(file).casefold() != wanted.casefold():
                raise OSError(errno.ELOOP, "leads outside", name)
            return msvcrt.open_osfhandle(int(file.Detach()), os.O_RDONLY)
        finally:
            file.Close()  # nothing is left to close once it was detached
    finally:
        top.Close()


def open_new(name: str, held: int | None, permissions: int = 0o666) -> int:
    """Return a descriptor to write a file that is not there yet; a link of that name is there,
    wherever it leads. An ACL decides about permissions. Raises FileExistsError, OSError."""
    flags = win32con.FILE_ATTRIBUTE_NORMAL | _OPEN_REPARSE_POINT
    share = win32con.FILE_SHARE_READ | win32con.FILE_SHARE_WRITE  # as open() does
    file = _opened(Path(name), win32con.GENERIC_WRITE, share, win32con.CREATE_NEW, flags)
    return msvcrt.open_osfhandle(int(file.Detach()), os.O_BINARY)


def open_to_append(name: str, held: int | None) -> int:
    """Return a descriptor to append to a file that is there, and to read it. Raises OSError."""
    fd = os.open(name, os.O_RDWR | os.O_APPEND | os.O_BINARY)
    # While it is open it is what lies there: open() does not let others remove or rename it.
    if is_link(os.lstat(name)):
        os.close(fd)
        raise OSError(errno.ELOOP, NOT_FOLLOWED, name)
    return fd


def listing(path: str, held: int | None) -> Iterator[Entry]:
    """Yield what lies in a folder. Raises OSError."""
    del held
    with os.scandir(path) as entries:
        for entry in entries:
            yield Entry(entry.name, _kind_of(entry))


def _kind_of(entry: os.DirEntry[str]) -> EntryKind:
    """Return the kind from the listing alone: it opens nothing, so no file of a cloud is
    downloaded. A junction also claims to be a folder."""
    status = entry.stat(follow_symlinks=False)
    if is_link(status):
        return EntryKind.LINK
    if entry.is_dir(follow_symlinks=False):
        return EntryKind.FOLDER
    if not entry.is_file(follow_symlinks=False):
        return EntryKind.OTHER
    return file_kind(status.st_file_attributes)


def remove_tree(name: str, held: int | None) -> None:
    """Remove a folder with all that is in it; no link is followed: each folder is held, and so is
    what it was when it was looked at, until it is empty. Raises OSError."""
    path = Path(name)
    with holding(path.parent, [path.name]):
        for entry in list(listing(name, held)):
            inner = long_path(path / entry.name)
            if entry.kind is EntryKind.FOLDER:
                remove_tree(str(inner), held)
            elif os.lstat(inner).st_file_attributes & stat.FILE_ATTRIBUTE_DIRECTORY:
                # Of a junction, or of a link to a folder, this removes the link itself.
                _although_read_only(str(inner), inner.rmdir)
            else:
                remove_file(str(inner), held)
    _although_read_only(name, long_path(path).rmdir)


def remove_file(name: str, held: int | None) -> None:
    """Remove a file, also one that is marked read-only: there that keeps it from being removed or
    replaced, which elsewhere is its folder's business. Raises OSError."""
    _although_read_only(name, Path(name).unlink)


def replace(old: str, new: str, held: int | None) -> None:
    """Rename over what is there, also a file that is marked read-only. Raises OSError."""
    _although_read_only(new, lambda: os.replace(old, new))


def _although_read_only(name: str, effect: Callable[[], None]) -> None:
    """Do it; where it is refused and `name` is marked read-only, take the mark off first."""
    try:
        effect()
    except PermissionError:
        with contextlib.suppress(FileNotFoundError):
            if not os.lstat(name).st_file_attributes & stat.FILE_ATTRIBUTE_READONLY:
                raise
            Path(name).chmod(stat.S_IWRITE)
        effect()


def is_still_written(name: str, held: int | None) -> bool:
    """Return whether somebody has the file open to write: then it cannot be opened without
    sharing that. `name`: its whole path; no folder is `held` here.
    Who only reads it, a virus scanner or a preview, is in nobody's way."""
    share = win32con.FILE_SHARE_READ | win32con.FILE_SHARE_DELETE
    try:
        _opened(Path(name), win32con.GENERIC_READ, share, win32con.OPEN_EXISTING, 0).Close()
    except OSError as error:
        return error.winerror == _ERROR_SHARING_VIOLATION
    return False


def _to_read(path: Path, flags: int) -> Any:
    """Return a handle that keeps nobody else away. Raises OSError."""
    share = win32con.FILE_SHARE_READ | win32con.FILE_SHARE_WRITE | win32con.FILE_SHARE_DELETE
    return _opened(path, win32con.GENERIC_READ, share, win32con.OPEN_EXISTING, flags)


def _opened(path: Path, access: int, share: int, how: int, flags: int) -> Any:
    try:
        return win32file.CreateFile(str(long_path(path)), access, share, None, how, flags, None)
    except pywintypes.error as error:
        raise OSError(0, error.strerror, str(path), error.winerror) from error


def _final_path(handle: Any) -> str:
    """Return where it lies, all links resolved. As opened, not normalised: SMB cannot be asked
    for the normalised one where a folder on the way is closed to us. Raises OSError."""
    try:
        return str(win32file.GetFinalPathNameByHandle(handle, _FILE_NAME_OPENED))
    except pywintypes.error as error:
        raise OSError(0, error.strerror, None, error.winerror) from error

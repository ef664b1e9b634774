"""What Windows does and Linux and wine do not, done to one Python process on purpose.

They are asked for by the environment variable IMITATE_WINDOWS, names with commas between them, and
start in `sitecustomize`, so that a monitor and every Python that it starts have them. All of them
work on Linux as well: a test gives a child this folder as PYTHONPATH.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import socket
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

VARIABLE = "IMITATE_WINDOWS"

REFUSAL = 2.03
"""Seconds until a connection to a closed port is refused: Windows sends its SYN again and again
(Microsoft KB 175523, curl#14144)."""

HELD = 0.3
"""Seconds for which the scanner holds a file."""

NEW = 10.0
"""Seconds since the last change for which a file is new to the scanner."""

LONGEST_PATH, LONGEST_FOLDER = 259, 247
"""Characters, with LongPathsEnabled=0, the default of Windows 10 and 11."""

_EXTENDED = "\\\\?\\"
_NO_FILES = ("/proc/", "/sys/", "/dev/", "Z:\\proc\\", "C:\\wine-")
"""What psutil reads on Linux, and what wine_gaps.py reads and writes for it: a real scanner sees no
files there."""
_ACCESS_DENIED, _SHARING_VIOLATION, _PATH_NOT_FOUND = 5, 32, 3


def slow_refusal() -> None:
    """A refused connection takes two seconds; with a shorter limit it times out."""
    real = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        began = time.monotonic()
        try:
            real(self, address)
        except ConnectionRefusedError:
            limit = self.gettimeout()
            left = REFUSAL - (time.monotonic() - began)
            if limit is not None and limit < left:
                time.sleep(limit)
                raise TimeoutError("timed out") from None
            time.sleep(max(0.0, left))
            raise

    socket.socket.connect = connect  # type: ignore[method-assign]


def scanner() -> None:
    """A virus scanner opens each new file. For HELD seconds from the first effect on it the file
    can be neither moved nor replaced, removed, nor opened; then the scanner has seen it. A folder
    with new files in it can be neither moved nor removed either."""
    seen: dict[str, float] = {}
    real_open = os.open

    def is_held(path: Any) -> bool:
        if not isinstance(path, str | os.PathLike) or str(path).startswith(_NO_FILES):
            return False
        try:
            status = Path(path).stat()
        except OSError:
            return False
        if time.time() - status.st_mtime > NEW:
            return False
        now = time.monotonic()
        return now - seen.setdefault(str(Path(path).absolute()), now) < HELD

    def refusing(real: Callable[..., Any], code: int, *, both: bool = False) -> Callable[..., Any]:
        opens = real in (real_open, io.open)

        def effect(path: Any, *args: Any, **options: Any) -> Any:
            for each in (path, *(args[:1] if both else ())):
                if is_held(each) and not (opens and Path(each).is_dir()):
                    raise refused(code, each)
            return real(path, *args, **options)

        return effect

    os.rename = refusing(os.rename, _ACCESS_DENIED, both=True)
    os.replace = refusing(os.replace, _ACCESS_DENIED, both=True)
    os.unlink = os.remove = refusing(os.unlink, _SHARING_VIOLATION)
    os.rmdir = refusing(os.rmdir, _SHARING_VIOLATION)
    os.open = refusing(os.open, _SHARING_VIOLATION)
    builtins.open = io.open = refusing(io.open, _SHARING_VIOLATION)  # type: ignore[assignment]


def short_paths() -> None:
    r"""LongPathsEnabled=0: what has a longer path is not found, also where a function is given a
    folder's descriptor (Linux only) and the rest of the path. Behind `\\?\` it is."""

    def whole(path: Any, dir_fd: int | None) -> str:
        folder = Path() if dir_fd is None else Path(f"/proc/self/fd/{dir_fd}").readlink()
        return str((folder / os.fsdecode(path)).absolute())

    def is_long(path: Any, most: int, dir_fd: int | None = None) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False  # a descriptor
        text = os.fsdecode(path)
        if text.startswith((_EXTENDED, *_NO_FILES)):
            return False
        text = whole(path, dir_fd)
        return len(text) + sum(sign > "\uffff" for sign in text) > most

    def bounded(real: Callable[..., Any], most: int, paths: int = 1) -> Callable[..., Any]:
        def effect(*args: Any, **options: Any) -> Any:
            held = [options.get("dir_fd")] * 2
            if paths == 2:
                held = [options.get("src_dir_fd"), options.get("dst_dir_fd")]
            for path, dir_fd in zip(args[:paths], held, strict=False):
                if is_long(path, most, dir_fd):
                    raise refused(_PATH_NOT_FOUND, path, errno.ENOENT)
            return real(*args, **options)

        for able in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
            if real in able:
                able.add(effect)
        return effect

    for name in ("open", "stat", "lstat", "unlink", "remove", "rmdir", "readlink", "utime"):
        setattr(os, name, bounded(getattr(os, name), LONGEST_PATH))
    for name in ("mkdir", "scandir", "listdir", "chdir"):
        setattr(os, name, bounded(getattr(os, name), LONGEST_FOLDER))
    os.rename, os.replace = (bounded(each, LONGEST_PATH, 2) for each in (os.rename, os.replace))
    builtins.open = io.open = bounded(io.open, LONGEST_PATH)  # type: ignore[assignment]
    if sys.platform == "win32":
        import pywintypes
        import win32file

        create = win32file.CreateFile

        def create_file(path: str, *args: Any) -> Any:
            if is_long(path, LONGEST_PATH):
                raise pywintypes.error(_PATH_NOT_FOUND, "CreateFile", "imitated: path not found")
            return create(path, *args)

        win32file.CreateFile = create_file


def fat_inodes() -> None:
    """A file has its number by the place of its name, as on FAT and exFAT: it is another one after
    a move."""
    real_stat, real_lstat = os.stat, os.lstat

    def numbered(status: os.stat_result, path: Any, folder: int | None) -> os.stat_result:
        if not isinstance(path, str | os.PathLike) or str(path).startswith(_NO_FILES):
            return status
        above = Path(path).parent
        place = real_stat(above, dir_fd=folder) if folder is not None else real_stat(above)
        made, (values, more) = status.__reduce__()  # type: ignore[misc]
        number = zlib.crc32(f"{place.st_ino}/{Path(path).name}".encode()) if place else 0
        return made((values[0], number, *values[2:]), more)  # type: ignore[no-any-return]

    def stat_(path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> Any:
        status = real_stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
        return numbered(status, path, dir_fd)

    def lstat(path: Any, *, dir_fd: int | None = None) -> Any:
        return numbered(real_lstat(path, dir_fd=dir_fd), path, dir_fd)

    os.stat, os.lstat = stat_, lstat  # type: ignore[assignment]


def refused(code: int, path: Any, number: int = errno.EACCES) -> OSError:
    """An OSError as Python raises it on Windows, with its `winerror`."""
    error = OSError(number, f"winerror {code}", os.fspath(path))
    if not hasattr(error, "winerror") or error.winerror is None:
        error.winerror = code  # type: ignore[attr-defined]
    return error


IMITATIONS: dict[str, Callable[[], None]] = {
    each.__name__: each for each in (slow_refusal, scanner, short_paths, fat_inodes)
}


def begin() -> None:
    """Start what the environment asks for."""
    for name in filter(None, os.environ.get(VARIABLE, "").split(",")):
        IMITATIONS[name]()

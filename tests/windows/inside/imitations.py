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
import time
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

_NO_FILES = ("/proc/", "/sys/", "/dev/")  # on Linux: psutil reads them
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
    """LongPathsEnabled=0: what has a longer path is not found."""

    def bounded(real: Callable[..., Any], most: int, paths: int = 1) -> Callable[..., Any]:
        def effect(*args: Any, **options: Any) -> Any:
            for path in args[:paths]:
                if isinstance(path, str | os.PathLike) and len(str(Path(path).absolute())) > most:
                    raise refused(_PATH_NOT_FOUND, path, errno.ENOENT)
            return real(*args, **options)

        return effect

    os.rename, os.replace = (bounded(each, LONGEST_PATH, 2) for each in (os.rename, os.replace))
    os.open, os.mkdir = bounded(os.open, LONGEST_PATH), bounded(os.mkdir, LONGEST_FOLDER)
    builtins.open = io.open = bounded(io.open, LONGEST_PATH)  # type: ignore[assignment]


def refused(code: int, path: Any, number: int = errno.EACCES) -> OSError:
    """An OSError as Python raises it on Windows, with its `winerror`."""
    error = OSError(number, f"winerror {code}", os.fspath(path))
    if not hasattr(error, "winerror") or error.winerror is None:
        error.winerror = code  # type: ignore[attr-defined]
    return error


IMITATIONS: dict[str, Callable[[], None]] = {
    each.__name__: each for each in (slow_refusal, scanner, short_paths)
}


def begin() -> None:
    """Start what the environment asks for."""
    for name in filter(None, os.environ.get(VARIABLE, "").split(",")):
        IMITATIONS[name]()

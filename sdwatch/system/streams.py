"""Make the standard streams usable, whatever they are: closed, a terminal or pipe that may go
away."""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
from contextlib import suppress

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any, TextIO


def prepare() -> None:
    """Make stdin, stdout and stderr usable. For the start of the process: a descriptor that is
    closed would be given to the next file that is opened, and a print would land in it."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        _open_if_closed(number)
        if getattr(sys, name) is None:
            # It lasts as long as the process, as a stream from outside would.
            mode = "w" if number else "r"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    sys.stdout = _lasting(sys.stdout)
    sys.stderr = _lasting(sys.stderr)


def finish() -> bool:
    """Flush the buffers, and return whether all of it could be written. The interpreter
    does so once more at its end, which must not fail again."""
    whole = True
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            whole = False
            with suppress(OSError, ValueError):
                _to_nowhere(stream.fileno())
    return whole


class _Terminal(io.FileIO):
    """A terminal, to be written to. Once it was closed, EIO says so; from then on
    all output is dropped, because a stop must not fail for lack of a reader."""

    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            _to_nowhere(self.fileno())
            return super().write(data)  # type: ignore[arg-type]


class _Pipe(io.RawIOBase):
    """A pipe to write to, over the `raw` stream of it. Windows says EINVAL where its reader is gone
    (bpo-19612: the C runtime does not know ERROR_NO_DATA): here that is EPIPE, as
    elsewhere."""

    def __init__(self, raw: io.RawIOBase) -> None:
        super().__init__()
        self._raw = raw

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def write(self, data: Any, /) -> int | None:
        try:
            return self._raw.write(data)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from error


def _lasting(stream: TextIO) -> TextIO:
    """Return the same stream, which never fails for a sign that its encoding does not have (a ?
    is better than an error on an old Windows console), nor, on POSIX, for a terminal that was
    closed. A pipe whose reader is gone raises the same error on all systems."""
    if not isinstance(stream, io.TextIOWrapper) or isinstance(stream.buffer, _Buffered):
        return stream
    stream.reconfigure(encoding=_encoding_of(stream), errors="replace")
    raw: io.RawIOBase
    if os.name == "posix" and stream.isatty():
        raw = _Terminal(stream.fileno(), "w", closefd=False)
    elif _is_pipe(stream):
        raw = _Pipe(stream.buffer.raw)
    else:
        return stream
    by_line = stream.line_buffering or stream.isatty()
    buffer = _Buffered(raw)
    return io.TextIOWrapper(buffer, stream.encoding, errors="replace", line_buffering=by_line)


def _encoding_of(stream: io.TextIOWrapper) -> str:
    """Return what to print in. A console takes all letters; into a file or a pipe Python on
    Windows prints the ANSI code page (cp1252), into which many names do not fit: that becomes
    UTF-8."""
    is_wished = os.environ.get("PYTHONIOENCODING") or os.environ.get("PYTHONLEGACYWINDOWSSTDIO")
    return stream.encoding if os.name != "nt" or stream.isatty() or is_wished else "utf-8"


def _is_pipe(stream: io.TextIOWrapper) -> bool:
    try:
        is_pipe = stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):
        return False  # it has no descriptor: a test holds it
    return is_pipe and isinstance(getattr(stream.buffer, "raw", None), io.RawIOBase)


class _Buffered(io.BufferedWriter):
    """Marks a stream that was made by `_lasting`."""


def _open_if_closed(number: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        _to_nowhere(number)


def _to_nowhere(number: int) -> None:
    opened = os.open(os.devnull, os.O_RDWR)
    if opened == number:
        os.set_inheritable(number, True)
        return
    os.dup2(opened, number)
    os.close(opened)

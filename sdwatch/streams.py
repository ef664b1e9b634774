"""The standard streams, as whoever started the process left them: closed, a terminal that may go
away, or a pipe whose reader may."""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from typing import TextIO


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
    """Write out what is still in the buffers; whether all of it could be written. The interpreter
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
    """A terminal, to be written to. Once it was closed, EIO says so; all that is written from then
    on goes nowhere, because a stop must not fail for want of a reader."""

    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            _to_nowhere(self.fileno())
            return super().write(data)  # type: ignore[arg-type]


def _lasting(stream: TextIO) -> TextIO:
    """The same stream, which never fails for a sign that its encoding does not have (a ? is better
    than an error on an old Windows console), nor, on POSIX, for a terminal that was closed."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.reconfigure(errors="replace")
    if os.name != "posix" or not stream.isatty() or isinstance(stream.buffer, _Buffered):
        return stream
    raw = _Terminal(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(_Buffered(raw), stream.encoding, errors="replace", line_buffering=True)


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

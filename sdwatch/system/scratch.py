"""Hold large bytes in files without a name, while they are needed.

What a WebUI answers may have 256 MB, and comes in parts. Such a file is local, never on a share,
and nothing depends on it after a crash: it is not synced, and the system removes it with the
process. What the disk refuses stays in memory, so that no finished picture is lost.
"""

from __future__ import annotations

import io
import logging
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

from sdwatch import system
from sdwatch.system import disk
from sdwatch.system.log_events import LogEvent, about

log = logging.getLogger("sdwatch.system")

_PARTS = 1 << 18


@dataclass
class Scratch:
    """Where bytes go that arrive: so many of them into memory, `left`, and the rest into files in
    `folder`; None for the system's folder for temporary files."""

    folder: Path | None = None
    left: int = 4 << 20


class ScratchFile:
    """Bytes in a file without a name, which is removed with this object; those of `tail` after
    them are in memory. One thread at a time reads."""

    def __init__(self, file: IO[bytes], size: int, tail: bytes = b"") -> None:
        self._file = file
        self._in_file = size
        self._tail = tail
        weakref.finalize(self, file.close)

    def __len__(self) -> int:
        return self._in_file + len(self._tail)

    def open(self) -> BinaryIO:
        """Return a reader of its own, at the start."""
        return io.BufferedReader(_Reader(self), _PARTS)

    def read_at(self, start: int, size: int) -> bytes:
        """Return at most so many bytes from there. Raises OSError."""
        if start >= self._in_file:
            return self._tail[start - self._in_file :][:size]
        self._file.seek(start)
        return self._file.read(min(size, self._in_file - start))


class _Reader(io.RawIOBase):
    def __init__(self, read: ScratchFile) -> None:
        self._read = read
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._read)}[whence]
        self._at = max(0, origin + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        data = self._read.read_at(self._at, len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


class Arriving:
    """Bytes that arrive in parts, until `finish`."""

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self._memory = bytearray()  # what comes after the file's
        self._file: IO[bytes] | None = None
        self._in_file = 0
        self._disk_refuses = False

    def write(self, part: bytes) -> None:
        """Append a part. Never raises OSError."""
        self._memory += part
        if self._file is None:
            self._scratch.left -= len(part)
            if self._scratch.left >= 0 or self._disk_refuses:
                return
        if self._disk_refuses or len(self._memory) < _PARTS <= self._in_file:
            return
        try:
            self._write_memory_out()
        except OSError as error:
            log.warning(
                "%s: a picture stays in memory: %s",
                self._scratch.folder,
                disk.in_words(error),
                extra=about(LogEvent.DISK_REFUSES),
            )
            self._disk_refuses = True

    def __len__(self) -> int:
        """Return how many bytes have arrived so far."""
        return self._in_file + len(self._memory)

    def finish(self) -> bytes | ScratchFile:
        """Return everything that has arrived."""
        if self._file is None:
            return bytes(self._memory)
        return ScratchFile(self._file, self._in_file, bytes(self._memory))

    def _write_memory_out(self) -> None:
        if self._file is None:
            folder = self._scratch.folder
            where = system.long_path(folder) if folder is not None else None
            self._file = tempfile.TemporaryFile(buffering=0, dir=where)  # noqa: SIM115 - kept
            self._scratch.left += len(self._memory)
        while self._memory:
            count = self._file.write(self._memory)
            self._in_file += count
            del self._memory[:count]

"""Follow a file of lines, such as our own log, across its rotations. No line is lost as long as
somebody polls once between two of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from sdwatch.system import disk

MOST_AT_ONCE = 4_000_000
"""Bytes that one poll reads of a file. Of what is longer, the start is left out."""


class LineFollower:
    """Follows `path` from its start; its predecessor is `<path>.1` (logging.handlers renames the
    file and starts a new one). No file stays open: nobody's rename waits for this."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._predecessor = path.with_name(f"{path.name}.1")
        self._file: tuple[int, int] | None = None
        self._offset = 0
        self._pending = b""

    def poll(self) -> list[str]:
        """Return the new complete lines; of the first poll also those of the predecessor. What
        cannot be read now is read by a later poll."""
        try:
            with disk.open_to_read(self._path) as file:
                status = os.fstat(file.fileno())
                identity = (status.st_dev, status.st_ino)
                if identity != self._file:
                    self._pending += self._end_of_predecessor()
                    self._file, self._offset = identity, 0
                elif status.st_size < self._offset:  # somebody emptied it
                    self._offset, self._pending = 0, b""
                self._pending += self._read(file, status.st_size)
        except OSError:
            pass
        *lines, self._pending = self._pending.split(b"\n")
        return [line.decode("utf-8", "replace") for line in lines]

    def _end_of_predecessor(self) -> bytes:
        """Return what was not read yet of the file that was followed, or of an unknown one."""
        try:
            with disk.open_to_read(self._predecessor) as file:
                status = os.fstat(file.fileno())
                if self._file not in (None, (status.st_dev, status.st_ino)):
                    return b""
                rest = self._read(file, status.st_size)
        except OSError:
            return b""
        return rest if rest.endswith(b"\n") or not rest else rest + b"\n"

    def _read(self, file: BinaryIO, size: int) -> bytes:
        start = max(self._offset, size - MOST_AT_ONCE)
        file.seek(start)
        data = file.read(MOST_AT_ONCE)
        skipped, self._offset = start > self._offset, start + len(data)
        return data.partition(b"\n")[2] if skipped else data

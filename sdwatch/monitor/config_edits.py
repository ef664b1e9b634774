"""Detect that the config file has changed since the monitor read it, so that status can say so."""

from __future__ import annotations

from pathlib import Path

from sdwatch.policy.job.text.document import MAX_BYTES
from sdwatch.system import disk


class ConfigEdits:
    """Detects that a config file has changed since this was created. Without a file (None) it never
    has."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._stamp = self._stamped()
        self._read = self._bytes()
        self._differs = False

    def found(self) -> bool:
        """Return whether the file has changed. Cheap while nobody touches it; a file that cannot be
        read now counts as unchanged."""
        stamp = self._stamped()
        if stamp is not None and stamp != self._stamp:
            content = self._bytes()
            if content is not None:
                self._stamp, self._differs = stamp, content != self._read
        return self._differs

    def _stamped(self) -> tuple[int, int, int] | None:
        try:
            status = self._file.stat() if self._file else None
        except OSError:
            return None
        return (status.st_mtime_ns, status.st_size, status.st_ino) if status else None

    def _bytes(self) -> bytes | None:
        """Return as much of it as a config may have; None if it cannot be read."""
        try:
            if self._file is None:
                return None
            with disk.open_file(self._file) as file:
                return file.read(MAX_BYTES + 1)
        except OSError:
            return None

"""Follow a WebUI's log as it grows, by the parser in window.py and log_lines.py."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from sdwatch.policy.failure.progress import News
from sdwatch.webui.log.log_lines import (
    LogLine,
    decoded,
    is_access,
    last_frames,
    probe_status,
    split_lines,
)
from sdwatch.webui.log.tail_capture import NotAFileError, open_log
from sdwatch.webui.log.window import errors_in, without_torn_line

POLL_BYTES = 1024 * 1024
MOST_BEHIND = 4 * 1024 * 1024
MOST_SKIPPED = 64 * 1024 * 1024
"""Bytes before the last MOST_BEHIND that are searched for errors: a log's usual cap."""

PENDING_BYTES = 64 * 1024
GUARD_BYTES = 64
MOST_BARS = 100


class LogFollower:
    """Follows a log from one poll to the next. Survives rotation, truncation and removal. `offset`:
    of the first byte that is read, None for what comes after now."""

    def __init__(self, path: Path, *, offset: int | None = 0) -> None:
        self.path = path
        self._activity = 0
        self._file: tuple[int, int] | None = None
        self._offset = 0
        self._guard = b""  # the bytes before the offset; if they differ, it is another log
        self._pending = b""
        self.is_behind = False
        """Whether the last poll has left bytes unread."""
        self._bars: dict[str, str] = {}
        self._news = News()
        if offset != 0:
            with suppress(OSError):
                status = path.stat()
                self._file = status.st_dev, status.st_ino
                self._offset = status.st_size if offset is None else offset

    def activity(self) -> int:
        """Return the lines that say something new, and the movements of bars, seen so far; only
        ever grows. Access lines, repeated lines and what a timer redraws do not count (see
        policy/failure/progress.py)."""
        return self._activity

    @property
    def unfinished(self) -> str:
        """Return what has no line end yet, such as a prompt that asks for a key."""
        return decoded(self._pending)

    def poll(self) -> list[str]:
        """Return the text of `poll_lines`."""
        return [line.text for line in self.poll_lines()]

    def poll_lines(self) -> list[LogLine]:
        """Return new complete lines, and the last frame of a bar that has moved, in order. At most
        `POLL_BYTES` are read, see `is_behind`. Whoever is further behind than `MOST_BEHIND` gets
        of what lies between only the errors."""
        try:
            errors, data = self._read_new()
        except (NotAFileError, OSError, ValueError):
            self.is_behind = False
            return []
        if data == self._pending:  # nothing came: the bars in it were seen before
            return []
        cut = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        if len(data) - cut > PENDING_BYTES:
            cut = len(data)
        self._pending = data[cut:]
        lines = split_lines(decoded(data[:cut]))
        # A bar's newest frame has no line end yet: tqdm starts each with \r.
        unfinished = split_lines(decoded(self._pending))
        bars = [line for line in unfinished if line.bar is not None]
        seen = [*errors, *lines, *bars]
        self._activity += sum(map(self._is_progress, seen))
        news = [line for line in seen if self._is_news(line)]
        return last_frames(news)

    def _read_new(self) -> tuple[list[LogLine], bytes]:
        """Return the errors in what is skipped; the unfinished bytes of the last poll and the new
        ones."""
        errors: list[LogLine] = []
        with open_log(self.path) as file:
            info = os.fstat(file.fileno())
            if (info.st_dev, info.st_ino) != self._file or info.st_size < self._offset:
                self._start_over((info.st_dev, info.st_ino))
            file.seek(self._offset - len(self._guard))
            if file.read(len(self._guard)) != self._guard:
                self._start_over((info.st_dev, info.st_ino))
            is_far = info.st_size - self._offset > MOST_BEHIND
            if is_far:
                errors = self._skip_to(file, info.st_size - MOST_BEHIND)
            file.seek(self._offset)
            new = file.read(POLL_BYTES)
        self._offset += len(new)
        self.is_behind = self._offset < info.st_size
        self._guard = (self._guard + new)[-GUARD_BYTES:]
        return errors, self._pending + (without_torn_line(new) if is_far else new)

    def _skip_to(self, file: BinaryIO, end: int) -> list[LogLine]:
        """Return the errors between here and there; of very much, those at its end."""
        errors: list[LogLine] = []
        for start in range(max(self._offset, end - MOST_SKIPPED), end, MOST_BEHIND):
            file.seek(start)
            data = file.read(min(MOST_BEHIND, end - start))
            errors += [line for line in errors_in(data, len(data)) if line.text]
        self._offset, self._guard, self._pending = end, b"", b""
        return errors

    def _start_over(self, file: tuple[int, int]) -> None:
        self._file, self._offset, self._guard, self._pending = file, 0, b"", b""

    def _is_progress(self, line: LogLine) -> bool:
        if line.drawn:
            return self._news.is_in_drawn(line.text)
        if line.bar is not None:
            return self._news.is_in_bar(line.bar, line.position)
        return not is_access(line.text) and self._news.is_in_line(line.text)

    def _is_news(self, line: LogLine) -> bool:
        if line.bar is None:
            return probe_status(line.text) is None
        if self._bars.get(line.bar) == line.position:
            return False
        if len(self._bars) >= MOST_BARS:
            self._bars.clear()
        self._bars[line.bar] = line.position
        return True

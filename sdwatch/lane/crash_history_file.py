"""The file of one WebUI's crash history: it survives a restart of the monitor and of the machine.

One JSON line for each crash, each return to being stable, and what was forgiven or self-tested; for
people also each start and recycling. Each is written before what follows from it, so that the
cool-down after a kill -9 is the same as without one. What the disk refuses is written later.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sdwatch.policy.failure.lasting import LastingStates, key_of
from sdwatch.policy.lane.crash_history import CrashHistory, HistoryRecord
from sdwatch.policy.lane.instant import Instant
from sdwatch.system import disk
from sdwatch.system.clock import Clock, iso
from sdwatch.system.log_events import LogEvent, about

log = logging.getLogger("sdwatch.webui")

RECYCLED, OTHER = "recycled", "other"
"""Causes of a restart beside those of a crash. OTHER: after a hold, or because its process ended
cleanly."""

_MOST_BYTES = 1_000_000
_KEPT_LINES = 2000
"""More than any cool-down needs; a history that has grown too large keeps so many lines."""


class CrashHistoryFile:
    """crashes.jsonl of one WebUI, written by one thread at a time; `value`: the history that it
    contained when it was opened. `path` is created if missing; unreadable lines are skipped with a
    warning. `cooldown`: seconds after each crash in a row."""

    def __init__(self, path: Path, cooldown: Sequence[float], clock: Clock) -> None:
        self._path = path
        self._clock = clock
        now = Instant(clock.wall(), clock.boot_time(), clock.boot_id())
        self.value = _read(path, CrashHistory(tuple(cooldown))).on_this_boot(now)
        self.restarts: dict[str, int] = {}
        """The restarts since it was opened, by their cause: that of a crash (a Diagnosis or an
        IdleFailure), RECYCLED or OTHER. The first start is none."""
        self._came_by = ""  # of the next start
        self._has_started = False
        self._unwritten: list[bytes] = []
        self._refusals = LastingStates()

    def save(self, record: HistoryRecord) -> None:
        """Write a record, after those that the disk refused before. A full disk must not keep a
        crashed WebUI down: until the monitor ends, the history in memory is enough."""
        self._count(record)
        self._unwritten.append(json.dumps(_fields_of(record)).encode())
        self.flush()

    def _count(self, record: HistoryRecord) -> None:
        """Count a restart: what comes before a start is its cause."""
        if record.event == "crash":
            self._came_by = str(record.fields.get("kind", OTHER))
        elif record.event == RECYCLED:
            self._came_by = RECYCLED
        elif record.event == "start":
            if self._has_started or self._came_by:
                kind = self._came_by or OTHER
                self.restarts[kind] = self.restarts.get(kind, 0) + 1
            self._came_by, self._has_started = "", True

    def flush(self) -> None:
        """Write what the disk refused before."""
        if not self._unwritten:
            return
        try:
            fd = disk.open_lines(self._path)
            try:
                while self._unwritten:
                    disk.append_line(fd, self._unwritten[0], self._path)
                    del self._unwritten[0]
            finally:
                os.close(fd)
        except OSError as error:
            why, now = disk.in_words(error), self._clock.monotonic()
            if line := self._refusals.persists("", key_of(error), why, now):
                log.error(
                    "%s: not saved yet: %s", self._path, line, extra=about(LogEvent.DISK_REFUSES)
                )
        else:
            if lasted := self._refusals.is_over("", self._clock.monotonic()):
                log.info(
                    "%s: saved again, after %s",
                    self._path,
                    lasted,
                    extra=about(LogEvent.DISK_ACCEPTS),
                )


def _fields_of(record: HistoryRecord) -> dict[str, Any]:
    """Return what the file says of it: three clocks where a cool-down needs them."""
    at = record.at
    fields: dict[str, Any] = {"event": record.event, **record.fields}
    if record.until is not None:
        fields["deadline"] = iso(record.until)
    if record.event == "crash":
        return fields | {"wall": at.wall, "boot": at.boot, "boot_id": at.boot_id}
    boot = {"boot": at.boot} if record.event == "start" else {}
    return fields | {"at": iso(at.wall)} | boot


def _read(path: Path, history: CrashHistory) -> CrashHistory:
    try:
        lines = disk.read(path).splitlines()
    except FileNotFoundError:
        return history
    except OSError as error:
        log.error(
            "%s: cannot be read, and is ignored: %s",
            path,
            disk.in_words(error),
            extra=about(LogEvent.FILE_UNREADABLE),
        )
        return history
    if sum(map(len, lines)) > _MOST_BYTES and len(lines) > _KEPT_LINES:
        lines = lines[-_KEPT_LINES:]
        _shorten(path, lines)
    for line in lines:
        try:
            history = history.replayed(json.loads(line))
        except (ValueError, KeyError, TypeError, RecursionError):
            log.warning(
                "%s: skipped a line that cannot be read",
                path,
                extra=about(LogEvent.FILE_UNREADABLE),
            )
    return history


def _shorten(path: Path, lines: Sequence[bytes]) -> None:
    try:
        disk.write(path, b"\n".join(lines) + b"\n")
    except OSError as error:
        log.warning(
            "%s: cannot be shortened: %s",
            path,
            disk.in_words(error),
            extra=about(LogEvent.DISK_REFUSES),
        )

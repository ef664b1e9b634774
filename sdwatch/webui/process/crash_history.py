"""The crash history of one WebUI, on disk: it survives a restart of the monitor and of the machine.

One JSON line for each crash, each return to being stable, and what was forgiven or self-tested; for
people also each start and recycling. Written before anything waits, so that the cool-down after a
kill -9 is the same as without one.
"""

from __future__ import annotations

import json
import logging
import math
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from sdwatch.policy.failure.cooldown import (
    STABLE_AFTER,
    Crash,
    Instant,
    delay_after,
    on_this_boot,
    remaining,
)
from sdwatch.policy.failure.facts import Diagnosis
from sdwatch.policy.failure.lasting import Lasting, key_of
from sdwatch.system import disk
from sdwatch.system.clock import Clock, iso

log = logging.getLogger("sdwatch.webui")

_MOST_BYTES = 1_000_000
_KEPT_LINES = 2000
"""More than any cool-down needs; a history that has grown too large keeps so many lines."""


class IdleFailure(StrEnum):
    """How the WebUI failed without a call of a job. The values are what histories contain."""

    FAILED_SELF_TEST = "failed canary"
    NO_START = "failed start"


class CrashHistory:
    """Crashes in a row, and how long to wait after the last. `path` is created if missing;
    unreadable lines are skipped with a warning. `cooldown`: seconds after each crash in a row."""

    def __init__(self, path: Path, cooldown: Sequence[float], clock: Clock) -> None:
        self._path = path
        self._cooldown = cooldown
        self._clock = clock
        self._lock = threading.Lock()
        past = _read(path)
        self._needs_self_test = past.needs_self_test
        self._failed_fresh = past.failed_fresh
        self._suspects, self._suspected_at = past.suspects, past.suspected_at
        self._in_a_row = on_this_boot(past.crashes, cooldown, self._now())
        self._successes = 0
        self._unwritten: list[bytes] = []
        self._refusals = Lasting()

    @property
    def in_a_row(self) -> int:
        """Return the number of crashes since the WebUI was last stable."""
        return len(self._in_a_row)

    def entry(self, number: int) -> float:
        """Return the n-th entry of the cool-down (n from 1), in seconds."""
        return delay_after(number, self._cooldown)

    @property
    def longest(self) -> float:
        """Return the last entry of the cool-down, in seconds."""
        return self._cooldown[-1]

    def crashed(self, kind: Diagnosis | IdleFailure, *, failed_fresh: int = 0) -> float:
        """Record a crash, and return the cool-down after it in seconds. `failed_fresh`: the
        incarnation that failed its self-test before any job's call, 0 for none."""
        now = self._now()
        with self._lock:
            self._failed_fresh = max(self._failed_fresh, failed_fresh)
            self._successes = 0
            self._needs_self_test = self._needs_self_test or kind == IdleFailure.FAILED_SELF_TEST
            self._in_a_row.append(Crash(kind, now))
            entry = self.entry(len(self._in_a_row))
            self._append(
                event="crash",
                kind=kind,
                in_a_row=len(self._in_a_row),
                cooldown=entry,
                deadline=iso(now.wall + entry),
                wall=now.wall,
                boot=now.boot,
                boot_id=now.boot_id,
                **({"failed_fresh": failed_fresh} if failed_fresh else {}),
            )
            return entry

    @property
    def failed_fresh(self) -> int:
        """Return the last incarnation that failed its self-test before any job's call; 0 for
        none."""
        return self._failed_fresh

    @property
    def needs_self_test(self) -> bool:
        """Return whether the WebUI has failed a canary and passed none since."""
        return self._needs_self_test

    def passed_self_test(self) -> None:
        """Record that it has passed a self-test, or generated what a job asked for."""
        if self._needs_self_test:
            with self._lock:
                self._needs_self_test = False
                self._append(event="well", at=iso(self._clock.wall()))

    def suspected(self, runs: Sequence[str]) -> None:
        """Record that these runs failed in a row on a WebUI that died each time. Perhaps the jobs
        are not the cause, and no other job should fail for as long as the longest cool-down."""
        now = self._now()
        with self._lock:
            self._suspects, self._suspected_at = tuple(runs), now
            self._append(
                event="suspects",
                runs=list(runs),
                wall=now.wall,
                boot=now.boot,
                boot_id=now.boot_id,
            )

    @property
    def suspects(self) -> tuple[str, ...]:
        """Return these runs while the suspicion lasts, else ()."""
        return self._suspects if self.suspicion_left() > 0 else ()

    def suspicion_left(self) -> float:
        """Return the seconds for which the suspicion lasts."""
        at = self._suspected_at
        return remaining([Crash("", at)], [self.longest], self._now()) if at else 0.0

    def trusted(self) -> None:
        """Record that a person says the WebUI is healthy."""
        if self._suspected_at is not None:
            with self._lock:
                self._suspects, self._suspected_at = (), None
                self._append(event="trusted", at=iso(self._clock.wall()))

    def forgive(self, crashes: int) -> None:
        """Forget the last so many crashes: a job caused them, so they do not lengthen the
        cool-down."""
        with self._lock:
            if crashes := min(crashes, len(self._in_a_row)):
                del self._in_a_row[-crashes:]
                self._append(event="forgiven", crashes=crashes, at=iso(self._clock.wall()))

    def succeeded(self) -> None:
        """Count a call that succeeded. Enough of them in a row, and the WebUI is stable."""
        self.passed_self_test()
        with self._lock:
            self._successes += 1
            if self._in_a_row and self._successes >= STABLE_AFTER:
                self._in_a_row.clear()
                self._append(event="stable", at=iso(self._clock.wall()))

    def started(self, incarnation: int) -> None:
        """Record a start, for people and for the order of events; the cool-down stays the same."""
        with self._lock:
            self._append(
                event="start",
                incarnation=incarnation,
                at=iso(self._clock.wall()),
                boot=self._clock.boot_time(),
            )

    def recycled(self, incarnation: int, reason: str) -> None:
        """Record that the WebUI is stopped cleanly and started again, for people. This is no crash,
        so the cool-down stays the same."""
        with self._lock:
            self._append(
                event="recycled",
                incarnation=incarnation,
                reason=reason,
                at=iso(self._clock.wall()),
            )

    def remaining(self) -> float:
        """Return the seconds for which nothing may be started or sent; 0 without a cool-down."""
        with self._lock:
            return remaining(self._in_a_row, self._cooldown, self._now())

    def _now(self) -> Instant:
        return Instant(self._clock.wall(), self._clock.boot_time(), self._clock.boot_id())

    def _append(self, **record: Any) -> None:
        """Write a record, after those that the disk refused before. A full disk must not keep a
        crashed WebUI down: until the monitor ends, the history in memory is enough."""
        self._unwritten.append(json.dumps(record).encode())
        try:
            fd = disk.open_lines(self._path)
            try:
                while self._unwritten:
                    disk.append_line(fd, self._unwritten[0], self._path)
                    del self._unwritten[0]
            finally:
                os.close(fd)
        except OSError as error:
            line = self._refusals.goes_on("", key_of(error), str(error), self._clock.monotonic())
            if line:
                log.error("%s: not saved yet: %s", self._path, line)
        else:
            if lasted := self._refusals.is_over("", self._clock.monotonic()):
                log.info("%s: saved again, after %s", self._path, lasted)


@dataclass
class _Past:
    """What a history says: the crashes since the last `stable`; whether a canary failed and none
    passed since; the last incarnation that failed a self-test while it was fresh; the last
    suspects, and since when."""

    crashes: list[Crash] = field(default_factory=list)
    needs_self_test: bool = False
    failed_fresh: int = 0
    suspects: tuple[str, ...] = ()
    suspected_at: Instant | None = None

    def apply(self, record: Mapping[str, Any]) -> None:
        """Apply one record. Raises ValueError, KeyError, TypeError where it cannot be read."""
        event = record["event"]
        if event == "stable":
            self.crashes.clear()
        elif event == "well":
            self.needs_self_test = False
        elif event == "trusted":
            self.suspects, self.suspected_at = (), None
        elif event == "suspects":
            self.suspects, self.suspected_at = tuple(map(str, record["runs"])), _instant(record)
        elif event == "forgiven":
            del self.crashes[max(0, len(self.crashes) - int(record["crashes"])) :]
        elif event == "crash":
            self.crashes.append(Crash(str(record["kind"]), _instant(record)))
            self.needs_self_test = (
                self.needs_self_test or record["kind"] == IdleFailure.FAILED_SELF_TEST
            )
            self.failed_fresh = max(self.failed_fresh, int(record.get("failed_fresh", 0)))


def _instant(record: Mapping[str, Any]) -> Instant:
    wall, boot = float(record["wall"]), float(record["boot"])
    if not (math.isfinite(wall) and math.isfinite(boot)):
        raise ValueError("no time")
    return Instant(wall, boot, str(record["boot_id"]))


def _read(path: Path) -> _Past:
    try:
        lines = disk.read(path).splitlines()
    except FileNotFoundError:
        return _Past()
    except OSError as error:
        log.error("%s: cannot be read, and is ignored: %s", path, error)
        return _Past()
    if sum(map(len, lines)) > _MOST_BYTES and len(lines) > _KEPT_LINES:
        lines = lines[-_KEPT_LINES:]
        _shorten(path, lines)
    past = _Past()
    for line in lines:
        try:
            past.apply(json.loads(line))
        except (ValueError, KeyError, TypeError, RecursionError):
            log.warning("%s: skipped a line that cannot be read", path)
    return past


def _shorten(path: Path, lines: Sequence[bytes]) -> None:
    try:
        disk.write(path, b"\n".join(lines) + b"\n")
    except OSError as error:
        log.warning("%s: cannot be shortened: %s", path, error)

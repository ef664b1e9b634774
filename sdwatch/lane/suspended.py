"""The runs that wait in working/ to go on: after a stop, a hold, or a disk that refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from sdwatch.errors import FileProblems
from sdwatch.policy.job.confinement import JobRules
from sdwatch.policy.job.job import Job
from sdwatch.spool.run import Run
from sdwatch.system.clock import Clock

REFUSED_FOR = 5.0
"""Seconds until what the disk refused is tried again."""

_FOR_A_WEBUI = "waits in working/ for a WebUI"


class SuspendedRun:
    """One of them. `until`: when it may go on, on the monotonic clock."""

    def __init__(self, folder: Path, until: float, why: str, clock: Clock, rules: JobRules) -> None:
        self.folder = folder
        self.until = until
        self.why = why
        self._clock = clock
        self._rules = rules
        self._is_read = False
        self._job: Job | None = None

    @property
    def source(self) -> str:
        """By which it is told from the jobs that wait in the inbox."""
        return f"working/{self.folder.name}"

    @property
    def job(self) -> Job | None:
        """Its job; None where that cannot be read: whoever takes it up says why."""
        if not self._is_read:
            try:
                self._job = Run(self.folder, self._clock).read_job(self._rules)
            except FileProblems:
                self._job = None
            except OSError:
                return None  # for the moment
            self._is_read = True
        return self._job


class SuspendedRuns:
    """All of them. Used by the main thread. `rules`: what jobs may do."""

    def __init__(self, clock: Clock, rules: JobRules) -> None:
        self._clock = clock
        self._rules = rules
        self._suspended: dict[Path, SuspendedRun] = {}

    def __len__(self) -> int:
        return len(self._suspended)

    def __iter__(self) -> Iterator[SuspendedRun]:
        return iter(list(self._suspended.values()))

    @property
    def sources(self) -> set[str]:
        """Of all."""
        return {suspended.source for suspended in self}

    def add(self, folder: Path, seconds: float = 0.0, why: str = _FOR_A_WEBUI) -> None:
        """It is to go on, after so many seconds."""
        until = self._clock.monotonic() + seconds
        self._suspended[folder] = SuspendedRun(folder, until, why, self._clock, self._rules)

    def remove(self, folder: Path) -> None:
        """It does not wait any more."""
        self._suspended.pop(folder, None)

    def due(self) -> list[SuspendedRun]:
        """Those that may go on now, oldest first."""
        now = self._clock.monotonic()
        return sorted((p for p in self if p.until <= now), key=lambda suspended: suspended.folder)

    def first(self, fits: Callable[[SuspendedRun], bool]) -> SuspendedRun | None:
        """The oldest that may go on now, and fits."""
        return next(filter(fits, self.due()), None)

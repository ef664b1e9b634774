"""The runs that wait in working/ to resume: after a stop, a hold, or a disk that refused a
write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from sdwatch.errors import FileProblems
from sdwatch.policy.job.job import Job
from sdwatch.policy.job.stage.confinement import JobRules
from sdwatch.policy.job.when import ANY_TIME, When
from sdwatch.spool.run import Run, read_source
from sdwatch.system.clock import Clock

REFUSED_FOR = 5.0
"""Seconds until what the disk refused is retried."""

REFUSAL_PASSES = 3 * REFUSED_FOR
"""Seconds after which a refusal is no longer taken for one that passes by itself: --once ends."""

_FOR_A_WEBUI = "waits in working/ for a WebUI"


class SuspendedRun:
    """A run that waits. `until`: when it may resume, on the monotonic clock."""

    def __init__(self, folder: Path, until: float, why: str, clock: Clock, rules: JobRules) -> None:
        self.folder = folder
        self.until = until
        self.why = why
        self._clock = clock
        self._rules = rules
        self._came_from = ""
        self._is_read = False
        self.read_before: Job | None = None  # reading takes a while
        self._out_on: str | None = None

    @property
    def source(self) -> str:
        """Return a name that no job in the inbox has."""
        return f"working/{self.folder.name}"

    @property
    def version(self) -> object:
        """The same as long as the job is the same."""
        return self.read_before if self._is_read else self

    @property
    def came_from(self) -> str:
        """Return its job's path in the inbox; '' if that cannot be read now. It is read once: the
        journal of a job with many points is long, and the status is asked for each second."""
        self._came_from = self._came_from or read_source(self.folder)
        return self._came_from

    @property
    def when(self) -> When:
        """Return when it may start its calls; any time where the job cannot be read."""
        return ANY_TIME if self.job is None else self.job.conduct.when

    @property
    def out_on(self) -> str:
        """Return the other machine that may have this run, or '': it may resume here."""
        if self._out_on is None:
            try:
                handed_over = Run(self.folder, self._clock).ledger.handed_over
            except OSError:
                return "a machine that cannot be read now"
            self._out_on = handed_over.box if handed_over.is_out else ""
        return self._out_on

    @property
    def job(self) -> Job | None:
        """Return its job; None where that cannot be read. Whoever resumes it reports why."""
        if not self._is_read:
            try:
                self.read_before = Run(self.folder, self._clock).read_job(self._rules)
            except FileProblems:
                self.read_before = None
            except OSError:
                return None  # for the moment
            self._is_read = True
        return self.read_before


class SuspendedRuns:
    """All runs that wait. Used by the main thread. `rules`: what jobs may do."""

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
        """Return the sources of all runs."""
        return {suspended.source for suspended in self}

    def add(self, folder: Path, seconds: float = 0.0, why: str = _FOR_A_WEBUI) -> None:
        """Add a run that may resume after so many seconds. `why`: for `status`."""
        until = self._clock.monotonic() + seconds
        self._suspended[folder] = SuspendedRun(folder, until, why, self._clock, self._rules)

    def remove(self, folder: Path) -> None:
        """Remove a run: it no longer waits."""
        self._suspended.pop(folder, None)

    def due(self) -> list[SuspendedRun]:
        """Return the runs that may resume now, oldest first."""
        now = self._clock.monotonic()
        return sorted((p for p in self if p.until <= now), key=lambda suspended: suspended.folder)

    def first(self, fits: Callable[[SuspendedRun], bool]) -> SuspendedRun | None:
        """Return the oldest run that may resume now and fits, or None."""
        return next(filter(fits, self.due()), None)

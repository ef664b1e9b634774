"""Find the texts of earlier runs: a WebUI that outlived its monitor has them in its log."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from heapq import nlargest
from pathlib import Path
from typing import Any

from sdwatch.errors import JobError
from sdwatch.policy.job.job import Job
from sdwatch.policy.job.stage.confinement import JobRules
from sdwatch.policy.privacy.redaction import Redactor
from sdwatch.spool.folders import Spool, runs_in
from sdwatch.spool.journal import last_records
from sdwatch.spool.manifest import last_values, read_about
from sdwatch.spool.run import JOURNAL, Run
from sdwatch.system import disk
from sdwatch.system.clock import SystemClock
from sdwatch.system.log_events import LogEvent, about

log = logging.getLogger("sdwatch.spool")

_RUNS = 50
_MOST_BYTES = 100_000
"""Of each journal, from its end: some fifty points. No log of a WebUI reaches further back."""


def earlier_texts(spool: Spool, suspended: Iterable[Job | None]) -> Iterator[Mapping[str, Any]]:
    """Yield the stages of the newest runs that ended, and those of the `suspended` jobs: the newest
    last, because of very many texts a redactor forgets the first. What cannot be read is left
    out."""
    for folder in sorted(_newest(spool), key=lambda path: path.name):
        job = read_about(folder).get("job")
        stages = job.get("stages") if isinstance(job, Mapping) else None
        for stage in stages if isinstance(stages, list) else ():
            if isinstance(stage, Mapping):
                yield stage
        yield from _last_values(folder)
    for waiting in suspended:
        for stages in waiting.samples() if waiting is not None else ():
            for planned in stages:
                yield planned.texts


def _last_values(folder: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the values of the last points of a run: its manifest has the texts of the first before
    its calls. In the journal of an earlier version are all of them, too."""
    try:
        records = last_records(folder / JOURNAL, _MOST_BYTES)
    except OSError:
        records = []
    for record in records:
        if isinstance(values := record.get("values"), Mapping):
            yield values
    yield from last_values(folder, _MOST_BYTES)


def _newest(spool: Spool) -> list[Path]:
    """Return runs that have ended; their folders' names start with the time."""
    found: list[Path] = []
    for parent in (spool.done, spool.failed):
        try:
            found += runs_in(parent)
        except OSError as error:
            log.warning(
                "%s: cannot be read: %s",
                parent,
                disk.in_words(error),
                extra=about(LogEvent.FILE_UNREADABLE),
            )
    return nlargest(_RUNS, found, key=lambda path: path.name)


class RunTexts:
    """Keeps `redactor` up to date with the texts of the runs on a spool, for a reader that is not
    the monitor: `refresh` before what a WebUI printed meanwhile is redacted."""

    def __init__(self, spool: Spool, rules: JobRules, redactor: Redactor) -> None:
        self._spool = spool
        self._rules = rules
        self._redactor = redactor
        self._seen: object = None

    def refresh(self) -> None:
        """Learn the texts of the runs in working/, and of those that ended last, if there are other
        runs than before. What cannot be read is left out."""
        try:
            working = [
                run for worker in runs_in(self._spool.root / "working") for run in runs_in(worker)
            ]
        except OSError:  # the share is gone, or a worker's folder was taken over just now
            working = []
        ended = [_changed_at(folder) for folder in (self._spool.done, self._spool.failed)]
        if (seen := ([run.name for run in working], ended)) != self._seen:
            jobs = [_job_of(run, self._rules) for run in working]
            for texts in earlier_texts(self._spool, jobs):
                self._redactor.learn(texts)
            # One that cannot be read yet, as in the middle of a claim, is looked at again.
            self._seen = None if None in jobs else seen


def _changed_at(folder: Path) -> int:
    try:
        return disk.look_at(folder).st_mtime_ns
    except OSError:
        return 0


def _job_of(run: Path, rules: JobRules) -> Job | None:
    try:
        return Run(run, SystemClock()).read_job(rules)
    except (JobError, OSError):
        return None

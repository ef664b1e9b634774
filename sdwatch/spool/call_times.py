"""Read what calls took on this machine from the journals of a spool, from which a
duration is estimated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sdwatch.policy.failure.ledger import seconds_of
from sdwatch.policy.job.calls.call_sizes import size_of_record
from sdwatch.policy.job.calls.estimate import CallTimes, TimedCall
from sdwatch.spool.folders import Spool, runs_in
from sdwatch.spool.journal import journal_records
from sdwatch.spool.run import JOURNAL

MOST_RUNS = 40
"""The last so many runs are the history: what was made last week may be another model."""

MOST_CALLS = 20
"""Of each run, so that one of ten thousand points is not all there is."""


def timed_calls(records: Iterable[Mapping[str, Any]]) -> list[TimedCall]:
    """Return the finished calls of a run, newest first, by its journal."""
    finished = [record for record in records if record.get("event") == "call_finished"]
    return [
        TimedCall(seconds_of(record), size_of_record(record))
        for record in reversed(finished[-MOST_CALLS:])
    ]


def read_call_times(root: Path) -> CallTimes:
    """Return what calls took in the last runs of the spool at `root`, in work or ended. What cannot
    be read is left out: never raises OSError."""
    return CallTimes(call for run in _last_runs(Spool(root, "")) for call in _calls_of(run))


def _calls_of(run: Path) -> list[TimedCall]:
    try:
        return timed_calls(journal_records(run / JOURNAL))
    except OSError:
        return []


def _last_runs(spool: Spool) -> list[Path]:
    """Return the runs that were claimed last, newest first: a run's name starts with that time."""
    ended = [*_runs_in(spool.done), *_runs_in(spool.failed)]
    working = [run for worker in _runs_in(spool.root / "working") for run in _runs_in(worker)]
    return sorted([*ended, *working], key=lambda run: run.name, reverse=True)[:MOST_RUNS]


def _runs_in(folder: Path) -> Iterator[Path]:
    try:
        yield from runs_in(folder)
    except OSError:
        return

"""Runs as the heartbeat, `status` and the live display show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from sdwatch.monitor.affinity import Chosen
from sdwatch.monitor.later_jobs import LaterJobs
from sdwatch.monitor.runs import ActiveRun
from sdwatch.monitor.suspended import SuspendedRun
from sdwatch.policy.job.calls.call_sizes import KnownSizes, listed_sizes
from sdwatch.policy.job.job import Job
from sdwatch.policy.job.when import When
from sdwatch.webui.http.call_watch import progress_shown

NO_RUNS: dict[str, Any] = {
    "lanes": [],
    "next_because": {},
    "runs": [],
    "queued": 0,
    "next": [],
    "queue": [],
    "waiting": {},
    "waiting_count": 0,
    "waiting_for_time": 0,
    "ignored": {},
    "ignored_count": 0,
}


def run_status(
    active: Iterable[ActiveRun],
    suspended: Iterable[SuspendedRun],
    known: KnownSizes,
    later_jobs: LaterJobs,
) -> list[dict[str, Any]]:
    """Return the runs that have a thread, and then those that wait in working/. `known`: remembers
    how large their calls are."""
    return [
        *(_active_status(run, known) for run in active),
        *(_suspended_status(run, known, later_jobs) for run in suspended),
    ]


def _active_status(active: ActiveRun, known: KnownSizes) -> dict[str, Any]:
    runner = active.runner
    return {
        "run_id": active.run.run_id,
        "lane": active.lane.name,
        "doing": runner.doing,
        "source": active.run.source,
        "calling": active.control.calling,
        "place": asdict(runner.place) if runner.place else {},
        "points_failed": runner.points_failed,
        "sizes": _sizes(active.run.job, known),
        "progress": progress_shown(active.lane.progress) if active.control.calling else {},
    }


def next_status(chosen: Mapping[str, Chosen]) -> dict[str, Any]:
    """Return which job each lane gets next, and why. `in_order`: only because it is the first."""
    return {
        name: {"source": each.job.source, "why": each.why, "in_order": each.in_order}
        for name, each in chosen.items()
    }


def _suspended_status(
    suspended: SuspendedRun, known: KnownSizes, later_jobs: LaterJobs
) -> dict[str, Any]:
    folder, job = suspended.folder, suspended.read_before
    when = job.conduct.when if job else When()
    return {
        "run_id": folder.name,
        "lane": "",
        "doing": later_jobs.why(when) or suspended.why,
        "source": suspended.came_from,
        "calling": False,
        "place": {},
        "sizes": _sizes(job, known),
        "progress": {},
        **later_jobs.status(when),
    }


def _sizes(job: Job | None, known: KnownSizes) -> list[dict[str, Any]]:
    return listed_sizes(known.of(job)) if job is not None else []

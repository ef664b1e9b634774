"""Runs as the heartbeat, `status` and the live display show them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from sdwatch.lane.suspended import SuspendedRun
from sdwatch.monitor.runs import ActiveRun
from sdwatch.spool.run import read_source
from sdwatch.webui.http.call_watch import how_far

NO_RUNS: dict[str, Any] = {
    "lanes": [],
    "runs": [],
    "queued": 0,
    "next": [],
    "waiting": {},
}


def run_status(
    active: Iterable[ActiveRun], suspended: Iterable[SuspendedRun]
) -> list[dict[str, Any]]:
    """Return the runs that have a thread, and then those that wait in working/."""
    return [*map(_active_status, active), *map(_suspended_status, suspended)]


def _active_status(active: ActiveRun) -> dict[str, Any]:
    runner = active.runner
    return {
        "run_id": active.run.run_id,
        "lane": active.lane.name,
        "doing": runner.doing,
        "source": active.run.source,
        "calling": runner.calling,
        "place": asdict(runner.place) if runner.place else {},
        "progress": how_far(active.lane.progress) if runner.calling else {},
    }


def _suspended_status(suspended: SuspendedRun) -> dict[str, Any]:
    folder = suspended.folder
    return {
        "run_id": folder.name,
        "lane": "",
        "doing": suspended.why,
        "source": read_source(folder),
        "calling": False,
        "place": {},
        "progress": {},
    }

"""Cards of an Overview from what a monitor says in its heartbeat (see Monitor.status). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PureWindowsPath
from typing import Any

from sdwatch.policy.job.calls.call_sizes import CallSize, sizes_listed
from sdwatch.policy.kinds.table import kind_named
from sdwatch.policy.page.expected import RunTimes
from sdwatch.policy.page.overview import (
    ActiveCard,
    BoxCard,
    BoxLaneCard,
    CallProgress,
    LaneCard,
    MonitorCard,
    NextJob,
    Presence,
    QueuedJob,
    Remark,
    Totals,
    Unreached,
)
from sdwatch.policy.page.times import wall_of
from sdwatch.policy.report.status_line import box_state, not_ready_in, queued_in, suspended_in

_CHECKPOINTS = 5
"""Of each WebUI of another machine so many are named."""

Status = Mapping[str, Any]


def monitor_card(status: Status, presence: Presence) -> MonitorCard:
    """Return the monitor of a heartbeat."""
    stopping = status.get("stopping")
    if presence is Presence.RUNNING and stopping is not None:
        presence = Presence.STOPPING
    return MonitorCard(
        presence,
        worker=str(status.get("worker", "")),
        host=str(status.get("host", "")),
        pid=int(status.get("pid", 0)),
        seen_at=wall_of(status.get("at")),
        hold=str(status.get("hold", "")),
        stopping=stopping,
        config_edited=PureWindowsPath(status.get("config_edited") or "").name,
        stop_ignored=tuple(status.get("stop_ignored", ())),
        unreached=tuple(
            Unreached(each.get("target", ""), each.get("why", ""), each.get("since", ""))
            for each in status.get("notify", ())
        ),
    )


def lane_cards(status: Status) -> tuple[LaneCard, ...]:
    """Return the WebUIs of a heartbeat."""
    return tuple(map(_lane_card, status.get("lanes", ())))


def _lane_card(lane: Status) -> LaneCard:
    kind = kind_named(lane["kind"])
    return LaneCard(
        name=lane["name"],
        url=lane["url"],
        version=kind.with_version(lane["version"]) if kind.is_known else "",
        managed=lane["managed"],
        state=lane["state"],
        busy=lane.get("busy", False),
        hold=lane["hold"],
        advice=lane.get("advice", ""),
        to_retry=tuple(lane.get("failed_runs", ())),
        crashes_in_a_row=lane["crashes_in_a_row"],
        cooldown_left=lane["cooldown_left"],
        last_crash=lane.get("last_crash", ""),
        last_failure=lane.get("last_failure", ""),
        gpu=lane.get("gpu", ""),
        rss=lane.get("rss"),
        warnings=lane.get("warnings", 0),
        last_warning=lane.get("last_warning", ""),
    )


def box_cards(status: Status) -> tuple[BoxCard, ...]:
    """Return the other machines that do jobs from here."""
    boxes = status.get("cluster", {}).get("boxes", {})
    return tuple(
        BoxCard(
            name,
            box["answers"],
            box["seconds_ago"],
            box_state(box),
            box["drained"],
            box["held"],
            box["paused"],
            box["places"],
            len(box["runs"]),
            tuple(map(_box_lane, box["lanes"])),
        )
        for name, box in boxes.items()
    )


def _box_lane(lane: Status) -> BoxLaneCard:
    return BoxLaneCard(
        lane["name"],
        lane["kind"],
        lane["ready"],
        lane["hold"],
        tuple(lane["tags"]),
        lane["loaded"],
        tuple(lane["checkpoints"][:_CHECKPOINTS]),
        lane["checkpoint_count"],
    )


def broker_down(status: Status) -> str:
    """Return why other machines cannot be reached, or ''."""
    cluster = status.get("cluster", {})
    return str(cluster.get("broker", "")) if "boxes" in cluster else ""


def active_cards(status: Status) -> tuple[ActiveCard, ...]:
    """Return the runs of a heartbeat."""
    worker = status.get("worker", "")
    return tuple(_active_card(run, worker) for run in status.get("runs", ()))


def _active_card(run: Status, worker: str) -> ActiveCard:
    place, progress = run.get("place") or {}, run.get("progress") or {}
    return ActiveCard(
        run_id=run["run_id"],
        folder=f"working/{worker}/{run['run_id']}",
        source=run["source"],
        lane=run["lane"],
        doing=run["doing"],
        calling=run.get("calling", False),
        stage=place.get("kind", ""),
        stage_number=place.get("stage"),
        stages=place.get("stages"),
        call=place.get("call"),
        calls=place.get("calls"),
        point=place.get("point") or None,
        points=place.get("points") or None,
        points_failed=run.get("points_failed", 0),
        progress=CallProgress(
            step=progress.get("step"),
            steps=progress.get("steps"),
            percent=progress.get("percent"),
            eta=progress.get("eta"),
        ),
        waits_until=run.get("waits_until"),
    )


def sizes_of(status: Status) -> dict[str, dict[CallSize, float]]:
    """Return how many calls of each size the runs of a heartbeat have, by run_id, as far as it says
    so."""
    return {
        run["run_id"]: sizes_listed(run["sizes"])
        for run in status.get("runs", ())
        if run.get("sizes")
    }


def queue_of(status: Status, history: RunTimes) -> tuple[QueuedJob, ...]:
    """Return the first jobs of the queue that can start, with how long each takes. A monitor of an
    earlier version only names them."""
    if "queue" not in status:
        return tuple(QueuedJob(str(source)) for source in status.get("next", ()))
    return tuple(
        QueuedJob(
            job["source"],
            priority=job.get("priority", 0),
            arrived_at=job.get("arrived"),
            calls=job.get("calls"),
            points=job.get("points"),
            takes=_takes(job, history),
            waits_until=job.get("waits_until"),
            waits_for=job.get("waits_for", ""),
        )
        for job in status["queue"]
        if not _is_refused(job, status)
    )


def _is_refused(job: Status, status: Status) -> bool:
    """Return whether a job of the queue waits for something else than its time, such as a WebUI
    that can do it."""
    return job["source"] in status.get("waiting", {}) and not job.get("waits_until")


def _takes(job: Status, history: RunTimes) -> float | None:
    if not history:
        return None
    if sizes := job.get("sizes"):
        return round(history.of_job(sizes_listed(sizes)), 1)
    calls = job.get("calls")
    return None if calls is None else round(calls * history.calls.usual, 1)


def next_jobs(status: Status) -> tuple[NextJob, ...]:
    """Return which job each lane gets next."""
    return tuple(
        NextJob(lane, each["source"], each["why"], each.get("in_order", False))
        for lane, each in status.get("next_because", {}).items()
    )


def waiting_of(status: Status) -> tuple[Remark, ...]:
    """Return what is in the inbox and cannot start, but for the jobs that the queue has: those that
    wait only for their time."""
    timed = {job["source"] for job in status.get("queue", ()) if "waits_until" in job}
    waiting = status.get("waiting", {})
    return remarks_of({name: why for name, why in waiting.items() if name not in timed})


def remarks_of(found: Mapping[str, str]) -> tuple[Remark, ...]:
    """Return sources with their reasons."""
    return tuple(Remark(source, reason) for source, reason in found.items())


def totals_of(status: Status, *, done: int, failed: int) -> Totals:
    """Return the counts."""
    refused = sum(_is_refused(job, status) for job in status.get("queue", ()))
    return Totals(
        queued=max(0, queued_in(status) - refused),
        waiting=not_ready_in(status),
        suspended=suspended_in(status),
        done=done,
        failed=failed,
        near_misses=status.get("ignored_count", len(status.get("ignored", {}))),
    )

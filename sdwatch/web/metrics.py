"""The metrics, in Prometheus' text format: https://prometheus.io/docs/instrumenting/exposition_formats/

Names follow https://prometheus.io/docs/practices/naming/: base units, `_total` for what only grows.
Every label has a bounded number of values.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sdwatch import __version__
from sdwatch.policy.failure.facts import Diagnosis
from sdwatch.policy.failure.lifecycle import State
from sdwatch.policy.lane.crashes import IdleFailure
from sdwatch.policy.page.overview import LaneCard, Overview, Presence
from sdwatch.policy.page.times import wall_of
from sdwatch.spool.folders import Spool
from sdwatch.spool.heartbeat import read_heartbeats
from sdwatch.spool.overview_reader import InboxListing, OverviewReader
from sdwatch.system.clock import SystemClock
from sdwatch.web.box_metrics import of_boxes
from sdwatch.web.metric import Metric, MetricLine
from sdwatch.web.settled_runs import BOUNDS, OTHER, SettledRuns

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_MOST_LANES, _LONGEST = 20, 100
_CAUSES = {*Diagnosis, *IdleFailure, "recycled"}


class Metrics:
    """The metrics of a spool. `reader`: of its overview; `reading`: seconds of each time for runs
    that were not read yet. For one thread at a time."""

    def __init__(self, spool: Spool, reader: OverviewReader, reading: float = 1.0) -> None:
        self._reading = reading
        self._spool = spool
        self._reader = reader
        self._inbox = InboxListing(spool, SystemClock())
        self._runs = SettledRuns(spool)

    def text(self, overview: Overview | None = None) -> str:
        """Return the page for Prometheus. `overview`: how the spool stands, None to read it. What
        cannot be read is left out, and `sdwatch_spool_readable` is 0."""
        overview = overview or self._reader.read()
        try:
            self._runs.refresh(self._reading)
            readable = not overview.gone
        except OSError:
            readable = False
        beats = read_heartbeats(self._spool.root)
        found = [
            *_of_the_spool(overview, readable),
            *(self._queue(overview) if readable else ()),
            *self._of_lanes(overview, _beat_of(beats, overview.monitor.worker)),
            *of_boxes(overview),
            *(_of_runs(self._runs) if readable and self._runs.is_whole else ()),
        ]
        return "".join(line for metric in found if metric.samples for line in _lines(metric))

    def _queue(self, overview: Overview) -> Iterator[Metric]:
        yield _gauge(
            "sdwatch_queue_jobs", "Jobs and suspended runs that can start.", overview.totals.queued
        )
        yield _gauge(
            "sdwatch_suspended_runs", "Runs that wait in working/.", overview.totals.suspended
        )
        waiting = self._inbox.listed().queue
        arrived = waiting[0].arrived_at if waiting else None
        age = max(0.0, time.time() - arrived) if arrived is not None else 0.0
        yield _gauge(
            "sdwatch_queue_oldest_age_seconds",
            "Age of the oldest job in the inbox, by this machine's clock; 0 if it is empty.",
            round(age, 1),
        )

    def _of_lanes(self, overview: Overview, beat: Mapping[str, Any]) -> Iterator[Metric]:
        lanes = list({lane.name[:_LONGEST]: lane for lane in overview.lanes}.values())[:_MOST_LANES]
        now = wall_of(beat.get("at")) or time.time()
        yield _by_lane(
            "sdwatch_lane_hold",
            "Whether the lane is on hold.",
            {lane.name: bool(lane.hold) for lane in lanes},
        )
        yield _by_lane(
            "sdwatch_lane_busy",
            "Whether the WebUI works on a call now.",
            {lane.name: lane.busy for lane in lanes},
        )
        yield _by_lane(
            "sdwatch_lane_cooldown_remaining_seconds",
            "Seconds for which nothing is started or sent after a crash.",
            {lane.name: lane.cooldown_left for lane in lanes},
        )
        yield _by_lane(
            "sdwatch_lane_crashes_in_a_row",
            "Crashes since the WebUI was last stable.",
            {lane.name: lane.crashes_in_a_row for lane in lanes},
        )
        yield _by_lane(
            "sdwatch_lane_memory_bytes",
            "Resident memory of the WebUI's processes.",
            {lane.name: lane.rss for lane in lanes if lane.rss is not None},
        )
        if self._runs.is_whole:
            shares = {lane.name: self._runs.busy_ratio(lane.name, now) for lane in lanes}
            yield _by_lane(
                "sdwatch_lane_busy_ratio",
                "Share of the last hour in which calls of ended runs were under way.",
                {name: round(share, 4) for name, share in shares.items()},
            )
        yield from _of_states(lanes, beat)


def _of_states(lanes: Iterable[LaneCard], beat: Mapping[str, Any]) -> Iterator[Metric]:
    yield Metric(
        "sdwatch_lane_state",
        "gauge",
        "1 for the state that the WebUI is in.",
        tuple(_states(lanes)),
    )
    yield Metric(
        "sdwatch_lane_restarts_total",
        "counter",
        "Restarts of the WebUI since the monitor started, by cause.",
        tuple(_restarts(beat)),
    )


def _of_the_spool(overview: Overview, readable: bool) -> Iterator[Metric]:
    is_up = overview.monitor.presence in (Presence.RUNNING, Presence.STOPPING)
    yield Metric(
        "sdwatch_build_info",
        "gauge",
        "The version of this client.",
        (MetricLine({"version": __version__}, 1),),
    )
    yield _gauge("sdwatch_spool_readable", "Whether the spool's folder can be read.", readable)
    yield _gauge("sdwatch_monitor_up", "Whether a monitor works on the spool.", is_up)
    held = bool(overview.hold_file)
    yield _gauge("sdwatch_hold", "Whether a person's file holds everything.", held)


def _of_runs(runs: SettledRuns) -> Iterator[Metric]:
    yield Metric(
        "sdwatch_jobs_total",
        "counter",
        "Jobs that have ended, by outcome.",
        tuple(MetricLine({"outcome": name}, count) for name, count in _sorted(runs.jobs)),
    )
    yield Metric(
        "sdwatch_images_total",
        "counter",
        "Images of jobs that have ended.",
        (MetricLine({}, runs.images),),
    )
    yield Metric(
        "sdwatch_calls_total",
        "counter",
        "Attempts of calls, by stage and outcome.",
        tuple(
            MetricLine({"stage": stage, "outcome": outcome}, count)
            for (stage, outcome), count in _sorted(runs.calls)
        ),
    )
    yield Metric(
        "sdwatch_call_failures_total",
        "counter",
        "Failed attempts, by diagnosis.",
        tuple(MetricLine({"diagnosis": n}, count) for n, count in _sorted(runs.failures)),
    )
    yield Metric(
        "sdwatch_call_duration_seconds",
        "histogram",
        "Duration of attempts of calls, by stage.",
        tuple(_durations(runs)),
    )
    yield _gauge("sdwatch_unreadable_runs", "Runs whose run.json cannot be read.", runs.unreadable)


def _sorted(counts: Mapping[Any, int]) -> list[tuple[Any, int]]:
    return sorted(counts.items())


def _durations(runs: SettledRuns) -> Iterator[MetricLine]:
    for stage, histogram in sorted(runs.durations.items()):
        within = 0
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), histogram.counts, strict=True):
            within += count
            yield MetricLine({"stage": stage, "le": bound}, within, "_bucket")
        yield MetricLine({"stage": stage}, round(histogram.total, 3), "_sum")
        yield MetricLine({"stage": stage}, within, "_count")


def _states(lanes: Iterable[LaneCard]) -> Iterator[MetricLine]:
    for lane in lanes:
        for state in State:
            yield MetricLine({"lane": lane.name, "state": state}, lane.state == state)


def _restarts(beat: Mapping[str, Any]) -> Iterator[MetricLine]:
    lanes = {str(lane.get("name"))[:_LONGEST]: lane for lane in beat.get("lanes", [])}
    for name, lane in list(lanes.items())[:_MOST_LANES]:
        counts: dict[str, int] = {}
        for kind, count in lane.get("restarts", {}).items():
            known = kind if kind in _CAUSES else OTHER
            counts[known] = counts.get(known, 0) + count
        for cause, count in _sorted(counts):
            yield MetricLine({"lane": name, "cause": cause}, count)


def _beat_of(beats: Iterable[Mapping[str, Any]], worker: str) -> Mapping[str, Any]:
    return next((beat for beat in beats if beat.get("worker") == worker and "lanes" in beat), {})


def _gauge(name: str, words: str, value: float) -> Metric:
    return Metric(name, "gauge", words, (MetricLine({}, value),))


def _by_lane(name: str, words: str, values: Mapping[str, float]) -> Metric:
    samples = tuple(MetricLine({"lane": lane}, value) for lane, value in values.items())
    return Metric(name, "gauge", words, samples)


def _lines(metric: Metric) -> Iterator[str]:
    yield f"# HELP {metric.name} {metric.help}\n# TYPE {metric.name} {metric.kind}\n"
    for sample in metric.samples:
        pairs = ",".join(f'{name}="{_escaped(text)}"' for name, text in sample.labels.items())
        labels = f"{{{pairs}}}" if pairs else ""
        yield f"{metric.name}{sample.suffix}{labels} {float(sample.value):.15g}\n"


def _escaped(label: str) -> str:
    cut = label[:_LONGEST].encode("utf-8", "replace").decode()
    return cut.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

"""The metrics, in Prometheus' text format: https://prometheus.io/docs/instrumenting/exposition_formats/

Names follow https://prometheus.io/docs/practices/naming/: base units, `_total` for what only grows.
Every label has a bounded number of values.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdwatch import __version__
from sdwatch.policy.failure.facts import Diagnosis
from sdwatch.policy.failure.lasting import LastingStates, key_of
from sdwatch.policy.failure.lifecycle import State
from sdwatch.policy.lane.crash_history import IdleFailure
from sdwatch.policy.page.overview import BoxCard, LaneCard, Overview, Presence
from sdwatch.policy.page.times import wall_of
from sdwatch.spool.folders import Spool
from sdwatch.spool.heartbeat import read_heartbeats
from sdwatch.spool.overview_reader import InboxListing, OverviewReader
from sdwatch.system import disk
from sdwatch.system.clock import SystemClock, wait
from sdwatch.web.settled_runs import BOUNDS, OTHER, SettledRuns

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

EVERY = 15.0  # seconds
"""Between two times that a file with the metrics is written."""

_MOST_LANES, _MOST_BOXES, _LONGEST = 20, 1000, 100
_CAUSES = {*Diagnosis, *IdleFailure, "recycled"}


_OF_LANES: tuple[tuple[str, str, Callable[[LaneCard], float | None]], ...] = (
    ("hold", "Whether the lane is on hold.", lambda lane: bool(lane.hold)),
    ("busy", "Whether the WebUI works on a call now.", lambda lane: lane.busy),
    (
        "cooldown_remaining_seconds",
        "Seconds for which nothing is started or sent after a crash.",
        lambda lane: lane.cooldown_left,
    ),
    (
        "crashes_in_a_row",
        "Crashes since the WebUI was last stable.",
        lambda lane: lane.crashes_in_a_row,
    ),
    ("memory_bytes", "Resident memory of the WebUI's processes.", lambda lane: lane.rss),
)
_OF_BOXES: tuple[tuple[str, str, Callable[[BoxCard], float]], ...] = (
    ("up", "Whether the box has shown itself a short while ago.", lambda b: b.answers),
    ("last_seen_seconds", "Seconds since the box showed itself.", lambda b: b.seconds_ago),
    ("runs", "Runs from here that the box has.", lambda b: b.runs),
    ("places", "Runs that the box takes.", lambda b: b.places),
    ("drained", "Whether a person has drained the box.", lambda b: b.drained),
    ("hold", "Whether the box starts no call.", lambda b: b.held or bool(b.paused)),
    ("lanes_ready", "WebUIs of the box that are ready.", lambda b: sum(x.ready for x in b.lanes)),
    ("lanes_hold", "WebUIs of the box on hold.", lambda b: sum(bool(x.hold) for x in b.lanes)),
)


@dataclass(frozen=True)
class MetricLine:
    """One line. `suffix`: after the metric's name, as `_bucket`."""

    labels: Mapping[str, str]
    value: float
    suffix: str = ""


@dataclass(frozen=True)
class Metric:
    """A metric with its samples. `kind`: counter, gauge or histogram."""

    name: str
    kind: str
    help: str
    samples: tuple[MetricLine, ...]


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
        worker = overview.monitor.worker
        beats = (beat for beat in read_heartbeats(self._spool.root) if "lanes" in beat)
        beat = next((beat for beat in beats if beat.get("worker") == worker), {})
        found = [
            *_of_the_spool(overview, readable),
            *(self._queue(overview) if readable else ()),
            *self._of_lanes(overview, beat),
            *_of_boxes(overview),
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
        for name, words, value in _OF_LANES:
            known = [(lane.name, number) for lane in lanes if (number := value(lane)) is not None]
            yield _labelled(f"sdwatch_lane_{name}", words, "lane", known)
        if self._runs.is_whole:
            yield _labelled(
                "sdwatch_lane_busy_ratio",
                "Share of the last hour in which calls of ended runs were under way.",
                "lane",
                [(lane.name, round(self._runs.busy_ratio(lane.name, now), 4)) for lane in lanes],
            )
        states = (
            MetricLine({"lane": lane.name, "state": state}, lane.state == state)
            for lane in lanes
            for state in State
        )
        words = "1 for the state that the WebUI is in."
        yield Metric("sdwatch_lane_state", "gauge", words, tuple(states))
        words = "Restarts of the WebUI since the monitor started, by cause."
        yield Metric("sdwatch_lane_restarts_total", "counter", words, tuple(_restarts(beat)))


def _of_boxes(overview: Overview) -> Iterator[Metric]:
    """Yield those of other machines; none where none does jobs from here."""
    if not overview.boxes and not overview.broker_down:
        return
    is_up = not overview.broker_down
    yield _gauge("sdwatch_broker_up", "Whether the broker answers.", is_up)
    for name, words, value in _OF_BOXES:
        values = [(box.name, value(box)) for box in overview.boxes[:_MOST_BOXES]]
        yield _labelled(f"sdwatch_box_{name}", words, "box", values)


def _of_the_spool(overview: Overview, readable: bool) -> Iterator[Metric]:
    is_up = overview.monitor.presence in (Presence.RUNNING, Presence.STOPPING)
    version = [(__version__, 1)]
    yield _labelled("sdwatch_build_info", "The version of this client.", "version", version)
    yield _gauge("sdwatch_spool_readable", "Whether the spool's folder can be read.", readable)
    yield _gauge("sdwatch_monitor_up", "Whether a monitor works on the spool.", is_up)
    held = bool(overview.hold_file)
    yield _gauge("sdwatch_hold", "Whether a person's file holds everything.", held)


def _of_runs(runs: SettledRuns) -> Iterator[Metric]:
    jobs = [MetricLine({"outcome": name}, n) for name, n in sorted(runs.jobs.items())]
    calls = [
        MetricLine({"stage": stage, "outcome": outcome}, n)
        for (stage, outcome), n in sorted(runs.calls.items())
    ]
    failures = [MetricLine({"diagnosis": name}, n) for name, n in sorted(runs.failures.items())]
    for name, words, lines in (
        ("jobs", "Jobs that have ended, by outcome.", jobs),
        ("images", "Images of jobs that have ended.", [MetricLine({}, runs.images)]),
        ("calls", "Attempts of calls, by stage and outcome.", calls),
        ("call_failures", "Failed attempts, by diagnosis.", failures),
    ):
        yield Metric(f"sdwatch_{name}_total", "counter", words, tuple(lines))
    words = "Duration of attempts of calls, by stage."
    durations = tuple(_durations(runs))
    yield Metric("sdwatch_call_duration_seconds", "histogram", words, durations)
    yield _gauge("sdwatch_unreadable_runs", "Runs whose run.json cannot be read.", runs.unreadable)


def _durations(runs: SettledRuns) -> Iterator[MetricLine]:
    for stage, histogram in sorted(runs.durations.items()):
        within = 0
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), histogram.counts, strict=True):
            within += count
            yield MetricLine({"stage": stage, "le": bound}, within, "_bucket")
        yield MetricLine({"stage": stage}, round(histogram.total, 3), "_sum")
        yield MetricLine({"stage": stage}, within, "_count")


def _restarts(beat: Mapping[str, Any]) -> Iterator[MetricLine]:
    lanes = {str(lane.get("name"))[:_LONGEST]: lane for lane in beat.get("lanes", [])}
    for name, lane in list(lanes.items())[:_MOST_LANES]:
        counts: dict[str, int] = {}
        for kind, count in lane.get("restarts", {}).items():
            known = kind if kind in _CAUSES else OTHER
            counts[known] = counts.get(known, 0) + count
        for cause, count in sorted(counts.items()):
            yield MetricLine({"lane": name, "cause": cause}, count)


def _gauge(name: str, words: str, value: float) -> Metric:
    return Metric(name, "gauge", words, (MetricLine({}, value),))


def _labelled(name: str, words: str, label: str, values: Iterable[tuple[str, float]]) -> Metric:
    """Return a gauge with one line for each value of its label."""
    lines = (MetricLine({label: text}, value) for text, value in values)
    return Metric(name, "gauge", words, tuple(lines))


def _lines(metric: Metric) -> Iterator[str]:
    yield f"# HELP {metric.name} {metric.help}\n# TYPE {metric.name} {metric.kind}\n"
    for sample in metric.samples:
        pairs = ",".join(f'{name}="{_escaped(text)}"' for name, text in sample.labels.items())
        labels = f"{{{pairs}}}" if pairs else ""
        yield f"{metric.name}{sample.suffix}{labels} {float(sample.value):.15g}\n"


def _escaped(label: str) -> str:
    cut = label[:_LONGEST].encode("utf-8", "replace").decode()
    return cut.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


# -- a file for node_exporter's textfile collector


def keep_textfile(
    file: Path, spool: Spool, stop: threading.Event, report: Callable[[str], None]
) -> None:
    """Write the metrics into `file` every 15 s until `stop`, and remove it then: what it says would
    stay true forever. `report`: gets why it cannot be written, once. Raises OSError if that fails
    at the first time."""
    metrics = Metrics(spool, OverviewReader(spool.root), reading=EVERY)
    refusals, clock = LastingStates(), SystemClock()
    disk.refresh(file, metrics.text().encode())
    while not wait(stop, EVERY):
        now = clock.monotonic()
        try:
            disk.refresh(file, metrics.text().encode())
        except OSError as error:
            if line := refusals.persists("", key_of(error), disk.in_words(error), now):
                report(f"the metrics cannot be written: {line}")
        else:
            refusals.is_over("", now)
    disk.remove_quietly(file)

"""The metrics of other machines that do jobs from here, one label for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sdwatch.policy.page.overview import BoxCard, Overview
from sdwatch.web.metric import Metric, MetricLine

_MOST = 1000  # boxes

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


def of_boxes(overview: Overview) -> Iterator[Metric]:
    """Yield them; none where no other machine does jobs from here."""
    if not overview.boxes and not overview.broker_down:
        return
    is_up = (MetricLine({}, not overview.broker_down),)
    yield Metric("sdwatch_broker_up", "gauge", "Whether the broker answers.", is_up)
    for name, words, value in _OF_BOXES:
        samples = tuple(MetricLine({"box": box.name}, value(box)) for box in overview.boxes[:_MOST])
        yield Metric(f"sdwatch_box_{name}", "gauge", words, samples)

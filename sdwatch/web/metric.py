"""A metric, and its lines. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


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

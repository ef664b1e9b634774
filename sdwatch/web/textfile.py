"""Keep the metrics in a file for node_exporter's textfile collector."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from sdwatch.policy.failure.lasting import LastingStates, key_of
from sdwatch.spool.folders import Spool
from sdwatch.spool.overview_reader import OverviewReader
from sdwatch.system import disk
from sdwatch.system.clock import SystemClock, wait
from sdwatch.web.metrics import Metrics

EVERY = 15.0  # seconds


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

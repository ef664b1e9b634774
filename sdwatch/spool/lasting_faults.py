"""Write the evidence of a lasting fault once, not for each run that meets it.

A WebUI that is busy, or unusable as it is set up, costs no job: its lane goes on hold, runs are
suspended, and each may meet the same fault when the lane is checked again, for hours. The first
run that meets it has the evidence. A later run with the same diagnosis and message on the same
lane writes one journal line that counts it and names the run with the evidence. A failure that
ends a run, or costs a restart, always has its own evidence: each failed folder explains itself.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from sdwatch.system.clock import Clock

LASTS = 3600.0
"""Seconds after which the same fault is a new one."""


@dataclass(frozen=True)
class FaultRecord:
    """How often a fault was met, and the run whose folder has its evidence."""

    times: int
    run: str


class Faults:
    """The fault that one lane met last. Safe between threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._fault = ""
        self._met = FaultRecord(0, "")
        self._last = 0.0

    def meet(self, fault: str, run: str) -> FaultRecord:
        """Count that `run` met the fault now. If `times` is 1, this run writes the evidence."""
        with self._lock:
            now = self._clock.monotonic()
            lasts = fault == self._fault and now - self._last < LASTS
            met = self._met
            self._met = FaultRecord(met.times + 1, met.run) if lasts else FaultRecord(1, run)
            self._fault, self._last = fault, now
            return self._met

    def not_written(self) -> None:
        """Note that the disk refused the evidence: the next run that meets the fault writes it."""
        with self._lock:
            self._fault = ""

"""A fault that goes on: one bundle of evidence for it, not one for each run that meets it.

A WebUI that is busy, or of no use as it is set up, costs no job: its lane goes on hold, runs are
parked, and each may meet the same fault again when the lane tries again, for hours. The first run
that meets it has the evidence. Whoever meets the same diagnosis with the same message on the same
lane while that goes on writes one journal line that counts and names the run with the evidence. A
failure that ends a run, or costs a restart, is never spared: each failed folder explains itself.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from sdwatch.system.clock import Clock

GOES_ON = 3600.0
"""Seconds after which the same fault is a new one."""


@dataclass(frozen=True)
class Met:
    """How often a fault was met so far, and the run whose folder has its evidence."""

    times: int
    run: str


class Faults:
    """Those of one lane. Safe between threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._fault = ""
        self._met = Met(0, "")
        self._last = 0.0

    def meet(self, fault: str, run: str) -> Met:
        """`run` met it now. `times` is 1 where its evidence is to be written, by this run."""
        with self._lock:
            now = self._clock.monotonic()
            goes_on = fault == self._fault and now - self._last < GOES_ON
            self._met = Met(self._met.times + 1, self._met.run) if goes_on else Met(1, run)
            self._fault, self._last = fault, now
            return self._met

    def not_written(self) -> None:
        """The disk did not take the evidence: whoever meets the fault next writes it."""
        with self._lock:
            self._fault = ""

"""Decide whether a call still makes progress: stuck is not busy. Pure; each sample has its time.

While steps are expected, progress is a step, a bar that moves, or a log line that is not our
probe's. Processor time and I/O count only in the stepless phases (loading, switching a
checkpoint, upscaling), and those are bounded by a limit of their own, because a hung GPU call can
spin a core forever.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sdwatch.errors import Probes

# Processor seconds between two samples that are work and not the idling of a server's threads.
_WORK_CPU_SECONDS = 0.2
_WORK_IO_BYTES = 1 << 20


@dataclass(frozen=True)
class Sample:
    """What was measured of a running call at one moment.

    `at`: seconds on the monotonic clock. `position`: whatever of /progress changes when the
    generation moves (job, job_no, step, progress), None where no reply came. `unanswered`: how the
    probe failed, '' where it was answered, with whatever status. `stepless`: no steps
    are expected now. `log_activity`: a count that grows with each line and each bar frame.
    `cpu`, `io`: processor seconds and bytes of the whole tree so far.
    """

    at: float
    position: tuple[object, ...] | None
    stepless: bool
    log_activity: int
    cpu: float
    io: int
    unanswered: str = ""


@dataclass(frozen=True)
class Limits:
    """Limits in seconds: without progress; in one stepless phase; for the whole call."""

    stall: float
    stepless: float
    call: float


class ProgressWatch:
    """Follows one call from its start. `probes`: whether the WebUI has answered since the call last
    made progress."""

    def __init__(self, began: float, limits: Limits) -> None:
        self._began = began
        self._limits = limits
        self._moved = began
        self._stepless_since = began
        self._last: Sample | None = None
        self.probes = Probes()

    def look(self, sample: Sample) -> str:
        """Add a sample; return why the call is stuck, in words, or ''."""
        last = self._last
        if last is not None and sample.position is None:  # unanswered is not yet moved
            sample = replace(sample, position=last.position)
        self._last = sample
        if not sample.stepless:
            self._stepless_since = sample.at
        if last is None or _moved(last, sample):
            self._moved = sample.at
            self.probes = Probes()
        else:
            self._count(sample)
        limits = self._limits
        if sample.at >= self._began + limits.call:
            return f"the call took longer than its limit of {limits.call:g} s"
        if sample.at >= self._stepless_since + limits.stepless:
            return f"the WebUI made no step for {limits.stepless:g} s, the limit for loading"
        if sample.at >= self._moved + limits.stall:
            return f"the WebUI made no progress for {limits.stall:g} s"
        return ""

    def _count(self, sample: Sample) -> None:
        seen = self.probes
        self.probes = Probes(
            seen.answered + (not sample.unanswered),
            seen.unanswered + bool(sample.unanswered),
            round(sample.at - self._moved, 1),
            sample.unanswered or seen.last,
        )

    @property
    def due(self) -> float:
        """Return when the call will be stuck without progress, in seconds on the samples' clock."""
        limits = self._limits
        return min(
            self._began + limits.call,
            self._stepless_since + limits.stepless,
            self._moved + limits.stall,
        )


def _moved(last: Sample, now: Sample) -> bool:
    if now.position != last.position or now.log_activity != last.log_activity:
        return True
    worked = now.cpu - last.cpu >= _WORK_CPU_SECONDS or now.io - last.io >= _WORK_IO_BYTES
    return now.stepless and worked

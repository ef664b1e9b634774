"""Whose turn it is, and what /progress shows of the job."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar


class Queue:
    """A lock that is given on in the order of asking."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for one's turn, and hold it for the block."""
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            self._changed.wait_for(lambda: self._waiting[0] is ticket)
        try:
            yield
        finally:
            with self._changed:
                self._waiting.popleft()
                self._changed.notify_all()


@dataclass
class State:
    """What /progress shows; names and habits are Forge's, and A1111's."""

    preview_from_step: ClassVar[int] = 10

    skipped: bool = False
    interrupted: bool = False
    stopping_generation: bool = False
    job: str = ""
    job_count: int = 0
    job_timestamp: str = "0"
    job_no: int = 0
    sampling_step: int = 0
    sampling_steps: int = 0
    began: float = field(default=0.0, repr=False)
    seed: int = field(default=0, repr=False)

    def begin(self, job: str, job_count: int = -1) -> None:
        self.skipped = self.interrupted = self.stopping_generation = False
        self.job, self.job_count, self.job_no = job, job_count, 0
        self.job_timestamp = timestamp()
        self.sampling_step = self.sampling_steps = 0
        self.began = time.monotonic()

    def end(self) -> None:
        self.job, self.job_count = "", 0

    def begin_pass(self, steps: int) -> None:
        """Start a pass of so many steps."""
        self.sampling_step, self.sampling_steps = 0, steps

    def stepped(self, step: int, _steps: int) -> None:
        """Note that step number `step` (from 1) has ended."""
        self.sampling_step = step

    def progress(self, with_image: bool) -> dict[str, Any]:
        """Return the body of GET /progress. `progress` is from 0 to 1, `eta_relative` in
        seconds."""
        share = self.share()
        elapsed = time.monotonic() - self.began
        return {
            "progress": share,
            "eta_relative": elapsed / share - elapsed if share else 0.0,
            "state": {
                "skipped": self.skipped,
                "interrupted": self.interrupted,
                "stopping_generation": self.stopping_generation,
                "job": self.job,
                "job_count": self.job_count,
                "job_timestamp": self.job_timestamp,
                "job_no": self.job_no,
                "sampling_step": self.sampling_step,
                "sampling_steps": self.sampling_steps,
            },
            "current_image": self.image() if with_image else None,
            "textinfo": None,
        }

    def image(self, samples_format: str = "png") -> str | None:
        """Return the preview, None while there is none yet."""
        if not self.job or self.sampling_step < self.preview_from_step:
            return None
        from sdwatch.simulator import pictures

        share = self.sampling_step / max(self.sampling_steps, 1)
        return pictures.preview(self.seed, share, samples_format)

    def share(self) -> float:
        """Return how much of the job is done, from 0 to 1."""
        count = self.job_count
        if count == 0:
            return 0.0
        share = 0.01
        if count > 0:
            share += self.job_no / count
            if self.sampling_steps > 0:
                share += self.sampling_step / self.sampling_steps / count
        return min(share, 1.0)


def timestamp() -> str:
    """Return the local time as WebUIs write it into `job_timestamp`."""
    return datetime.now().strftime("%Y%m%d%H%M%S")

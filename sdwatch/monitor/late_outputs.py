"""Makes the outputs that their folder refused while a run was published: at the start, and every
few minutes after."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from sdwatch.config import Config
from sdwatch.policy.failure.lasting import LastingStates
from sdwatch.policy.job.outputs.result import OutputWish
from sdwatch.spool.folders import Spool
from sdwatch.spool.outputs_to_make import OutputSettings, OutputsRefusedError, waiting
from sdwatch.stages.settings import RunSettings
from sdwatch.system import disk
from sdwatch.system.clock import Clock
from sdwatch.system.log_events import LogEvent, about

log = logging.getLogger("sdwatch.outputs")


def settings_of_runs(config: Config) -> RunSettings:
    """Return what all runs have in common."""
    default = OutputWish(config.outputs.name, config.output_format)
    return RunSettings(
        config.rules,
        config.settle,
        config.arrival_timeout,
        outputs=OutputSettings(config.output_folder, default),
    )


class LateOutputs:
    """Makes late outputs: their folder may be a share that is gone. `report` gets lines for people.
    Once `stopping` is set it makes no more."""

    def __init__(
        self,
        spool: Spool,
        folder: Path,
        *,
        clock: Clock,
        report: Callable[[str], None],
        stopping: threading.Event,
    ) -> None:
        self._spool = spool
        self._folder = folder
        self._clock = clock
        self._report = report
        self._refused = LastingStates()
        self._stopping = stopping

    def round(self) -> None:
        """Make what is left, oldest run first, until the folder refuses."""
        now = self._clock.monotonic()
        try:
            left = waiting(self._spool)
        except OSError:
            return  # the share is gone for the moment, and everybody says so
        try:
            if left:
                self._make(left)
        except OutputsRefusedError as refused:
            self._note_waiting(str(refused), now)
        except OSError as error:
            self._note_waiting(disk.in_words(error), now)
        else:
            self._refused.is_over("", now)

    def _make(self, left: Iterable[str]) -> None:
        from sdwatch.spool.outputs import Outputs, make_late

        for run_id in left:
            if self._stopping.is_set():
                return
            made = Outputs(self._folder, self._spool.root)
            if make_late(self._spool, run_id, made, self._clock):
                self._report(f"{run_id}: its outputs are all there now")

    def _note_waiting(self, why: str, now: float) -> None:
        if line := self._refused.persists("", why, why, now):
            log.warning("outputs wait: %s", line, extra=about(LogEvent.DISK_REFUSES))
            self._report(f"outputs wait: {line}")

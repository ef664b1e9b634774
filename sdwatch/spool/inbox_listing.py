"""What lies in the inbox, for the page while no monitor reports it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from sdwatch.policy.page.overview import QueuedJob
from sdwatch.spool.candidates import candidates
from sdwatch.spool.folders import Spool
from sdwatch.system import disk
from sdwatch.system.clock import Clock

_SHARE, _PAUSE = 10, 5.0
"""It is listed again after so many times as long as the last time took, and not before so many
seconds have passed."""


@dataclass(frozen=True)
class Listed:
    """`queue`: the jobs, oldest first: nobody has read their priority; `ignored`: what looks like a
    job and is not, with the reason."""

    queue: tuple[QueuedJob, ...] = ()
    ignored: dict[str, str] = field(default_factory=dict)


class InboxListing:
    """The inbox of `spool`, listed now and then. For one thread."""

    def __init__(self, spool: Spool, clock: Clock) -> None:
        self._spool = spool
        self._clock = clock
        self._listed = Listed()
        self._again_at: float | None = None

    def listed(self) -> Listed:
        """Return what lies there, a few seconds old at most; nothing where it cannot be read."""
        now = self._clock.monotonic()
        if self._again_at is None or now >= self._again_at:
            self._listed = self._list()
            took = self._clock.monotonic() - now
            self._again_at = now + max(_PAUSE, _SHARE * took)
        return self._listed

    def _list(self) -> Listed:
        ignored: dict[str, str] = {}

        def add(path: Path, why: str) -> None:
            ignored[path.relative_to(self._spool.inbox).as_posix()] = why

        try:
            if not disk.is_folder(self._spool.inbox):
                return Listed()
            found = list(candidates(self._spool.inbox, ignored=add))
        except OSError:
            return Listed()
        jobs = [
            QueuedJob(each.source, arrived_at=each.status.st_mtime)
            for each in found
            if isinstance(each.status, os.stat_result) and not each.marker
        ]
        return Listed(tuple(sorted(jobs, key=lambda job: (job.arrived_at, job.source))), ignored)

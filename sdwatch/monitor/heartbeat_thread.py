"""Write the heartbeat when it is due, report to the service manager, and notice whether another
monitor has taken over."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from sdwatch.errors import AlreadyRunningError
from sdwatch.policy.report.status_line import status_line
from sdwatch.spool import takeover
from sdwatch.spool.folders import Spool
from sdwatch.spool.heartbeat import (
    INTERVAL,
    QUIET_INTERVAL,
    Heartbeat,
    refuse_second_monitor,
    watched_for,
)
from sdwatch.spool.patient_disk import DiskRefusals
from sdwatch.system.clock import Clock
from sdwatch.system.service_notifier import ServiceNotifier

log = logging.getLogger("sdwatch.monitor")

_EARLY = 0.1
"""The part of an interval that a beat may come early: with a scan, the thread wakes up once."""

_FROZEN = 0.7
"""The part of the time for which others watch after which one of them may have taken over."""


class HeartbeatWriter:
    """Writes the heartbeat of the monitor of `spool`, and reports the same to the service manager
    that started it, if one did. That one restarts a monitor whose main loop hangs: the heartbeat
    has a thread that stands in, and beats on. `show`: gets each status that is given to it."""

    def __init__(
        self,
        heartbeat: Heartbeat,
        spool: Spool,
        clock: Clock,
        show: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> None:
        self._show = show
        self._heartbeat = heartbeat
        self._spool = spool
        self._clock = clock
        self._last = 0.0  # on the clock that counts suspend, too
        self._every = INTERVAL
        self._headline: object = None
        self._refusals = DiskRefusals(
            clock, log, "the heartbeat cannot be written", "the heartbeat is written again"
        )
        self._service = ServiceNotifier.from_environment()

    def start(self) -> None:
        """Notice from now on when this process was frozen."""
        self._last = self._clock.boot_time()

    def write_now(self, status: dict[str, Any], every: float = INTERVAL) -> OSError | None:
        """Write the heartbeat now. Where the disk refuses that, warn of it now and then, and return
        why. `every`: seconds until the next one."""
        try:
            self._heartbeat.beat(status, every)
        except OSError as error:
            self._refusals.note(error)
            return error
        self._refusals.are_over()
        return None

    def beat_here(self, status: dict[str, Any]) -> None:
        """Give `status` to this machine only: the spool's share is gone, and is waited for."""
        self._heartbeat.beat_here(status)
        self._service.alive(status_line(status))

    def update(self, status: dict[str, Any]) -> None:
        """Give `status` to the heartbeat at once."""
        self.write_now(status)
        self._show(status)

    def stopping(self, seconds: float) -> None:
        """Report that a clean stop has started, which may take so many seconds."""
        self._service.stopping(seconds)

    def due_in(self) -> float:
        """Return the seconds until the next beat is due, if nothing happens before."""
        return max(0.0, self._last + self._every - self._clock.boot_time())

    def beat_if_due(
        self, status: Callable[[], dict[str, Any]], headline: object, *, quiet: bool
    ) -> None:
        """Give `status` to the heartbeat if it is due: it is at once when `headline`, what others
        wait to see in it, has changed. `quiet`: nothing happens, so that the next one may come
        later. Raises AlreadyRunningError where another monitor has taken over while this process
        was frozen, or the machine slept."""
        if self.due_in() > _EARLY * self._every and headline == self._headline:
            return
        now = self._clock.boot_time()
        if 0 < self._last < now - _FROZEN * watched_for({"every": self._every}):
            refuse_second_monitor(self._spool, self._clock, works=True)
        self._last, self._headline = now, headline
        self._every = QUIET_INTERVAL if quiet else INTERVAL
        current = status()
        self._show(current)
        self._service.alive(status_line(current))
        if (error := self.write_now(current, self._every)) is not None:
            if why := takeover.taken_by(self._spool):
                raise AlreadyRunningError(f"{self._spool.working}: {why}") from error
            self._spool.repair()

"""The heartbeat: written once a second; it also shows whether another monitor has taken over."""

from __future__ import annotations

import logging
from typing import Any

from sdwatch.errors import AlreadyRunningError
from sdwatch.policy.failure.lasting import Lasting, key_of
from sdwatch.spool import takeover
from sdwatch.spool.archive import Spool
from sdwatch.spool.heartbeat import INTERVAL, WATCHED_FOR, Heartbeat, refuse_second_monitor
from sdwatch.system.clock import Clock

log = logging.getLogger("sdwatch.monitor")


class Beats:
    """Of the monitor of `spool`."""

    def __init__(self, heartbeat: Heartbeat, spool: Spool, clock: Clock) -> None:
        self._heartbeat = heartbeat
        self._spool = spool
        self._clock = clock
        self._next = 0.0  # on the clock that counts suspend, too
        self._refusals = Lasting()

    def start(self) -> None:
        """Notice from now on when this process was frozen."""
        self._next = self._clock.boot_time()

    def write_now(self, status: dict[str, Any]) -> None:
        """Write the heartbeat now, and only warn where the disk refuses it."""
        try:
            self._heartbeat.beat(status)
        except OSError as error:
            log.warning("the heartbeat cannot be written: %s", error)

    @property
    def is_due(self) -> bool:
        """Whether the next beat is due."""
        return self._clock.boot_time() >= self._next

    def beat(self, status: dict[str, Any]) -> None:
        """Give `status` to the heartbeat. Raises AlreadyRunningError where another monitor has
        taken over while this process was frozen, or the machine slept."""
        now = self._clock.boot_time()
        if 0 < self._next < now - WATCHED_FOR / 2:
            refuse_second_monitor(self._spool, self._clock, works=True)
        self._next = now + INTERVAL
        self._heartbeat.say(status)
        now = self._clock.monotonic()
        if (error := self._heartbeat.refused) is not None:
            if why := takeover.taken_by(self._spool):
                raise AlreadyRunningError(f"{self._spool.working}: {why}") from error
            if line := self._refusals.goes_on("", key_of(error), str(error), now):
                log.warning("the heartbeat cannot be written: %s", line)
            self._spool.repair()
        elif lasted := self._refusals.is_over("", now):
            log.info("the heartbeat is written again, after %s", lasted)

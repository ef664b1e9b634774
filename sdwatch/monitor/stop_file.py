"""A person's request to stop, by a file `stop` in the spool: for every wrapper, container or share
from which no signal can be sent.

What was there at the start is an old request: the monitor never removes a person's file, and would
otherwise stop at every start.
"""

from __future__ import annotations

from collections.abc import Callable

from sdwatch.spool.folders import Spool
from sdwatch.spool.heartbeat import INTERVAL
from sdwatch.system.clock import Clock


class StopFile:
    """The file `stop` or `stop.txt` in the root of `spool`. What is there now is ignored. `stop`:
    called for a new one. `report`: gets lines for people."""

    def __init__(
        self,
        spool: Spool,
        *,
        clock: Clock,
        stop: Callable[[], None],
        report: Callable[[str], None],
    ) -> None:
        self._spool = spool
        self._clock = clock
        self._stop = stop
        self._report = report
        self._next = 0.0
        self._old = self._present() or {}
        for name in self._old:
            report(f"the file {name} in the spool is older than this start, and is ignored")

    @property
    def ignored(self) -> list[str]:
        """Return the names of the files that were there at the start, and still are."""
        return sorted(self._old)

    def check(self) -> None:
        """Ask the monitor to stop if the file is new. Looks once a second at most."""
        now = self._clock.monotonic()
        if now < self._next or (there := self._present()) is None:
            return
        self._next = now + INTERVAL
        new = [name for name, written in there.items() if self._old.get(name) != written]
        self._old = {name: written for name, written in there.items() if name not in new}
        if new:
            self._report(f"stopping: asked by the file {new[0]} in the spool")
            self._stop()

    def _present(self) -> dict[str, int] | None:
        """Return when each was written, in ns by the clock of the spool's disk, for comparing with
        itself only; None if the spool cannot be read now."""
        try:
            return self._spool.stop_files()
        except OSError:
            return None

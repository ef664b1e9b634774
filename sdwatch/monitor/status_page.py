"""Write status.html and status.json into the spool: what a person sees who has no more than the
share."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from importlib import resources
from typing import Any

from sdwatch.policy.page import page
from sdwatch.policy.page.overview import MonitorCard, Overview, Presence, as_json
from sdwatch.spool.folders import Spool
from sdwatch.spool.overview_reader import OverviewReader
from sdwatch.spool.patient_disk import DiskRefusals
from sdwatch.spool.webui_names import NAMES, WebUINames, names_file_of
from sdwatch.system import disk
from sdwatch.system.clock import Clock, join
from sdwatch.system.log_events import LogEvent, about

log = logging.getLogger("sdwatch.monitor")

PAGE, DATA = "status.html", "status.json"

SHORTEST, LONGEST = 5.0, 60.0
"""Seconds between two writes: while anything changes, as often as the page reloads itself at most;
and while nothing does."""

_SOON = 0.2  # seconds from a change to its write: some come together
_STOP_WAIT = 5.0  # seconds that a stop waits for a write, as on a share that is gone

_MOVES = ("at", "beat", "rss", "seconds_ago")
"""Parts of a status that change although nothing happens."""


class StatusPage:
    """The two files, on a thread of its own: a slow share delays no job; with them the names that
    the WebUIs have, for forms of others. `about`: which monitor this is, `worker`, `host`, `pid`,
    as in the heartbeat; `names`: returns the names, from any thread."""

    def __init__(
        self,
        spool: Spool,
        about: Mapping[str, Any],
        clock: Clock,
        names: Callable[[], WebUINames] = WebUINames,
    ) -> None:
        self._names = names
        self._written_names = WebUINames()
        self._spool = spool
        self._about = about
        self._reader = OverviewReader(spool.root, clock)
        self._style = resources.files(page.__package__).joinpath("style.css").read_text("utf-8")
        self._status: Mapping[str, Any] = {}
        self._shown: object = None
        self._changed = threading.Event()
        self._stop = threading.Event()
        self._refusals = DiskRefusals(
            clock, log, "the status page cannot be written", "the status page is written again"
        )
        self._thread = threading.Thread(target=self._live, name="status-page", daemon=True)

    def open(self) -> None:
        """Start to write, as soon as there is a status."""
        self._thread.start()

    def show(self, status: Mapping[str, Any]) -> None:
        """Show this status from now on: soon if it says something else than the last one. Called
        from the main thread, which does not wait for it."""
        said = _without(status, _MOVES)
        self._status = status
        if said != self._shown:
            self._shown = said
            self._changed.set()

    def close(self) -> None:
        """Stop. The last page says that the monitor has stopped: call it after the heartbeat is
        removed."""
        self._stop.set()
        self._changed.set()
        if self._thread.ident is not None:
            join(self._thread, _STOP_WAIT)

    def _live(self) -> None:
        self._changed.wait()
        while not self._stop.wait(_SOON):
            self._changed.clear()
            try:
                self._write_names()
                self._write(self._reader.read({**self._about, **self._status}))
            except Exception:
                # The thread's outer edge: a page is never worth a job.
                log.exception(
                    "the status page cannot be made", extra=about(LogEvent.INTERNAL_ERROR)
                )
            if not self._stop.wait(SHORTEST):
                self._changed.wait(LONGEST - SHORTEST)
        try:
            self._write_last(self._reader.read())
        except Exception:
            log.exception(
                "the last status page cannot be made", extra=about(LogEvent.INTERNAL_ERROR)
            )

    def _write_names(self) -> None:
        """Write the names if they have changed. They stay there when the monitor stops."""
        names = self._names()
        if names == self._written_names:
            return
        with suppress(OSError):  # the pages say what the disk refuses; this is tried again
            disk.refresh(self._spool.working / NAMES, names_file_of(names))
            self._written_names = names

    def _write_last(self, overview: Overview) -> None:
        """Write that the monitor has stopped; not where another one has taken over."""
        if overview.monitor.presence in (Presence.STOPPED, Presence.GONE):
            ours = self._about
            card = MonitorCard(Presence.STOPPED, ours["worker"], ours["host"], ours["pid"])
            self._write(replace(overview, monitor=card))

    def _write(self, overview: Overview) -> None:
        whole = page.whole(overview, style=self._style)
        data = disk.json_lines(as_json(overview))
        if overview.gone or self._spool.is_gone:
            return  # what is there instead is the empty folder on which the share was mounted
        try:
            disk.refresh(self._spool.root / DATA, disk.encoded(data + "\n"))
            disk.refresh(self._spool.root / PAGE, disk.encoded(whole))
        except OSError as error:
            self._refusals.note(error)
        else:
            self._refusals.are_over()


def _without(value: Any, names: tuple[str, ...]) -> Any:
    if isinstance(value, Mapping):
        return {k: _without(each, names) for k, each in value.items() if k not in names}
    return [_without(each, names) for each in value] if isinstance(value, list) else value

"""The inventory of one WebUI: its kind, its lists, and what its calls have shown that it cannot
do."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from sdwatch.lane.context import LaneContext
from sdwatch.policy.job.calls.catalogue import Catalogue
from sdwatch.policy.kinds.kind import Kind
from sdwatch.system.log_events import LogEvent, about
from sdwatch.webui.http.catalogue_queries import CatalogueReader

log = logging.getLogger("sdwatch.lane")

_READS_AT_START = 2
_READS_WHILE_IDLE = 3
_PAUSE_S = 0.5
"""Long enough for routes that are still being added (measured with SD.Next)."""


class Inventory:
    """The inventory of the WebUI of `context`. `stopping`: set when sdwatch stops. `may_try`:
    returns whether the WebUI may be sent a trial call.

    The lane's helper reads it, its prober reads lists again, its loop adds what calls show, and any
    thread may look at `catalogue`, which is replaced as a whole."""

    def __init__(
        self, context: LaneContext, stopping: threading.Event, may_try: Callable[[], bool]
    ) -> None:
        self.catalogue: Catalogue | None = None  # of the last incarnation that was ready
        self._context = context
        self._stopping = stopping
        self._reader = CatalogueReader(
            context.client,
            context.config.health.timeout,
            stopping.is_set,
            context.remembered,
            may_try,
        )
        self._said: Mapping[str, str] = {}  # what jobs are not checked against, as the log has it
        self._idle_reads = 0
        # Held while the WebUI is asked, for seconds: what was asked first is also stored first.
        self._reading = threading.Lock()
        self._changing = threading.Lock()  # held for no time: the loop must not wait
        self._cannot: dict[str, str] = {}  # stage -> why, as calls of this incarnation have shown
        self._useless: dict[str, str] = {}  # upscaler -> why

    @property
    def kind(self) -> Kind:
        """Return the kind of this WebUI, or of an earlier incarnation, as far as it is known."""
        return self.catalogue.kind if self.catalogue is not None else self._context.remembered.kind

    def start_incarnation(self) -> None:
        """Forget what calls of the last incarnation have shown."""
        self._idle_reads = 0
        with self._changing:
            self._cannot, self._useless = {}, {}

    def read(self) -> None:
        """Read all lists, before the lane is ready: no job is claimed without them. What the WebUI
        does not answer in time stays unknown."""
        with self._reading:
            self._store(catalogue := self._reader.read())
            for _ in range(_READS_AT_START):
                if not self._reader.unfinished or self._context.clock.wait(
                    self._stopping, _PAUSE_S
                ):
                    break
                self._store(catalogue := self._reader.read())
        if catalogue.missing == self._said:
            return
        self._said, routes = catalogue.missing, dict[str, list[str]]()
        for route, why in catalogue.missing.items():
            routes.setdefault(why, []).append(route)
        for why, lacking in routes.items():
            log.info(
                "%s: jobs are not checked against %s: %s",
                self._context.config.name,
                ", ".join(lacking),
                why,
                extra=about(LogEvent.WEBUI_UNKNOWN),
            )

    def read_rest(self) -> None:
        """Read a schema again that was not readable at the start. Only a few times: each failure
        leaves a traceback in the WebUI's log."""
        if not self._reader.unfinished or self._idle_reads >= _READS_WHILE_IDLE:
            return
        self._idle_reads += 1
        self.read()
        self._context.settings.wake()

    def read_again(self, routes: Collection[str]) -> None:
        """Read these lists again, if they have been read before."""
        with self._reading:
            if not routes or self.catalogue is None:
                return
            self._store(self._reader.read_again(self.catalogue, routes))
        self._context.settings.wake()

    def note_cannot(self, stage: str, upscaler: str, why: str) -> None:
        """Note that this incarnation cannot do `stage`, with this upscaler or ('') at all, so that
        later jobs fail before their first call."""
        with self._changing:
            known = self._useless if upscaler else self._cannot
            known[upscaler or stage] = why
            if self.catalogue is not None:
                self.catalogue = self._with_what_calls_showed(self.catalogue)
        self._context.settings.wake()

    def _store(self, catalogue: Catalogue) -> None:
        """Replace the catalogue. Calls may have shown something while it was read."""
        with self._changing:
            self.catalogue = self._with_what_calls_showed(catalogue)

    def _with_what_calls_showed(self, catalogue: Catalogue) -> Catalogue:
        if not (self._cannot or self._useless):
            return catalogue
        cannot, useless = {**catalogue.cannot, **self._cannot}, dict(self._useless)
        return replace(catalogue, cannot=cannot, useless=useless)

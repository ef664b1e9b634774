"""Remember what an earlier incarnation of a WebUI was: its kind, and which of the routes it had
that distinguish kinds. While a WebUI starts, its routes come one after another, so a missing one
shows nothing."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from sdwatch.policy.kinds.kind import Kind
from sdwatch.policy.kinds.table import kind_named
from sdwatch.policy.kinds.unknown import UNKNOWN
from sdwatch.system import disk
from sdwatch.system.log_events import LogEvent, about

log = logging.getLogger("sdwatch.webui")


@dataclass(frozen=True)
class Routes:
    """Routes that distinguish kinds. `progress`: stable-diffusion.cpp lacks it. `checkpoint`: only
    SD.Next has it."""

    progress: bool
    checkpoint: bool

    @property
    def all_there(self) -> bool:
        """Return whether no route is missing that could still come."""
        return self.progress and self.checkpoint

    def lacks_some_of(self, other: Routes) -> bool:
        """Return whether `other` has a route that is missing here."""
        return (other.progress and not self.progress) or (other.checkpoint and not self.checkpoint)


class Remembered:
    """What is remembered of one WebUI, in the file `path`; without a path, in memory. It may be
    outdated: the config may name another WebUI by now."""

    def __init__(self, path: Path | None = None) -> None:
        self.kind: Kind = UNKNOWN
        self.routes: Routes | None = None
        self._path = path
        self._load()

    def note_kind(self, kind: Kind) -> None:
        """Remember the kind."""
        if kind.is_known and kind is not self.kind:
            self.kind = kind
            self._save()

    def note_routes(self, routes: Routes) -> None:
        """Remember the routes."""
        if routes != self.routes:
            self.routes = routes
            self._save()

    def _load(self) -> None:
        """Load the file. Anything unreadable is ignored."""
        if self._path is None:
            return
        try:
            value = json.loads(self._path.read_bytes())
            routes = Routes(value["progress"] is True, value["checkpoint"] is True)
            self.kind, self.routes = kind_named(value["kind"]), routes
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return

    def _save(self) -> None:
        """Save the file. If the state folder refuses that, only the memory is lost."""
        if self._path is None or self.routes is None:
            return
        there = {"progress": self.routes.progress, "checkpoint": self.routes.checkpoint}
        try:
            disk.write_json(self._path, {"kind": str(self.kind), **there})
        except OSError as error:
            log.warning(
                "%s cannot be written: %s",
                self._path,
                disk.in_words(error),
                extra=about(LogEvent.DISK_REFUSES),
            )

"""What an earlier life of a WebUI was: its kind, and which of the routes it had that tell kinds
apart. While it starts, its routes come one after another, and their absence proves nothing.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from sdwatch.policy.job.catalogue import Kind
from sdwatch.system import disk

log = logging.getLogger("sdwatch.webui")


@dataclass(frozen=True)
class Routes:
    """`progress`: stable-diffusion.cpp lacks it; `checkpoint`: only SD.Next has it."""

    progress: bool
    checkpoint: bool

    @property
    def all_there(self) -> bool:
        """Nothing is missing that could still come."""
        return self.progress and self.checkpoint

    def lacks_some_of(self, other: Routes) -> bool:
        """Whether `other` has one that is missing here."""
        return (other.progress and not self.progress) or (other.checkpoint and not self.checkpoint)


class Remembered:
    """Of one WebUI, in the file `path`; without one for as long as this object lives. It is
    evidence and no proof: the config may name another WebUI by now."""

    def __init__(self, path: Path | None = None) -> None:
        self.kind = Kind.UNKNOWN
        self.routes: Routes | None = None
        self._path = path
        self._load()

    def note_kind(self, kind: Kind) -> None:
        """It is of this kind."""
        if kind not in (Kind.UNKNOWN, self.kind):
            self.kind = kind
            self._save()

    def note_routes(self, routes: Routes) -> None:
        """It has these."""
        if routes != self.routes:
            self.routes = routes
            self._save()

    def _load(self) -> None:
        """Whatever else stands in the file is no memory."""
        if self._path is None:
            return
        try:
            value = json.loads(self._path.read_bytes())
            routes = Routes(value["progress"] is True, value["checkpoint"] is True)
            self.kind, self.routes = Kind(value["kind"]), routes
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return

    def _save(self) -> None:
        """A state folder that refuses costs the memory, and nothing else."""
        if self._path is None or self.routes is None:
            return
        there = {"progress": self.routes.progress, "checkpoint": self.routes.checkpoint}
        try:
            disk.write_json(self._path, {"kind": str(self.kind), **there})
        except OSError as error:
            log.warning("%s cannot be written: %s", self._path, error)

"""What works beside the monitor on its runs: the part of a cluster that this machine has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from sdwatch.monitor.work import Parts
from sdwatch.spool.archive import Spool
from sdwatch.stages.settings import RunSettings
from sdwatch.system.clock import Clock
from sdwatch.system.state_folder import StateFolder


@dataclass(frozen=True)
class Surroundings:
    """The monitor, as far as a partner needs it. `wake`: has the main thread do a round soon."""

    spool: Spool
    state: StateFolder
    parts: Parts
    settings: RunSettings
    clock: Clock
    wake: Callable[[], None]


class Partner(Protocol):
    """All methods are called by the main thread. `status`: for the heartbeat."""

    def open(self, surroundings: Surroundings) -> None: ...
    def give_work(self, *, may_call: bool) -> None: ...
    def close(self) -> None: ...
    def status(self) -> dict[str, Any]: ...

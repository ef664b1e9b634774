"""What works beside the monitor on its runs: the part of a cluster that this machine has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from sdwatch.monitor.call_gate import CallGate
from sdwatch.monitor.work import Parts, Work
from sdwatch.spool.folders import Spool
from sdwatch.stages.settings import RunSettings
from sdwatch.system.clock import Clock
from sdwatch.system.state_folder import StateFolder


@dataclass(frozen=True)
class Surroundings:
    """The monitor, as far as a partner needs it. `wake`: has the main thread do a round soon."""

    spool: Spool
    state: StateFolder
    parts: Parts
    work: Work
    gate: CallGate
    settings: RunSettings
    clock: Clock
    wake: Callable[[], None]


class Partner(Protocol):
    """All methods are called by the main thread. `give_work`: several times in each round; nobody
    may have more than `most` runs then. `may_have_work`: a job may be done elsewhere. `status`: for
    the heartbeat."""

    def open(self, surroundings: Surroundings) -> None: ...
    def give_work(self, most: int, *, may_call: bool) -> None: ...
    def may_have_work(self) -> bool: ...
    def close(self) -> None: ...
    def status(self) -> dict[str, Any]: ...

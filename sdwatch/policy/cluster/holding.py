"""What a box does next about one run that it was handed: a function of what is written down.
Pure.

The box's own run folder says what it has: its journal starts with the one of the shared spool,
whose last line, `handed_over`, names the epoch. All later lines are the box's, and the log says
how many of them are stored. So a box that was restarted, or was away for long, continues where
the log is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from sdwatch.policy.cluster.entries import Accepted, BoxEnd
from sdwatch.policy.cluster.run_log import Phase, RunLog


@dataclass(frozen=True, slots=True)
class LocalRun:
    """The run's folder on the box, of this epoch. `lines`: that the box wrote; `ended`: how the box
    published it in its own spool, None while it has not; GIVEN_BACK where it waits in working/ for
    WebUIs that are on hold."""

    epoch: int
    lines: int = 0
    ended: BoxEnd | None = None


@dataclass(frozen=True, slots=True)
class Fetch:
    """Make the run's folder from what is stored."""

    epoch: int
    manifest: str


@dataclass(frozen=True, slots=True)
class Store:
    """Store the images that the lines from `first` on name, then these lines, then append
    LinesStored."""

    epoch: int
    first: int


@dataclass(frozen=True, slots=True)
class StoreEnd:
    """Store what explains the end, and append Ended."""

    epoch: int
    outcome: BoxEnd
    lines: int


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """The end is stored: acknowledge the message. The folder is kept until Closed."""


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The run is no longer this box's, or is published: interrupt it if it still runs, never
    acknowledge, remove its folder."""


@dataclass(frozen=True, slots=True)
class Ignore:
    """There is nothing to do."""


BoxAction: TypeAlias = Fetch | Accepted | Store | StoreEnd | Acknowledge | Withdraw | Ignore


def box_step(me: str, log: RunLog, local: LocalRun | None) -> BoxAction:
    """Return what the box `me` does next; Accepted is to be appended, then the run may start.
    `local`: None if it has no folder of this run."""
    if local is None:
        return _without_folder(me, log)
    if log.phase is Phase.NONE:  # the broker lost it; work continues, and is kept
        return Ignore()
    is_over = log.phase in (Phase.TAKEN_BACK, Phase.CLOSED)
    if is_over or log.epoch != local.epoch or log.box != me:
        return Withdraw()
    if log.phase is Phase.ENDED:
        return Acknowledge()
    if log.phase is Phase.GRANTED:
        return Accepted(log.epoch)
    if log.lines < local.lines:
        return Store(log.epoch, log.lines)
    if local.ended is not None:
        return StoreEnd(log.epoch, local.ended, log.lines)
    return Ignore()


def _without_folder(me: str, log: RunLog) -> BoxAction:
    if log.box != me or not log.is_held:
        return Ignore()
    if log.phase is Phase.GRANTED:
        return Fetch(log.epoch, log.manifest)
    # The box had accepted it, and lost its folder: it may get it once more.
    return StoreEnd(log.epoch, BoxEnd.GIVEN_BACK, log.lines)

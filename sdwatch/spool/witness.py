"""Who must know of a POST before it goes out, besides the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sdwatch.spool.run import Run


class Witness(Protocol):
    """The machine that a run came from, for one that does not outlive this machine. `may_start` and
    `started` are called by the run's thread, `pause` by the main thread."""

    def may_start(self, run: Run, sent: int) -> None:
        """Return if a call may be sent that was sent `sent` times before. Raises RunStoppedError if
        it may not, for now."""

    def started(self, run: Run, sent: int) -> None:
        """Return once it is known elsewhere that the POST goes out whose start was just recorded;
        the call was sent `sent` times before. Raises RunStoppedError: then it must not go out."""

    def pause(self, run_id: str) -> float:
        """Return in how many seconds a run that was stopped may resume."""


class NoWitness:
    """The witness of this machine's own runs: the journal is enough."""

    def may_start(self, run: Run, sent: int) -> None:
        """Allow every call."""

    def started(self, run: Run, sent: int) -> None:
        """Return at once."""

    def pause(self, run_id: str) -> float:
        """Return 0: it may resume at once."""
        del run_id
        return 0.0

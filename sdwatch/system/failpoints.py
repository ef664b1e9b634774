"""Announce every effect on the world at which a death could cut a run, just before it happens.

On disk all come from `disk.py`; besides there are the spawn of the WebUI, signals to it, the start
and the end of each POST, and each message between a run and its lane around a record (BeforePost,
Recorded, FailureExplained, …). In a running sdwatch nobody listens. Tests do: they
number the effects, and make the n-th one fail, or be the last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Failpoint:
    """What is about to be done, to what; `source`: of a rename, its old name."""

    label: str
    path: Path
    source: Path | None = None


def _nothing(effect: Failpoint) -> None:
    del effect


before: Callable[[Failpoint], None] = _nothing


def failpoint(label: str, path: Path, source: Path | None = None) -> None:
    """Announce the next effect. Raises whatever a test wants it to."""
    before(Failpoint(label, path, source))

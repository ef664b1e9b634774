"""The outputs that are to be made: where the config wants them, the pictures of a run's result, and
the runs that still have some to make. What makes them is outputs.py, which is loaded only then."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sdwatch.errors import SpoolError
from sdwatch.policy.failure.ledger import Image, OtherFile
from sdwatch.policy.job.outputs.result import OutputWish
from sdwatch.spool.folders import Spool
from sdwatch.system import disk

WAITING = ".outputs"
"""Ending of a file in working/ with the name of a run whose outputs are still to be made."""


@dataclass(frozen=True)
class OutputSettings:
    """Where outputs are made, and how where a job says nothing about it."""

    folder: Path
    default: OutputWish = OutputWish("")  # noqa: RUF009 - it is frozen


@dataclass(frozen=True, slots=True)
class ResultPicture:
    """A picture of a run's result, or another file. `point`: 0 where there is only one;
    `stage_name`: the id of its stage, or its kind; `seed`: the one that it was made with, or of an
    enlarged picture the one of the picture that it was made from; None if nobody knows."""

    image: Image | OtherFile
    point: int
    stage: int
    stage_name: str
    seed: int | None


class OutputsRefusedError(SpoolError):
    """The folder of the outputs refuses. The text has no name of a file, which may be a prompt."""


def waiting(spool: Spool) -> list[str]:
    """Return the ids of the runs whose outputs are still to be made. Raises OSError."""
    names = (entry.name for entry in disk.entries(spool.working))
    return sorted(name.removesuffix(WAITING) for name in names if name.endswith(WAITING))

"""Move aside what lies in images/ or files/ and no record names: of a call that a death cut off
before it was recorded, or of a job file that was still being written. There is what the run made,
and what a person put there under a name of their own.
"""

from __future__ import annotations

import itertools
from collections.abc import Container
from pathlib import Path

from sdwatch.system import EntryKind, disk, renames

UNRECORDED = "unrecorded"


def move_aside(made: Path, ours: tuple[str, ...], recorded: Container[str]) -> None:
    """Move each file and link in the folder `made` that is named like what this run makes and is
    not recorded into the run's folder `unrecorded`; a link itself, not what it leads to. `ours`:
    how such names begin. Raises OSError; calling it again resumes."""
    if not disk.is_folder(made):
        return
    left = [
        entry.name
        for entry in disk.entries(made)
        if entry.kind is not EntryKind.FOLDER
        and entry.name.startswith(ours)
        and entry.name not in recorded
    ]
    if not left:
        return
    aside = made.parent / UNRECORDED
    disk.ensure_folder(aside)
    for name in left:
        _move(made / name, aside)
    disk.sync_folder(made)


def _move(path: Path, aside: Path) -> None:
    for number in itertools.count(1):
        target = aside / (path.name if number == 1 else f"{number}-{path.name}")
        try:
            renames.rename(path, target)
        except FileExistsError:
            continue
        except FileNotFoundError:
            return  # somebody removed it
        return

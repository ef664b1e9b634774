"""The file by which a person cancels a job that waits: it goes along with that job, and cancels no
other one.

Whatever dies when: what the scan saw is in the `claimed` record, and the run has its `cancel`
before it has its job. The marker itself is removed afterwards, and a run is not published before
that, because it would cancel the next job of that name.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdwatch.policy.queue.control import CANCEL, cancelled_by, markers_of
from sdwatch.spool.run import Run, is_cancelled, read_claimed
from sdwatch.system import disk, renames
from sdwatch.system.log_events import LogEvent, about

log = logging.getLogger("sdwatch.spool")


def seen_at(path: Path) -> dict[str, Any]:
    """Return what is different in a later marker of the same name. Raises OSError,
    FileNotFoundError if it was withdrawn."""
    status = disk.look_at(path)
    return {"name": path.name, "inode": status.st_ino, "mtime_ns": status.st_mtime_ns}


def refuse_if_of_another(marker: Mapping[str, Any], source: str, runs: list[Path]) -> None:
    """Raise OSError if this marker came with a job that was claimed before, and could not be
    removed yet. `source`: of the job that waits; `runs`: this worker's."""
    for folder in runs:
        claimed = read_claimed(folder)
        if claimed.get("source") == source and claimed.get("marker") == marker:
            why = f"it cancelled {folder.name} and cannot be removed yet"
            raise OSError(errno.EBUSY, why, str(marker["name"]))


def take_late(inbox: Path, source: str, folder: Path) -> None:
    """Move a marker into a run's folder that came after the scan and before the claim's rename."""
    job = inbox / source
    for name in markers_of(job.name):
        try:
            renames.rename(job.with_name(name), folder / CANCEL)
        except FileNotFoundError:
            continue  # as it should be, nearly always
        except OSError as error:
            _warn(name, error)
        return


def complete(run: Run, inbox: Path) -> None:
    """Complete what a death left of a claim. Raises OSError."""
    source = _inside(run.source)
    if "marker" in run.ledger.claimed:
        if not is_cancelled(run.folder):
            disk.touch(run.folder / CANCEL)
        remove_quietly(run, inbox)
    elif source and run.ledger.seeds is None and not disk.exists(inbox / source):
        take_late(inbox, source, run.folder)


def remove_quietly(run: Run, inbox: Path) -> None:
    """Remove the marker that came with a run's job. If the disk refuses, that is logged, and
    retried when the run is published."""
    try:
        remove(run, inbox)
    except OSError as error:
        _warn(str(run.ledger.claimed["marker"]), error)


def remove(run: Run, inbox: Path) -> None:
    """Remove the marker that came with a run's job, unless another one has its name by now. Raises
    OSError."""
    source, marker = _inside(run.source), run.ledger.claimed.get("marker")
    if not source or not isinstance(marker, dict):
        return
    path = (inbox / source).with_name(str(marker.get("name")))
    if cancelled_by(path.name) != Path(source).name.lower():
        return  # somebody edited the journal
    try:
        if seen_at(path) == marker:
            disk.remove(path)
    except FileNotFoundError:
        return


def _inside(source: str) -> str:
    """Return a source that lies in the inbox; '' for any other."""
    path = Path(source)
    return "" if path.is_absolute() or ".." in path.parts else source


def _warn(marker: str, error: OSError) -> None:
    log.warning(
        "%s: its cancel marker cannot be removed: %s",
        marker,
        disk.in_words(error),
        extra=about(LogEvent.CANCEL_NOT_TAKEN),
    )

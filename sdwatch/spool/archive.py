"""Claim a job, and publish its run: from the inbox to working/, and from there to done/ or failed/,
each by one rename.

The order of the writes is the promise: whenever the monitor dies, exactly one folder holds the
job, and what is in done/ or failed/ is whole.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdwatch.policy.queue.control import CANCEL
from sdwatch.policy.report.envelope import ErrorEnvelope
from sdwatch.spool import cancel_marker
from sdwatch.spool.arrival import Arrival
from sdwatch.spool.explanation import explain
from sdwatch.spool.fingerprint import digest
from sdwatch.spool.folders import Spool
from sdwatch.spool.run import (
    JOB_FILE,
    JOB_FOLDER,
    JOURNAL,
    NO_WEBUI,
    Run,
    new_run_id,
)
from sdwatch.spool.thumbnails import make_thumbnails
from sdwatch.system import disk, renames
from sdwatch.system.clock import Clock
from sdwatch.system.log_events import LogEvent, about

log = logging.getLogger("sdwatch.spool")


def claim(arrival: Arrival, spool: Spool, clock: Clock) -> Run | None:
    """Move a job from the inbox into a run folder of its own.

    The journal names the source before the one rename that moves the job; a cancelled one has its
    `cancel` by then. Return None if the job was removed meanwhile, or its cancel was. Raises
    OSError.
    """
    try:
        marker = _marker_of(arrival, spool)
    except FileNotFoundError:
        return None
    name = arrival.path.name if arrival.is_folder else arrival.path.stem
    run_id = new_run_id(name, clock.wall())
    folder = spool.working / run_id
    disk.make_folder(folder)
    run = Run(folder, clock)
    settled = digest(arrival.fingerprint)
    try:
        if marker:
            disk.touch(folder / CANCEL)
        run.record("claimed", source=arrival.source, mtime=arrival.mtime, settled=settled, **marker)
        disk.sync_folder(spool.working)
        name = JOB_FOLDER if arrival.is_folder else JOB_FILE
        renames.rename(arrival.path, folder / name, arrival.identity)
    except OSError as error:
        run.close()
        sweep(folder)
        if isinstance(error, FileNotFoundError):
            return None
        raise
    # From here on the job is ours: an error of the disk must not lose sight of it.
    if marker:
        cancel_marker.remove_quietly(run, spool.inbox)
    else:
        cancel_marker.take_late(spool.inbox, arrival.source, folder)
    _sync_names(folder, arrival.path.parent)
    return run


def _marker_of(arrival: Arrival, spool: Spool) -> dict[str, Any]:
    """Return what the journal says of the file beside it by which somebody cancelled it. Raises
    OSError, FileNotFoundError if it was withdrawn."""
    if not arrival.marker:
        return {}
    marker = cancel_marker.seen_at(arrival.path.with_name(arrival.marker))
    cancel_marker.refuse_if_of_another(marker, arrival.source, spool.run_folders())
    return {"marker": marker}


def _sync_names(*folders: Path) -> None:
    """Make a rename durable. It has happened already, so a disk that refuses is only logged."""
    for folder in folders:
        try:
            disk.sync_folder(folder)
        except OSError as error:
            log.warning(
                "%s: cannot be synced: %s",
                folder,
                disk.in_words(error),
                extra=about(LogEvent.DISK_REFUSES),
            )


def sweep(folder: Path) -> bool:
    """Remove a run folder whose job never came (the monitor died, or the rename failed, between
    the journal's first line and the rename). Return False if there is something to keep."""
    left = {entry.name for entry in disk.entries(folder)}
    if left - {JOURNAL, CANCEL}:
        return False
    for name in sorted(left):
        disk.remove(folder / name)
    disk.remove_empty_folder(folder)
    return True


def publish(
    run: Run,
    spool: Spool,
    outcome: str,
    envelope: ErrorEnvelope | None,
    webui: Mapping[str, Any] = NO_WEBUI,
) -> Path:
    """Move a run to done/ or failed/, and return its path there.

    `outcome`: done, failed or cancelled. `webui`: which WebUI it was on. In this order: its cancel
    marker is removed if it still lies in the inbox, error.json and WHY.txt (the evidence is there
    since the failure), thumbnails for the page, the manifest, what is not recorded moved aside, the
    folder synced, the journal's last line synced, the folder synced again, one rename, both parents
    synced. Raises OSError; calling it again resumes where it was. A run whose journal has its last
    line is whole, and is only moved, as that line says.
    """
    cancel_marker.remove(run, spool.inbox)
    if not run.ledger.ended:
        _complete(run, spool, outcome, envelope, webui)
    run.close()
    return move_out(run.folder, spool, run.ledger.ended)


def _complete(
    run: Run,
    spool: Spool,
    outcome: str,
    envelope: ErrorEnvelope | None,
    webui: Mapping[str, Any],
) -> None:
    if envelope is not None:
        explain(run, spool, envelope, webui)
    make_thumbnails(run.folder, run.ledger)
    run.write_manifest(outcome, webui)
    run.sweep()
    disk.sync_folder(run.folder)
    run.record("ended", outcome=outcome)


def move_out(folder: Path, spool: Spool, outcome: str) -> Path:
    """Publish a run, by one rename, and return its path."""
    identity = renames.identity_of(disk.look_at(folder))
    parent = spool.done if outcome == "done" else spool.failed
    disk.sync_folder(folder)
    disk.ensure_folder(parent)
    renames.rename(folder, parent / folder.name, identity)
    _sync_names(parent, spool.working)
    return parent / folder.name

"""Move a job from the inbox to working/, and from there to done/ or failed/: each by one rename.

The order of the writes is the promise: whenever the monitor dies, exactly one folder holds the
job, and what is in done/ or failed/ is whole.
"""

from __future__ import annotations

import itertools
import logging
import os
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdwatch import system
from sdwatch.errors import SpoolError
from sdwatch.policy.job.files.near_miss import JOB_EXTENSIONS
from sdwatch.policy.job.text.document import too_large
from sdwatch.policy.queue.control import CANCEL, frees_gpu, is_hold, is_stop
from sdwatch.policy.queue.run_names import LONGEST_IMAGE, LONGEST_RUN_ID
from sdwatch.policy.report.command import config_option
from sdwatch.policy.report.envelope import ErrorEnvelope
from sdwatch.policy.report.why import About
from sdwatch.spool import cancel_marker
from sdwatch.spool.arrival import Arrival
from sdwatch.spool.diagnostics import write_explanation
from sdwatch.spool.fingerprint import TOO_DEEP, digest, fingerprint_of, is_too_deep
from sdwatch.spool.inside import MAX_PICTURE_BYTES, open_plain
from sdwatch.spool.made_files import IMAGES
from sdwatch.spool.run import (
    JOB_FILE,
    JOB_FOLDER,
    JOURNAL,
    NO_WEBUI,
    Run,
    new_run_id,
    read_source,
)
from sdwatch.spool.thumbnails import make_thumbnails
from sdwatch.system import EntryKind, disk, links, renames
from sdwatch.system.clock import Clock
from sdwatch.system.log_events import LogEvent, about

log = logging.getLogger("sdwatch.spool")

_LONGEST_HOLD = 10_000  # bytes that are read of a hold file

_MOST_COPIED = 4 << 30  # bytes of a job folder; a hole costs nothing until it is copied

_LONGEST_NAME = 255  # bytes, on nearly every file system


@dataclass(frozen=True)
class Spool:
    """The spool: the folders under `root`, for the monitor with the id `worker` and the config file
    `config`; None for the built-in one."""

    root: Path
    worker: str
    config: Path | None = None

    def __post_init__(self) -> None:
        links.follow_none_below(self.root)

    @property
    def option(self) -> str:
        """Return the option that a command needs to use this spool from any folder, as it is typed
        here."""
        return config_option(str(self.config or ""), os.name == "nt")

    @property
    def inbox(self) -> Path:
        """Return the folder where jobs are dropped."""
        return self.root / "inbox"

    @property
    def working(self) -> Path:
        """Return the folder of this worker's runs."""
        return self.root / "working" / self.worker

    @property
    def done(self) -> Path:
        """Return the folder of finished runs."""
        return self.root / "done"

    @property
    def failed(self) -> Path:
        """Return the folder of failed runs, each with its WHY.txt."""
        return self.root / "failed"

    def prepare(self) -> None:
        """Make the folders. Raises SpoolError if that fails, or if they are not on one file
        system (a run moves by rename)."""
        folders = (self.inbox, self.working, self.done, self.failed)
        try:
            for folder in folders:
                disk.ensure_folder(folder)
            devices = {disk.look_at(folder).st_dev for folder in folders}
        except OSError as error:
            why = disk.in_words(error)
            raise SpoolError(f"{self.root}: the spool cannot be used: {why}") from error
        if len(devices) > 1:
            raise SpoolError(
                f"{self.root}: inbox, working, done and failed must lie on one file system, "
                "because a run moves from one to the next by a rename; put them on one"
            )

    @property
    def is_gone(self) -> bool:
        """Return whether its share is gone. What is left then is nothing, an error, or the empty
        local folder on which it was mounted, where nothing may be made. A person may remove one
        folder or another, but not all at once."""
        try:
            there = {entry.name for entry in os.scandir(system.long_path(self.root))}
        except OSError:
            return True
        return there.isdisjoint(("inbox", "working", "done", "failed"))

    def repair(self) -> None:
        """Make folders again that somebody removed; not on a share that is gone as a whole."""
        if not self.is_gone:
            with suppress(SpoolError):
                self.prepare()

    @property
    def too_deep(self) -> str:
        """Return a warning about a path that is too long for other programs on Windows, though not
        for sdwatch; '' if it is not."""
        run = self.failed / ("-" * LONGEST_RUN_ID)
        why = system.too_long_for_programs(run / IMAGES / ("-" * LONGEST_IMAGE))
        return why and (
            f"{self.root}: sdwatch can work here, but Explorer and many other programs cannot open "
            f"what it makes: the path of an image in it {why}. Move the spool to a folder with a "
            "shorter path, such as D:\\spool"
        )

    def hold_file(self) -> Path | None:
        """Return the file by which a person holds everything, if it is there. Raises OSError."""
        try:
            names = sorted(
                entry.name
                for entry in os.scandir(system.long_path(self.root))
                if is_hold(entry.name)
            )
        except FileNotFoundError:
            return None
        return self.root / names[0] if names else None

    def hold_frees(self, hold: Path) -> bool:
        """Return whether this hold file asks to free the GPU. Never raises: it holds all the same,
        whatever it is."""
        try:
            with open_plain(self.root, hold.name) as file:
                return frees_gpu(file.read(_LONGEST_HOLD).decode("utf-8-sig", "replace"))
        except (SpoolError, OSError):  # a link or a pipe; not readable, or gone
            return False

    def stop_files(self) -> dict[str, int]:
        """Return the files by which a person asks the monitor to stop: when each was written, in
        ns by the clock of the spool's disk. A link or a folder of that name is none, and what is in
        the file does not matter. Raises OSError."""
        entries = disk.entries(self.root)
        names = [e.name for e in entries if e.kind is EntryKind.FILE and is_stop(e.name)]
        return {
            name: found.st_mtime_ns
            for name, found in disk.statuses(self.root, names).items()
            if isinstance(found, os.stat_result) and stat.S_ISREG(found.st_mode)
        }

    def run_folders(self) -> list[Path]:
        """Return this worker's runs, oldest first."""
        return runs_in(self.working)


def runs_in(folder: Path) -> list[Path]:
    """Return the run folders in a folder of the spool, by name; none if it is not there. Files are
    left out: a heartbeat in working/, what file managers leave in done/. Raises OSError."""
    try:
        return [path for path in disk.folders_in(folder) if not path.name.startswith(".")]
    except FileNotFoundError:
        return []


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
    since the failure), thumbnails for the page, the manifest, the folder synced, the journal's last
    line synced, the folder synced again, one rename, both parents synced. Raises OSError; calling
    it again resumes where it was.
    """
    cancel_marker.remove(run, spool.inbox)
    if envelope is not None:
        write_explanation(
            run.folder,
            envelope,
            _about(run, spool),
            records=run.records,
            webui=webui,
        )
    make_thumbnails(run.folder, run.ledger)
    run.write_manifest(outcome, webui)
    run.sweep()
    disk.sync_folder(run.folder)
    if not run.ledger.ended:  # what has this line is whole, and only has to be moved
        run.record("ended", outcome=outcome)
    run.close()
    return move_out(run.folder, spool, outcome)


def _about(run: Run, spool: Spool) -> About:
    calls = run.ledger.calls.values()
    return About(
        run_id=run.run_id,
        source=run.source,
        images=[image.name for call in calls for image in call.pictures],
        at=run.now(),
        sent=any(call.sent for call in calls),
        option=spool.option,
    )


def move_out(folder: Path, spool: Spool, outcome: str) -> Path:
    """Publish a run, by one rename, and return its path."""
    identity = renames.identity_of(disk.look_at(folder))
    parent = spool.done if outcome == "done" else spool.failed
    disk.sync_folder(folder)
    disk.ensure_folder(parent)
    renames.rename(folder, parent / folder.name, identity)
    _sync_names(parent, spool.working)
    return parent / folder.name


def retry(run_folder: Path, inbox: Path, edited: Path | None = None) -> Path:
    """Put a run's job back into the inbox, as and where it was dropped, and return its new path.
    `edited`: a copy of it (see `copy_of_job`) to use instead.

    Copied under a temporary name that the inbox ignores, then renamed. Raises SpoolError,
    OSError.
    """
    job = edited or _job_of(run_folder)
    source = Path(read_source(run_folder) or "job")
    known = not source.is_absolute() and ".." not in source.parts
    place = inbox / source.parent if known else inbox
    disk.ensure_folder(place)
    temporary = place / f".{os.getpid()}-{time.time_ns()}.tmp"
    is_folder = disk.is_folder(job)
    try:
        disk.copy(job, temporary, follow_links=False)
    except BaseException:
        _discard(temporary)
        raise
    was_file = not disk.is_folder(run_folder / JOB_FOLDER)  # and may be a folder now, see sealed.py
    stem, ending = (source.stem if was_file else source.name), ""
    if not is_folder:
        stem, ending = source.stem, source.suffix or ".yaml"
    return put_in(temporary, place, stem, ending)


def copy_of_job(run_folder: Path, folder: Path) -> Path:
    """Copy a run's job into `folder`, under its name from the inbox, and return the path of the
    copy. Raises SpoolError, OSError."""
    job = _job_of(run_folder)
    name = Path(read_source(run_folder)).name or "job"
    if not disk.is_folder(job) and Path(name).suffix.lower() not in JOB_EXTENSIONS:
        name = f"{name}.yaml"
    copy = folder / name
    disk.copy(job, copy, follow_links=False)
    if copy.is_symlink():  # it was replaced a moment ago: an editor would open the target
        raise SpoolError(f"{job}: was replaced by a link")
    return copy


def _job_of(run_folder: Path) -> Path:
    folder, file = run_folder / JOB_FOLDER, run_folder / JOB_FILE
    if disk.is_folder(folder):
        if is_too_deep(folder):
            raise SpoolError(f"{run_folder}: {TOO_DEEP}")
        sizes = [size for _, _, size, _ in fingerprint_of(folder)]
        if max(sizes) > MAX_PICTURE_BYTES or sum(sizes) > _MOST_COPIED:
            raise SpoolError(
                f"{folder}: a job has at most {MAX_PICTURE_BYTES >> 20} MB in a file and "
                f"{_MOST_COPIED >> 30} GB in all; put it into the inbox by hand if it is meant"
            )
        return folder
    if not disk.is_file(file):
        raise SpoolError(f"{run_folder}: there is no job in this run to retry")
    if (problem := too_large(disk.look_at(file).st_size)) is not None:  # a hole costs nothing there
        raise SpoolError(f"{file}: {problem.message}")
    return file


def put_in(temporary: Path, inbox: Path, stem: str, ending: str) -> Path:
    """Rename a complete job into the inbox under a free name: `stem`, `stem-2`, … If that fails,
    nothing is left there. Raises OSError."""
    for number in itertools.count(1):
        path = inbox / _fitting(stem, ending if number == 1 else f"-{number}{ending}")
        try:
            renames.rename(temporary, path)
            break
        except FileExistsError:
            continue
        except OSError:
            _discard(temporary)
            raise
    return path


def _fitting(stem: str, ending: str) -> str:
    """Return `stem` with its ending, shortened if that would be too long for a name."""
    while stem and len(os.fsencode(stem + ending)) > _LONGEST_NAME:
        stem = stem[:-1]
    return stem + ending


def _discard(temporary: Path) -> None:
    with suppress(OSError):
        if disk.is_folder(temporary):
            disk.remove_tree(temporary)
        else:
            disk.remove(temporary)

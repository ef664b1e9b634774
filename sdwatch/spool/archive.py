"""Move a job from the inbox to working/, and from there to done/ or failed/: each by one rename.

The order of the writes is the promise: whenever the monitor dies, exactly one folder holds the
job, and what is in done/ or failed/ is whole.
"""

from __future__ import annotations

import logging
import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sdwatch import system
from sdwatch.errors import SpoolError
from sdwatch.policy.job.control import CANCEL, is_hold, markers_of
from sdwatch.policy.job.document import too_large
from sdwatch.policy.job.near_miss import JOB_EXTENSIONS
from sdwatch.policy.job.run_names import LONGEST_IMAGE, LONGEST_RUN_ID
from sdwatch.policy.report.command import config_option
from sdwatch.policy.report.envelope import ErrorEnvelope
from sdwatch.policy.report.why import About
from sdwatch.spool.diagnostics import write_explanation
from sdwatch.spool.fingerprint import DEEPEST, TOO_DEEP, digest, fingerprint_of, is_too_deep
from sdwatch.spool.inbox import Arrival
from sdwatch.spool.inside import MAX_PICTURE_BYTES
from sdwatch.spool.run import (
    IMAGES,
    JOB_FILE,
    JOB_FOLDER,
    JOURNAL,
    Run,
    new_run_id,
    read_source,
)
from sdwatch.system import EntryKind, disk, links, renames
from sdwatch.system.clock import Clock

log = logging.getLogger("sdwatch.spool")

_MOST_COPIED = 4 << 30  # bytes of a job folder; a hole costs nothing until it is copied

_UNFINISHED_COPY = re.compile(r"\.\d+-(\d{19,20})\.tmp")
_FORGOTTEN_AFTER = 24 * 3600  # seconds: no copy takes so long, and clocks differ by less

_LONGEST_NAME = 255  # bytes, on nearly every file system


@dataclass(frozen=True)
class Spool:
    """The folders under `root`, for the monitor with the id `worker` and the config file `config`;
    None for the built-in one."""

    root: Path
    worker: str
    config: Path | None = None

    def __post_init__(self) -> None:
        links.follow_none_below(self.root)

    @property
    def option(self) -> str:
        """The option that a command needs to use this spool from any folder, as it is typed
        here."""
        return config_option(str(self.config or ""), os.name == "nt")

    @property
    def inbox(self) -> Path:
        """Where jobs are dropped."""
        return self.root / "inbox"

    @property
    def working(self) -> Path:
        """This worker's runs."""
        return self.root / "working" / self.worker

    @property
    def done(self) -> Path:
        """Finished runs."""
        return self.root / "done"

    @property
    def failed(self) -> Path:
        """Failed runs, each with its WHY.txt."""
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
            raise SpoolError(f"{self.root}: the spool cannot be used: {error}") from error
        if len(devices) > 1:
            raise SpoolError(
                f"{self.root}: inbox, working, done and failed must lie on one file system, "
                "because a run moves from one to the next by a rename; put them on one"
            )

    @property
    def is_gone(self) -> bool:
        """Whether its share is gone. What is left then is nothing, an error, or the empty local
        folder on which it was mounted, where nothing may be made. A person may remove one folder
        or another, but not all at once."""
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
        """A warning about a path that is too long for other programs on Windows, though not for
        sdwatch; '' if it is not."""
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

    def run_folders(self) -> list[Path]:
        """Return this worker's runs, oldest first."""
        return runs_in(self.working)

    def all_runs(self) -> list[Path]:
        """Return the runs of all workers, and those that ended. Raises OSError."""
        working = [run for worker in runs_in(self.root / "working") for run in runs_in(worker)]
        return [*working, *runs_in(self.done), *runs_in(self.failed)]


def runs_in(folder: Path) -> list[Path]:
    """Return the run folders in a folder of the spool, by name; none if it is not there. Files are
    left out: a heartbeat in working/, what file managers leave in done/. Raises OSError."""
    try:
        return [path for path in disk.folders_in(folder) if not path.name.startswith(".")]
    except FileNotFoundError:
        return []


def claim(arrival: Arrival, spool: Spool, clock: Clock) -> Run | None:
    """Move a job from the inbox into a run folder of its own.

    The journal names the source before the one rename that moves the job. Return None if the job
    was removed meanwhile. Raises OSError.
    """
    name = arrival.path.name if arrival.is_folder else arrival.path.stem
    run_id = new_run_id(name, clock.wall())
    folder = spool.working / run_id
    disk.make_folder(folder)
    run = Run(folder, clock)
    settled = digest(arrival.fingerprint)
    try:
        run.record("claimed", source=arrival.source, mtime=arrival.mtime, settled=settled)
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
    _take_marker(arrival, folder)
    _sync_names(folder, arrival.path.parent)
    return run


def _take_marker(arrival: Arrival, folder: Path) -> None:
    """Move `NAME.cancel` along with its job, so that it does not cancel the next one of that
    name."""
    for name in (arrival.marker,) if arrival.marker else markers_of(arrival.path.name):
        try:
            renames.rename(arrival.path.with_name(name), folder / CANCEL)
        except FileNotFoundError:
            continue  # as it should be, nearly always
        except OSError as error:
            log.warning("%s: its cancel marker was not taken: %s", arrival.source, error)
        return


def _sync_names(*folders: Path) -> None:
    """Make a rename durable. It has happened already, so a disk that refuses is only logged."""
    for folder in folders:
        try:
            disk.sync_folder(folder)
        except OSError as error:
            log.warning("%s: cannot be synced: %s", folder, error)


def recover(spool: Spool, clock: Clock) -> list[Path]:
    """Resolve every in-between state that a death can leave in working/; return the runs that
    resume. What cannot be read is left as it is, and logged."""
    with suppress(OSError):  # the next start tries again
        sweep_copies(spool.inbox, clock.wall())
    to_resume = []
    for folder in spool.run_folders():
        try:
            run = Run(folder, clock)
            if not run.has_job:
                if not sweep(folder):
                    log.warning("%s: no job in it; left as it is", folder)
            elif run.ledger.ended:
                move_out(folder, spool, run.ledger.ended)
            else:
                with suppress(OSError):  # publishing sweeps again, and insists
                    run.sweep()
                to_resume.append(folder)
        except OSError as error:
            log.error("%s: cannot be resumed, and is left as it is: %s", folder, error)
    return to_resume


def sweep_copies(inbox: Path, now: float) -> None:
    """Remove what `submit` and `retry` left of copies in the inbox when they died, a day later: the
    name says when each was made. `now`: seconds since the epoch. Raises OSError."""
    for path, kind in list(disk.entries_below(inbox, DEEPEST)):
        made = _UNFINISHED_COPY.fullmatch(path.name)
        if made is None or now - int(made[1]) / 1e9 < _FORGOTTEN_AFTER:
            continue
        if kind is EntryKind.FOLDER:
            disk.remove_tree(path)
        elif kind is EntryKind.FILE:
            disk.remove(path)


def runs_of_others(spool: Spool) -> dict[str, int]:
    """Return how many runs each other worker has in working/, by its id."""
    counts = {}
    for folder in disk.folders_in(spool.working.parent):
        if folder != spool.working:
            counts[folder.name] = len(disk.folders_in(folder))
    return {name: count for name, count in counts.items() if count}


def sweep(folder: Path) -> bool:
    """Remove a run folder whose job never came (the monitor died, or the rename failed, between
    the journal's first line and the rename). Return False if there is something to keep."""
    left = {entry.name for entry in disk.entries(folder)}
    if left - {JOURNAL}:
        return False
    disk.remove(folder / JOURNAL)
    disk.remove_empty_folder(folder)
    return True


def publish(run: Run, spool: Spool, outcome: str, envelope: ErrorEnvelope | None) -> Path:
    """Move a run to done/ or failed/, and return its path there.

    `outcome`: done, failed or cancelled. Evidence and explanation first, then the manifest, the
    journal closed and synced, the folder synced, one rename, both parents synced. Raises OSError;
    calling it again resumes where it was.
    """
    if envelope is not None:
        write_explanation(
            run.folder,
            envelope,
            _about(run, spool),
            records=run.records,
            webui=run.about_webui(),
        )
    run.write_manifest(outcome)
    run.sweep()
    disk.sync_folder(run.folder)
    if not run.ledger.ended:  # the last word: what has it is whole, and is only moved at a start
        run.record("ended", outcome=outcome)
    run.close()
    return move_out(run.folder, spool, outcome)


def _about(run: Run, spool: Spool) -> About:
    calls = run.ledger.calls.values()
    return About(
        run_id=run.run_id,
        source=run.source,
        images=[image.name for call in calls for image in call.images or ()],
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
    stem, ending = (source.name, "") if is_folder else (source.stem, source.suffix or ".yaml")
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
    number = 1
    while True:
        path = inbox / _fitting(stem, ending if number == 1 else f"-{number}{ending}")
        try:
            renames.rename(temporary, path)
        except FileExistsError:
            number += 1
        except OSError:
            _discard(temporary)
            raise
        else:
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

"""What a person asks for by files: cancel, hold, resume, submit, retry some points of a job. (To
retry all of it: back_to_inbox.retry.)

The command line and the web page call these; each writes what a person could write by hand.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from sdwatch.errors import JobError, NotFoundError, SpoolError
from sdwatch.policy.job.files.job_files import USED
from sdwatch.policy.job.files.near_miss import PICTURE_EXTENSIONS
from sdwatch.policy.job.points.only_points import with_points
from sdwatch.policy.job.stage.confinement import JobRules
from sdwatch.policy.queue.control import CANCEL, CANCEL_EXTENSION, FREE, HOLD
from sdwatch.policy.report.envelope import CUT_SHORT
from sdwatch.spool.back_to_inbox import copy_of_job, put_in, retry
from sdwatch.spool.candidates import is_temporary
from sdwatch.spool.failed_points import envelope_of, failed_points_in, unfinished_points
from sdwatch.spool.folders import Spool
from sdwatch.spool.heartbeat import HEARTBEAT, may_live, read_heartbeat
from sdwatch.spool.hold_note import notes_in
from sdwatch.spool.job_file import job_file_in
from sdwatch.spool.new_jobs import job_text_at, read_job_at
from sdwatch.spool.outside import FOLDER, OutsideFiles, UsedFiles, digest_of, read_bounded_text
from sdwatch.spool.run import JOB_FILE, Run
from sdwatch.system import disk
from sdwatch.system.clock import SystemClock


def the_spool_exists(spool: Spool) -> None:
    """Raise SpoolError if there is no spool yet."""
    if not disk.is_folder(spool.inbox):
        raise SpoolError(
            f"{spool.root}: there is no spool here yet; `sdwatch run` or `sdwatch submit` makes one"
        )


def cancel(path: Path, spool: Spool) -> str:
    """Cancel a run in working/, or a job that waits in the inbox; return what happens now. Raises
    NotFoundError if it was moved a moment ago, OSError."""
    gone = NotFoundError(f"{path.name} was moved a moment ago; run this command again")
    if not path.is_relative_to(spool.inbox):
        try:
            disk.touch(path / CANCEL)
        except FileNotFoundError:
            raise gone from None
        when = "by the monitor that runs it"
        if not any(may_live(beat) for beat in read_heartbeat(path.parent / HEARTBEAT)):
            when = "when a monitor runs here next"
        return f"{path.name}: will be cancelled {when}"
    marker = path.with_name(path.name + CANCEL_EXTENSION)
    disk.touch(marker)
    # A claim takes the marker along. If the job was claimed and the marker is still here, nobody
    # would ever read it.
    if not disk.exists(path) and disk.exists(marker):
        disk.remove(marker)
        raise gone
    return f"{path.relative_to(spool.inbox)}: will be cancelled before it starts"


def hold(spool: Spool, *, free: bool = False) -> Path | None:
    """Put the file `hold` into the spool, and return it; None if it is on hold already. `free`: it
    also frees the GPU. Raises SpoolError, OSError."""
    the_spool_exists(spool)
    held = spool.hold_file()
    if held is not None and (not free or spool.hold_frees(held)):
        return None
    file = held or spool.root / HOLD
    if free:
        written = disk.read(file) if held else b""  # somebody's note stays
        disk.write(file, written + b"\n" * bool(written) + FREE.encode())
    else:
        disk.touch(file)
    return file


def resume(spool: Spool) -> tuple[list[Path], list[Path]]:
    """Remove the notes of lanes on hold, which asks the monitor to check them again, and then
    `hold` and `hold.txt`; return both. Raises SpoolError, OSError."""
    the_spool_exists(spool)
    notes, holds = notes_in(spool.root), []
    for note in notes:
        disk.remove(note)
    while (held := spool.hold_file()) is not None:
        disk.remove(held)
        holds.append(held)
    return notes, holds


def submit(job: Path, inbox: Path) -> Path:
    """Copy a job's file or folder into the inbox, under a name that the inbox ignores, then rename
    it; return its path there. Raises JobError, OSError."""
    # A name such as ~castle.yaml would be ignored forever.
    name = f"job-{job.name.strip('.~#$_')}" if is_temporary(job.name) else job.name
    temporary = inbox / f".{os.getpid()}-{time.time_ns()}.tmp"
    if disk.is_folder(job):
        disk.copy(job, temporary, follow_links=True)
        return put_in(temporary, inbox, name, "")
    disk.write(temporary, job_text_at(job))
    ending = ".yaml" if job.suffix.lower() in PICTURE_EXTENSIONS else job.suffix
    return put_in(temporary, inbox, Path(name).stem, ending)


def failed_points_of(run: Path, rules: JobRules) -> list[int]:
    """Return the numbers of the points of an ended run that failed, and of those that it did not
    come to: it may have ended by `on_failure: stop`, its timeout or a cancel. Raises SpoolError if
    there are none."""
    envelope = envelope_of(run)
    listed = {point.number for point in failed_points_in(envelope)}
    left: list[int] = []
    if envelope:
        ended = Run(run, SystemClock())
        try:
            points = ended.read_job(rules).points
            if points.are_several:
                cut = not listed or envelope.get("diagnosis") in CUT_SHORT
                left = unfinished_points(points, ended.ledger, cut_short=cut)
        except (JobError, OSError):
            pass  # somebody edited it; retry_points says what is wrong with it
    if not (numbers := sorted(listed.union(left))):
        raise SpoolError(f"{run.name}: no point of this run failed by itself; retry it as a whole")
    return numbers


def retry_points(run: Path, spool: Spool, numbers: Sequence[int], rules: JobRules) -> Path:
    """Put a run's job back into the inbox so that it makes only these points, with the same random
    seed, and with the files from outside that the run used; return its path there. A job that would
    fail at once, with a point that it does not have, is not put there. Raises SpoolError,
    FileProblems, OSError."""
    ended = Run(run, SystemClock())
    random_seed = ended.ledger.random_seed
    if random_seed is None:
        raise SpoolError(f"{run.name}: its job has no points; retry it as a whole")
    folder = Path(tempfile.mkdtemp(prefix="sdwatch-retry-"))
    try:
        copy = copy_of_job(run, folder)
        file = job_file_in(copy) if disk.is_folder(copy) else copy
        if file is None or file.is_symlink():  # it would lead to a file of this user
            raise SpoolError(f"{run.name}: the job file is gone, or is a link")
        disk.write(file, with_points(disk.read(file), file.name, numbers, random_seed))
        job = _sealed(copy, ended, rules)
        _check(job, ended, rules)
        return retry(run, spool.inbox, job)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check(job: Path, ended: Run, rules: JobRules) -> None:
    """Raise SpoolError with the mistakes of a job that makes points of a run again."""
    try:
        read_job_at(job, rules, OutsideFiles(rules, ended.source))
    except JobError as error:
        mistakes = str(error).replace(str(job), ended.run_id)
        raise SpoolError(f"nothing was queued, because the job would fail:\n{mistakes}") from None


_README = b"""\
This job makes points of an earlier run again. In this folder are the files that the run used
besides its own: defaults of the inbox, wildcards of the config. It uses these again, and no others,
so that the same comes out.
"""


def _sealed(copy: Path, run: Run, rules: JobRules) -> Path:
    """Return a copy of a run's job that uses again what the run used from outside: `copy` itself,
    if that is what it uses anyway, else a job folder with `_used/`, see
    policy/job/files/job_files.py. Raises JobError if a file of the run was changed, OSError."""
    if disk.is_folder(copy / USED) or _uses(copy, run.source, rules) == run.ledger.used:
        return copy
    UsedFiles(run.folder, run.ledger.used, run.source)  # they are what they were
    folder = copy
    if not disk.is_folder(copy):
        folder = copy.parent / "folder"
        folder.mkdir()
        copy.rename(folder / f"{Path(JOB_FILE).stem}{copy.suffix.lower()}")
    for name in run.ledger.used:
        target = folder / USED / name
        target.parent.mkdir(parents=True, exist_ok=True)
        disk.write(target, read_bounded_text(run.folder / FOLDER, name, 1 << 30))
    (folder / USED).mkdir(exist_ok=True)
    disk.write(folder / USED / "README.txt", _README)
    return folder


def _uses(job: Path, source: str, rules: JobRules) -> dict[str, str] | None:
    """Return the digests of the files outside that a job uses now; None where it has mistakes."""
    files = OutsideFiles(rules, source)
    try:
        read_job_at(job, rules, files)
    except JobError:
        return None
    return {name: digest_of(data) for name, data in files.used.items()}

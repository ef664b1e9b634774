"""Put the job of a run back into the inbox, as it was or edited; find a name for a new one."""

from __future__ import annotations

import itertools
import os
import time
from contextlib import suppress
from pathlib import Path

from sdwatch.errors import SpoolError
from sdwatch.policy.job.files.near_miss import JOB_EXTENSIONS
from sdwatch.policy.job.text.document import too_large
from sdwatch.spool.fingerprint import TOO_DEEP, fingerprint_of, is_too_deep
from sdwatch.spool.inside import MAX_PICTURE_BYTES
from sdwatch.spool.run import (
    JOB_FILE,
    JOB_FOLDER,
    read_source,
)
from sdwatch.system import disk, renames

_MOST_COPIED = 4 << 30  # bytes of a job folder; a hole costs nothing until it is copied

_LONGEST_NAME = 255  # bytes, on nearly every file system


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
    was_file = not disk.is_folder(run_folder / JOB_FOLDER)  # it may be one now, see commands.py
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

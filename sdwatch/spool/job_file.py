"""Find the file that is a job, or makes a folder one; read it and what lies beside it: bounded, and
never through a link."""

from __future__ import annotations

import os
from pathlib import Path

from sdwatch.errors import JobError, Problem, SpoolError
from sdwatch.policy.job.files.near_miss import JOB_EXTENSIONS
from sdwatch.policy.job.text.document import MAX_BYTES, too_large
from sdwatch.spool.inside import open_plain
from sdwatch.spool.outside import read_bounded_text
from sdwatch.system import EntryKind, disk

_NAMES = tuple(f"job{extension}" for extension in JOB_EXTENSIONS)


def is_job_name(name: str) -> bool:
    """Return whether a file of this name makes its folder a job: `job.yaml`, in any case."""
    return name.lower() in _NAMES


NOT_LOCAL = 'is online only; choose "Always keep on this device" for it, or wait until it is here'
"""Why a file of OneDrive or a similar cloud waits: its content is not on this machine."""


def has_job_elsewhere(folder: Path) -> bool:
    """Return whether the content of the folder's job file is not on this machine."""
    try:
        entries = disk.entries(folder)
    except OSError:
        return False
    return any(e.kind is EntryKind.PLACEHOLDER and is_job_name(e.name) for e in entries)


def job_file_in(folder: Path) -> Path | None:
    """Return the job file that makes this a job folder, if it has one: `job.yaml` before
    `job.yml` before `job.json`, and of names that differ in case the one in small letters. No
    link is one."""
    try:
        files = (entry.name for entry in disk.entries(folder) if entry.kind is EntryKind.FILE)
        found = list(filter(is_job_name, files))
    except OSError:
        return None
    found.sort(key=lambda name: (_NAMES.index(name.lower()), name.lower() != name, name))
    return folder / found[0] if found else None


_MOST_BESIDE = 8_000_000  # bytes


def read_beside(folder: Path, name: str) -> bytes:
    """Return a file of a job folder that its job reads, such as a list of prompts; it is read as
    text, which refuses what is cut off here. Raises SpoolError if it is too large or not a plain
    file, OSError."""
    return read_bounded_text(folder, name, _MOST_BESIDE)


def read_bounded(path: Path, shown_as: str, inside: Path | None = None) -> bytes:
    """Return a job file's bytes. `inside`: a folder above it, below which no link is followed.
    Raises JobError if it is too large or not a plain file (a link, a pipe), OSError."""
    folder = inside or path.parent
    try:
        with open_plain(folder, path.relative_to(folder).as_posix()) as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(MAX_BYTES + 1)
    except SpoolError as error:
        raise unreadable(shown_as, f"the job file {error}") from error
    if (problem := too_large(max(size, len(data)))) is not None:
        raise JobError(shown_as, [problem])
    return data


def unreadable(shown_as: str, why: str) -> JobError:
    """Return the error for a job that cannot be read at all."""
    return JobError(shown_as, [Problem(0, 0, why)])

"""Find the file that is a job, or makes a folder one."""

from __future__ import annotations

from pathlib import Path

from sdwatch.policy.job.files.near_miss import JOB_EXTENSIONS
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

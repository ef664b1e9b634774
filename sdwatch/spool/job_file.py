"""The file that is a job, or makes a folder one."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sdwatch.policy.near_miss import JOB_EXTENSIONS

_NAMES = tuple(f"job{extension}" for extension in JOB_EXTENSIONS)


def is_job_name(name: str) -> bool:
    """Whether a file of this name makes its folder a job: `job.yaml`, in any case."""
    return name.lower() in _NAMES


def job_file_in(folder: Path) -> Path | None:
    """The job file that makes this a job folder, if it has one: `job.yaml` before `job.yml` before
    `job.json`, and of names that differ in case the one in small letters. No link is one."""
    try:
        found = [entry.name for entry in os.scandir(folder) if is_job_name(entry.name)]
    except OSError:
        return None
    found.sort(key=lambda name: (_NAMES.index(name.lower()), name.lower() != name, name))
    return next((folder / name for name in found if is_plain(folder / name)), None)


def is_plain(path: Path) -> bool:
    """Whether there is a plain file of this name: no link, which may lead anywhere, no pipe."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False

"""Jobs that are not in the inbox yet: read them as the monitor would."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from sdwatch.errors import Problem
from sdwatch.policy.job.files.job_files import Outside
from sdwatch.policy.job.files.near_miss import DEFAULTS, JOB_EXTENSIONS, PICTURE_EXTENSIONS
from sdwatch.policy.job.job import Job, parse_job
from sdwatch.policy.job.outputs.picture import NoPictureError, settings_in
from sdwatch.policy.job.stage.confinement import JobRules
from sdwatch.policy.job.stage.infotext import looks_like_infotext
from sdwatch.spool.fingerprint import TOO_DEEP, folder_files, is_too_deep
from sdwatch.spool.inside import MAX_PICTURE_BYTES, size_of_arrived
from sdwatch.spool.job_file import job_file_in, read_beside, read_bounded, unreadable
from sdwatch.spool.outside import OutsideFiles
from sdwatch.system import disk


def read_job_at(path: Path, rules: JobRules, files: OutsideFiles | None = None) -> Job:
    """Return the job in a file or a job folder. `files`: those outside that it uses; None for those
    that it would use in the inbox. Raises JobError, whose problems name the path as given."""
    try:
        outside = (files or _outside(path, rules)).outside()
        if disk.is_folder(path):
            return _in_folder(path, rules, outside)
        data = job_text_at(path)
        return parse_job(data, str(path), None, path.stem, rules=rules, outside=outside)
    except OSError as error:
        raise unreadable(str(path), f"cannot be read: {error.strerror}") from error


def job_text_at(path: Path) -> bytes:
    """Return the text of a job that is one file; of a picture the settings that a WebUI wrote
    into it. Raises JobError, OSError."""
    if path.name == DEFAULTS:
        raise unreadable(str(path), "this is not a job: it has fields for the jobs of its folder")
    low = path.suffix.lower()
    if low in PICTURE_EXTENSIONS:
        return _settings_of(path).encode()
    if low not in JOB_EXTENSIONS:
        why = "a job is a .yaml, .yml or .json file, or a folder with a job.yaml"
        raise unreadable(str(path), why)
    return read_bounded(path.resolve(), str(path))


def _settings_of(path: Path) -> str:
    try:
        with disk.open_file(path) as file:
            settings = settings_in(file.read(MAX_PICTURE_BYTES))
    except NoPictureError as error:
        raise unreadable(str(path), str(error)) from error
    if not looks_like_infotext(settings):
        raise unreadable(str(path), "no WebUI wrote its settings into this picture")
    return settings


def _in_folder(folder: Path, rules: JobRules, outside: Outside) -> Job:
    file = job_file_in(folder)
    if file is None:
        raise unreadable(str(folder), "there is no job.yaml in this folder, so it is not a job")
    if is_too_deep(folder):
        raise unreadable(str(folder), TOO_DEEP)
    data = read_bounded(file.resolve(), str(file))
    return parse_job(
        data,
        str(file),
        folder_files(folder),
        folder.name,
        rules=rules,
        look=lambda name: size_of_arrived(folder, name, rules.max_image),
        read=lambda name: read_beside(folder, name),
        folder=f"{folder}{os.sep}",
        outside=outside,
    )


def _outside(path: Path, rules: JobRules) -> OutsideFiles:
    """Return the files that a job uses where it lies in the inbox, or once it is put there."""
    whole = path.absolute()
    within = rules.inbox is not None and whole.is_relative_to(rules.inbox)
    source = whole.relative_to(rules.inbox).as_posix() if within and rules.inbox else path.name
    return OutsideFiles(rules, source, by_path=True)


def warnings_of(warnings: Iterable[Problem], path: Path) -> list[str]:
    """Return the warnings of a job, each with its place."""
    return [p.located(str(path)).replace(": ", ": warning: ", 1) for p in warnings]

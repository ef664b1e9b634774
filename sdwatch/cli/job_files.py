"""Jobs that are not in the inbox yet: read them as the monitor would."""

from __future__ import annotations

from pathlib import Path

from sdwatch.errors import JobError, Problem
from sdwatch.policy.job import Job, parse_job
from sdwatch.policy.near_miss import JOB_EXTENSIONS
from sdwatch.policy.reach import JobRules
from sdwatch.spool.inside import size_of_picture
from sdwatch.spool.job_file import job_file_in
from sdwatch.spool.run import read_bounded
from sdwatch.spool.signature import TOO_DEEP, folder_files, is_too_deep


def read_job_at(path: Path, rules: JobRules) -> Job:
    """The job in a file or a job folder. Raises JobError, whose problems name the path as given."""
    try:
        if path.is_dir():
            return _in_folder(path, rules)
        if path.suffix.lower() not in JOB_EXTENSIONS:
            raise _refused(
                path, "a job is a .yaml, .yml or .json file, or a folder with a job.yaml"
            )
        data = read_bounded(path.resolve(), str(path))
        return parse_job(data, str(path), None, path.stem, rules=rules)
    except OSError as error:
        raise _refused(path, f"cannot be read: {error.strerror}") from error


def _in_folder(folder: Path, rules: JobRules) -> Job:
    file = job_file_in(folder)
    if file is None:
        raise _refused(folder, "there is no job.yaml in this folder, so it is not a job")
    if is_too_deep(folder):
        raise _refused(folder, TOO_DEEP)
    data = read_bounded(file.resolve(), str(file))
    return parse_job(
        data,
        str(file),
        folder_files(folder),
        folder.name,
        rules=rules,
        look=lambda name: size_of_picture(folder, name, rules.max_image),
    )


def _refused(path: Path, why: str) -> JobError:
    return JobError(str(path), [Problem(0, 0, why)])


def warnings_of(job: Job, path: Path) -> list[str]:
    """A job's warnings, each with its place."""
    return [p.located(str(path)).replace(": ", ": warning: ", 1) for p in job.warnings]

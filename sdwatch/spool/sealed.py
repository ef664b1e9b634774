"""Make a job that uses again what an earlier run of it used from outside: its folder `_used/`, see
policy/job/files/job_files.py."""

from __future__ import annotations

from pathlib import Path

from sdwatch.errors import JobError
from sdwatch.policy.job.files.job_files import USED
from sdwatch.policy.job.stage.confinement import JobRules
from sdwatch.spool.new_jobs import read_job_at
from sdwatch.spool.outside import FOLDER, OutsideFiles, UsedFiles, digest_of, read_bounded_text
from sdwatch.spool.run import JOB_FILE, Run
from sdwatch.system import disk

_README = b"""\
This job makes points of an earlier run again. In this folder are the files that the run used
besides its own: defaults of the inbox, wildcards of the config. It uses these again, and no others,
so that the same comes out.
"""


def sealed(copy: Path, run: Run, rules: JobRules) -> Path:
    """Return a copy of a run's job that uses what the run used: `copy` itself, if that is what it
    uses anyway, else a job folder. Raises JobError if a file of the run was changed, OSError."""
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

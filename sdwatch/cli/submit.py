"""`sdwatch submit`: put jobs into the inbox, all of them or none."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from sdwatch.cli.check import check_jobs
from sdwatch.cli.chosen_config import add_config_argument, choose_config
from sdwatch.cli.exit_codes import ExitCode
from sdwatch.cli.job_files import job_text_at
from sdwatch.policy.job.near_miss import PICTURE_EXTENSIONS
from sdwatch.spool.archive import put_in
from sdwatch.spool.candidates import is_temporary
from sdwatch.system import disk


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_config_argument(parser)
    parser.add_argument("jobs", type=Path, nargs="+", metavar="FILE|FOLDER")
    parser.epilog = "The files are copied. If one has mistakes, none is submitted."


def main(args: argparse.Namespace) -> ExitCode:
    """Check and copy. Raises ConfigError, SpoolError, OSError."""
    chosen = choose_config(args.config)
    spool = chosen.spool
    if mistaken := check_jobs(args.jobs, chosen.config.rules):
        print(f"{mistaken} of {len(args.jobs)} with mistakes; nothing was submitted")
        return ExitCode.BAD_JOB
    spool.prepare()
    for job in args.jobs:
        print(f"{job} -> {_submit(job.absolute(), spool.inbox)}")
    return ExitCode.OK


def _submit(job: Path, inbox: Path) -> Path:
    """Copy under a name that the inbox ignores, then rename; return the job's path there."""
    # A name such as ~castle.yaml would be ignored forever.
    name = f"job-{job.name.strip('.~#$_')}" if is_temporary(job.name) else job.name
    temporary = inbox / f".{os.getpid()}-{time.time_ns()}.tmp"
    if disk.is_folder(job):
        disk.copy(job, temporary, follow_links=True)
        return put_in(temporary, inbox, name, "")
    disk.write(temporary, job_text_at(job))
    ending = ".yaml" if job.suffix.lower() in PICTURE_EXTENSIONS else job.suffix
    return put_in(temporary, inbox, Path(name).stem, ending)

"""`sdwatch cancel`: write the file that cancels a run, or a job that waits."""

from __future__ import annotations

import argparse
from pathlib import Path

from sdwatch.cli.chosen_config import add_config_argument, choose_config
from sdwatch.cli.exit_codes import ExitCode, NotFoundError
from sdwatch.cli.names import find, waiting_jobs, working_runs
from sdwatch.policy.job.control import CANCEL, CANCEL_EXTENSION
from sdwatch.spool.archive import Spool
from sdwatch.system import disk


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_config_argument(parser)
    parser.add_argument(
        "name", metavar="RUN|JOB", help="a run's id, a job's file in the inbox, or a part of it"
    )
    parser.epilog = "What was cancelled goes to failed/, with the images that were finished."


def main(args: argparse.Namespace) -> ExitCode:
    """Write the file. Raises NotFoundError, OSError."""
    spool = choose_config(args.config).spool
    path = find(args.name, working_runs(spool) | waiting_jobs(spool), "working/ or the inbox")
    print(_cancel(path, spool))
    return ExitCode.OK


def _cancel(path: Path, spool: Spool) -> str:
    gone = NotFoundError(f"{path.name} was moved a moment ago; run this command again")
    if not path.is_relative_to(spool.inbox):
        try:
            disk.touch(path / CANCEL)
        except FileNotFoundError:
            raise gone from None
        return f"{path.name}: will be cancelled by the monitor that runs it"
    marker = path.with_name(path.name + CANCEL_EXTENSION)
    disk.touch(marker)
    # A claim takes the marker along. If the job was claimed and the marker is still here, nobody
    # would ever read it.
    if not disk.exists(path) and disk.exists(marker):
        disk.remove(marker)
        raise gone
    return f"{path.relative_to(spool.inbox)}: will be cancelled before it starts"

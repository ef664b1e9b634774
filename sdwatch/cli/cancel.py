"""`sdwatch cancel`: write the file that cancels a run, or a job that waits."""

from __future__ import annotations

import argparse

from sdwatch.cli.shared.chosen_config import add_config_argument, choose_config
from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.cli.shared.run_by_name import find, waiting_jobs, working_runs
from sdwatch.policy.privacy.printable import printable
from sdwatch.spool import commands


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_config_argument(parser)
    parser.add_argument(
        "name", metavar="RUN|JOB", help="a run's id, a job's file in the inbox, or a part of it"
    )
    parser.epilog = "A cancelled job goes to failed/, with the images that were already finished."


def main(args: argparse.Namespace) -> ExitCode:
    """Write the file. Raises NotFoundError, OSError."""
    spool = choose_config(args.config).spool
    path = find(args.name, working_runs(spool) | waiting_jobs(spool), "working/ or the inbox")
    print(printable(commands.cancel(path, spool)))
    return ExitCode.OK

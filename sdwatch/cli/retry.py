"""`sdwatch retry`: the job of a run that ended, once more."""

from __future__ import annotations

import argparse
from pathlib import Path

from sdwatch.cli.chosen_config import add_config_argument, choose_config
from sdwatch.cli.exit_codes import ExitCode
from sdwatch.cli.names import archived_runs, find
from sdwatch.spool import archive


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    add_config_argument(parser)
    parser.add_argument("run", metavar="RUN", help="its id, or a part that only it has")
    parser.epilog = "The job is taken as it lies in the run's folder, so it can be edited before."


def main(args: argparse.Namespace) -> ExitCode:
    """Copy the job into the inbox. Raises NotFoundError, SpoolError, OSError."""
    spool = choose_config(args.config).spool
    runs = archived_runs(spool.done) | archived_runs(spool.failed)
    run = find(Path(args.run).name, runs, "done/ or failed/")  # failed/RUN is as good
    spool.prepare()
    print(f"{run.name}: tried again as {archive.retry(run, spool.inbox)}")
    return ExitCode.OK

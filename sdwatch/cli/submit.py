"""`sdwatch submit`: put jobs into the inbox, all of them or none."""

from __future__ import annotations

import argparse
from pathlib import Path

from sdwatch.cli.check import check_jobs, without_dots
from sdwatch.cli.shared.chosen_config import add_config_argument, choose_config
from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.policy.privacy.printable import printable
from sdwatch.spool import commands


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_config_argument(parser)
    parser.add_argument("jobs", type=Path, nargs="+", metavar="FILE|FOLDER")
    parser.epilog = "The files are copied. If one has mistakes, none is submitted."


def main(args: argparse.Namespace) -> ExitCode:
    """Check and copy. Raises ConfigError, SpoolError, OSError."""
    chosen = choose_config(args.config)
    spool = chosen.spool
    if mistaken := check_jobs(args.jobs, chosen.config.rules, None, spool.root):
        print(f"{mistaken} of {len(args.jobs)} with mistakes; nothing was submitted")
        return ExitCode.BAD_JOB
    spool.prepare()
    for job in args.jobs:
        print(printable(f"{job} -> {commands.submit(without_dots(job), spool.inbox)}"))
    return ExitCode.OK

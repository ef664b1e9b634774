"""`sdwatch hold`: start no new call until `sdwatch resume`."""

from __future__ import annotations

import argparse

from sdwatch.cli.chosen_config import add_config_argument, choose_config
from sdwatch.cli.exit_codes import ExitCode
from sdwatch.cli.names import the_spool_exists
from sdwatch.system import disk


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_config_argument(parser)
    parser.epilog = "It is the file `hold` in the spool; calls under way are finished."


def main(args: argparse.Namespace) -> ExitCode:
    """Make the file. Raises SpoolError, OSError."""
    spool = choose_config(args.config).spool
    the_spool_exists(spool)
    if (held := spool.hold_file()) is not None:
        print(f"Already on hold: {held}")
        return ExitCode.OK
    disk.touch(spool.root / "hold")
    print(f"On hold: {spool.root / 'hold'}. No new call starts until `sdwatch resume`.")
    return ExitCode.OK

"""`sdwatch resume`: ends the hold that a person asked for."""

from __future__ import annotations

import argparse

from sdwatch.cli.chosen_config import add_config_argument, choose_config
from sdwatch.cli.exit_codes import ExitCode
from sdwatch.cli.names import the_spool_exists


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    add_config_argument(parser)


def main(args: argparse.Namespace) -> ExitCode:
    """Remove `hold` and `hold.txt`. Raises SpoolError, OSError."""
    spool = choose_config(args.config).spool
    the_spool_exists(spool)
    if spool.hold_file() is None:
        print("It was not on hold.")
    while (held := spool.hold_file()) is not None:
        held.unlink()
        print(f"Removed {held}: it goes on.")
    return ExitCode.OK

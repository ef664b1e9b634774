"""`sdwatch resume`: end a person's hold, and have lanes on hold checked again; or end what a person
ordered of one box of the cluster."""

from __future__ import annotations

import argparse
from dataclasses import replace

from sdwatch.cli.cluster import add_broker_argument, order_box
from sdwatch.cli.shared.chosen_config import add_config_argument, choose_config
from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.spool import commands


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument(
        "box",
        metavar="BOX",
        nargs="?",
        default="",
        help="this box of the cluster gets runs and starts calls again",
    )
    add_config_argument(parser)
    add_broker_argument(parser)
    parser.epilog = (
        "It removes the file `hold` (or hold.txt) and each HOLD-<lane>.txt from the spool, as you\n"
        "could by hand."
    )


def main(args: argparse.Namespace) -> ExitCode:
    """Remove `hold` and `hold.txt`, and the notes of lanes on hold, which asks the monitor to check
    them again.
    Raises SdwatchError, OSError."""
    if args.box:
        order_box(args, lambda order: replace(order, drain=False, hold=False))
        print(f"{args.box}: gets runs, and starts calls.")
        return ExitCode.OK
    spool = choose_config(args.config).spool
    notes, holds = commands.resume(spool)
    if not notes and not holds:
        print(f"{spool.root} is not on hold.")
    for note in notes:
        print(f"Removed {note}: the monitor now checks that WebUI again.")
    for held in holds:
        print(f"Removed {held}: the monitor sends calls again.")
    return ExitCode.OK

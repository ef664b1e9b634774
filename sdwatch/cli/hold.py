"""`sdwatch hold`: start no new call until `sdwatch resume`, here or on one box of the cluster."""

from __future__ import annotations

import argparse
from dataclasses import replace

from sdwatch.cli.cluster import add_broker_argument, order_box
from sdwatch.cli.shared.chosen_config import add_config_argument, choose_config
from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.errors import SdwatchError
from sdwatch.spool import commands


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument(
        "box", metavar="BOX", nargs="?", default="", help="only this box of the cluster"
    )
    add_config_argument(parser)
    add_broker_argument(parser)
    parser.add_argument(
        "--free",
        action="store_true",
        help="also free the GPU: unload the checkpoint, or stop the WebUI, until `sdwatch resume`",
    )
    parser.epilog = (
        "It makes the file `hold` in the spool, as you could by hand (with --free it has the line\n"
        "`free: true`). Calls under way still finish."
    )


def main(args: argparse.Namespace) -> ExitCode:
    """Make the file, or note it at the broker. Raises SdwatchError, OSError."""
    if args.box:
        return _hold_box(args)
    spool = choose_config(args.config).spool
    if (held := commands.hold(spool, free=args.free)) is None:
        print(f"Already on hold by the file {spool.hold_file()}. To end it: sdwatch resume")
        return ExitCode.OK
    print(f"On hold by the file {held}: no call and no WebUI is started.")
    if args.free:
        print("The monitor frees the GPU after the call under way; `sdwatch status` shows it.")
    print("To end it: sdwatch resume")
    return ExitCode.OK


def _hold_box(args: argparse.Namespace) -> ExitCode:
    if args.free:
        raise SdwatchError("--free is for this machine: give it no BOX")
    order_box(args, lambda order: replace(order, hold=True))
    print(f"{args.box}: starts no call; its runs stay there. A call under way still finishes.")
    print(f"To end it: sdwatch resume {args.box}")
    return ExitCode.OK

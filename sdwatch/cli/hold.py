"""`sdwatch hold`: start no new call until `sdwatch resume`."""

from __future__ import annotations

import argparse

from sdwatch.cli.shared.chosen_config import add_config_argument, choose_config
from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.spool import commands


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_config_argument(parser)
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
    """Make the file. Raises SpoolError, OSError."""
    spool = choose_config(args.config).spool
    if (held := commands.hold(spool, free=args.free)) is None:
        print(f"Already on hold by the file {spool.hold_file()}. To end it: sdwatch resume")
        return ExitCode.OK
    print(f"On hold by the file {held}: no call and no WebUI is started.")
    if args.free:
        print("The monitor frees the GPU after the call under way; `sdwatch status` shows it.")
    print("To end it: sdwatch resume")
    return ExitCode.OK

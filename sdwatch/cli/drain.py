"""`sdwatch drain`: give a box of the cluster no more runs."""

from __future__ import annotations

import argparse
from dataclasses import replace

from sdwatch.cli.cluster import add_broker_argument, order_box
from sdwatch.cli.shared.chosen_config import add_config_argument
from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.cli.shared.plain_lines import say


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument("box", metavar="BOX", help="as `sdwatch cluster status` names it")
    add_config_argument(parser)
    add_broker_argument(parser)
    parser.epilog = "It finishes the runs that it has. `sdwatch resume BOX` gives it runs again."


def main(args: argparse.Namespace) -> ExitCode:
    """Note it at the broker. Raises NotFoundError, SdwatchError, OSError."""
    order_box(args, lambda order: replace(order, drain=True))
    say(f"{args.box}: gets no more runs; those that it has are finished")
    say(f"To end it: sdwatch resume {args.box}")
    return ExitCode.OK

"""`sdwatch run`: run the monitor, forever or once."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from sdwatch.cli.shared.chosen_config import (
    FOR_YOUR_OWN,
    ChosenConfig,
    add_config_argument,
    choose_config,
)
from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.cli.shared.plain_lines import say
from sdwatch.cli.shared.session import Session, counted
from sdwatch.errors import ConfigError, Problem
from sdwatch.monitor.once import MonitorEnd

if TYPE_CHECKING:
    from sdwatch.monitor.work import Partner

SIMULATOR = "sdwatch.simulator"
_OWN_BROKER = "own"
"""Stands for the URL of the broker that was used here last."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_config_argument(parser)
    parser.add_argument(
        "--once",
        action="store_true",
        help="stop when no job can run now. Exit code 0: the inbox is empty; 3: a WebUI is on "
        "hold; 10: jobs wait for their time",
    )
    parser.add_argument(
        "--take-over",
        metavar="WORKER",
        default="",
        help="also resume the runs of a worker that is gone; `sdwatch status` names it",
    )
    parser.add_argument(
        "--cluster",
        metavar="URL",
        default="",
        help="also do runs of a cluster: the URL of its broker, or a file that has it; see "
        "`sdwatch cluster up`",
    )
    parser.add_argument(
        "--dispatch",
        metavar="URL",
        nargs="?",
        const=_OWN_BROKER,
        default="",
        help="also give jobs of this inbox to the boxes of a cluster: the URL of its broker, or a "
        "file that has it; without URL the broker that `sdwatch cluster up` runs here",
    )
    parser.epilog = (
        "Ctrl-C stops it cleanly: it waits for the current call (`stop_grace` in the config). A\n"
        "second Ctrl-C stops it at once. Unfinished jobs resume at the next start."
    )


def main(args: argparse.Namespace) -> ExitCode:
    """Run the monitor. Raises AlreadyRunningError, ConfigError, SdwatchError."""
    chosen = choose_config(args.config)
    if not chosen.config.webuis and not args.dispatch:
        why = "`webuis:` names none; only `sdwatch run --dispatch` works without"
        raise ConfigError(str(chosen.file), [Problem(0, 0, why)])
    partner = _partner(args, chosen.config.state) if args.cluster or args.dispatch else None
    if any(SIMULATOR in (webui.command or ()) for webui in chosen.config.webuis):
        say(_not_real(chosen))
    session = Session(
        chosen.config,
        chosen.file,
        once=args.once,
        take_over=args.take_over,
        partner=partner,
    )
    result = session.run()
    spool = chosen.spool
    where = f"see {spool.done} and {spool.failed}"
    if result is MonitorEnd.HOLD:
        where = f"see HOLD-<lane>.txt in {spool.root}"
    if result is MonitorEnd.WAITING:
        where = "run it again then, or without --once"
    say(f"sdwatch ended ({result}): {counted(session.counts)}; {where}")
    return _CODES.get(result, ExitCode.OK)


def _partner(args: argparse.Namespace, state: Path) -> Partner:
    """Return what has the monitor do jobs together with others. Raises SdwatchError, OSError."""
    from sdwatch.cli.cluster import broker_of, partner_of, remember_broker  # most run alone

    given = "" if args.dispatch == _OWN_BROKER else args.dispatch
    dispatch = broker_of(given, state) if args.dispatch else ""
    if dispatch:
        remember_broker(state, dispatch)
    return partner_of(args.cluster, dispatch)


_CODES = {MonitorEnd.HOLD: ExitCode.HOLD, MonitorEnd.WAITING: ExitCode.WAITING}


def _not_real(chosen: ChosenConfig) -> str:
    head = "The pictures will not be real: the WebUI is the simulator."
    if chosen.file is None:
        return f"{head} To use your own WebUI, write a config: {FOR_YOUR_OWN}"
    return f"{head} To use your own, edit `webuis:` in {chosen.file}, or type: {FOR_YOUR_OWN}"

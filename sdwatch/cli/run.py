"""`sdwatch run`: run the monitor, forever or once."""

from __future__ import annotations

import argparse

from sdwatch.cli.chosen_config import ChosenConfig, add_config_argument, choose_config
from sdwatch.cli.exit_codes import ExitCode
from sdwatch.cli.init import FOR_YOUR_OWN
from sdwatch.cli.plain import say
from sdwatch.cli.session import Session, counted
from sdwatch.config import Config
from sdwatch.monitor.monitor import Result

SIMULATOR = "sdwatch.simulator"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_config_argument(parser)
    parser.add_argument(
        "--once",
        action="store_true",
        help="end when the inbox is empty; or, with exit code 3, at a hold that needs a person, or "
        "when the cool-down list is exhausted",
    )
    parser.add_argument(
        "--take-over",
        metavar="WORKER",
        default="",
        help="resume the runs of a worker that is gone; `sdwatch status` names it",
    )
    parser.epilog = (
        "Ctrl-C stops it cleanly and waits for the call under way (`stop_grace` in the config); a\n"
        "second Ctrl-C ends it now. What is not finished resumes at the next start."
    )


def main(args: argparse.Namespace) -> ExitCode:
    """Run the monitor. Raises AlreadyRunningError, ConfigError, SpoolError."""
    chosen = choose_config(args.config)
    if uses_simulator(chosen.config):
        say(_not_real(chosen))
    session = Session(chosen.config, chosen.file, once=args.once, take_over=args.take_over)
    result = session.run()
    spool = chosen.spool
    where = f"see {spool.done} and {spool.failed}"
    say(f"sdwatch ended ({result}): {counted(session.counts)}; {where}")
    return ExitCode.HOLD if result is Result.HOLD else ExitCode.OK


def uses_simulator(config: Config) -> bool:
    """Return whether a lane's pictures come from the simulator."""
    return any(SIMULATOR in (webui.command or ()) for webui in config.webuis)


def _not_real(chosen: ChosenConfig) -> str:
    head = "These are not real pictures: the WebUI is the simulator."
    if chosen.file is None:
        return f"{head} To use your real one, write a config: {FOR_YOUR_OWN}"
    return f"{head} To use your real one, edit webuis: in {chosen.file}, or: {FOR_YOUR_OWN}"

"""`sdwatch resume`: ends the hold that a person asked for, and has lanes on hold tried again."""

from __future__ import annotations

import argparse

from sdwatch.cli.chosen_config import add_config_argument, choose_config
from sdwatch.cli.exit_codes import ExitCode
from sdwatch.cli.names import the_spool_exists
from sdwatch.spool.hold_note import notes_in
from sdwatch.system import disk


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    add_config_argument(parser)


def main(args: argparse.Namespace) -> ExitCode:
    """Remove `hold` and `hold.txt`, and the monitor's own notes, which asks it to try again.
    Raises SpoolError, OSError."""
    spool = choose_config(args.config).spool
    the_spool_exists(spool)
    notes = notes_in(spool.root)
    if spool.hold_file() is None and not notes:
        print("It was not on hold.")
    for note in notes:
        disk.remove(note)
        print(f"Removed {note}: the monitor tries that WebUI again.")
    while (held := spool.hold_file()) is not None:
        disk.remove(held)
        print(f"Removed {held}: it goes on.")
    return ExitCode.OK

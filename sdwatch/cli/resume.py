"""`sdwatch resume`: end a person's hold, and have lanes on hold checked again."""

from __future__ import annotations

import argparse

from sdwatch.cli.chosen_config import add_config_argument, choose_config
from sdwatch.cli.exit_codes import ExitCode
from sdwatch.cli.names import the_spool_exists
from sdwatch.spool.hold_note import notes_in
from sdwatch.system import disk


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_config_argument(parser)


def main(args: argparse.Namespace) -> ExitCode:
    """Remove `hold` and `hold.txt`, and the notes of lanes on hold, which asks the monitor to check
    them again.
    Raises SpoolError, OSError."""
    spool = choose_config(args.config).spool
    the_spool_exists(spool)
    notes = notes_in(spool.root)
    if spool.hold_file() is None and not notes:
        print("It is not on hold.")
    for note in notes:
        disk.remove(note)
        print(f"Removed {note}: the monitor checks that WebUI again now.")
    while (held := spool.hold_file()) is not None:
        disk.remove(held)
        print(f"Removed {held}: calls start again.")
    return ExitCode.OK

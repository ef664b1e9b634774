"""`sdwatch stop`: stop the monitor of a spool cleanly, by a file."""

from __future__ import annotations

import argparse

from sdwatch.cli.shared.chosen_config import add_config_argument, choose_config
from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.policy.queue.control import STOP
from sdwatch.spool.commands import the_spool_exists
from sdwatch.spool.heartbeat import UNREADABLE, is_dead_here, read_heartbeats
from sdwatch.system import disk


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_config_argument(parser)
    parser.epilog = (
        "It makes the file `stop` in the spool, as you could by hand, also over a share. The\n"
        "monitor of that spool, on whichever machine, stops as on Ctrl-C: it waits for the\n"
        "current call, and unfinished jobs resume at the next start. The monitor never removes\n"
        "the file, and ignores one from before its start: this command replaces that."
    )


def main(args: argparse.Namespace) -> ExitCode:
    """Make the file, in place of an older one. Raises SpoolError, OSError."""
    spool = choose_config(args.config).spool
    the_spool_exists(spool)
    beats = [b for b in read_heartbeats(spool.root) if UNREADABLE in b or not is_dead_here(b)]
    if not beats:
        print(f"No monitor is running on {spool.root}.")
        return ExitCode.OK
    for name in spool.stop_files():
        disk.remove(spool.root / name)
    disk.touch(spool.root / STOP, exist_ok=False)
    print(f"Made {spool.root / STOP}: the monitor stops once its current call has ended.")
    print("`sdwatch status` shows when it has stopped.")
    return ExitCode.OK

"""`sdwatch bundle`: make one zip about a run, for a bug report."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from itertools import count
from pathlib import Path

from sdwatch.cli.shared.chosen_config import add_config_argument, choose_config
from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.cli.shared.run_by_name import all_runs, find, run_named
from sdwatch.errors import NotFoundError
from sdwatch.policy.privacy.printable import printable_text
from sdwatch.spool.bundle import bundle, name_for_others, tails_for_others
from sdwatch.system import disk, patience
from sdwatch.system.state_folder import StateFolder


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_config_argument(parser)
    parser.add_argument("run", metavar="RUN", help="its id, or a unique part of it")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="default: ./sdwatch-RUN.zip, where RUN lacks the name of the job's file",
    )
    parser.add_argument(
        "--with-log",
        action="store_true",
        help="add what the WebUI printed last; shows it and asks first",
    )
    parser.epilog = (
        "Only codes, numbers, versions, config keys and where in the code something failed are in\n"
        "it: no prompts, images, passwords, names or paths. `--with-log` adds the WebUI's last\n"
        "lines, with known prompts, passwords, user names and home paths taken out. Look through\n"
        "them before you agree: sdwatch cannot recognize text that the WebUI made up itself."
    )


def main(args: argparse.Namespace) -> ExitCode:
    """Write the zip. Raises NotFoundError, ConfigError, OSError."""
    chosen = choose_config(args.config)
    spool = chosen.spool
    runs = all_runs(spool)
    run = find(run_named(args.run), runs, "failed/, done/ or working/")
    log = StateFolder(chosen.config.state).log_file
    tails = tails_for_others(run, chosen.config) if args.with_log else {}
    if args.with_log and not _are_allowed(tails):
        tails = {}
    data = bundle(run, chosen.config, (log.with_name(f"{log.name}.1"), log), tails)
    if not disk.is_folder(run):  # it ended meanwhile: what was read is not complete
        raise NotFoundError(f"{run.name} was moved a moment ago; run this command again")
    target = args.output or _free_name(run.name)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    patience.patiently(lambda: temporary.write_bytes(data))
    patience.patiently(lambda: os.replace(temporary, target))
    print(f"{target}: {len(data) / 1000:.0f} KB about {run.name}")
    return ExitCode.OK


def _are_allowed(tails: Mapping[str, str]) -> bool:
    """Show the logs, and return whether somebody agrees to give them away."""
    if not tails:
        print("this run has no log of the WebUI: none is added")
        return False
    for name, text in tails.items():
        print(f"----- {name} -----\n{printable_text(text)}")
    print("Add these lines to the zip? [y/N] ", end="", flush=True)
    answer = sys.stdin.readline() if sys.stdin else ""
    if answer.strip().lower() in ("y", "yes"):
        return True
    print("the log is not added")
    return False


def _free_name(run_id: str) -> Path:
    """Return a path for the zip that does not exist yet."""
    name = name_for_others(run_id)
    paths = (Path(f"{name}.zip" if n == 1 else f"{name}-{n}.zip") for n in count(1))
    return next(path for path in paths if not path.exists())

"""`sdwatch open`: open a run's folder, its last picture or its WHY.txt on the desktop."""

from __future__ import annotations

import argparse
from pathlib import Path

from sdwatch import system
from sdwatch.cli.shared.chosen_config import add_config_argument, choose_config
from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.cli.shared.run_by_name import all_runs, find, run_named
from sdwatch.errors import NotFoundError, SpoolError
from sdwatch.policy.privacy.printable import printable
from sdwatch.policy.queue.run_names import IMAGES
from sdwatch.spool.diagnostics import WHY
from sdwatch.spool.inside import open_plain
from sdwatch.spool.run import Run
from sdwatch.system.clock import SystemClock

_PICTURES = (".png", ".jpg", ".jpeg", ".webp")
"""What is opened by a double-click runs no program, whatever somebody wrote into the journal."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_config_argument(parser)
    parser.add_argument("run", metavar="RUN", help="its id, or a unique part of it")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--picture", action="store_true", help="open the picture that it finished last"
    )
    what.add_argument("--why", action="store_true", help=f"open its {WHY}")
    parser.epilog = "Without a desktop, as over ssh, it prints the path instead."


def main(args: argparse.Namespace) -> ExitCode:
    """Open it. Raises NotFoundError, ConfigError, OSError."""
    spool = choose_config(args.config).spool
    folder = find(run_named(args.run), all_runs(spool), "failed/, done/ or working/")
    path = folder
    if args.why:
        path = _plain(folder, WHY, "it did not fail")
    elif args.picture:
        path = _last_picture(folder)
    if not system.open_on_desktop(path):
        print(printable(str(path)))
    return ExitCode.OK


def _last_picture(folder: Path) -> Path:
    calls = Run(folder, SystemClock()).ledger.calls.values()
    names = [str(image.name) for call in calls for image in call.pictures if not image.grid]
    names = [name for name in names if name.lower().endswith(_PICTURES)]
    if not names:
        raise NotFoundError(f"{folder.name} has no picture yet")
    return _plain(folder, f"{IMAGES}/{names[-1]}", "somebody removed it")


def _plain(folder: Path, name: str, if_none: str) -> Path:
    """Return the path of a plain file in the run's folder. Raises NotFoundError."""
    try:
        open_plain(folder, name).close()
    except FileNotFoundError:
        raise NotFoundError(f"{folder.name} has no {printable(name)}: {if_none}") from None
    except SpoolError as error:
        raise NotFoundError(f"{folder.name}: {printable(name)} {error}") from error
    return folder / name

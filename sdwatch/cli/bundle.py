"""`sdwatch bundle`: make one zip about a run, for a bug report."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from sdwatch.cli.chosen_config import add_config_argument, choose_config
from sdwatch.cli.exit_codes import ExitCode, NotFoundError
from sdwatch.cli.names import archived_runs, find, run_named, working_runs
from sdwatch.spool.bundle import bundle, name_for_others
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
        help="default: ./sdwatch-RUN.zip, without its file's name",
    )
    parser.epilog = (
        "No prompts, images, passwords, user names or home paths are in it; its README.txt says\n"
        "what is. Look through it all the same before you give it away."
    )


def main(args: argparse.Namespace) -> ExitCode:
    """Write the zip. Raises NotFoundError, ConfigError, OSError."""
    chosen = choose_config(args.config)
    spool = chosen.spool
    runs = working_runs(spool) | archived_runs(spool.done) | archived_runs(spool.failed)
    run = find(run_named(args.run), runs, "failed/, done/ or working/")
    log = StateFolder(chosen.config.state).log_file
    data = bundle(run, spool, chosen.config, (log.with_name(f"{log.name}.1"), log))
    if not disk.is_folder(run):  # it ended meanwhile: what was read is not complete
        raise NotFoundError(f"{run.name} was moved a moment ago; run this command again")
    target = args.output or _free_name(run.name)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    patience.patiently(lambda: temporary.write_bytes(data))
    patience.patiently(lambda: os.replace(temporary, target))
    print(f"{target}: {len(data) / 1000:.0f} KB about {run.name}")
    return ExitCode.OK


def _free_name(run_id: str) -> Path:
    """Return a path for the zip that does not exist yet."""
    name = name_for_others(run_id)
    number, path = 1, Path(f"{name}.zip")
    while path.exists():
        number += 1
        path = Path(f"{name}-{number}.zip")
    return path

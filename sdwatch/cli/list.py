"""`sdwatch list`: list the jobs that wait and the runs, newest first, one line each."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from sdwatch.cli.chosen_config import add_config_argument, choose_config
from sdwatch.cli.exit_codes import ExitCode
from sdwatch.cli.names import archived_runs, waiting_jobs, working_runs
from sdwatch.policy.privacy.printable import printable_text
from sdwatch.spool.archive import Spool
from sdwatch.spool.diagnostics import WHY
from sdwatch.spool.run import Run
from sdwatch.system import disk
from sdwatch.system.clock import SystemClock

FOLDERS = ("inbox", "working", "done", "failed")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_config_argument(parser)
    parser.add_argument("folder", nargs="?", choices=FOLDERS, help="show only these")


def main(args: argparse.Namespace) -> ExitCode:
    """Print the list. Raises ConfigError, OSError."""
    spool = choose_config(args.config).spool
    folders = (args.folder,) if args.folder else FOLDERS
    lines = 0
    for line in _lines(spool, folders):
        print(printable_text(line))
        lines += 1
    if not lines:
        print(f"nothing in {', '.join(f'{folder}/' for folder in folders)} of {spool.root}")
    return ExitCode.OK


def _lines(spool: Spool, folders: tuple[str, ...]) -> Iterator[str]:
    if "inbox" in folders:
        for source in waiting_jobs(spool):
            yield _columns("-", "waits", "", source, "")
    runs: dict[str, Path] = {}
    if "working" in folders:
        runs |= working_runs(spool)
    if "done" in folders:
        runs |= archived_runs(spool.done)
    if "failed" in folders:
        runs |= archived_runs(spool.failed)
    for run_id in sorted(runs, reverse=True):
        yield _run_line(runs[run_id])


def _run_line(folder: Path) -> str:
    try:
        ledger = Run(folder, SystemClock()).ledger
    except OSError as error:  # whatever somebody did to one run, the others are shown
        return _columns(folder.name, "?", "", "", f"cannot be read: {error.strerror}")
    images = sum(not image.grid for call in ledger.calls.values() for image in call.images or ())
    source = str(ledger.claimed.get("source", ""))
    return _columns(
        folder.name, ledger.ended or "working", f"{images} images", source, _why(folder)
    )


def _columns(run_id: str, outcome: str, images: str, job: str, why: str) -> str:
    line = f"{run_id:<44}  {outcome:<9}  {images:>10}  {job:<20}  {why}"
    return line.rstrip()


def _why(folder: Path) -> str:
    try:
        return disk.read(folder / WHY).decode("utf-8", "replace").partition("\n")[0]
    except OSError:
        return ""

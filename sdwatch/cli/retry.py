"""`sdwatch retry`: put the jobs of ended runs back into the inbox, edited first with `--edit`."""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from sdwatch.cli.check import check_jobs
from sdwatch.cli.chosen_config import add_config_argument, choose_config
from sdwatch.cli.exit_codes import ExitCode
from sdwatch.cli.names import archived_runs, find, run_named
from sdwatch.errors import SdwatchError
from sdwatch.policy.job.confinement import JobRules
from sdwatch.policy.report.command import quoted
from sdwatch.spool import archive
from sdwatch.spool.archive import Spool
from sdwatch.spool.job_file import job_file_in
from sdwatch.system.signals import LeftToChild

_EDITORS = ("notepad",) if os.name == "nt" else ("nano", "vi")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_config_argument(parser)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="its id, or a unique part of it")
    parser.add_argument(
        "--edit",
        action="store_true",
        help="open a copy of the job in $VISUAL or $EDITOR first; submitted if it has no mistakes",
    )
    parser.epilog = "The job is copied from the run's folder to where it came from in the inbox."


def main(args: argparse.Namespace) -> ExitCode:
    """Copy the jobs into the inbox. Raises NotFoundError, SpoolError, OSError."""
    chosen = choose_config(args.config)
    spool = chosen.spool
    ended = archived_runs(spool.done) | archived_runs(spool.failed)
    # All are looked up before the first is submitted.
    runs = [find(run_named(name), ended, "done/ or failed/") for name in args.runs]
    spool.prepare()
    code = ExitCode.OK
    for run in dict.fromkeys(runs):
        if args.edit:
            code = max(code, _edit(run, spool, chosen.config.rules))
        else:
            _print_queued(run, archive.retry(run, spool.inbox))
    return code


def _edit(run: Path, spool: Spool, rules: JobRules) -> ExitCode:
    """Let a person edit a copy. If it has mistakes then, it stays there to be corrected."""
    folder = Path(tempfile.mkdtemp(prefix="sdwatch-edit-"))
    worthless: dict[Path, str] | None = None
    try:
        copy = archive.copy_of_job(run, folder)
        worthless = _contents(folder)
        _open_editor(job_file_in(copy) or copy)
        if check_jobs([copy], rules):
            print("not submitted")
            return ExitCode.BAD_JOB
        _print_queued(run, archive.retry(run, spool.inbox, copy))
        worthless = None
        return ExitCode.OK
    finally:
        if worthless is None or _contents(folder) == worthless:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"your changes are in {copy}")
            print(f"correct them, then: sdwatch submit {quoted(str(copy), os.name == 'nt')}")


def _contents(folder: Path) -> dict[Path, str]:
    """Return the digest of each file; an editor also rewrites what nobody changed."""
    digests = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with open(path, "rb") as file:
                digests[path] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _open_editor(file: Path) -> None:
    words = _editor()
    try:
        with LeftToChild():
            ended = subprocess.run([*words, str(file)], check=False).returncode
    except (OSError, ValueError) as error:
        raise SdwatchError(f"the editor {words[0]!r} cannot be started: {error}") from error
    if ended:
        raise SdwatchError(f"the editor ended with {ended}; nothing was submitted")


def _editor() -> list[str]:
    """Return the words of the editor's command. Raises SdwatchError."""
    name = next((name for name in ("VISUAL", "EDITOR") if os.environ.get(name)), "")
    if not name:
        known = next((found for editor in _EDITORS if (found := shutil.which(editor))), None)
        if known is None:
            raise SdwatchError("no editor was found: set $EDITOR")
        return [known]
    try:
        words = shlex.split(os.environ[name], posix=os.name != "nt")
        words = [word.strip('"') for word in words] if os.name == "nt" else words
    except ValueError as error:
        raise SdwatchError(f"${name} is not a command: {os.environ[name]!r}: {error}") from error
    if not words:
        raise SdwatchError(f"${name} is empty: put the name of an editor in it")
    return words


def _print_queued(run: Path, job: Path) -> None:
    print(f"{run.name}: queued again as {job}")

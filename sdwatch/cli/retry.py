"""`sdwatch retry`: put the jobs of ended runs back into the inbox, edited first with `--edit`."""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from sdwatch.cli.check import check_jobs
from sdwatch.cli.shared.chosen_config import add_config_argument, choose_config
from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.cli.shared.run_by_name import archived_runs, find, run_named
from sdwatch.errors import SdwatchError
from sdwatch.policy.job.stage.confinement import JobRules
from sdwatch.policy.privacy.printable import printable
from sdwatch.policy.report.command import quoted, words_on_windows
from sdwatch.spool import back_to_inbox, commands
from sdwatch.spool.folders import Spool
from sdwatch.spool.job_file import job_file_in
from sdwatch.system import disk
from sdwatch.system.signals import LeftToChild

_EDITORS = ("notepad",) if os.name == "nt" else ("nano", "vi")
_split = words_on_windows if os.name == "nt" else shlex.split


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_config_argument(parser)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="its id, or a unique part of it")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--edit",
        action="store_true",
        help="edit a copy of the job in $VISUAL or $EDITOR first; mistakes keep it from being "
        "submitted",
    )
    which.add_argument(
        "--failed",
        action="store_true",
        help="of a job with several points: only those that failed or were never started, with "
        "the same seeds",
    )
    which.add_argument(
        "--point",
        type=int,
        action="append",
        metavar="NUMBER",
        help="of a job with several points: only this one, with the same seeds; may be repeated",
    )
    parser.epilog = (
        "The job is copied from the run's folder back to the sub-folder of the inbox that it came\n"
        "from. The old run stays as it is."
    )


def main(args: argparse.Namespace) -> ExitCode:
    """Copy the jobs into the inbox. Raises NotFoundError, SpoolError, OSError."""
    chosen = choose_config(args.config)
    spool = chosen.spool
    ended = archived_runs(spool.done) | archived_runs(spool.failed)
    # All are looked up before the first is submitted.
    runs = [find(run_named(name), ended, "done/ or failed/") for name in args.runs]
    spool.prepare()
    if args.failed or args.point:
        return _retry_points(runs, spool, args.point or [], chosen.config.rules)
    code = ExitCode.OK
    for run in dict.fromkeys(runs):
        if args.edit:
            code = max(code, _edit(run, spool, chosen.config.rules))
        else:
            print(printable(f"{run.name}: queued again as {back_to_inbox.retry(run, spool.inbox)}"))
    return code


def _retry_points(
    runs: Iterable[Path], spool: Spool, points: Sequence[int], rules: JobRules
) -> ExitCode:
    """Make a job of some points of each run: of `points`, or of those that are missing."""
    for run in dict.fromkeys(runs):
        numbers = points or commands.failed_points_of(run, rules)
        queued = commands.retry_points(run, spool, numbers, rules)
        what = "point" if len(numbers) == 1 else "points"
        print(printable(f"{run.name}: {len(numbers)} {what} queued again as {queued}"))
    return ExitCode.OK


def _edit(run: Path, spool: Spool, rules: JobRules) -> ExitCode:
    """Let a person edit a copy. If it has mistakes then, it stays there to be corrected."""
    folder = Path(tempfile.mkdtemp(prefix="sdwatch-edit-"))
    unedited: dict[Path, str] | None = None
    try:
        copy = back_to_inbox.copy_of_job(run, folder)
        unedited = _contents(folder)
        _open_editor(job_file_in(copy) or copy)
        if check_jobs([copy], rules):
            print("the job has mistakes, so it was not submitted")
            return ExitCode.BAD_JOB
        print(
            printable(f"{run.name}: queued again as {back_to_inbox.retry(run, spool.inbox, copy)}")
        )
        unedited = None
        return ExitCode.OK
    finally:
        if unedited is None or _contents(folder) == unedited:
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
        raise SdwatchError(
            f"the editor {words[0]} cannot be started: {disk.in_words(error)}"
        ) from error
    if ended:
        raise SdwatchError(f"the editor exited with code {ended}; nothing was submitted")


def _editor() -> list[str]:
    """Return the words of the editor's command. Raises SdwatchError."""
    name = next((name for name in ("VISUAL", "EDITOR") if os.environ.get(name)), "")
    if not name:
        known = next((found for editor in _EDITORS if (found := shutil.which(editor))), None)
        if known is None:
            raise SdwatchError("no editor was found: set $EDITOR to the command of your editor")
        return [known]
    try:
        words = _split(os.environ[name])
    except ValueError as error:
        raise SdwatchError(f"${name} is not a command: {os.environ[name]!r}: {error}") from error
    if not words:
        raise SdwatchError(f"${name} is empty: put the name of an editor in it")
    # Windows starts a batch file, such as code.cmd, by its whole name only.
    return [shutil.which(words[0]) or words[0], *words[1:]]

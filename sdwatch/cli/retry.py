"""`sdwatch retry`: the jobs of runs that ended, once more; edited before with `--edit`."""

from __future__ import annotations

import argparse
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
from sdwatch.policy.command import quoted
from sdwatch.policy.reach import JobRules
from sdwatch.spool import archive
from sdwatch.spool.archive import Spool
from sdwatch.spool.run import JOB_NAMES

_EDITORS = ("notepad",) if os.name == "nt" else ("nano", "vi")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    add_config_argument(parser)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="its id, or a part that only it has")
    parser.add_argument(
        "--edit",
        action="store_true",
        help="open a copy of the job in $VISUAL or $EDITOR first; submitted only if it is right",
    )
    parser.epilog = "The job is taken as it lies in the run's folder, and goes where it came from."


def main(args: argparse.Namespace) -> ExitCode:
    """Copy the jobs into the inbox. Raises NotFoundError, SpoolError, OSError."""
    chosen = choose_config(args.config)
    spool = chosen.spool
    ended = archived_runs(spool.done) | archived_runs(spool.failed)
    # All are found before one is submitted.
    runs = [find(run_named(name), ended, "done/ or failed/") for name in args.runs]
    spool.prepare()
    code = ExitCode.OK
    for run in dict.fromkeys(runs):
        if args.edit:
            code = max(code, _edit(run, spool, chosen.config.rules))
        else:
            _tell(run, archive.retry(run, spool.inbox))
    return code


def _edit(run: Path, spool: Spool, rules: JobRules) -> ExitCode:
    """Let a person change a copy; what is wrong then stays there for them to go on with."""
    copy = archive.copy_of_job(run, Path(tempfile.mkdtemp(prefix="sdwatch-edit-")))
    file = next((copy / n for n in JOB_NAMES if (copy / n).is_file()), copy)
    _open_editor(file)
    if check_jobs([copy], rules):
        print(f"not submitted; your changes are in {file}")
        print(f"correct them, then: sdwatch submit {quoted(str(copy), os.name == 'nt')}")
        return ExitCode.BAD_JOB
    _tell(run, archive.retry(run, spool.inbox, copy))
    shutil.rmtree(copy.parent)
    return ExitCode.OK


def _open_editor(file: Path) -> None:
    named = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    known = next((found for name in _EDITORS if (found := shutil.which(name))), None)
    if not (named or known):
        raise SdwatchError(f"no editor is known: set $EDITOR, or edit {file} and submit that")
    words = shlex.split(named, posix=os.name != "nt") if named else [str(known)]
    try:
        ended = subprocess.run([*words, str(file)], check=False).returncode
    except OSError as error:
        raise SdwatchError(f"the editor {words[0]!r} cannot be started: {error}") from error
    if ended:
        raise SdwatchError(
            f"the editor ended with {ended}; nothing was submitted, the copy is {file}"
        )


def _tell(run: Path, job: Path) -> None:
    print(f"{run.name}: tried again as {job}")

"""A process without standard streams, as pythonw and Windows services are: sys.stdout is None."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from sdwatch.cli.exit_codes import ExitCode
from tests.functional.cli import LIMIT, ROOT, drop, make_spool, only, started
from tests.windows.imitated import python

WITHOUT_STREAMS = """
import sys
sys.stdin = sys.stdout = sys.stderr = None
sys.__stdin__ = sys.__stdout__ = sys.__stderr__ = None
from sdwatch.cli import main
sys.exit(main(sys.argv[1:]))
"""


def streamless(cwd: Path, *words: object) -> int:
    """The exit code of a command that has nowhere to print. What still reaches the real streams
    would be a traceback, and is an error of the test."""
    ended = subprocess.run(
        python("-c", WITHOUT_STREAMS, *words),
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert ended.stdout == ended.stderr == ""
    return ended.returncode


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["check"], ExitCode.OK),
        (["check", "inbox/castle.yaml"], ExitCode.OK),
        (["check", "inbox/mistake.yaml"], ExitCode.BAD_JOB),
        (["check", "--against", "http://127.0.0.1:9"], ExitCode.USAGE),
        (["submit", "inbox/castle.yaml"], ExitCode.OK),
        (["status"], ExitCode.OK),
        (["status", "--json"], ExitCode.OK),
        (["list"], ExitCode.OK),
        (["hold"], ExitCode.OK),
        (["resume"], ExitCode.OK),
        (["cancel", "castle"], ExitCode.OK),
        (["schema"], ExitCode.OK),
        (["init", "another"], ExitCode.OK),
        (["canary"], ExitCode.ERROR),  # nobody answers there
        (["no-such-command"], ExitCode.USAGE),
        (["--version"], ExitCode.OK),
        (["run", "--help"], ExitCode.OK),
    ],
)
def test_a_command_ends_as_it_would_with_streams(
    tmp_path: Path, words: list[str], code: ExitCode
) -> None:
    spool = make_spool(tmp_path)
    drop(spool, "castle.yaml")
    drop(spool, "mistake.yaml", "prompt: a castle\nstepz: 2\n")
    assert streamless(spool, *words) == code


def test_a_night_without_streams_makes_its_pictures(tmp_path: Path) -> None:
    spool = make_spool(tmp_path)
    drop(spool, "castle.yaml")
    assert streamless(spool, "run", "--once") == ExitCode.OK
    run = only(spool, "done").name
    assert "ready" in (spool / "state" / "sdwatch.log").read_text(encoding="utf-8")
    assert streamless(spool, "bundle", run) == ExitCode.OK
    assert streamless(spool, "retry", run) == ExitCode.OK
    assert (spool / "inbox" / "castle.yaml").is_file()


def test_what_is_printed_is_the_same_with_streams(tmp_path: Path) -> None:
    told = started(make_spool(tmp_path), "check")
    assert told.returncode == ExitCode.OK
    assert "no mistakes" in told.stdout

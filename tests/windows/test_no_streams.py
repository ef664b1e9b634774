"""A process without standard streams, as pythonw and Windows services are: sys.stdout is None."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sdwatch.cli.shared.exit_codes import ExitCode
from tests.functional.cli import LIMIT, ROOT, drop, make_spool, only, started
from tests.support import warm

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
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = warm.run("-c", WITHOUT_STREAMS, *map(str, words), cwd=cwd, env=env, limit=LIMIT)
    assert ended.stdout == ended.stderr == b""
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
    result = started(make_spool(tmp_path), "check")
    assert result.returncode == ExitCode.OK
    assert "no mistakes" in result.stdout

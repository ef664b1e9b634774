"""The standard streams may be closed, or nobody may read what is printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from sdwatch.cli.shared.exit_codes import ExitCode
from tests.functional.cli import LIMIT, _env, drop, make_spool, states
from tests.support import warm
from tests.support.helpers import wait_until

pytestmark = pytest.mark.posix_only("descriptors of POSIX, seen in /proc")

CLOSED = ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"]


@pytest.fixture(scope="module", params=CLOSED)
def closed(request: pytest.FixtureRequest) -> Iterator[tuple[warm.Server, Path]]:
    """A Python that was started with its streams closed, from which the commands are forked, and
    where its stderr is."""
    with TemporaryDirectory() as folder:
        err = Path(folder, "err")
        err.touch()
        server = warm.Server(f"2>{err} {request.param}")
        yield server, err
        server.end()


COMMANDS_OF_FILES = ("status", "check", "list", "schema", "hold", "resume", "submit castle.yaml")


@pytest.mark.parametrize("command", COMMANDS_OF_FILES)
def test_a_command_works_with_its_streams_closed(
    tmp_path: Path, closed: tuple[warm.Server, Path], command: str
) -> None:
    make_spool(tmp_path)
    (tmp_path / "castle.yaml").write_text("prompt: a castle\n")
    server, err = closed
    done = server.fork(["-m", "sdwatch", *command.split()], tmp_path, _env())
    assert done.wait(LIMIT) == ExitCode.OK, err.read_text()
    assert "Traceback" not in err.read_text()


@pytest.mark.parametrize("closed", CLOSED)
def test_a_command_starts_with_its_streams_closed(tmp_path: Path, closed: str) -> None:
    make_spool(tmp_path)
    done = subprocess.run(
        ["sh", "-c", f'"{sys.executable}" -m sdwatch status {closed}'],
        cwd=tmp_path,
        env=_env(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == ExitCode.OK, done.stderr
    assert "Traceback" not in done.stderr


def test_a_monitor_whose_streams_are_closed_prints_into_no_file(tmp_path: Path) -> None:
    make_spool(tmp_path)
    drop(tmp_path, "castle.yaml")
    line = f'exec "{sys.executable}" -m sdwatch run --once <&- >&- 2>&-'
    process = subprocess.Popen(["sh", "-c", line], cwd=tmp_path, env=_env())
    wait_until(lambda: catches_by_pid(process.pid), why="it has started")
    wait_until(lambda: states(tmp_path) or process.poll() is not None, 60, "it works")
    if process.poll() is None:
        links = [Path(f"/proc/{process.pid}/fd/{number}").readlink() for number in range(3)]
        assert links == [Path(os.devnull)] * 3
    assert process.wait(LIMIT) == ExitCode.OK
    (run,) = (tmp_path / "done").iterdir()
    for record in (run / "journal.jsonl").read_text().splitlines():
        assert json.loads(record)["event"]
    for entry in (tmp_path / "state" / "sdwatch.log").read_text().splitlines():
        assert entry[:2] == "20", entry


def catches_by_pid(pid: int) -> bool:
    return Path(f"/proc/{pid}/fd/2").is_symlink()


@pytest.mark.parametrize("command", ["schema", "--help", "run --help", "check"])
@pytest.mark.parametrize("nowhere", ["| :", "2>&1 | :"])
def test_a_reader_that_is_gone_ends_a_command_quietly(
    tmp_path: Path, command: str, nowhere: str
) -> None:
    make_spool(tmp_path)
    script = f'{{ "{sys.executable}" -m sdwatch {command}; echo $? >code; }} {nowhere}'
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=tmp_path,
        env=_env(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.stderr == ""
    wait_until((tmp_path / "code").exists)
    wait_until(lambda: (tmp_path / "code").read_text() == "0\n")


def test_a_monitor_whose_reader_is_gone_does_its_jobs(tmp_path: Path) -> None:
    make_spool(tmp_path)
    drop(tmp_path, "castle.yaml")
    process = subprocess.Popen(
        [sys.executable, "-m", "sdwatch", "run", "--once"],
        cwd=tmp_path,
        env=_env(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(LIMIT) == ExitCode.OK
    assert list(tmp_path.glob("done/*/run.json"))
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()

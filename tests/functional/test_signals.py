"""A signal ends every command cleanly, whenever it comes; the terminal may go away."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.system import disk
from tests.functional.cli import LIMIT, ROOT, _env, drop, make_spool, states
from tests.support.helpers import wait_until

pytestmark = pytest.mark.posix_only("signals of POSIX, seen in /proc")

SIGNALS = [signal.SIGINT, signal.SIGTERM, *filter(None, [getattr(signal, "SIGHUP", None)])]
COMMANDS = [["run"], ["demo"], ["status"], ["check"], ["list"], ["schema"]]
SLOW = ("--step-time", "0.1")
IMPORTS = (1, 2, 20, 60, 150, 300)

# Sends itself a signal at the n-th module that is looked for, once our first line has run.
_AT_IMPORT = """
import itertools, os, sys
number, at = int(sys.argv.pop(1)), int(sys.argv.pop(1))
class Finder:
    numbers = itertools.count(1)  # several threads may import
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        known = name in ("sdwatch.__main__", "sdwatch.signals", "sdwatch")
        if not known and next(cls.numbers) == at:
            os.kill(os.getpid(), number)
from sdwatch.__main__ import main
sys.meta_path.insert(0, Finder)
sys.exit(main())
"""


_left: list[subprocess.Popen[str]] = []


def started(cwd: Path, *args: str, **more: Any) -> subprocess.Popen[str]:
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **more}
    process = subprocess.Popen([sys.executable, *args], cwd=cwd, env=_env(), **streams)
    _left.append(process)
    return process


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """What a test that failed has left running is stopped, with its WebUI."""
    yield
    while _left:
        if (process := _left.pop()).poll() is None:
            process.send_signal(signal.SIGTERM)
            threading.Event().wait(0.2)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=400)


def catches(process: subprocess.Popen[str]) -> bool:
    """Whether it has a handler for SIGTERM, which Python has not by itself; or has ended."""
    if process.poll() is not None:
        return True
    text = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(line.split()[1] for line in text.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def assert_clean_end(command: list[str], process: subprocess.Popen[str]) -> None:
    out, err = process.communicate(timeout=LIMIT)
    assert "Traceback" not in out + err, err
    assert "Exception" not in err, err
    if command == ["run"]:
        assert process.returncode == ExitCode.OK, err
    elif process.returncode != ExitCode.OK:  # it was quicker than the signal
        assert process.returncode == ExitCode.INTERRUPTED, err
        if command != ["demo"]:
            assert "stopped by " in err.splitlines()[-1]


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_signal_at_any_import_ends_a_command_cleanly(
    tmp_path: Path, command: list[str], number: signal.Signals
) -> None:
    """Each command at each of the imports, and each signal at each of them, but not all threes."""
    make_spool(tmp_path)
    turn = COMMANDS.index(command) + SIGNALS.index(number)
    for at in (IMPORTS[turn % 3], IMPORTS[turn % 3 + 3]):
        process = started(tmp_path, "-c", _AT_IMPORT, str(int(number)), str(at), *command)
        assert_clean_end(command, process)


@pytest.mark.parametrize("command", COMMANDS[:4], ids=" ".join)
def test_a_signal_at_any_moment_of_a_start_ends_a_command_cleanly(
    tmp_path: Path, command: list[str]
) -> None:
    make_spool(tmp_path)
    drop(tmp_path, "castle.yaml")
    for turn in range(6):
        process = started(tmp_path, "-m", "sdwatch", *command)
        wait_until(lambda p=process: catches(p), why="the handlers are in place")
        # The moments are what is tried: from the first line to well after the start.
        threading.Event().wait(turn * (0.4 if command[0] in ("run", "demo") else 0.1))
        process.send_signal(SIGNALS[turn % 3])
        assert_clean_end(command, process)


def test_the_console_command_starts_with_the_same_first_lines() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"sdwatch": "sdwatch.__main__:main"}


def test_a_sighup_that_was_ignored_at_the_start_stays_ignored(tmp_path: Path) -> None:
    make_spool(tmp_path)
    process = subprocess.Popen(
        ["nohup", sys.executable, "-m", "sdwatch", "run"],
        cwd=tmp_path,
        env=_env(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: "ready" in states(tmp_path), 60, "the lane is ready")
        process.send_signal(signal.SIGHUP)
        drop(tmp_path, "castle.yaml")
        wait_until(lambda: list(tmp_path.glob("done/*/run.json")), 60, "the job is done")
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT) == ExitCode.OK


def in_a_call(cwd: Path, steps: int = 150, **more: Any) -> subprocess.Popen[str]:
    """`sdwatch run` in the middle of a call of 15 s, or 0.1 s a step: a busy machine may need three
    times as long, and a stop waits for 30 s."""
    make_spool(cwd, *SLOW)
    drop(cwd, "castle.yaml", f"prompt: a castle\nsteps: {steps}\n")
    process = started(cwd, "-m", "sdwatch", "run", **more)
    # Its start is recorded before it is sent: until then a stop need not wait for it.
    wait_until(lambda: any(run["progress"].get("step") for run in runs_of(cwd)), 60, "a step")
    return process


def runs_of(cwd: Path) -> list[dict[str, Any]]:
    beats = (json.loads(disk.read(path)) for path in cwd.glob("working/*/heartbeat.json"))
    return [run for beat in beats for run in beat["runs"]]


def journals(cwd: Path) -> list[Path]:
    return [*cwd.glob("working/*/*/journal.jsonl"), *cwd.glob("done/*/journal.jsonl")]


def test_a_stop_that_waits_for_a_call_counts_down_and_a_second_ctrl_c_ends_it(
    tmp_path: Path,
) -> None:
    process = in_a_call(tmp_path)
    assert process.stdout is not None
    process.send_signal(signal.SIGINT)
    line = next(line for line in process.stdout if "stopping" in line)
    assert re.search(r"waiting at most (2[89]|30) s for the call under way", line), line
    assert "a second Ctrl-C stops it at once" in line
    line = next(line for line in process.stdout if "stopping" in line)
    assert re.search(r"waiting at most (1[89]|20) s", line), line
    heartbeat = next(tmp_path.glob("working/*/heartbeat.json"))
    assert json.loads(heartbeat.read_text())["stopping"] > 0
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=400)
    assert process.returncode == ExitCode.OK, err
    assert "Traceback" not in out + err
    (journal,) = journals(tmp_path)
    assert "call_given_up" in journal.read_text()


def test_two_signals_at_once_are_one_request(tmp_path: Path) -> None:
    process = in_a_call(tmp_path, steps=50)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGHUP)
    assert process.wait(LIMIT) == ExitCode.OK
    (journal,) = journals(tmp_path)
    assert "call_finished" in journal.read_text()


def test_a_second_ctrl_c_does_not_wait_for_a_webui_that_ignores_the_first(tmp_path: Path) -> None:
    plan = tmp_path / "faults.yaml"
    plan.write_text("- fault: ignore-sigterm\n  when: {start: 1}\n  times: always\n")
    make_spool(tmp_path, "--faults", str(plan))
    config = json.loads((tmp_path / "sdwatch.yaml").read_text())
    config["webuis"]["simulator"]["stop_grace"] = 600
    (tmp_path / "sdwatch.yaml").write_text(json.dumps(config))
    process = started(tmp_path, "-m", "sdwatch", "run")
    wait_until(lambda: "ready" in states(tmp_path), 60, "the lane is ready")
    process.send_signal(signal.SIGINT)
    for _ in range(20):  # a second request, however late the machine delivers the first
        with suppress(subprocess.TimeoutExpired):
            process.wait(3)
            break
        process.send_signal(signal.SIGINT)
    assert process.wait(100) in (ExitCode.OK, ExitCode.INTERRUPTED)


# -- terminals


def test_a_monitor_whose_terminal_was_closed_stops_cleanly(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    process = in_a_call(
        tmp_path,
        steps=50,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=_take_terminal,
    )
    os.close(theirs)
    wait_until(lambda: b"Ctrl-C stops" in os.read(ours, 65536), why="the display is drawn")
    os.close(ours)  # the terminal's window: SIGHUP, and EIO for all that is written from now on
    assert process.wait(LIMIT) == ExitCode.OK
    (journal,) = journals(tmp_path)
    assert "call_finished" in journal.read_text()
    assert not list(tmp_path.glob("working/*/heartbeat.json"))
    log = (tmp_path / "state" / "sdwatch.log").read_text()
    assert "Traceback" not in log


def test_a_monitor_that_outlives_its_terminal_continues(tmp_path: Path) -> None:
    make_spool(tmp_path)
    ours, theirs = os.openpty()
    process = started(
        tmp_path, "-m", "sdwatch", "run", stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    wait_until(lambda: b"Ctrl-C stops" in os.read(ours, 65536), why="the display is drawn")
    os.close(ours)
    drop(tmp_path, "castle.yaml")
    try:
        wait_until(lambda: list(tmp_path.glob("done/*/run.json")), 60, "the job is done")
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT) == ExitCode.OK


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_ctrl_c_in_an_editor_is_the_editors(tmp_path: Path) -> None:
    make_spool(tmp_path)
    run = tmp_path / "failed" / "20261123-065243.123-castle-3f2a"
    run.mkdir(parents=True)
    (run / "job.yaml").write_text("promt: a castle\n")
    editor = tmp_path / "editor.py"
    editor.write_text(
        "import os, signal, sys, pathlib\n"
        "signal.signal(signal.SIGINT, lambda *_: None)\n"
        "os.killpg(0, signal.SIGINT)\n"
        "pathlib.Path(sys.argv[1]).write_text('prompt: a castle\\n')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "sdwatch", "retry", "--edit", "castle"],
        cwd=tmp_path,
        env=_env(VISUAL=f"{sys.executable} {editor}"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    out, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == ExitCode.OK, out
    assert [path.name for path in (tmp_path / "inbox").iterdir()]

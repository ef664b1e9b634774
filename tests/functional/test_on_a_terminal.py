"""What people see on a real terminal: status that is repeated, and completion in their shell."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sdwatch.cli.shared.exit_codes import ExitCode
from tests.functional.cli import drop, make_spool, sdwatch
from tests.functional.terminal import on_a_terminal

pytestmark = pytest.mark.posix_only("terminals")

RUN = "20260921-020000.000-castle-ab12"
ROOT = Path(__file__).resolve().parents[2]
ENV = {**os.environ, "PYTHONPATH": str(ROOT)}


def test_status_watch_on_a_terminal_shows_what_changes_in_place(tmp_path: Path) -> None:
    make_spool(tmp_path)
    words = [sys.executable, "-m", "sdwatch", "status", "--watch"]
    with on_a_terminal(words, tmp_path, ENV) as terminal:
        terminal.wait_for("0 in inbox, 0 in working")
        assert "no monitor is running on this spool" in terminal.shown
        drop(tmp_path, "\x1b[31mcastle.yaml")
        terminal.wait_for("1 in inbox, 0 in working")
        assert "\x1b[1A" in terminal.shown, "the cursor goes up: nothing scrolls"
        assert "\x1b[31m" not in terminal.shown
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.drain_until_it_ends() == ExitCode.INTERRUPTED
    assert "Traceback" not in terminal.shown
    assert "\x1b[?25h" in terminal.shown, "the cursor is there again"


def test_status_watch_fits_on_a_small_terminal(tmp_path: Path) -> None:
    make_spool(tmp_path)
    for number in range(30):
        (tmp_path / "inbox" / f"{number}.yaml.txt").touch()
    words = [sys.executable, "-m", "sdwatch", "status", "--watch"]
    with on_a_terminal(words, tmp_path, ENV, size=(8, 40)) as terminal:
        terminal.wait_for("0 in inbox", times=2)
        up = terminal.shown.split("0 in inbox")[1].count("\x1b[1A")
        assert 0 < up <= 8, "it repaints what fits, and not what has scrolled away"


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """An environment with `sdwatch` in the PATH, and a spool in `tmp_path` with a run."""
    make_spool(tmp_path)
    (tmp_path / "failed" / RUN).mkdir(parents=True)
    command = tmp_path / "bin" / "sdwatch"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sdwatch "$@"\n')
    command.chmod(0o755)
    return {**ENV, "PATH": f"{command.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}


def needs(shell: str) -> str:
    if (program := shutil.which(shell)) is None:
        pytest.skip(f"no {shell} on this machine")
    return program


def test_zsh_completes_with_the_script_where_the_docs_put_it(
    tmp_path: Path, installed: dict[str, str]
) -> None:
    zsh = needs("zsh")
    folder = tmp_path / ".zfunc"
    folder.mkdir()
    (folder / "_sdwatch").write_text(sdwatch(tmp_path, "completion", "zsh").stdout)
    rc = "PS1='> '; fpath+=~/.zfunc; autoload -Uz compinit; compinit -u -D; echo rea''dy\r"
    with on_a_terminal([zsh, "-f", "-i"], tmp_path, installed) as terminal:
        terminal.type(rc)
        terminal.wait_for("ready")
        terminal.type("sdwatch show 2026\t")
        terminal.wait_for(RUN)
        terminal.type("\x15sdwatch st\t\t")  # Ctrl-U empties the line
        terminal.wait_for("stop the monitor cleanly")


def test_fish_completes_with_the_script_where_the_docs_put_it(
    tmp_path: Path, installed: dict[str, str]
) -> None:
    fish = needs("fish")
    script = tmp_path / ".config" / "fish" / "completions" / "sdwatch.fish"
    script.parent.mkdir(parents=True)
    script.write_text(sdwatch(tmp_path, "completion", "fish").stdout)
    env = {k: v for k, v in installed.items() if not k.startswith("XDG_")}

    def offered(line: str) -> str:
        asked = [fish, "-c", f'complete -C "{line}"']
        return subprocess.run(
            asked, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100, check=False
        ).stdout

    assert f"{RUN}\tfailed" in offered("sdwatch show 2026")
    assert "status\t" in offered("sdwatch st")

"""Who may read what sdwatch writes, and what it does not wait for."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sdwatch.config_file import load_config
from sdwatch.errors import ConfigError
from sdwatch.known_signatures import load_signatures
from sdwatch.monitor.config_edits import ConfigEdits
from sdwatch.system import disk
from tests.functional.cli import sdwatch
from tests.support.monitored import Monitored, job, monitored

pytestmark = pytest.mark.posix_only("modes and pipes")

MAKES_A_FILE = "import pathlib, sys; pathlib.Path(sys.argv[1]).touch(); sys.stdin.read()"


def modes_below(folder: Path) -> dict[str, int]:
    """The mode of all that is in it, and of itself."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    return {
        name: stat.S_IMODE(path.stat().st_mode) for name, path in {**found, ".": folder}.items()
    }


def run_once(spool: Monitored, umask: int = 0o022) -> None:
    """`sdwatch run --once` with one job, started with this umask."""
    spool.drop("castle.yaml", job())
    command = [sys.executable, "-m", "sdwatch", "run", "--once", "--config", str(spool.config_file)]
    done = subprocess.run(command, umask=umask, capture_output=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert len(spool.done()) == 1


def test_the_state_folder_is_for_its_user_alone(tmp_path: Path) -> None:
    with monitored(tmp_path, settings={"umask": "keep"}) as spool:
        run_once(spool, umask=0)
        modes = modes_below(spool.state)
    assert {"webui-sim/identity.json", "sdwatch.log", "lock", "worker"} <= modes.keys()
    assert any(name.startswith("webui-sim/incarnation-") for name in modes)
    loose = {name: oct(mode) for name, mode in modes.items() if mode & 0o077}
    assert loose == {}


@pytest.mark.parametrize(
    ("umask", "started_with", "file"),
    [("keep", 0o022, 0o644), ("keep", 0o077, 0o600), ("002", 0o077, 0o664), ("077", 0, 0o600)],
)
def test_the_spool_has_the_modes_that_its_share_needs(
    tmp_path: Path, umask: str, started_with: int, file: int
) -> None:
    with monitored(tmp_path, settings={"umask": umask}) as spool:
        run_once(spool, started_with)
        (made,) = spool.done()
        modes = modes_below(made)
    del modes["job.yaml"]  # the submitter's own, moved as it was
    folders = {modes.pop("."), modes.pop("images"), modes.pop("thumbnails")}
    assert set(modes.values()) == {file}
    assert folders == {file | (file & 0o444) >> 2}


def test_a_webui_keeps_the_umask_that_sdwatch_was_started_with(tmp_path: Path) -> None:
    script = (
        "import os, sys, subprocess, pathlib; from sdwatch import system;"
        "system.use_umask(0o077); system.use_umask(0o027); f = pathlib.Path(sys.argv[1]);"
        "c = [sys.executable, '-c', 'open(\"made\", \"w\")'];"
        "p = system.spawn(c, cwd=f, env=dict(os.environ), stdout=f / 'out', stderr=f / 'err',"
        " job_name='x'); assert p.wait() == 0; (f / 'ours').touch()"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], umask=0o002, check=True)
    modes = modes_below(tmp_path)
    assert (modes["made"], modes["ours"]) == (0o664, 0o640)
    assert (modes["out"], modes["err"]) == (0o600, 0o600)


@pytest.mark.parametrize("wrong", ["2", "0o22", "700", "0777", "-1", "off", "rwx", "008", ""])
def test_an_invalid_umask_is_refused(tmp_path: Path, wrong: str) -> None:
    with monitored(tmp_path) as spool:
        spool.write_config(umask=wrong)
        with pytest.raises(ConfigError, match="umask"):
            load_config(spool.config_file)


# --- what is no plain file ----------------------------------------------------------------------


def no_file(folder: Path, kind: str) -> Path:
    path = folder / "odd.yaml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        import socket

        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with open(path, "wb") as file:
            file.truncate(10 * 10**9)
    return path


KINDS = ("pipe", "folder", "socket", "device", "10 GB")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", ["check", "status"])
def test_a_config_that_is_no_file_is_refused_at_once(
    tmp_path: Path, kind: str, command: str
) -> None:
    ended = sdwatch(tmp_path, command, "--config", no_file(tmp_path, kind))
    assert ended.returncode == 5, ended.stderr
    assert "odd.yaml" in ended.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_a_config_that_is_replaced_by_no_file_is_not_reported(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text("spool: a")
    edits = ConfigEdits(path)
    path.unlink()
    no_file(tmp_path, kind)
    assert edits.found() is (kind == "10 GB")


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_signatures_that_are_no_file_are_refused_at_once(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_signatures(no_file(tmp_path, kind))


def test_a_pipe_named_like_a_picture_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "castle.png")
    ended = sdwatch(tmp_path, "check", tmp_path / "castle.png")
    assert ended.returncode == 6, ended.stderr


# --- half written files -------------------------------------------------------------------------


def test_a_write_that_the_disk_refuses_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int) -> None:
        del fd
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        disk.write(tmp_path / "a.png", b"x" * 100)
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_takes_half_written_files_and_nothing_else(tmp_path: Path) -> None:
    kept = ["a.tmp", ".a", ".a.tmp.png", "a.png"]
    for name in [*kept, ".a.png.tmp"]:
        (tmp_path / name).touch()
    (tmp_path / ".folder.tmp").mkdir()
    (tmp_path / ".link.tmp").symlink_to("a.png")
    disk.sweep_temporaries(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*kept, ".folder.tmp", ".link.tmp"}
    away = tmp_path / "away"
    away.symlink_to(tmp_path)
    (tmp_path / ".b.tmp").touch()
    disk.sweep_temporaries(away)  # what a link leads to is not ours
    disk.sweep_temporaries(tmp_path / "nowhere")
    assert (tmp_path / ".b.tmp").exists()

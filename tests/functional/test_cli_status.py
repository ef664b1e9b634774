from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sdwatch.cli.exit_codes import ExitCode
from tests.functional.cli import drop, heartbeat, make_spool, running, sdwatch
from tests.helpers import wait_until


def _status(cwd: Path) -> dict[str, Any]:
    told = sdwatch(cwd, "status", "--json")
    assert told.returncode == ExitCode.OK, told.stderr
    status: dict[str, Any] = json.loads(told.stdout)
    return status


def test_without_a_monitor_the_folders_are_counted(tmp_path: Path) -> None:
    make_spool(tmp_path)
    drop(tmp_path, "castle.yaml")
    drop(tmp_path, "README.md", "no job")
    (tmp_path / "done" / "20261123-065243.123-castle-3f2a").mkdir(parents=True)
    told = sdwatch(tmp_path, "status")
    assert told.returncode == ExitCode.OK
    assert "1 in inbox, 0 in working, 1 in done, 0 in failed" in told.stdout
    assert "no monitor runs on this spool" in told.stdout


def test_where_there_is_no_spool_all_counts_are_0(tmp_path: Path) -> None:
    assert set(_status(tmp_path)["folders"].values()) == {0}
    assert not list(tmp_path.iterdir())


def test_a_monitor_tells_its_lanes_its_runs_and_why_they_wait(tmp_path: Path) -> None:
    make_spool(tmp_path, "--step-time", "30")
    with running(tmp_path) as monitor:
        drop(tmp_path, "castle.yaml")
        wait_until(lambda: heartbeat(tmp_path).get("runs"), 60, "a run is told")
        told = sdwatch(tmp_path, "status").stdout
        assert f"process {monitor.pid} on " in told
        assert "simulator    ready, Forge, managed, http://127.0.0.1:" in told
        assert "castle.yaml: stage 1 of 1 (txt2img), call 1 of 1" in told
        sdwatch(tmp_path, "cancel", "castle")
        wait_until(lambda: list(tmp_path.glob("failed/*/WHY.txt")), 60, "cancelled")
        assert [beat["running"] for beat in _status(tmp_path)["monitors"]] == [True]


def test_a_monitor_that_was_killed_is_told_to_be_gone(tmp_path: Path) -> None:
    make_spool(tmp_path)
    with running(tmp_path):
        left = heartbeat(tmp_path)
    folder = tmp_path / "working" / left["worker"]
    (folder / "heartbeat.json").write_text(json.dumps(left))  # as a kill leaves it
    told = sdwatch(tmp_path, "status").stdout
    assert f"worker {left['worker']} is gone" in told
    assert "no monitor runs on this spool" in told


def test_a_heartbeat_of_another_machine_counts_only_when_it_moves(tmp_path: Path) -> None:
    make_spool(tmp_path)
    beat = {"worker": "other-1", "host": "no-such-host", "pid": 1, "beat": 7, "at": "then"}
    folder = tmp_path / "working" / "other-1"
    folder.mkdir(parents=True)
    (folder / "heartbeat.json").write_text(json.dumps(beat))
    assert [beat["running"] for beat in _status(tmp_path)["monitors"]] == [False]


def test_a_heartbeat_that_cannot_be_read_does_not_mean_that_no_monitor_runs(
    tmp_path: Path,
) -> None:
    spool = make_spool(tmp_path)
    folder = spool / "working" / "box-2"
    folder.mkdir(parents=True)
    (folder / "heartbeat.json").write_bytes(b"")
    told = sdwatch(spool, "status")
    assert told.returncode == ExitCode.OK, told.stderr
    assert "worker box-2 may be running: its heartbeat in working/ cannot be read" in told.stdout
    assert "no monitor runs" not in told.stdout

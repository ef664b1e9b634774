from __future__ import annotations

import json
import os
import re
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.cli.shared.progress_text import progress_in_words
from sdwatch.system import start_mark
from tests.functional.cli import drop, heartbeat, make_spool, running, sdwatch
from tests.support.helpers import wait_until


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
    assert "no monitor is running on this spool" in told.stdout


def test_what_looks_like_a_mistake_in_the_inbox_is_named(tmp_path: Path) -> None:
    make_spool(tmp_path)
    for name in ("castle.yaml.txt", "tower.sync-conflict-20260101-120000-ABCDEFG.yaml", "a.md"):
        drop(tmp_path, name)
    told = sdwatch(tmp_path, "status").stdout
    assert "inbox/castle.yaml.txt is not a job: " in told
    assert "rename it to castle.yaml" in told
    assert "0 in inbox" in told
    assert set(_status(tmp_path)["ignored"]) == {
        "castle.yaml.txt",
        "tower.sync-conflict-20260101-120000-ABCDEFG.yaml",
    }


def test_where_there_is_no_spool_all_counts_are_0(tmp_path: Path) -> None:
    assert set(_status(tmp_path)["folders"].values()) == {0}
    assert not list(tmp_path.iterdir())


def test_a_monitor_shows_its_lanes_its_runs_and_why_they_wait(tmp_path: Path) -> None:
    make_spool(tmp_path, "--step-time", "30")
    with running(tmp_path) as monitor:
        drop(tmp_path, "castle.yaml")
        wait_until(lambda: heartbeat(tmp_path).get("runs"), 60, "a run is told")
        told = sdwatch(tmp_path, "status").stdout
        assert f"process {monitor.pid} on " in told
        assert "simulator    ready, Forge, managed, http://127.0.0.1:" in told
        assert "  castle.yaml  [" in told
        assert "    stage 1 of 1 (txt2img), call 1 of 1" in told
        sdwatch(tmp_path, "cancel", "castle")
        wait_until(lambda: list(tmp_path.glob("failed/*/WHY.txt")), 60, "cancelled")
        assert [beat["running"] for beat in _status(tmp_path)["monitors"]] == [True]


STAGES = """stages:
- txt2img: {prompt: a castle, width: 64, height: 64, steps: 2}
- img2img: {prompt: a castle, steps: 200, n_iter: 2}
"""


def test_the_run_in_progress_has_stage_step_and_per_cent(tmp_path: Path) -> None:
    def far(cwd: Path) -> dict[str, Any] | None:
        """The run, once it is in the middle of its second stage."""
        runs = heartbeat(cwd).get("runs", [])
        return next((run for run in runs if run["progress"].get("step", 0) > 2), None)

    make_spool(tmp_path, "--step-time", "0.1")
    with running(tmp_path):
        drop(tmp_path, "castle.yaml", STAGES)
        wait_until(lambda: far(tmp_path), 60, "it is in the middle of its second stage")
        told = sdwatch(tmp_path, "status").stdout
        (run,) = _status(tmp_path)["monitors"][0]["runs"]
        sdwatch(tmp_path, "cancel", "castle")
    at = told.index("  castle.yaml  [")
    words = " ".join(told[at:].split())
    pattern = (
        r"castle\.yaml \[\S+\] stage 2 of 2 \(img2img\), call \d of 2, step \d+ of \d+, \d+ %, "
        r"(\d+:)?\d+:\d\d left"
    )
    assert re.match(pattern, words), words
    assert all(len(line) <= 80 for line in told[at:].splitlines())
    place = {"stage": 2, "stages": 2, "kind": "img2img", "call": run["place"]["call"], "calls": 2}
    assert run["place"] == place | {"point": 0, "points": 0}
    assert run["calling"] is True
    assert {"step", "steps", "percent", "eta"} == set(run["progress"])
    assert 0 <= run["progress"]["percent"] <= 100


def test_how_far_a_call_has_come_is_said_as_far_as_the_webui_gives_it() -> None:
    whole = {"step": 12, "steps": 20, "percent": 60, "eta": 42.4}
    assert list(progress_in_words(whole)) == ["step 12 of 20", "60 %", "0:42 left"]
    assert list(progress_in_words({"percent": 7})) == ["7 %"]
    assert list(progress_in_words({"eta": 4000})) == ["1:06:40 left"]
    assert list(progress_in_words({})) == []


def test_a_monitor_that_was_killed_is_shown_as_gone(tmp_path: Path) -> None:
    make_spool(tmp_path)
    with running(tmp_path):
        left = heartbeat(tmp_path)
    folder = tmp_path / "working" / left["worker"]
    (folder / "heartbeat.json").write_text(json.dumps(left))  # as a kill leaves it
    told = sdwatch(tmp_path, "status").stdout
    assert f"worker {left['worker']} is gone" in told
    assert "`sdwatch run` resumes its runs" in told
    assert "--take-over" not in told, "its own runs need none"
    assert "no monitor is running on this spool" in told


def test_a_heartbeat_of_another_machine_counts_only_when_it_moves(tmp_path: Path) -> None:
    make_spool(tmp_path)
    beat = {"worker": "other-1", "host": "no-such-host", "pid": 1, "beat": 7, "at": "then"}
    folder = tmp_path / "working" / "other-1"
    folder.mkdir(parents=True)
    (folder / "heartbeat.json").write_text(json.dumps(beat))
    assert [beat["running"] for beat in _status(tmp_path)["monitors"]] == [False]
    assert "sdwatch run --take-over other-1" in sdwatch(tmp_path, "status").stdout


def test_a_monitor_that_shows_no_sign_of_life_is_said_to_be_frozen_perhaps(tmp_path: Path) -> None:
    spool = make_spool(tmp_path)
    folder = spool / "working" / "box-1"
    folder.mkdir(parents=True)
    us = {"host": socket.gethostname(), "pid": os.getpid(), "started": start_mark(os.getpid())}
    for ago, says in ((600, "its last sign of life is 10 min old"), (0, "")):
        at = datetime.now(UTC) - timedelta(seconds=ago)
        beat = {"worker": "box-1", **us, "beat": 7, "every": 1.0, "at": at.isoformat()}
        (folder / "heartbeat.json").write_text(json.dumps(beat))
        told = sdwatch(spool, "status").stdout
        assert "worker box-1 is running" in told
        assert (says or "running") in told
        assert bool(says) == ("may be frozen" in told)


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
    assert "no monitor is running" not in told.stdout

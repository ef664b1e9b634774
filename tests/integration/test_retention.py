"""Published runs and old logs are removed as the config says, and nothing else is."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sdwatch import system
from sdwatch.config import RetentionConfig, RunsKept
from sdwatch.monitor.once import MonitorEnd
from sdwatch.monitor.retention import Retention
from sdwatch.spool.folders import Spool
from sdwatch.spool.heartbeat import Heartbeat
from sdwatch.spool.run import new_run_id
from sdwatch.system import disk
from sdwatch.system.clock import SystemClock
from sdwatch.system.state_folder import StateFolder
from tests.support.helpers import wait_until
from tests.support.monitored import job, monitored

DAY = 86400.0


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path / "spool", "box-1")
    made.prepare()
    Heartbeat(made).beat({})
    return made


def retention(
    spool: Spool, told: Callable[[str], None] = lambda _: None, **config: object
) -> Retention:
    state = StateFolder(spool.root.parent / "state")
    settings = RetentionConfig.model_validate(config)
    stopping = threading.Event()
    return Retention(settings, spool, state, clock=SystemClock(), report=told, stopping=stopping)


def run_in(folder: Path, name: str, days: float, size: int = 1000) -> Path:
    """A published run that was last touched so many days ago."""
    run = folder / new_run_id(name, time.time() - days * DAY)
    (run / "images").mkdir(parents=True)
    (run / "run.json").write_text("{}")
    (run / "journal.jsonl").write_text("")
    (run / "images" / "1.png").write_bytes(bytes(size))
    touch(run, days)
    return run


def touch(path: Path, days: float) -> None:
    moment = time.time() - days * DAY
    follows = {} if os.name == "nt" else {"follow_symlinks": False}
    os.utime(path, (moment, moment), **follows)


def left(folder: Path) -> list[str]:
    return sorted(path.name.split("-")[2] for path in folder.iterdir() if path.name[0] == "2")


def test_no_run_is_removed_by_default(spool: Spool) -> None:
    run_in(spool.done, "ancient", 4000)
    retention(spool).round()
    assert left(spool.done) == ["ancient"]


def test_older_runs_are_removed_in_their_own_folder_only(spool: Spool) -> None:
    for folder in (spool.done, spool.failed):
        run_in(folder, "old", 8)
        run_in(folder, "young", 6)
    told: list[str] = []
    retention(spool, told.append, done=RunsKept(age=7 * DAY)).round()
    assert left(spool.done) == ["young"]
    assert left(spool.failed) == ["old", "young"]
    assert told == ["done/: 1 of 2 runs removed (`retention`)"]


def test_the_oldest_go_until_the_rest_has_room_and_the_newest_stays(spool: Spool) -> None:
    for days in (1, 2, 3):
        run_in(spool.failed, f"d{days}", days, size=10_000)
    retention(spool, failed=RunsKept(size=25_000)).round()
    assert left(spool.failed) == ["d1", "d2"]
    retention(spool, failed=RunsKept(size=1)).round()
    assert left(spool.failed) == ["d1"]


def test_a_run_that_somebody_adds_to_is_measured_again(spool: Spool) -> None:
    old, new = run_in(spool.done, "old", 2), run_in(spool.done, "new", 1)
    made = retention(spool, done=RunsKept(size=5000))
    made.round()
    (new / "note.txt").write_bytes(bytes(5000))
    made.round()
    assert (old.exists(), new.exists()) == (False, True)


@pytest.mark.posix_only("symbolic links, which need a privilege on Windows")
def test_folders_that_are_no_runs_are_left_alone(spool: Spool, tmp_path: Path) -> None:
    run_in(spool.done, "old", 9)
    elsewhere = run_in(tmp_path / "elsewhere", "linked", 9)
    (spool.done / elsewhere.name).symlink_to(elsewhere)
    (spool.done / "my favourites").mkdir()
    (spool.done / "notes.txt").write_text("keep")
    without_journal = run_in(spool.done, "torn", 9)
    (without_journal / "journal.jsonl").unlink()
    for path in spool.done.iterdir():
        touch(path, 9)
    retention(spool, done=RunsKept(age=DAY, size=0)).round()
    assert {path.name for path in spool.done.iterdir()} == {
        "my favourites", "notes.txt", elsewhere.name, without_journal.name,
    }  # fmt: skip
    assert (elsewhere / "images" / "1.png").exists()


@pytest.mark.posix_only("symbolic links, which need a privilege on Windows")
def test_links_in_a_run_are_removed_and_not_followed(spool: Spool, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "precious").write_text("keep")
    run = run_in(spool.done, "old", 9)
    (run / "images" / "folder").symlink_to(mine)
    touch(run, 9)
    retention(spool, done=RunsKept(age=DAY)).round()
    assert not run.exists()
    assert (mine / "precious").exists()


def test_a_removal_that_a_kill_cut_off_is_finished_and_no_run_resumes(spool: Spool) -> None:
    half = spool.working / ".removed-20261101-000000.000-old-aaaa"
    half.mkdir()
    (half / "journal.jsonl").write_text("")
    assert spool.run_folders() == []
    retention(spool).round()
    assert not half.exists()


def test_a_run_that_cannot_be_removed_does_not_keep_the_others(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    held = [".removed-20261101-000000.000-old-aaaa", "held"]
    (spool.working / held[0]).mkdir()
    for name in ("held", "first", "second"):
        run_in(spool.done, name, days=9)
    real = disk.remove_tree

    def remove_tree(path: Path) -> None:
        if any(name in path.name for name in held):
            raise PermissionError(13, "somebody has it open", str(path))
        real(path)

    monkeypatch.setattr(disk, "remove_tree", remove_tree)
    removing = retention(spool, done=RunsKept(age=2 * DAY))
    removing.round()
    assert left(spool.done) == []
    assert len([path for path in spool.working.iterdir() if path.is_dir()]) == 2
    assert caplog.text.count("somebody has it open") == 2
    removing.round()
    assert caplog.text.count("somebody has it open") == 2  # it is no news
    held.clear()
    removing.round()
    assert not [path for path in spool.working.iterdir() if path.is_dir()]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="takes another user's place")
def test_a_run_with_read_only_folders_is_removed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "images").mkdir(parents=True)
    (run / "images" / "1.png").touch()
    for path in (tmp_path, run, run / "images"):
        os.chown(path, 65534, -1)
    for path in (run / "images", run):
        path.chmod(0o555)
    held = os.open(tmp_path, os.O_RDONLY)  # the folders above are closed to others
    os.seteuid(65534)
    try:
        system.remove_tree("run", held)
    finally:
        os.seteuid(0)
        os.close(held)
    assert not run.exists()


def test_the_age_of_a_run_on_a_share_is_measured_by_the_shares_clock(spool: Spool) -> None:
    run_in(spool.done, "new", -400)  # as a server writes it whose clock is 400 days fast
    run_in(spool.done, "old", -398)
    touch(spool.working / "heartbeat.json", -400)
    retention(spool, done=RunsKept(age=DAY)).round()
    assert left(spool.done) == ["new"]


def test_old_logs_of_all_webuis_share_one_cap_and_the_present_ones_stay(
    spool: Spool, tmp_path: Path
) -> None:
    for webui in ("a", "b"):
        folder = tmp_path / "state" / f"webui-{webui}"
        folder.mkdir(parents=True)
        (folder / "crashes.jsonl").write_bytes(bytes(9000))
        for incarnation in (1, 2, 3):
            for stream in ("stdout", "stderr"):
                name = "gen" if incarnation == 1 else "incarnation"  # the first until 0.1.0
                log = folder / f"{name}-{incarnation:06d}.{stream}.log"
                log.write_bytes(bytes(10_000))
                touch(log, 10 - incarnation if webui == "a" else 20 - incarnation)
    retention(spool, logs=60_000).round()
    a, b = sorted(logs(tmp_path, "a")), sorted(logs(tmp_path, "b"))
    assert a == sorted(["incarnation-000002", "incarnation-000003"] * 2)
    assert b == ["incarnation-000003"] * 2
    retention(spool, logs=10_000).round()
    assert {*logs(tmp_path, "a"), *logs(tmp_path, "b")} == {"incarnation-000003"}
    assert len(list(tmp_path.glob("state/webui-*/crashes.jsonl"))) == 2


def logs(root: Path, webui: str) -> list[str]:
    return [path.name.partition(".")[0] for path in root.glob(f"state/webui-{webui}/*.log")]


def test_a_monitor_removes_old_runs(tmp_path: Path) -> None:
    with monitored(tmp_path) as spool:
        spool.drop("castle.yaml", job())
        spool.drop("tower.yaml", job("a tower"))
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.EMPTY
        old, kept = spool.done()
        touch(old, 3)
        spool.write_config(retention={"done": {"age": "2 days"}})
        spool.start()
        wait_until(lambda: not old.exists(), 30, "the old run is removed")
        wait_until(lambda: "done/: 1 of 2 runs removed (`retention`)" in spool.told)
        assert kept.exists()
        spool.stop()

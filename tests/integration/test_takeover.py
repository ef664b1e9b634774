"""A worker's runs are taken over by another: only when a person says so, and the old one, thawed,
can publish nothing. Each has a state folder of its own, as on two machines that share a spool."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sdwatch.errors import AlreadyRunningError, SpoolError
from sdwatch.spool import archive, takeover
from sdwatch.spool.heartbeat import STARTING, Heartbeat, read_heartbeats
from sdwatch.spool.run import JOURNAL, Run
from sdwatch.system.clock import SystemClock
from sdwatch.system.failpoints import Failpoint
from tests.spool.spools import made_spool
from tests.spool.test_heartbeat import ClockWithOthers
from tests.support.helpers import FakeClock, wait_until
from tests.support.monitored import Monitored, job, journal, lines_of, monitored

ROOT = Path(__file__).parents[2]
SLOW = ["--step-time", "0.05"]


@contextmanager
def two_machines(root: Path) -> Iterator[tuple[Monitored, Monitored]]:
    """Two monitors to be, on one spool."""
    with monitored(root / "a", flags=SLOW) as first:
        shared = {"spool": str(first.spool)}
        with monitored(root / "b", flags=SLOW, settings=shared) as second:
            second.spool, second.inbox = first.spool, first.inbox
            yield first, second


def worker_of(spool: Monitored) -> str:
    return (spool.state / "worker").read_text()


def at_work(root: Path) -> list[str]:
    """The workers that have begun, and no longer only look whether they are alone."""
    return [beat["worker"] for beat in read_heartbeats(root) if not beat.get(STARTING)]


def sdwatch(spool: Monitored, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sdwatch", *words, "--config", str(spool.config_file)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)


@pytest.mark.posix_only("an open file that can be replaced; see the next test")
def test_a_frozen_workers_run_resumes_elsewhere_and_thawed_it_publishes_nothing(
    tmp_path: Path,
) -> None:
    with two_machines(tmp_path) as (first, second):
        first.drop("castle.yaml", job(n_iter=2, steps=20))
        frozen = first.start_process()
        first.wait_posts(2)
        run = first.working()[0].name
        frozen.suspend()

        ended = sdwatch(second, "run", "--once", "--take-over", worker_of(first))
        assert ended.returncode == 0, ended.stderr
        (done,) = first.done()
        assert done.name == run
        before = {p: p.read_bytes() for p in done.rglob("*") if p.is_file()}
        assert [r["call"] for r in journal(done, "call_finished")] == ["1.1", "1.2"]

        frozen.resume()
        assert first.process is not None
        assert first.process.wait(60) != 0
        assert f"taken over by worker {worker_of(second)} on " in first.monitor_log
        assert {p: p.read_bytes() for p in done.rglob("*") if p.is_file()} == before
        assert first.done() == [done]
        assert not first.failed()
        assert not first.working()
        assert not first.processes(), "its own WebUI is stopped"


@pytest.mark.skipif(sys.platform != "win32", reason="here an open file can be replaced")
def test_a_frozen_workers_run_is_refused_while_its_files_are_open_and_resumes_after_its_end(
    tmp_path: Path,
) -> None:
    with two_machines(tmp_path) as (first, second):
        first.drop("castle.yaml", job(n_iter=2, steps=20))
        frozen = first.start_process()
        first.wait_posts(2)
        run = first.working()[0].name
        frozen.suspend()
        take_over = ("run", "--once", "--take-over", worker_of(first))

        ended = sdwatch(second, *take_over)
        assert ended.returncode != 0
        assert f"worker {worker_of(first)} still has files of its runs open" in ended.stderr
        assert not first.done() + first.failed()

        first.kill()
        ended = sdwatch(second, *take_over)
        assert ended.returncode == 0, ended.stderr
        (done,) = first.done()
        assert done.name == run
        assert [r["call"] for r in journal(done, "call_finished")] == ["1.1", "1.2"]


def test_the_old_worker_is_welcome_again(tmp_path: Path) -> None:
    with two_machines(tmp_path) as (first, second):
        first.drop("castle.yaml", job(steps=40))
        first.start_process()
        first.wait_posts(1)
        first.kill()
        ended = sdwatch(second, "run", "--once", "--take-over", worker_of(first))
        assert ended.returncode == 0, ended.stderr

        first.drop("tower.yaml", job("a tower"))
        first.start(once=True)
        first.ended()
        assert len(first.done()) == 2


def test_a_worker_that_lives_is_not_taken_over(tmp_path: Path) -> None:
    with two_machines(tmp_path) as (first, second):
        first.start_process()
        wait_until(lambda: first.status().get("beat", 0) > 0, 30, "a heartbeat")
        ended = sdwatch(second, "run", "--once", "--take-over", worker_of(first))
        assert ended.returncode == 4
        assert f"another monitor works on {first.spool}: worker {worker_of(first)}" in ended.stderr


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_one_of_two_that_start_together_works_and_the_other_says_who(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = threading.Barrier(2)
    prepare = takeover.prepare

    def both_have_looked(*given: Any) -> Any:
        still = prepare(*given)
        looked.wait(30)  # neither has a heartbeat yet
        return still

    monkeypatch.setattr("sdwatch.monitor.monitor.takeover.prepare", both_have_looked)
    with two_machines(tmp_path) as both:
        for spool in both:
            spool.start()
        wait_until(lambda: any(spool.broke for spool in both), 30, "one gave way")
        gave_way, stays = sorted(both, key=lambda spool: spool.broke is None)
        assert isinstance(gave_way.broke, AlreadyRunningError)
        assert worker_of(stays) in str(gave_way.broke)
        stays.drop("castle.yaml", job())
        stays.wait_for(done=1)
        assert [beat["worker"] for beat in read_heartbeats(stays.spool)] == [worker_of(stays)]
        stays.stop()


def test_a_monitor_whose_main_thread_is_busy_for_long_is_not_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy, go_on = threading.Event(), threading.Event()

    def publish(*given: Any) -> None:
        busy.set()
        assert go_on.wait(60)
        really_publish(*given)

    really_publish = archive.publish
    monkeypatch.setattr("sdwatch.monitor.runs_without_lane.archive.publish", publish)
    with two_machines(tmp_path) as (first, second):
        first.start()
        first.drop("bad.yaml", "stepz: 3\n")
        assert busy.wait(30)
        ended = sdwatch(second, "run", "--once", "--take-over", worker_of(first))
        go_on.set()
        assert ended.returncode == 4, ended.stderr
        assert "another monitor works on" in ended.stderr
        first.wait_for(failed=1)
        first.stop()


def test_a_monitor_that_was_frozen_while_another_started_ends_itself(tmp_path: Path) -> None:
    with two_machines(tmp_path) as (first, second):
        frozen = first.start_process()
        wait_until(lambda: at_work(first.spool), 30, "a heartbeat")
        frozen.suspend()
        second.start_process()  # it watches the heartbeat, which stands still
        wait_until(lambda: len(at_work(first.spool)) == 2, 60, "it began")
        frozen.resume()
        assert first.process is not None
        assert first.process.wait(60) != 0
        assert f"worker {worker_of(second)}" in first.monitor_log


def test_an_unknown_worker_is_reported_with_the_nearest_name(tmp_path: Path) -> None:
    spool = made_spool(tmp_path)
    made_spool(tmp_path, worker="render-box-2")
    with pytest.raises(SpoolError, match=r'no worker .* did you mean "render-box-2"'):
        takeover.take_over("render-bx-2", spool, FakeClock())
    with pytest.raises(SpoolError, match="is this worker itself"):
        takeover.take_over(spool.worker, spool, FakeClock())


@pytest.mark.posix_only("an open file that can be replaced; see the next test")
def test_late_writes_of_the_old_owner_do_not_reach_the_journal(
    tmp_path: Path,
) -> None:
    old, new = made_spool(tmp_path, worker="old"), made_spool(tmp_path, worker="new")
    folder = old.working / "20261124-castle"
    folder.mkdir()
    run = Run(folder, SystemClock())
    run.record("claimed", source="castle.yaml")

    takeover.prepare(new, "old", FakeClock())

    run.record("call_started", call="1.1")  # to the descriptor that it has open
    assert [r["event"] for r in lines_of(new.working / folder.name / JOURNAL)] == ["claimed"]
    with pytest.raises(NotADirectoryError):
        run.write_manifest("done")
    with pytest.raises(NotADirectoryError):
        Heartbeat(old).beat({})
    run.close()


@pytest.mark.parametrize("refused", ["the worker's folder", "the journal"])
def test_what_the_old_owner_has_open_refuses_the_takeover_until_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """Windows keeps the folder in its place, a Samba server on Linux only the file."""
    old, new = made_spool(tmp_path, worker="old"), made_spool(tmp_path, worker="new")
    folder = old.working / "20261124-castle"
    folder.mkdir()
    run = Run(folder, SystemClock())
    run.record("claimed", source="castle.yaml")

    def refuse(effect: Failpoint) -> None:
        is_refused = effect.source == old.working if "folder" in refused else _is_journal(effect)
        if is_refused:
            held = PermissionError(13, "Access denied", str(effect.path))
            held.winerror = 32  # type: ignore[attr-defined,unused-ignore]
            raise held

    with monkeypatch.context() as patched:
        patched.setattr("sdwatch.system.failpoints.before", refuse)
        patched.setattr("sdwatch.system.patience.HELD_FOR", 0.1)
        for _ in range(2):
            with pytest.raises(SpoolError, match="worker old still has files of its runs open"):
                takeover.prepare(new, "old", FakeClock())
    run.close()
    takeover.prepare(new, "old", FakeClock())
    assert [r["event"] for r in lines_of(new.working / folder.name / JOURNAL)] == ["claimed"]


def _is_journal(effect: Failpoint) -> bool:
    return effect.label == "rename" and effect.path.name == JOURNAL


def test_the_old_owner_cannot_make_its_folder_again(tmp_path: Path) -> None:
    old, new = made_spool(tmp_path, worker="old"), made_spool(tmp_path, worker="new")
    takeover.prepare(new, "old", FakeClock())
    old.repair()
    assert takeover.taken_by(old).startswith("taken over by worker new on ")
    with pytest.raises(SpoolError):
        old.prepare()


def test_a_takeover_that_a_kill_cut_off_continues_at_the_next_start(tmp_path: Path) -> None:
    old, new = made_spool(tmp_path, worker="old"), made_spool(tmp_path, worker="new")
    for name in ("one", "two"):
        (old.working / name).mkdir()
        (old.working / name / JOURNAL).write_text('{"event": "claimed", "source": "a.yaml"}\n')
    takeover.take_over("old", new, FakeClock())
    assert new.run_folders() == []

    takeover.prepare(new, "", FakeClock())
    assert [folder.name for folder in new.run_folders()] == ["one", "two"]
    assert sorted(path.name for path in new.working.iterdir()) == ["one", "two"]


def test_a_live_owner_that_makes_its_folder_again_is_still_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = made_spool(tmp_path, worker="old"), made_spool(tmp_path, worker="new")
    again = iter([True, False, False])

    def make_again(effect: object) -> None:
        if getattr(effect, "label", "") == "write" and next(again, False):
            (old.working / "claimed-meanwhile").mkdir(parents=True)

    monkeypatch.setattr("sdwatch.system.failpoints.before", make_again)
    takeover.prepare(new, "old", FakeClock())
    assert takeover.taken_by(old)
    assert [folder.name for folder in new.run_folders()] == ["claimed-meanwhile"]


def test_nothing_is_taken_from_an_owner_whose_heartbeat_moves(tmp_path: Path) -> None:
    old, new = made_spool(tmp_path, worker="old"), made_spool(tmp_path, worker="new")
    heart = Heartbeat(old)
    heart.beat({})
    clock = ClockWithOthers()
    clock.others = lambda: heart.beat({})
    with pytest.raises(AlreadyRunningError, match="worker old"):
        takeover.prepare(new, "old", clock)
    assert old.working.is_dir()

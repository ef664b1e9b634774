"""A lane whose events come in an unlucky order, or that breaks inside, serves again."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from sdwatch.lane.context import LaneSettings
from sdwatch.lane.crash_history_file import CrashHistoryFile
from sdwatch.lane.lane import Lane
from sdwatch.lane.loop import LaneLoop
from sdwatch.lane.worker import Worker
from sdwatch.policy.lane.crash_history import HistoryRecord
from sdwatch.system.clock import SystemClock
from tests.support.helpers import wait_until
from tests.support.lanes import simulator
from tests.support.monitored import job, monitored


def test_a_hold_that_a_start_saw_and_no_round_of_the_monitor_ends_all_the_same(
    tmp_path: Path,
) -> None:
    asked = threading.Event()
    held = threading.Event()

    def held_by_person() -> bool:
        if held.is_set():
            asked.set()
        return held.is_set()

    lane = Lane(
        simulator(), LaneSettings(tmp_path, (0.1,), SystemClock(), held_by_person=held_by_person)
    )
    lane.open()
    try:
        lane.allow_calls(None, None)
        wait_until(lambda: lane.ready, timeout=60, why="it is ready")
        held.set()
        for process in lane.process.family():
            process.kill()
        wait_until(asked.is_set, why="the start has seen the hold")
        wait_until(lambda: lane.loop.state.held_by_person, why="it waits")
        held.clear()  # before the monitor's next round

        def ready() -> bool:
            lane.allow_calls(None, None)
            return lane.ready

        wait_until(ready, timeout=60, why="it is started again")
        assert lane.process.incarnation == 2
    finally:
        lane.start_stop()
        lane.finish_stop()


def test_an_internal_error_at_each_failure_of_a_call_ends_the_run_and_not_the_lane(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(LaneLoop, "_explain", broken)
    plan = "- fault: opaque-500\n  when: {prompt: cursed}\n  times: always\n"
    with monitored(tmp_path, faults=plan) as spool:
        spool.start()
        spool.drop("bad.yaml", job("cursed"))
        spool.wait_for(failed=1)
        assert spool.stats()["posts"] == 2
        assert "internal error" in (spool.failed()[0] / "WHY.txt").read_text(encoding="utf-8")
        wait_until(lambda: spool.lane()["hold"] == "", 30, "it resumes")
        spool.drop("good.yaml", job())
        spool.wait_for(failed=1, done=1)


def test_an_internal_error_of_a_start_does_not_leave_it_starting_forever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, broke = CrashHistoryFile.save, threading.Event()

    def broken(self: CrashHistoryFile, record: HistoryRecord) -> None:
        if not broke.is_set():
            broke.set()
            raise KeyError("a bug")
        save(self, record)

    monkeypatch.setattr(CrashHistoryFile, "save", broken)
    with monitored(tmp_path) as spool:
        spool.start()
        spool.drop("castle.yaml", job())
        spool.wait_for(done=1)
        assert broke.is_set()


def test_a_worker_that_two_threads_use_first_is_one_thread() -> None:
    for _ in range(30):
        worker, threads, done = Worker("test", {}), set(), threading.Semaphore(0)
        barrier = threading.Barrier(2)

        def act(threads: set[int] = threads, done: threading.Semaphore = done) -> None:
            threads.add(threading.get_ident())
            done.release()

        def give(worker: Worker = worker, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            worker.do(act, lambda _: None)

        giving = [threading.Thread(target=give) for _ in range(2)]
        for thread in giving:
            thread.start()
        for thread in giving:
            thread.join()
        assert done.acquire(timeout=10)
        assert done.acquire(timeout=10)
        worker.close()
        assert len(threads) == 1

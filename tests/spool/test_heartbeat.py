"""One monitor for each spool: by the lock on one machine, by the heartbeat between two."""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from sdwatch.errors import AlreadyRunningError, RunStoppedError
from sdwatch.monitor.heartbeat_thread import HeartbeatWriter
from sdwatch.spool.folders import Spool
from sdwatch.spool.heartbeat import (
    HEARTBEAT,
    INTERVAL,
    QUIET_INTERVAL,
    STARTING,
    UNREADABLE,
    Heartbeat,
    give_way,
    is_alive_here,
    is_certainly_here,
    read_heartbeats,
    refuse_second_monitor,
    watched_for,
)
from sdwatch.system import disk
from sdwatch.system.state_folder import StateFolder
from tests.spool.spools import made_spool
from tests.support.helpers import FakeClock, wait_until


class ClockWithOthers(FakeClock):
    """While one waits on it, others do something."""

    others: Callable[[], None]

    def wait(self, event: threading.Event, timeout: float) -> bool:
        self.others()
        return super().wait(event, timeout)


def test_a_beat_names_worker_host_and_process_and_counts(tmp_path: Path) -> None:
    spool = made_spool(tmp_path)
    heartbeat = Heartbeat(spool)
    heartbeat.beat({"queued": 3})
    heartbeat.beat({"queued": 4})
    (beat,) = read_heartbeats(spool.root)
    assert (beat["worker"], beat["pid"]) == ("box-1", os.getpid())
    assert (beat["beat"], beat["queued"]) == (2, 4)
    assert beat["host"]


def test_an_orderly_end_leaves_no_heartbeat(tmp_path: Path) -> None:
    spool = made_spool(tmp_path)
    heartbeat = Heartbeat(spool)
    heartbeat.beat({})
    heartbeat.end()
    assert read_heartbeats(spool.root) == []
    assert list(spool.working.iterdir()) == []


def test_another_monitor_whose_heartbeat_moves_is_refused_by_its_name(tmp_path: Path) -> None:
    other = Heartbeat(made_spool(tmp_path, worker="box-2"))
    other.beat({})
    clock = ClockWithOthers()
    clock.others = lambda: other.beat({})
    with pytest.raises(AlreadyRunningError, match=f"worker box-2, process {os.getpid()} on "):
        refuse_second_monitor(made_spool(tmp_path), clock)


def test_a_heartbeat_that_stands_still_blocks_nobody(tmp_path: Path) -> None:
    Heartbeat(made_spool(tmp_path, worker="box-2")).beat({})
    clock = FakeClock()
    refuse_second_monitor(made_spool(tmp_path), clock)
    assert sum(clock.waited) > 0


def test_a_heartbeat_that_moves_is_refused_as_soon_as_it_does(tmp_path: Path) -> None:
    other = Heartbeat(made_spool(tmp_path, worker="box-2"))
    other.beat({}, QUIET_INTERVAL)
    clock = ClockWithOthers()
    clock.others = lambda: other.beat({}, QUIET_INTERVAL) if len(clock.waited) == 11 else None
    with pytest.raises(AlreadyRunningError):
        refuse_second_monitor(made_spool(tmp_path), clock)
    assert sum(clock.waited) == 12.0


@pytest.mark.parametrize(
    ("beat", "seconds"),
    [
        ({}, 5.0),  # of an earlier version, which beats each second
        ({"every": INTERVAL}, 5.0),
        ({"every": QUIET_INTERVAL}, 30.0),
        ({"every": 1e12}, 30.0),
        ({"every": -1.0}, 5.0),
        ({UNREADABLE: True}, 30.0),
    ],
)
def test_a_heartbeat_is_watched_for_as_long_as_it_may_stand_still(
    beat: dict[str, Any], seconds: float
) -> None:
    assert watched_for(beat) == seconds


def test_a_monitor_where_nothing_happens_is_watched_for_three_of_its_beats(tmp_path: Path) -> None:
    other = Heartbeat(made_spool(tmp_path, worker="box-2"))
    other.beat({}, QUIET_INTERVAL)
    clock = FakeClock()
    refuse_second_monitor(made_spool(tmp_path), clock)
    assert sum(clock.waited) == 3 * QUIET_INTERVAL


def test_a_process_of_this_machine_is_known_by_its_start_and_not_by_its_pid(
    tmp_path: Path,
) -> None:
    spool = made_spool(tmp_path)
    Heartbeat(spool).beat({})
    beat = beat_of(spool)
    assert (is_certainly_here(beat), is_alive_here(beat)) == (True, True)
    another = {**beat, "started": "1"}
    assert (is_certainly_here(another), is_alive_here(another)) == (False, False)
    elsewhere = {**beat, "host": "far"}
    assert (is_certainly_here(elsewhere), is_alive_here(elsewhere)) == (False, False)
    del beat["started"]  # as an earlier version writes it
    assert (is_certainly_here(beat), is_alive_here(beat)) == (False, True)


class Beats:
    """A writer with its clock, and when it beat."""

    def __init__(self, root: Path) -> None:
        self.clock = FakeClock()
        self.at: list[float] = []
        self.writer = HeartbeatWriter(Heartbeat(made_spool(root)), made_spool(root), self.clock)
        self.writer.start()
        self.began = self.clock.now

    def _status(self) -> dict[str, Any]:
        self.at.append(self.clock.now - self.began)
        return {"runs": [], "queued": 0, "hold": "", "lanes": []}

    def tick(self, seconds: float, headline: object = "", *, quiet: bool) -> None:
        self.clock.advance(seconds)
        self.writer.beat_if_due(self._status, headline, quiet=quiet)


def test_it_beats_each_second_while_something_happens_and_seldom_where_nothing_does(
    tmp_path: Path,
) -> None:
    beats = Beats(tmp_path)
    for _ in range(8):
        beats.tick(0.5, quiet=False)
    assert beats.at == [0.5, 1.5, 2.5, 3.5]
    beats.at.clear()
    beats.tick(0.5, quiet=True)
    for _ in range(5):
        beats.tick(5.0, quiet=True)
    assert beats.at == [4.5, 14.5, 24.5]
    assert beats.writer.due_in() == pytest.approx(5.0)


def test_it_beats_at_once_when_what_others_wait_for_has_changed(tmp_path: Path) -> None:
    beats = Beats(tmp_path)
    beats.tick(1.0, "", quiet=True)
    beats.tick(1.0, "on hold", quiet=True)
    beats.tick(1.0, "on hold", quiet=True)
    assert beats.at == [1.0, 2.0]


@pytest.mark.parametrize(
    ("quiet", "late", "checks"),
    [(False, 3.0, False), (False, 4.0, True), (True, 20.0, False), (True, 22.0, True)],
)
def test_one_that_was_frozen_long_enough_to_be_taken_over_gives_way_to_who_works(
    tmp_path: Path, quiet: bool, late: float, checks: bool
) -> None:
    beats = Beats(tmp_path)
    beats.tick(1.0, quiet=quiet)
    other = Heartbeat(made_spool(tmp_path, worker="box-2"))
    other.beat({})
    clock = ClockWithOthers()
    clock.now = beats.clock.now
    clock.others = lambda: other.beat({})
    beats.writer._clock = clock
    beats.clock = clock
    with pytest.raises(AlreadyRunningError) if checks else nullcontext():
        beats.tick(late, "changed", quiet=quiet)


def test_a_stop_ends_the_watch_for_others_and_nothing_starts(tmp_path: Path) -> None:
    Heartbeat(made_spool(tmp_path, worker="box-2")).beat({})
    stop = threading.Event()
    stop.set()
    with pytest.raises(RunStoppedError):
        refuse_second_monitor(made_spool(tmp_path), FakeClock(), stop=stop)
    with pytest.raises(RunStoppedError):
        give_way(made_spool(tmp_path), FakeClock(), {}, stop)


def test_ones_own_heartbeat_of_before_a_crash_is_not_waited_for(tmp_path: Path) -> None:
    spool = made_spool(tmp_path)
    Heartbeat(spool).beat({})
    clock = FakeClock()
    refuse_second_monitor(spool, clock)
    assert clock.waited == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_a_heartbeat_that_cannot_be_read_and_stands_still_blocks_nobody(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdwatch.spool.heartbeat._READ_AGAIN_FOR", 0.0)
    other = made_spool(tmp_path, worker="box-2")
    (other.working / HEARTBEAT).write_bytes(content)
    assert read_heartbeats(other.root) == [{"worker": "box-2", UNREADABLE: True}]
    clock = FakeClock()
    refuse_second_monitor(made_spool(tmp_path), clock)
    assert sum(clock.waited) > 0  # it was watched


@pytest.mark.parametrize("content", [b"", b"{", b"[]"])
def test_a_heartbeat_that_changes_and_cannot_be_read_is_of_a_monitor_that_runs(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdwatch.spool.heartbeat._READ_AGAIN_FOR", 0.0)
    other = made_spool(tmp_path, worker="box-2").working / HEARTBEAT
    Heartbeat(made_spool(tmp_path, worker="box-2")).beat({})
    clock = ClockWithOthers()
    clock.others = lambda: other.write_bytes(content)
    with pytest.raises(AlreadyRunningError, match=f"worker box-2, process {os.getpid()} on "):
        refuse_second_monitor(made_spool(tmp_path), clock)


def test_a_heartbeat_that_is_empty_for_a_moment_is_read_again(tmp_path: Path) -> None:
    spool = made_spool(tmp_path, worker="box-2")
    other = Heartbeat(spool)
    (spool.working / HEARTBEAT).write_bytes(b"")
    again = threading.Timer(0.1, lambda: other.beat({"queued": 4}))
    again.start()
    (beat,) = read_heartbeats(spool.root)
    again.join()
    assert (beat["worker"], beat["queued"]) == ("box-2", 4)


def test_a_second_monitor_on_the_same_state_is_refused_by_the_lock(tmp_path: Path) -> None:
    first, second = StateFolder(tmp_path / "state"), StateFolder(tmp_path / "state")
    first.hold()
    try:
        with pytest.raises(AlreadyRunningError, match=f"process {os.getpid()} on "):
            second.hold()
    finally:
        first.release()
    second.hold()
    second.release()


def test_the_workers_id_stays(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "state")
    state.hold()
    try:
        assert state.worker == StateFolder(tmp_path / "state").worker
    finally:
        state.release()


def test_it_beats_by_itself_while_the_main_thread_is_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdwatch.spool.heartbeat.INTERVAL", 0.01)
    spool = made_spool(tmp_path)
    heartbeat = Heartbeat(spool)
    heartbeat.beat({"queued": 3})
    heartbeat.open()
    wait_until(lambda: beat_of(spool)["beat"] > 3)
    assert beat_of(spool)["queued"] == 3
    heartbeat.beat({"queued": 4, "next": ["castle.yaml"]})
    assert beat_of(spool)["next"] == ["castle.yaml"]
    heartbeat.end()
    assert read_heartbeats(spool.root) == []


def test_it_stands_in_sooner_once_beats_are_due_sooner(tmp_path: Path) -> None:
    spool = made_spool(tmp_path)
    heartbeat = Heartbeat(spool)
    heartbeat.beat({}, every=3600.0)
    heartbeat.open()
    heartbeat.beat({}, every=0.01)
    wait_until(lambda: beat_of(spool)["beat"] > 3)
    heartbeat.end()


def test_a_beat_that_the_disk_refuses_is_reported_once_and_when_it_is_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    beats = Beats(tmp_path)
    working = made_spool(tmp_path).working
    working.rmdir()
    caplog.set_level(logging.INFO, "sdwatch.monitor")
    assert beats.writer.write_now({}) is not None
    assert beats.writer.write_now({}) is not None
    working.mkdir()
    assert beats.writer.write_now({}) is None
    refused, over = (record.getMessage() for record in caplog.records)
    assert refused.startswith("the heartbeat cannot be written: ")
    assert over.startswith("the heartbeat is written again, after ")


def beat_of(spool: Spool) -> dict[str, Any]:
    return read_heartbeats(spool.root)[0]


# -- two that begin in the same moment: neither was there when the other looked


BOTH_BEGIN = {STARTING: True}
WORKS: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("other", "it_is", "gives_way"),
    [
        ("box-0", BOTH_BEGIN, True),
        ("box-2", BOTH_BEGIN, False),
        ("box-0", WORKS, True),
        ("box-2", WORKS, True),
    ],
)
def test_one_of_two_that_start_stays(
    tmp_path: Path, other: str, it_is: dict[str, Any], gives_way: bool
) -> None:
    mine, its = made_spool(tmp_path), made_spool(tmp_path, worker=other)
    still = refuse_second_monitor(mine, FakeClock())
    heartbeats = Heartbeat(mine), Heartbeat(its)
    for heartbeat in heartbeats:
        heartbeat.beat(BOTH_BEGIN)
    clock = ClockWithOthers()
    clock.others = lambda: heartbeats[1].beat(it_is)
    with pytest.raises(AlreadyRunningError, match=other) if gives_way else nullcontext():
        give_way(mine, clock, still)


def test_a_frozen_monitor_gives_way_to_one_that_works_and_not_to_one_that_starts(
    tmp_path: Path,
) -> None:
    mine, its = made_spool(tmp_path), Heartbeat(made_spool(tmp_path, worker="box-0"))
    its.beat(BOTH_BEGIN)
    clock = ClockWithOthers()
    clock.others = lambda: its.beat(BOTH_BEGIN)
    refuse_second_monitor(mine, clock, works=True)
    clock.others = lambda: its.beat(WORKS)
    with pytest.raises(AlreadyRunningError):
        refuse_second_monitor(mine, clock, works=True)


def test_where_nobody_else_is_or_one_that_was_seen_to_stand_still_nothing_is_waited_for(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    spool = made_spool(tmp_path)
    give_way(spool, clock, refuse_second_monitor(spool, clock))
    assert clock.waited == []

    Heartbeat(made_spool(tmp_path, worker="box-0")).beat({})
    still = refuse_second_monitor(spool, clock)
    waited = list(clock.waited)
    give_way(spool, clock, still)
    assert clock.waited == waited


WRONG: dict[str, dict[str, Any]] = {
    "a huge pid": {"pid": 10**30},
    "a pid below zero": {"pid": -5},
    "a pid of text": {"pid": "1"},
    "a pid that is none": {"pid": True},
    "a worker of numbers": {"worker": 7},
    "a host that is a list": {"host": ["box"]},
    "a beat that is a mapping": {"beat": {}},
    "a hold that is a number": {"hold": 3},
    "an endless stop": {"stopping": float("inf")},
    "a stop that is no number": {"stopping": float("nan")},
    "lanes that are text": {"lanes": "sim"},
    "a lane that is text": {"lanes": ["sim"]},
    "a lane of nothing": {"lanes": [{}]},
    "runs that are a mapping": {"runs": {"a": 1}},
    "a run of nothing": {"runs": [{}]},
    "counts of text": {"counts": {"done": "many"}},
    "a queue of text": {"queued": "many"},
    "what waits in a list": {"waiting": [["a", "b"]]},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_heartbeat_with_another_shape_is_one_that_cannot_be_read(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    spool = made_spool(tmp_path, worker="box-2")
    ours = {"worker": "box-2", "host": "far", "pid": 1, "beat": 1}
    (spool.working / HEARTBEAT).write_text(json.dumps({**ours, **wrong}))
    (beat,) = read_heartbeats(spool.root)
    assert beat == {"worker": "box-2", UNREADABLE: True}


def test_on_a_full_disk_a_file_that_has_another_name_too_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who may write to working/ put a hard link of a file of ours there."""
    other, path = tmp_path / "other", tmp_path / HEARTBEAT
    other.write_bytes(b"of somebody else")
    os.link(other, path)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(disk, "_new_file", refuse)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        disk.refresh(path, b"{}")
    assert other.read_bytes() == b"of somebody else"
    other.unlink()
    disk.refresh(path, b"{}")
    assert path.read_bytes() == b"{}"

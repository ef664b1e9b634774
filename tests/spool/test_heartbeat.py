"""One monitor for each spool: by the lock on one machine, by the heartbeat between two."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sdwatch.errors import AlreadyRunningError
from sdwatch.spool.heartbeat import HEARTBEAT, Heartbeat, read_heartbeats, refuse_second_monitor
from sdwatch.state import StateFolder
from tests.helpers import FakeClock
from tests.spool.spools import made_spool


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


def test_ones_own_heartbeat_of_before_a_crash_is_not_waited_for(tmp_path: Path) -> None:
    spool = made_spool(tmp_path)
    Heartbeat(spool).beat({})
    clock = FakeClock()
    refuse_second_monitor(spool, clock)
    assert clock.waited == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_a_heartbeat_that_cannot_be_read_is_passed_over(tmp_path: Path, content: bytes) -> None:
    other = made_spool(tmp_path, worker="box-2")
    (other.working / HEARTBEAT).write_bytes(content)
    assert read_heartbeats(other.root) == []
    refuse_second_monitor(made_spool(tmp_path), FakeClock())


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

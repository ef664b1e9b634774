"""The state folder's disk is full while the WebUI crashes: the way back does not depend on it, and
the crash is in the history as soon as there is room, once."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sdwatch.system.failpoints import Failpoint
from tests.support.helpers import KILL, wait_until
from tests.support.monitored import Monitored, job, journal, monitored

COOLDOWN = [0.1, 0.2, 0.3]


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """While this file is there, the disk takes no line of a crash history."""
    flag = tmp_path / "disk-is-full"

    def refuse(effect: Failpoint) -> None:
        if effect.label == "append" and effect.path.name == "crashes.jsonl" and flag.exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(effect.path))

    monkeypatch.setattr("sdwatch.system.failpoints.before", refuse)
    return flag


def kill_in_call(spool: Monitored, post: int) -> None:
    spool.wait_posts(post)
    os.kill(spool.webui_pid(), KILL)


def test_a_crash_that_cannot_be_written_down_is_survived_and_written_later_once(
    tmp_path: Path, full: Path, caplog: pytest.LogCaptureFixture
) -> None:
    slow, settings = ("--step-time", "0.05"), {"cooldown": COOLDOWN}
    with monitored(tmp_path, flags=slow, settings=settings) as spool:
        spool.start()
        spool.wait_ready()
        full.touch()
        spool.drop("castle.yaml", job(steps=20))
        kill_in_call(spool, 1)
        spool.wait_for(done=1)

        (run,) = spool.done()
        (failure,) = journal(run, "call_failed")
        assert failure["diagnosis"] == "crash"
        assert (run / "stage_failure_payload.json").exists()
        assert (run / "webui_tail.log").read_text(encoding="utf-8")
        assert spool.events("crash") == []
        assert any("not saved yet" in record.getMessage() for record in caplog.records)
        wait_until(lambda: spool.lane()["crashes_in_a_row"] == 1, 20, "it is counted all the same")

        full.unlink()
        spool.drop("tower.yaml", job(steps=20))
        kill_in_call(spool, 3)
        spool.wait_for(done=2)
        told = [(r["event"], r.get("incarnation", r.get("in_a_row"))) for r in spool.crashes()]
        assert told == [("start", 1), ("crash", 1), ("start", 2), ("crash", 2), ("start", 3)]
        assert [crash["cooldown"] for crash in spool.events("crash")] == COOLDOWN[:2]
        assert spool.stats()["posts"] == 4


def test_a_crash_that_was_refused_is_written_at_a_clean_stop_if_there_is_room_by_then(
    tmp_path: Path, full: Path
) -> None:
    cooldown = [0.1, 0.1, 3600.0]
    with monitored(tmp_path, settings={"cooldown": cooldown}) as spool:
        spool.start()
        for crashes in (1, 2, 3):
            spool.wait_ready(crashes)
            if crashes == 3:
                full.touch()
            os.kill(spool.webui_pid(), KILL)
            wait_until(lambda n=crashes: spool.lane()["crashes_in_a_row"] == n, 60, "it crashed")
        assert len(spool.events("crash")) == 2
        full.unlink()
        spool.stop()
        assert [crash["cooldown"] for crash in spool.events("crash")] == cooldown

        spool.start()
        wait_until(lambda: spool.lane().get("cooldown_left", 0) > 0, 60, "it cools down")
        assert spool.lane()["crashes_in_a_row"] == 3

"""Jobs that wait for a time, and jobs whose time is over, on a clock that the test sets."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.monitor.once import MonitorEnd
from sdwatch.policy.job.stage.confinement import JobRules
from sdwatch.spool.commands import failed_points_of
from sdwatch.system.clock import SystemClock
from tests.support.helpers import wait_until
from tests.support.monitored import Monitored, has, job, journal, monitored


@dataclass
class SetClock(SystemClock):
    """The machine's clocks, but somebody has set the wall clock."""

    ahead: float = 0.0

    def wall(self) -> float:
        return time.time() + self.ahead

    def utc_offset(self, _: float) -> float:
        return 0.0

    def set(self, text: str) -> None:
        self.ahead = datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() - time.time()


def test_a_window_holds_back_its_own_job_and_no_other(tmp_path: Path) -> None:
    clock = SetClock()
    clock.set("2026-12-01 12:00")
    with monitored(tmp_path) as spool:
        spool.drop("night.yaml", job(priority=9, only="22:00-07:00"))
        spool.drop("later.yaml", job(not_before="2026-12-03 09:30Z"))
        spool.start(clock=clock)
        wait_until(lambda: "night.yaml" in spool.status().get("waiting", {}), 30, "it waits")
        spool.drop("day.yaml", job())
        spool.wait_for(done=1)
        waiting = {
            "night.yaml": "waits until 22:00: only",
            "later.yaml": "waits until 2026-12-03 09:30: not_before",
        }
        wait_until(lambda: spool.status()["waiting"] == waiting, 30, "the next beat says so")
        wait_until(lambda: spool.status()["next"] == [], 30, "the day's job is done")

        clock.set("2026-12-01 22:00")
        spool.wait_for(done=2)
        clock.set("2026-12-03 10:00")
        spool.wait_for(done=3)


def test_the_call_under_way_is_finished_when_its_window_ends_and_the_rest_in_the_next(
    tmp_path: Path,
) -> None:
    clock = SetClock()
    clock.set("2026-12-02 06:50")
    with monitored(tmp_path, flags=["--step-time", "0.2"]) as spool:
        spool.drop("night.yaml", job(n_iter=3, steps=5, only="22:00-07:00"))
        spool.start(clock=clock)
        spool.wait_posts(1)
        clock.set("2026-12-02 07:00")
        wait_until(lambda: waits_for(spool) == "waits until 22:00: only", 30, "it waits")
        (run,) = spool.working()
        assert [r["call"] for r in journal(run, "call_finished")] == ["1.1"]
        assert len(journal(run, "call_started")) == 1
        spool.drop("day.yaml", job())
        spool.wait_for(done=1)

        clock.set("2026-12-02 22:30")
        spool.wait_for(done=2)
        assert spool.stats()["posts"] == 4


def test_a_call_that_waits_for_its_turn_does_not_start_after_its_window(tmp_path: Path) -> None:
    clock = SetClock()
    clock.set("2026-12-02 06:50")
    with monitored(tmp_path, flags=["--step-time", "0.5"]) as spool:
        spool.drop("day.yaml", job(priority=1, steps=8))
        spool.drop("night.yaml", job(only="22:00-07:00"))
        spool.start(clock=clock)
        spool.wait_posts(1)
        wait_until(lambda: len(spool.working()) == 2, 30, "the other one is claimed, too")
        clock.set("2026-12-02 07:00")
        spool.wait_for(done=1)
        wait_until(lambda: waits_for(spool) == "waits until 22:00: only", 30, "it waits")
        (run,) = spool.working()
        assert journal(run, "call_started") == []
        assert spool.lane()["hold"] == ""


def waits_for(spool: Monitored) -> str:
    runs = spool.status().get("runs", [])
    return str(runs[0]["doing"]) if runs else ""


def test_once_ends_where_only_a_time_is_waited_for(tmp_path: Path) -> None:
    clock = SetClock()
    clock.set("2026-12-01 12:00")
    with monitored(tmp_path) as spool:
        spool.drop("night.yaml", job(only="22:00-07:00"))
        spool.drop("day.yaml", job())
        spool.start(once=True, clock=clock)
        assert spool.ended() is MonitorEnd.WAITING
        assert "1 job is left, and waits until 22:00: only" in "\n".join(spool.told)
        assert spool.waiting() == ["night.yaml"]
        spool.wait_for(done=1)
    assert ExitCode.WAITING == 10


def test_a_run_that_takes_too_long_fails_and_keeps_its_images(tmp_path: Path) -> None:
    """And the next job finds a WebUI that is free."""
    with monitored(tmp_path, flags=["--step-time", "0.3"]) as spool:
        spool.drop("slow.yaml", job(n_iter=50, steps=2, timeout=2.0))
        spool.drop("zz.yaml", job())
        spool.start()
        spool.wait_for(done=1, failed=1)
        (failed,) = spool.failed()
        error = json.loads((failed / "error.json").read_bytes())
        assert (error["diagnosis"], error["blame"]) == ("timed out", "job")
        assert "its calls took longer than its timeout of 2 s" in (failed / "WHY.txt").read_text()
        finished = journal(failed, "call_finished")
        assert 1 <= len(finished) < 6
        assert len(list((failed / "images").iterdir())) == len(finished)
        assert not (failed / "cancel").exists()
        assert spool.lane()["crashes_in_a_row"] == 0


def test_a_timeout_in_a_matrix_leaves_points_that_are_retried_alone(tmp_path: Path) -> None:
    with monitored(tmp_path, flags=["--step-time", "0.3"]) as spool:
        text = job("a ${x}", steps=2, timeout=2.0, matrix={"x": [str(n) for n in range(30)]})
        spool.drop("slow.yaml", text)
        spool.start()
        spool.wait_for(failed=1)
        (failed,) = spool.failed()
        made = len(journal(failed, "call_finished"))
        assert made >= 1
        # The last one that it came to is made again: it may lack more than the journal knows. It is
        # finished where the time ended just between two calls.
        again = failed_points_of(failed, JobRules())
        assert again in (list(range(made + 1, 31)), list(range(made, 31)))


def test_a_pause_between_calls_is_not_counted_and_holds_up_neither_jobs_nor_a_stop(
    tmp_path: Path,
) -> None:
    with monitored(tmp_path, settings={"stop_grace": "10 min"}) as spool:
        spool.drop("slow.yaml", job(n_iter=2, delay_between_calls="1 h", timeout="1 min"))
        spool.start()
        wait_until(has(spool.working, "call_finished", call="1.1"), 30, "it pauses")
        pauses = "pauses (delay_between_calls) before stage 1 of 1 (txt2img), call 2 of 2"
        wait_until(lambda: pauses in str(spool.status().get("runs")), 30, "status says so")
        for name in ("a.yaml", "b.yaml", "c.yaml"):
            spool.drop(name, job())
        spool.wait_for(done=3)
        (run,) = spool.working()
        assert len(journal(run, "call_started")) == 1
        spool.stop()

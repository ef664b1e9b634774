"""The machine sleeps in the middle of it: durations stand still, the boot clock and the wall clock
do not. The clock is the test's, the monitor and its WebUI are real."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sdwatch import system
from sdwatch.monitor import monitor as monitors
from sdwatch.system.clock import SystemClock
from tests.support.helpers import wait_until
from tests.support.monitored import Monitored, job, monitored

NIGHT = 8 * 3600.0


class SleepyClock(SystemClock):
    """A machine that can sleep for any time within a moment."""

    slept = 0.0

    def boot_time(self) -> float:
        return super().boot_time() + self.slept

    def wall(self) -> float:
        return super().wall() + self.slept

    def sleep(self, seconds: float) -> None:
        self.slept += seconds


@contextmanager
def sleepy(
    root: Path, monkeypatch: pytest.MonkeyPatch, **more: Any
) -> Iterator[tuple[Monitored, SleepyClock]]:
    clock = SleepyClock()
    monkeypatch.setattr(monitors, "SystemClock", lambda: clock)
    with monitored(root, **more) as spool:
        yield spool, clock


def test_a_call_under_way_is_not_stuck_after_a_night_of_sleep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {"stall": 20, "call_limit": 60}
    with sleepy(tmp_path, monkeypatch, flags=["--step-time", "0.1"], webui=limits) as (
        spool,
        clock,
    ):
        spool.drop("castle.yaml", job(steps=40))
        spool.start()
        spool.wait_posts(1)
        clock.sleep(NIGHT)
        spool.wait_for(done=1)
        assert spool.stats()["posts"] == 1
        assert not spool.events("crash")
        assert spool.monitor is not None
        spool.stop()


def test_a_cool_down_passes_while_the_machine_sleeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cooling = {"cooldown": [3600]}
    with sleepy(tmp_path, monkeypatch, settings=cooling) as (spool, clock):
        spool.start()
        spool.wait_ready()
        system.kill([spool.webui_pid()], "")
        wait_until(lambda: spool.lane().get("cooldown_left", 0) > 3000, 30, "it cools down")
        spool.drop("castle.yaml", job())
        clock.sleep(NIGHT)
        spool.wait_for(done=1)
        assert spool.stats()["starts"] == 2
        spool.stop()


def test_durations_are_measured_by_a_clock_that_stands_still_during_sleep() -> None:
    clock = SystemClock()
    before, boot = clock.monotonic(), clock.boot_time()
    wait_until(lambda: clock.monotonic() > before, 5, "it moves")
    wait_until(lambda: clock.boot_time() > boot, 5, "so does the boot clock")
    assert clock.monotonic() <= clock.boot_time() + 1  # less by as much as the machine slept

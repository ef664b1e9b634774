"""A hold with `free: true`, and the end of a window, free the GPU; then it is taken back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from sdwatch.spool import commands
from sdwatch.spool.folders import Spool
from tests.integration.test_times_of_jobs import SetClock
from tests.support.helpers import wait_until
from tests.support.monitored import Monitored, job, journal, monitored


def on_gpu(spool: Monitored) -> Any:
    """The checkpoint whose weights are there; None where no WebUI answers."""
    try:
        return requests.get(f"http://127.0.0.1:{spool.port}/simulator/gpu", timeout=10).json()[
            "on_gpu"
        ]
    except requests.ConnectionError:
        return None


def reloads(spool: Monitored) -> int:
    logs = spool.state.glob("webui-sim/incarnation-*.log")
    return sum(log.read_text(encoding="utf-8").count("/sdapi/v1/reload-checkpoint") for log in logs)


def no_call_failed(spool: Monitored) -> bool:
    return not any(journal(run, "call_failed") for run in (*spool.done(), *spool.failed()))


@pytest.mark.parametrize("kind", ["forge", "a1111", "sdnext"])
def test_a_hold_unloads_the_checkpoint_and_its_end_brings_it_back(
    tmp_path: Path, kind: str
) -> None:
    with monitored(tmp_path, flags=["--kind", kind]) as spool:
        spool.drop("first.yaml", job())
        spool.start()
        spool.wait_for(done=1)
        assert on_gpu(spool)
        commands.hold(Spool(spool.spool, "none"), free=True)
        wait_until(lambda: on_gpu(spool) == "", 30, "it is unloaded")
        wait_until(
            lambda: spool.lane()["gpu"] == "its checkpoint is unloaded", 30, "status says so"
        )
        spool.drop("second.yaml", job())
        spool.two_more_beats()

        commands.resume(Spool(spool.spool, "none"))
        spool.wait_for(done=2)
        assert on_gpu(spool)
        assert no_call_failed(spool)
        assert spool.stats()["starts"] == 1


def test_a_kind_that_cannot_unload_is_stopped_and_started_again(tmp_path: Path) -> None:
    with monitored(tmp_path, flags=["--kind", "sdcpp"]) as spool:
        spool.drop("first.yaml", job())
        spool.start()
        spool.wait_for(done=1)
        before = psutil.Process(spool.webui_pid())
        (spool.spool / "hold.txt").write_text("the afternoon is for games\nfree: TRUE\n")
        wait_until(lambda: not before.is_running(), 30, "it is stopped")
        wait_until(lambda: spool.lane()["gpu"] == "the WebUI is stopped", 30, "status says so")
        spool.drop("second.yaml", job())
        spool.two_more_beats()
        assert on_gpu(spool) is None

        (spool.spool / "hold.txt").unlink()
        spool.wait_for(done=2)
        assert no_call_failed(spool)
        assert spool.stats()["starts"] == 2
        assert spool.lane()["crashes_in_a_row"] == 0


def test_a_monitor_that_adopts_an_unloaded_webui_brings_its_checkpoint_back(
    tmp_path: Path,
) -> None:
    """AUTOMATIC1111 fails each call until it is asked to."""
    with monitored(tmp_path, flags=["--kind", "a1111"], webui={"leave_running": True}) as spool:
        spool.drop("first.yaml", job())
        spool.start()
        spool.wait_for(done=1)
        hold = spool.spool / "hold"
        hold.write_text("free: true")
        wait_until(lambda: on_gpu(spool) == "", 30, "it is unloaded")
        spool.stop()
        hold.unlink()
        spool.drop("second.yaml", job())
        spool.start()
        spool.wait_for(done=2)
        assert no_call_failed(spool)
        assert spool.stats()["starts"] == 1


def test_a_monitor_that_starts_on_a_hold_loads_no_checkpoint_only_to_unload_it(
    tmp_path: Path,
) -> None:
    with monitored(tmp_path, flags=["--kind", "a1111"], webui={"leave_running": True}) as spool:
        spool.drop("first.yaml", job())
        spool.start()
        spool.wait_for(done=1)
        hold = spool.spool / "hold"
        hold.write_text("free: true")
        wait_until(lambda: on_gpu(spool) == "", 30, "it is unloaded")
        spool.stop()
        spool.start()
        wait_until(lambda: spool.lane().get("gpu") == "its checkpoint is unloaded", 30, "it knows")
        assert reloads(spool) == 0
        hold.unlink()
        spool.drop("second.yaml", job())
        spool.wait_for(done=2)
        assert reloads(spool) == 1
        assert no_call_failed(spool)


def test_the_end_of_a_window_frees_it_until_there_is_other_work(tmp_path: Path) -> None:
    clock = SetClock()
    clock.set("2026-12-02 06:50")
    with monitored(tmp_path) as spool:
        spool.drop("night.yaml", job(only="22:00-07:00"))
        spool.start(clock=clock)
        spool.wait_for(done=1)
        spool.two_more_beats()
        assert on_gpu(spool)

        clock.set("2026-12-02 07:00")
        wait_until(lambda: on_gpu(spool) == "", 30, "the night is over")
        spool.drop("another.yaml", job(only="22:00-07:00"))
        spool.drop("day.yaml", job())
        spool.wait_for(done=2)
        wait_until(lambda: on_gpu(spool) == "", 30, "only a job for the night is left")
        clock.set("2026-12-02 22:00")
        spool.wait_for(done=3)
        assert no_call_failed(spool)
        assert spool.stats()["starts"] == 1


def test_a_monitor_that_finds_only_jobs_for_the_night_starts_no_webui(tmp_path: Path) -> None:
    clock = SetClock()
    clock.set("2026-12-02 12:00")
    with monitored(tmp_path) as spool:
        spool.drop("night.yaml", job(only="22:00-07:00"))
        spool.start(clock=clock)
        not_started = "it is started when a job may start"
        wait_until(lambda: spool.lane().get("gpu") == not_started, 30, "status says so")
        spool.two_more_beats()
        assert not spool.events("start")

        clock.set("2026-12-02 22:00")
        spool.wait_for(done=1)
        assert spool.stats()["starts"] == 1

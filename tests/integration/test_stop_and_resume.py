"""The monitor, a real process, is stopped or killed in the middle of a call, and started again."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from sdwatch.monitor.once import MonitorEnd
from tests.support.helpers import wait_until
from tests.support.monitored import Monitored, has, job, journal, monitored

# On Windows a stop takes seconds to arrive: a helper has to start that sends Ctrl-Break.
SLOW = ["--step-time", "0.3" if sys.platform == "win32" else "0.05"]
STOPS = (
    [signal.SIGTERM] if sys.platform == "win32" else [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
)


def in_second_call(spool: Monitored) -> Path:
    """Start the monitor with a job of two calls of a second each; its run in its second call."""
    spool.drop("castle.yaml", job(n_iter=2, steps=20))
    spool.start_process()
    spool.wait_posts(2)
    return spool.working()[0]


def assert_went_on(spool: Monitored, run: Path, posts: int) -> None:
    """The run is done under its own name, and its finished call was sent once."""
    spool.wait_for(done=1)
    done = spool.done()[0]
    assert done.name == run.name
    sent = [record["call"] for record in journal(done, "call_started")]
    assert sent.count("1.1") == 1
    assert [record["call"] for record in journal(done, "call_finished")] == ["1.1", "1.2"]
    assert not journal(done, "call_failed")
    assert len(list((done / "images").iterdir())) == 2
    assert spool.stats()["posts"] == len(sent) == posts
    # Once as new, and from then on as a run that continues.
    assert spool.monitor_log.count(f"{run.name}: starts\n") == 1
    assert spool.monitor_log.count(f"{run.name}: resumes; 1 call is finished\n") == 1


@pytest.mark.parametrize("number", STOPS)
def test_a_call_in_flight_is_finished_within_the_grace_time(tmp_path: Path, number: int) -> None:
    with monitored(tmp_path, flags=SLOW) as spool:
        spool.drop("castle.yaml", job(n_iter=2, steps=20))
        spool.start_process()
        spool.wait_posts(1)
        assert spool.signal(number) == 0, spool.monitor_log
        (run,) = spool.working()
        assert [record["event"] for record in journal(run)][-1] == "call_finished"
        assert not spool.processes()
        assert not (run.parent / "heartbeat.json").exists()

        spool.start_process()
        assert_went_on(spool, run, posts=2)


@pytest.mark.parametrize("number", STOPS)
def test_a_call_in_flight_is_given_up_after_the_grace_time(tmp_path: Path, number: int) -> None:
    with monitored(tmp_path, flags=SLOW, settings={"stop_grace": 0}) as spool:
        run = in_second_call(spool)
        assert spool.signal(number) == 0, spool.monitor_log
        assert spool.working() == [run]
        assert [record["event"] for record in journal(run)][-1] == "call_given_up"
        assert not spool.processes()

        spool.start_process()
        assert_went_on(spool, run, posts=3)


def test_with_leave_running_the_next_monitor_adopts_the_webui(tmp_path: Path) -> None:
    with monitored(
        tmp_path, flags=SLOW, settings={"stop_grace": 0}, webui={"leave_running": True}
    ) as spool:
        run = in_second_call(spool)
        assert spool.signal() == 0, spool.monitor_log
        (left,) = spool.processes()

        spool.start_process()
        assert_went_on(spool, run, posts=3)
        wait_until(lambda: spool.lane().get("incarnation") == 1, 10, "the generation is the same")
        assert spool.processes() == [left]
        assert spool.stats()["starts"] == 1


def test_after_a_kill_during_a_call_the_next_monitor_adopts_and_resumes(tmp_path: Path) -> None:
    with monitored(tmp_path, flags=SLOW) as spool:
        run = in_second_call(spool)
        spool.kill()
        (left,) = spool.processes()
        assert spool.working() == [run]

        spool.start_process()
        assert_went_on(spool, run, posts=3)
        assert spool.processes() == [left]
        assert spool.stats()["starts"] == 1
        assert spool.signal() == 0
        assert not spool.processes()


def test_a_call_in_which_the_monitor_died_three_times_fails_its_run(tmp_path: Path) -> None:
    with monitored(tmp_path, flags=SLOW) as spool:
        spool.drop("castle.yaml", job(steps=40))
        for deaths in range(1, 4):
            spool.start_process()
            spool.wait_posts(deaths)
            spool.kill()
        spool.start_process()
        spool.wait_for(failed=1)
        why = (spool.failed()[0] / "WHY.txt").read_text(encoding="utf-8")
        assert "sdwatch was killed 3 times during this call" in why
        assert spool.stats()["posts"] == 3


def test_both_killed_at_once_the_run_still_resumes(tmp_path: Path) -> None:
    with monitored(tmp_path, flags=SLOW) as spool:
        run = in_second_call(spool)
        spool.kill()
        for process in spool.processes():
            process.kill()
        wait_until(lambda: not spool.processes(), 10, "the WebUI is dead")
        spool.start_process()
        assert_went_on(spool, run, posts=3)
        assert spool.stats()["starts"] == 2


def test_a_second_request_gives_the_call_up_without_the_grace_time(tmp_path: Path) -> None:
    settings = {"stop_grace": 3600}
    with monitored(tmp_path, flags=["--step-time", "1"], settings=settings) as spool:
        spool.drop("castle.yaml", job(steps=150))
        spool.start()
        spool.wait_posts(1)
        assert spool.monitor is not None
        spool.monitor.stop()
        spool.monitor.stop()
        assert spool.ended() is MonitorEnd.STOPPED
        assert has(spool.working, "call_given_up")()
        assert not spool.processes()


def test_a_stop_while_the_webui_starts_ends_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    with monitored(tmp_path, flags=["--never-ready"]) as spool:
        spool.drop("castle.yaml", job())
        spool.start_process()
        wait_until(spool.processes, 30, "the WebUI is being started")
        assert spool.signal() == 0, spool.monitor_log
        assert spool.waiting() == ["castle.yaml"]
        assert not spool.processes()


def test_a_generation_of_a_dead_monitor_is_interrupted_before_the_call_is_sent_again(
    tmp_path: Path,
) -> None:
    plan = "- fault: hang-interruptible\n  when: {generation: 1}\n"
    with monitored(tmp_path, faults=plan) as spool:
        spool.drop("castle.yaml", job(steps=20))
        spool.start_process()
        spool.wait_posts(1)
        spool.kill()
        (left,) = spool.processes()

        spool.start_process()  # its call would wait behind that one forever
        spool.wait_for(done=1)
        assert not journal(spool.done()[0], "call_failed")
        assert spool.processes() == [left], "adopted, and not started anew"
        assert spool.stats()["posts"] == 2


def test_a_generation_of_a_dead_monitor_that_hangs_costs_the_job_no_attempt(
    tmp_path: Path,
) -> None:
    plan = "- fault: hang\n  when: {generation: 1}\n"
    webui = {"stall": 2, "health": {"interval": 1, "timeout": 2}}
    with monitored(tmp_path, faults=plan, webui=webui) as spool:
        spool.drop("castle.yaml", job(steps=20))
        spool.start_process()
        spool.wait_posts(1)
        spool.kill()

        spool.start_process()
        spool.wait_for(done=1)
        done = spool.done()[0]
        assert not journal(done, "call_failed"), "it was not sent before that had ended"
        assert [start["incarnation"] for start in journal(done, "call_started")] == [1, 2]
        assert [crash["kind"] for crash in spool.events("crash")] == ["failed canary"]

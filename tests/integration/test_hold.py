"""A person's hold: a file in the spool, obeyed at the next call and never written or deleted."""

from __future__ import annotations

from pathlib import Path

from sdwatch.monitor.once import MonitorEnd
from tests.support.helpers import PATIENCE, wait_until
from tests.support.monitored import EXTERNAL, Monitored, has, job, journal, monitored
from tests.webui.sim import running


def test_the_running_call_is_finished_and_no_other_starts_until_it_is_gone(tmp_path: Path) -> None:
    hold = tmp_path / "spool" / "hold"
    with monitored(tmp_path, flags=["--step-time", "0.05"]) as spool:
        spool.drop("castle.yaml", job(n_iter=2, steps=10))
        spool.start()
        spool.wait_posts(1)
        hold.touch()
        spool.drop("later.yaml", job())
        wait_until(has(spool.working, "call_finished", call="1.1"), 30, "it is finished")
        spool.two_more_beats()
        assert "paused by the file hold in the spool" in spool.status()["hold"]
        assert len(journal(spool.working()[0], "call_started")) == 1
        assert spool.waiting() == ["later.yaml"]
        assert hold.exists()

        hold.unlink()
        spool.wait_for(done=2)
        assert spool.stats()["posts"] == 3


def test_nothing_is_claimed_on_hold(tmp_path: Path) -> None:
    with monitored(tmp_path) as spool:
        (spool.spool / "hold.txt").touch()
        spool.drop("castle.yaml", job())
        spool.start()
        wait_until(lambda: spool.status().get("next") == ["castle.yaml"], 20, "it waits")
        spool.two_more_beats()
        assert spool.waiting() == ["castle.yaml"]
        assert_never_started(spool)

        (spool.spool / "hold.txt").unlink()
        spool.wait_for(done=1)


def test_a_hold_that_is_set_later_leaves_the_webui_ready(tmp_path: Path) -> None:
    with monitored(tmp_path) as spool:
        spool.start()
        spool.wait_ready()
        (spool.spool / "hold").touch()
        spool.drop("castle.yaml", job())
        wait_until(lambda: spool.status()["next"] == ["castle.yaml"], 20, "it waits for its turn")
        spool.two_more_beats()
        assert spool.lane()["state"] == "ready"
        assert spool.stats()["posts"] == 0


A_WHILE = 6.0 * PATIENCE**2
"""Seconds in which a monitor is stopped and another one started."""

FAILS_CANARIES = "- {fault: structured-500, when: {prompt: '.'}, times: always}"


def attempts(spool: Monitored) -> tuple[int, int]:
    """How often it was started, and sent anything, canaries included."""
    stats = spool.stats()
    return stats["starts"], stats["posts"] + stats["canaries"]


def is_starting(spool: Monitored) -> bool:
    """A start is under way. One that waits with its self-test for the hold to end has ended."""
    lane = spool.lane()
    return lane["state"] == "starting" and "self-test" not in lane.get("hold", "")


def nothing_is_tried(spool: Monitored) -> None:
    """Neither a start nor a canary; what was under way when the hold came may end before."""
    spool.two_more_beats()
    wait_until(lambda: not is_starting(spool), 60, "the start that was under way has ended")
    before = attempts(spool)
    for _ in range(3):
        spool.two_more_beats()
    assert attempts(spool) == before


def test_while_the_lane_holds_because_of_its_canary_no_other_is_sent_and_nothing_is_started(
    tmp_path: Path,
) -> None:
    hold = tmp_path / "spool" / "hold"
    with monitored(tmp_path, faults=FAILS_CANARIES, settings={"cooldown": [0.1]}) as spool:
        spool.drop("castle.yaml", job())
        spool.start()
        wait_until(lambda: "canary" in spool.lane().get("hold", ""), 60, "the lane's own hold")
        hold.touch()
        nothing_is_tried(spool)
        starts, sent = attempts(spool)

        hold.unlink()
        wait_until(lambda: attempts(spool)[0] > starts and attempts(spool)[1] > sent, 60, "again")


def test_an_external_one_gets_no_canary_either(tmp_path: Path) -> None:
    hold = tmp_path / "spool" / "hold"
    webui = {**EXTERNAL, "health": {"interval": 0.5, "timeout": 5, "failures": 100}}
    counted = ("--state", str(tmp_path / "simulator.json"))
    with (
        monitored(tmp_path, settings={"cooldown": [0.1]}, webui=webui) as spool,
        running(tmp_path, *counted, port=spool.port, plan=FAILS_CANARIES),
    ):
        spool.drop("castle.yaml", job())
        spool.start()
        wait_until(lambda: "canary" in spool.lane().get("hold", ""), 60, "the lane's own hold")
        hold.touch()
        nothing_is_tried(spool)
        _, sent = attempts(spool)

        hold.unlink()
        wait_until(lambda: attempts(spool)[1] > sent, 60, "it is asked again")
        spool.stop()


def test_a_webui_that_dies_on_hold_is_not_started_before_the_hold_is_gone(tmp_path: Path) -> None:
    hold = tmp_path / "spool" / "hold"
    with monitored(tmp_path) as spool:
        spool.start()
        spool.wait_ready()
        hold.touch()
        for process in spool.processes():
            process.kill()
        wait_until(lambda: spool.lane()["state"] == "cooling down", 60, "its exit is noticed")
        nothing_is_tried(spool)
        assert spool.stats()["starts"] == 1

        hold.unlink()
        spool.wait_ready(2)


def test_a_self_test_that_is_due_at_the_start_waits_for_the_hold_to_end(
    tmp_path: Path,
) -> None:
    hold = tmp_path / "spool" / "hold"
    webui = {"leave_running": True}
    with monitored(
        tmp_path, faults=FAILS_CANARIES, settings={"cooldown": [0.1, 0.1, 600]}, webui=webui
    ) as spool:
        spool.drop("castle.yaml", job())
        spool.start()
        wait_until(lambda: "canary" in spool.lane().get("hold", ""), 60, "the lane's own hold")
        spool.stop()
        hold.touch()
        before = attempts(spool)
        spool.start()
        wait_until(lambda: "self-test" in spool.lane().get("hold", ""), 60, "it says why")
        nothing_is_tried(spool)
        assert attempts(spool) == before


def test_a_self_test_waits_for_a_hold_that_comes_in_its_cool_down(tmp_path: Path) -> None:
    hold = tmp_path / "spool" / "hold"
    webui = {"leave_running": True}
    with monitored(
        tmp_path, faults=FAILS_CANARIES, settings={"cooldown": [0.1, 0.1, A_WHILE]}, webui=webui
    ) as spool:
        spool.drop("castle.yaml", job())
        spool.start()
        wait_until(lambda: "canary" in spool.lane().get("hold", ""), 60, "the lane's own hold")
        spool.stop()
        before = attempts(spool)
        spool.start()
        wait_until(lambda: spool.lane().get("state") == "starting", 60, "it was adopted")
        hold.touch()
        wait_until(lambda: "self-test" in spool.lane().get("hold", ""), 60, "it says why")
        nothing_is_tried(spool)
        assert attempts(spool) == before


def test_a_run_that_is_stopped_on_hold_resumes(tmp_path: Path) -> None:
    hold = tmp_path / "spool" / "hold"
    with monitored(tmp_path, flags=["--step-time", "0.05"]) as spool:
        spool.drop("castle.yaml", job(n_iter=2, steps=10))
        spool.start()
        spool.wait_posts(1)
        hold.touch()
        wait_until(has(spool.working, "call_finished", call="1.1"), 30, "it is finished")
        spool.stop()
        assert len(spool.working()) == 1
        hold.unlink()
        spool.start()
        spool.wait_for(done=1)
        assert spool.stats()["posts"] == 2


def test_a_retry_after_a_crash_waits_for_a_hold_that_came_in_the_cool_down(tmp_path: Path) -> None:
    hold = tmp_path / "spool" / "hold"
    fault = "- {fault: sigkill-mid-step, when: {generation: 1}, times: once}"
    with monitored(tmp_path, faults=fault, settings={"cooldown": [1]}) as spool:
        spool.drop("castle.yaml", job())
        spool.start()
        wait_until(has(spool.working, "call_failed", call="1.1"), 30, "it crashed")
        hold.touch()
        nothing_is_tried(spool)
        assert spool.stats()["starts"] == 1
        assert len(journal(spool.working()[0], "call_started")) == 1

        hold.unlink()
        spool.wait_for(done=1)
        assert spool.stats()["posts"] == 2


def test_once_on_hold_still_fails_what_cannot_be_parsed(tmp_path: Path) -> None:
    with monitored(tmp_path, settings={"unfinished_timeout": 1}) as spool:
        (spool.spool / "hold").touch()
        spool.drop("wrong.yaml", "[x")
        spool.drop("castle.yaml", job())
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.HOLD
        assert spool.waiting() == ["castle.yaml"]
        assert len(spool.failed()) == 1


def assert_never_started(spool: Monitored) -> None:
    """The WebUI had no life at all: no process, no record of a start, no output."""
    assert spool.stats()["starts"] == 0
    assert not spool.processes()
    assert spool.crashes() == []
    assert list((spool.state / "webui-sim").iterdir()) == []


def test_once_ends_on_hold_leaves_the_jobs_and_starts_no_webui(tmp_path: Path) -> None:
    with monitored(tmp_path) as spool:
        (spool.spool / "hold").touch()
        spool.drop("castle.yaml", job())
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.HOLD
        assert spool.waiting() == ["castle.yaml"]
        assert_never_started(spool)


def test_once_starts_no_webui_for_an_empty_inbox(tmp_path: Path) -> None:
    with monitored(tmp_path) as spool:
        (spool.inbox / "README.md").write_text("no job")
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.EMPTY
        assert_never_started(spool)


def test_once_starts_no_webui_for_a_job_file_that_is_wrong(tmp_path: Path) -> None:
    with monitored(tmp_path) as spool:
        spool.drop("mistake.yaml", job(stepz=3))
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.EMPTY
        assert len(spool.failed()) == 1
        assert_never_started(spool)


def test_once_ends_on_a_webui_that_cannot_be_used_and_leaves_the_jobs(tmp_path: Path) -> None:
    with monitored(tmp_path, flags=["--no-model"]) as spool:
        spool.drop("castle.yaml", job())
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.HOLD
        assert spool.waiting() == ["castle.yaml"]
        note = spool.spool / "HOLD-sim.txt"
        text = note.read_text(encoding="utf-8")
        assert "no checkpoint" in text.splitlines()[0]
        assert "sdwatch has stopped because of this hold (--once)" in text

        spool.flags = ()
        spool.write_config()
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.EMPTY
        assert not note.exists()
        assert len(spool.done()) == 1


def test_once_ends_when_the_inbox_is_empty(tmp_path: Path) -> None:
    with monitored(tmp_path) as spool:
        for number in range(3):
            spool.drop(f"castle-{number}.yaml", job())
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.EMPTY
        assert len(spool.done()) == 3
        assert not spool.processes()

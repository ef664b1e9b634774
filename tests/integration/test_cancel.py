"""Cancelling is done with files, too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.helpers import wait_until
from tests.support.monitored import job, monitored


@pytest.mark.parametrize("name", ["cancel", "cancel.txt"])
def test_a_cancel_file_in_a_running_run_ends_it_and_interrupts_the_webui(
    tmp_path: Path, name: str
) -> None:
    with monitored(tmp_path, flags=["--step-time", "0.2"]) as spool:
        spool.drop("castle.yaml", job(steps=150))
        spool.start()
        spool.wait_posts(1)
        (spool.working()[0] / name).touch()
        spool.wait_for(failed=1)
        wait_until(spool.interrupted, 10, "the WebUI was told")

        run = spool.failed()[0]
        assert json.loads((run / "run.json").read_text())["outcome"] == "cancelled"
        assert "somebody cancelled" in (run / "WHY.txt").read_text(encoding="utf-8")
        assert spool.events("crash") == []
        spool.drop("next.yaml", job())
        spool.wait_for(done=1, failed=1)
        assert spool.stats()["starts"] == 1


def test_of_two_runs_that_are_cancelled_at_once_neither_is_generated_to_its_end(
    tmp_path: Path,
) -> None:
    """An interrupt ends what runs, after its step. What waits behind that in the WebUI would not be
    interrupted (measured with Forge)."""
    with monitored(tmp_path, flags=["--step-time", "5"]) as spool:
        for name in ("first", "second"):
            spool.drop(f"{name}.yaml", job(steps=100))
        spool.start()
        spool.wait_posts(1)
        wait_until(lambda: len(spool.working()) == 2, 30, "the second waits for its turn")
        for number, run in enumerate(spool.working(), start=1):
            (run / "cancel").touch()
            spool.wait_for(failed=number)
        spool.drop("next.yaml", job(steps=1))
        spool.wait_for(done=1, failed=2)
        assert spool.events("crash") == []


@pytest.mark.parametrize("flag", ["--crash-on-start=3", "--never-ready"])
def test_a_run_that_waits_for_a_webui_that_does_not_come_up_can_be_cancelled(
    tmp_path: Path, flag: str
) -> None:
    with monitored(tmp_path, flags=["--step-time", "0.2"], settings={"stop_grace": 0}) as spool:
        spool.drop("castle.yaml", job(steps=150))
        spool.start()
        spool.wait_posts(1)
        spool.stop()
        (run,) = spool.working()

        spool.flags = [flag]
        spool.write_webui(start_limit=1)
        spool.start()
        wait_until(lambda: spool.lane().get("hold"), 60, "it was started in vain")
        assert spool.working() == [run]
        (run / "cancel").touch()
        spool.wait_for(failed=1)
        (ended,) = spool.failed()
        assert ended.name == run.name
        assert json.loads((ended / "run.json").read_text())["outcome"] == "cancelled"
        assert "somebody cancelled" in (ended / "WHY.txt").read_text(encoding="utf-8")
        assert spool.stats()["posts"] == 1


def test_a_run_whose_webui_died_for_good_in_its_call_can_be_cancelled(tmp_path: Path) -> None:
    plan = (
        "- {fault: sigkill-mid-step, when: {generation: 1}}\n"
        "- {fault: exit-on-start, when: {start: 2}, times: always}\n"
    )
    with monitored(tmp_path, faults=plan) as spool:
        spool.drop("castle.yaml", job())
        spool.start()
        wait_until(lambda: len(spool.events("crash")) >= 3, 60, "two starts failed")
        (run,) = spool.working()
        (run / "cancel").touch()
        spool.wait_for(failed=1)
        (ended,) = spool.failed()
        assert json.loads((ended / "run.json").read_text())["outcome"] == "cancelled"
        assert spool.stats()["posts"] == 1


def test_a_marker_beside_a_waiting_job_cancels_it_unsent(tmp_path: Path) -> None:
    with monitored(tmp_path) as spool:
        (spool.spool / "hold").touch()
        spool.drop("castle.yaml", job())
        spool.drop("other.yaml", job())
        spool.start()
        wait_until(lambda: len(spool.status().get("next", [])) == 2, 30, "both wait")
        (spool.inbox / "castle.yaml.cancel").touch()
        spool.wait_for(failed=1)

        run = spool.failed()[0]
        assert json.loads((run / "run.json").read_text())["outcome"] == "cancelled"
        assert spool.waiting() == ["other.yaml"]
        (spool.spool / "hold").unlink()
        spool.wait_for(done=1, failed=1)
        assert spool.stats()["posts"] == 1

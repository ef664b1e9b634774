"""Two WebUIs, and what the one leaves the other takes up."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from sdwatch.monitor.once import MonitorEnd
from tests.support.helpers import free_port, wait_until
from tests.support.monitored import FAST, MARK, journal, monitored
from tests.support.monitored import job as small_job

DIES_FOR_GOOD = """\
- {fault: sigkill-mid-step, when: {generation: 1}}
- {fault: exit-on-start, when: {start: 2}, times: always}
"""


def job(number: int) -> str:
    """A job of half a second."""
    return small_job(seed=number, steps=10)


def second_webui(root: Path) -> dict[str, Any]:
    """One that is healthy, and comes up after the first."""
    port = free_port()
    command = [sys.executable, "-m", "sdwatch.simulator", "--port", str(port), *FAST]
    flags = ["--step-time", "0.05", "--boot-time", "1"]
    return {
        "url": f"http://127.0.0.1:{port}",
        "command": [*command, *flags, "--state", str(root / "second.json")],
        "env": {MARK: str(root)},
        "stop_grace": 1,
        "start_limit": 60,
    }


@pytest.mark.parametrize("cooldown", [[0.1], [0.1, 3600]], ids=["is tried again", "cools down"])
def test_when_one_dies_for_good_the_other_does_all_jobs(
    tmp_path: Path, cooldown: list[float]
) -> None:
    others = {"second": second_webui(tmp_path)}
    settings = {"cooldown": cooldown}
    with monitored(tmp_path, faults=DIES_FOR_GOOD, settings=settings, others=others) as spool:
        for number in range(6):
            spool.drop(f"castle-{number}.yaml", job(number))
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.EMPTY, spool.told
        assert len(spool.done()) == 6
        assert not spool.failed() + spool.working()
        assert spool.stats()["posts"] == 1, "the first took none, or went on"
        failures = [failure for run in spool.done() for failure in journal(run, "call_failed")]
        assert [failure["diagnosis"] for failure in failures] == ["crash"]
        assert not spool.processes()


FAILS_TWICE_AND_STAYS_DEAD = """\
- {fault: sigkill-mid-step, when: {generation: 1}}
- {fault: sigkill-mid-step, when: {generation: 2}}
- {fault: exit-on-start, when: {start: 3}, times: always}
"""


def test_a_call_that_failed_twice_on_another_lane_is_tried_before_the_job_is_blamed(
    tmp_path: Path,
) -> None:
    """That the second one is healthy says nothing about the attempts on the first."""
    others = {"second": second_webui(tmp_path)}
    faults = FAILS_TWICE_AND_STAYS_DEAD
    with monitored(tmp_path, faults=faults, settings={"cooldown": [0.1]}, others=others) as spool:
        spool.drop("castle.yaml", job(1))
        spool.start()
        spool.wait_for(done=1)
        spool.stop()
        (done,) = spool.done()
        assert spool.stats()["posts"] == 2
        assert [each["lane"] for each in journal(done, "call_failed")] == ["sim", "sim"]
        (tested,) = journal(done, "call_self_tested")
        assert tested["excused"]
        assert json.loads((done / "run.json").read_text("utf-8"))["webui"]["name"] == "second"


def test_each_gets_a_run_before_one_gets_its_second(tmp_path: Path) -> None:
    with monitored(tmp_path, others={"second": second_webui(tmp_path)}) as spool:
        spool.start()

        def are_ready() -> bool:
            lanes = spool.status().get("lanes", [])
            return [lane["state"] for lane in lanes] == ["ready", "ready"]

        wait_until(are_ready, 60, "both are ready")
        (spool.spool / "hold").touch()
        for number in range(2):
            spool.drop(f"castle-{number}.yaml", job(number))
        wait_until(lambda: spool.status().get("queued") == 2, 60, "both wait")
        (spool.spool / "hold").unlink()
        spool.wait_for(done=2)
        manifests = [json.loads((run / "run.json").read_text("utf-8")) for run in spool.done()]
        assert {manifest["webui"]["name"] for manifest in manifests} == {"sim", "second"}


def test_a_run_that_waits_for_a_crashed_webui_is_done_by_an_idle_one(tmp_path: Path) -> None:
    dies = "- {fault: sigkill-mid-step, when: {generation: 1}}\n"
    settings = {"cooldown": [3600]}
    with monitored(tmp_path, faults=dies, settings=settings, others=late(tmp_path)) as spool:
        for number in range(2):
            spool.drop(f"castle-{number}.yaml", small_job(seed=number, steps=10))
        spool.start()
        spool.wait_for(done=1)
        (done,) = spool.done()
        assert json.loads((done / "run.json").read_text("utf-8"))["webui"]["name"] == "second"
        assert journal(done, "call_failed") == []
        (left,) = spool.working()
        assert len(journal(left, "call_failed")) == 1, "its retry is the first lane's"
        spool.stop()


def late(root: Path) -> dict[str, Any]:
    """A healthy second one that comes up once both jobs are the first one's."""
    webui = second_webui(root)
    where = webui["command"].index("--boot-time") if "--boot-time" in webui["command"] else None
    assert where is not None
    webui["command"][where + 1] = "4"
    return {"second": webui}


def test_each_has_its_own_hold_and_both_are_named(tmp_path: Path) -> None:
    others = {"second": second_webui(tmp_path)}
    with monitored(tmp_path, flags=["--no-model"], others=others) as spool:
        spool.start()

        def lanes() -> dict[str, dict[str, Any]]:
            return {lane["name"]: lane for lane in spool.status().get("lanes", [])}

        wait_until(lambda: lanes().get("second", {}).get("state") == "ready", 60)
        wait_until(lambda: "no checkpoint" in lanes()["sim"]["hold"], 60)
        assert lanes()["second"]["hold"] == ""
        spool.drop("castle.yaml", job(1))
        spool.wait_for(done=1)
        assert spool.stats()["posts"] == 0

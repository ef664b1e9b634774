"""SD.Next as it is, under the real monitor: what it answers is read together with its log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.helpers import wait_until
from tests.support.monitored import Monitored, job, journal, monitored
from tests.webui.kinds import CORRUPT, GOOD

SDNEXT = ("--kind", "sdnext")
HIRES = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Resize Lanczos"}


def plan(fault: str, more: str = "") -> str:
    return f"- {{fault: {fault}, when: {{prompt: cursed}}{more}}}\n"


def run_json(run: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return value


def choose(spool: Monitored, settings: dict[str, str]) -> None:
    """As somebody does it in the WebUI's own page."""
    url = f"http://127.0.0.1:{spool.port}/sdapi/v1/options"
    assert requests.post(url, json=settings, timeout=10).ok


@pytest.mark.parametrize("batch", [1, 2])
def test_a_preview_after_an_exception_is_nobodys_interrupt(tmp_path: Path, batch: int) -> None:
    with monitored(tmp_path, flags=SDNEXT, faults=plan("structured-500")) as spool:
        spool.drop("castle.yaml", job("a cursed castle", steps=4, batch_size=batch))
        spool.start()
        spool.wait_for(done=1)
        spool.stop()
        (failed,) = journal(spool.done()[0], "call_failed")
        assert failed["diagnosis"] == "server error"
        assert "RuntimeError: injected failure inside sampling" in failed["message"]
        assert "prompt_embeds" not in failed["message"]
        assert (spool.stats()["posts"], spool.stats()["starts"]) == (2, 2)


@pytest.mark.parametrize("level", ["warn", "off"])
def test_an_exception_fails_the_call_also_where_interrupts_are_let_pass(
    tmp_path: Path, level: str
) -> None:
    settings = {"checks": {"interrupted": level, "one_colour": "off", "size": "off"}}
    with monitored(tmp_path, flags=SDNEXT, faults=plan("value-error"), settings=settings) as spool:
        spool.drop("castle.yaml", job("a cursed castle", steps=4))
        spool.start()
        spool.wait_for(done=1)
        (failed,) = journal(spool.done()[0], "call_failed")
        assert failed["diagnosis"] == "server error"
        assert "injected failure of a value" in failed["message"]


@pytest.mark.parametrize("load_time", ["0", "1"])
def test_no_job_runs_into_a_start_whose_routes_come_late(tmp_path: Path, load_time: str) -> None:
    faults = "- {fault: late-routes, when: {start: 1}, times: always}\n"
    flags = (*SDNEXT, "--load-time", load_time)
    with monitored(tmp_path, flags=flags, faults=faults) as spool:
        spool.drop("castle.yaml", job())
        spool.start()
        spool.wait_for(done=1)
        assert run_json(spool.done()[0])["webui"]["kind"] == "sdnext"
        assert journal(spool.done()[0], "call_failed") == []
        spool.stop()
        spool.drop("again.yaml", job())
        spool.start()
        spool.wait_for(done=2)
        assert spool.events("crash") == []
        tries = 2  # whether it can upscale, in each life
        assert (spool.stats()["posts"], spool.stats()["canaries"]) == (2, tries)


def test_a_checkpoint_that_it_keeps_is_a_hold_until_somebody_chooses_another(
    tmp_path: Path,
) -> None:
    with monitored(tmp_path, flags=SDNEXT, settings={"cooldown": [0.2]}) as spool:
        spool.start()
        spool.wait_ready()
        choose(spool, CORRUPT)
        spool.drop("castle.yaml", job())
        wait_until(
            lambda: "checkpoint in its settings" in spool.lane().get("hold", ""), 60, "a hold"
        )
        wait_until(lambda: spool.stats()["canaries"] >= 3, 60, "it is looked at again")
        assert spool.events("crash") == []
        choose(spool, GOOD)
        spool.wait_for(done=1)
        assert (spool.stats()["posts"], spool.stats()["starts"]) == (2, 1)


def test_a_hires_job_as_other_webuis_take_it_is_enlarged_and_run_json_says_by_what(
    tmp_path: Path,
) -> None:
    with monitored(tmp_path, flags=SDNEXT) as spool:
        spool.drop("hires.yaml", job(**HIRES))
        spool.drop("own.yaml", job(**HIRES, hr_resize_mode=2))
        spool.start()
        spool.wait_for(done=2)
        added = {
            run_json(run)["source"]: run_json(run)["calls"][0].get("added") for run in spool.done()
        }
        assert added == {"hires.yaml": {"hr_resize_mode": 1}, "own.yaml": None}
        assert spool.stats()["posts"] == 2


THREE_STAGES = """\
stages:
- txt2img: {prompt: a castle, width: 64, height: 64, steps: 2}
- img2img: {prompt: a castle, steps: 2}
- upscale: {upscaler_1: Resize Lanczos}
"""


def test_a_job_whose_last_stage_it_cannot_do_is_refused_before_its_first(tmp_path: Path) -> None:
    with monitored(tmp_path, flags=SDNEXT) as spool:
        spool.drop("three.yaml", THREE_STAGES)
        spool.drop("good.yaml", job())
        spool.start()
        spool.wait_for(done=1, failed=1)
        error = json.loads((spool.failed()[0] / "error.json").read_text(encoding="utf-8"))
        assert "three.yaml:4:" in error["message"]
        assert "cannot do extra-single-image: this version of SD.Next answers" in error["message"]
        assert spool.stats()["posts"] == 1


def test_a_version_that_can_upscale_does_all_three_stages(tmp_path: Path) -> None:
    with monitored(tmp_path, flags=(*SDNEXT, "--extras-work")) as spool:
        spool.drop("three.yaml", THREE_STAGES)
        spool.start()
        spool.wait_for(done=1)
        assert spool.stats()["posts"] == 3


def test_a_stage_that_a_call_has_shown_to_fail_costs_no_second_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it could not be tried before, as while the WebUI was busy."""
    monkeypatch.setattr("sdwatch.lane.webui_effects.WebUIEffects._is_idle", lambda _: False)
    with monitored(tmp_path, flags=SDNEXT) as spool:
        spool.drop("one.yaml", THREE_STAGES)
        spool.start()
        spool.wait_for(failed=1)
        assert spool.stats()["posts"] == 3
        spool.drop("two.yaml", THREE_STAGES)
        spool.wait_for(failed=2)
        assert spool.stats()["posts"] == 3
        assert spool.events("crash") == []


def test_an_upscaler_that_enlarges_nothing_costs_no_second_job(tmp_path: Path) -> None:
    """With Forge, which gives the picture back as it was where it cannot load one."""
    faults = "- {fault: wrong-size, when: {stage: extra-single-image}, times: always}\n"
    stages = """\
stages:
- txt2img: {prompt: a castle, width: 64, height: 64, steps: 2}
- upscale: {upscaler_1: Lanczos, upscaling_resize: 2}
"""
    with monitored(tmp_path, faults=faults) as spool:
        spool.drop("one.yaml", stages)
        spool.start()
        spool.wait_for(failed=1)
        posts = spool.stats()["posts"]
        spool.drop("two.yaml", stages)
        spool.wait_for(failed=2)
        (second,) = (run for run in spool.failed() if "-two-" in run.name)
        error = json.loads((second / "error.json").read_text(encoding="utf-8"))
        assert 'cannot enlarge with "Lanczos"' in error["message"]
        assert spool.stats()["posts"] == posts

"""What a real Forge does with hires, NaNs and settings, and what sdwatch makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import requests

from sdwatch.simulator.faults import CANARY
from tests.support.helpers import wait_until
from tests.support.monitored import Monitored, job, journal, monitored

HIRES = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Latent", "denoising_strength": 0.5}


def run_json(run: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return value


def error_of(run: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((run / "error.json").read_text(encoding="utf-8"))
    return value


def post(spool: Monitored, route: str, fields: dict[str, Any]) -> requests.Response:
    """As another client of the same WebUI does."""
    return requests.post(f"http://127.0.0.1:{spool.port}/sdapi/v1/{route}", json=fields, timeout=30)


@pytest.mark.parametrize("kind", ["forge", "forge-neo"])
def test_a_hires_job_without_modules_is_done_at_once_and_run_json_says_what_was_added(
    tmp_path: Path, kind: str
) -> None:
    with monitored(tmp_path, flags=("--kind", kind)) as spool:
        spool.drop("castle.yaml", job(**HIRES))
        spool.start()
        spool.wait_for(done=1)
        (run,) = spool.done()
        (call,) = run_json(run)["calls"]
        assert call["added"] == {"hr_additional_modules": ["Use same choices"]}
        assert call["used"]["hires"]["upscaler"] == "Latent"
        assert call["used"].keys() >= {"sampler", "scheduler", "cfg_scale", "seeds"}
        assert call["used"]["steps"] == 2
        assert (spool.stats()["posts"], spool.stats()["starts"]) == (1, 1)


def test_modules_that_a_job_names_are_left_as_they_are(tmp_path: Path) -> None:
    with monitored(tmp_path) as spool:
        spool.drop("castle.yaml", job(**HIRES, hr_additional_modules=[]))
        spool.start()
        spool.wait_for(done=1)
        (call,) = run_json(spool.done()[0])["calls"]
        assert "added" not in call


def test_a_black_picture_is_nan_though_its_line_was_printed_for_an_earlier_one(
    tmp_path: Path,
) -> None:
    plan = "- {fault: nan, when: {prompt: cursed}, times: always}\n"
    plan += f"- {{fault: nan, when: {{prompt: '{CANARY} other'}}, times: once}}\n"
    with monitored(tmp_path, faults=plan) as spool:
        spool.drop("first.yaml", job("a well castle"))
        spool.start()
        spool.wait_for(done=1)
        # Somebody else's picture is the first of NaNs: the WebUI prints that once in its life.
        assert post(spool, "txt2img", {"prompt": f"{CANARY} other", "steps": 1}).ok
        spool.drop("second.yaml", job("a cursed castle"))
        spool.wait_for(done=1, failed=1)
        (run,) = spool.failed()
        error = error_of(run)
        first = journal(run, "call_failed")[0]
        assert (error["diagnosis"], first["diagnosis"]) == ("NaN", "NaN")
        assert "invalid value encountered in cast" in first["evidence"]
        assert "--vae-in-fp32" in error["advice"]
        assert "--no-half" not in (run / "WHY.txt").read_text(encoding="utf-8")


def test_out_of_memory_on_forge_neo_is_seen_through_its_wrapped_lines(tmp_path: Path) -> None:
    plan = "- {fault: oom, when: {prompt: cursed}, times: always}\n"
    webui = {"env": {"COLUMNS": "60"}}
    with monitored(tmp_path, faults=plan, flags=("--kind", "forge-neo"), webui=webui) as spool:
        spool.drop("castle.yaml", job("a cursed castle"))
        spool.start()
        spool.wait_for(failed=1)
        error = error_of(spool.failed()[0])
        assert error["diagnosis"] == "out of memory"
        assert "--lowvram" in error["advice"]
        assert "--medvram" not in error["advice"]


def test_the_path_of_a_video_fails_the_job_at_once_as_no_picture(tmp_path: Path) -> None:
    plan = "- {fault: video, when: {prompt: cursed}, times: always}\n"
    with monitored(tmp_path, faults=plan, flags=("--kind", "forge-neo")) as spool:
        spool.drop("castle.yaml", job("a cursed castle"))
        spool.start()
        spool.wait_for(failed=1)
        error = error_of(spool.failed()[0])
        assert (error["diagnosis"], error["blame"]) == ("bad request", "job")
        assert "is the path of a file (.mp4), not a picture" in error["message"]
        assert "txt2img-images" not in error["message"]
        assert (spool.stats()["posts"], spool.stats()["starts"]) == (1, 1)


def test_the_clip_skip_that_forge_keeps_after_a_call_is_put_back(tmp_path: Path) -> None:
    with monitored(tmp_path) as spool:
        skip = {"CLIP_stop_at_last_layers": 2}
        spool.drop("a.yaml", job(override_settings=skip))
        spool.start()
        spool.wait_for(done=1)
        url = f"http://127.0.0.1:{spool.port}/sdapi/v1/options"

        def now() -> float:
            return float(requests.get(url, timeout=10).json()["CLIP_stop_at_last_layers"])

        wait_until(lambda: now() == 1, why="it is put back")
        (call,) = run_json(spool.done()[0])["calls"]
        assert call["used"]["clip_skip"] == 2


def test_a_checkpoint_that_does_not_exist_chosen_by_somebody_costs_one_restart(
    tmp_path: Path,
) -> None:
    with monitored(tmp_path) as spool:
        spool.drop("first.yaml", job())
        spool.start()
        spool.wait_for(done=1)
        assert post(spool, "options", {"sd_model_checkpoint": "nope"}).json() is None
        spool.drop("second.yaml", job("another castle"))
        spool.wait_for(done=2)
        failed = [record for run in spool.done() for record in journal(run, "call_failed")]
        assert [record["diagnosis"] for record in failed] == ["poisoned"]
        assert spool.stats()["starts"] == 2

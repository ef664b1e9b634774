"""The live page beside a real monitor with the simulator: what it shows is what happens."""

from __future__ import annotations

import json
from pathlib import Path

import psutil

from sdwatch.spool.webui_names import NAMES, read_names
from tests.support.helpers import wait_until
from tests.support.monitored import monitored
from tests.web.served import served
from tests.web.test_metrics import values


def test_a_job_dropped_through_the_page_is_done(tmp_path: Path) -> None:
    with monitored(tmp_path) as night, served(tmp_path) as web:
        night.start()
        night.wait_ready()
        wait_until(lambda: read_names(night.spool).samplers, 60, "the names are written down")
        names = read_names(night.spool)
        assert "Euler" in names.samplers
        assert names.checkpoints[0] in web.get("/drop", Cookie=web.cookie).text
        given = {"prompt": "a castle", "width": "64", "height": "64", "steps": "2", "n_iter": "2"}
        given |= {"checkpoint": names.checkpoints[0], "sampler_name": "Euler", "name": "castle"}
        assert web.post("/drop", given).status_code == 303
        night.wait_for(done=1)
        (run,) = night.done()
        wait_until(lambda: "castle.yaml" in web.get("/").text, 60, "the page shows it")
        shown = web.get(f"/done/{run.name}/").text
        images = sorted((run / "images").iterdir())
        assert len(images) == 2
        for image in images:
            assert image.name in shown
            assert web.get(f"/done/{run.name}/images/{image.name}").content == image.read_bytes()
        found = values(web.get("/metrics").text)
        assert found["sdwatch_monitor_up"] == 1
        assert found["sdwatch_jobs_total done"] == 1
        assert found["sdwatch_images_total"] == 2
        assert found["sdwatch_calls_total finished txt2img"] == 2
        assert found["sdwatch_lane_state sim ready"] == 1
        assert web.post("/hold", {}).status_code == 303
        wait_until(lambda: night.status().get("hold"), 60, "the monitor holds")
        night.stop()
        kept = next(night.spool.glob(f"working/*/{NAMES}"))
        assert json.loads(kept.read_text("utf-8"))["samplers"], "they are there for the next night"


def test_a_restart_is_counted_with_its_cause(tmp_path: Path) -> None:
    with monitored(tmp_path) as night, served(tmp_path) as web:
        night.start()
        night.wait_ready()
        assert night.lane()["restarts"] == {}
        psutil.Process(night.webui_pid()).kill()
        night.wait_ready(incarnation=2)
        assert night.lane()["restarts"] == {"crash": 1}
        assert values(web.get("/metrics").text)["sdwatch_lane_restarts_total crash sim"] == 1

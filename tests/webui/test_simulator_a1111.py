"""A1111 as the simulator has it: how it loads, what poisons it, how it ends."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.helpers import wait_until
from tests.webui.kinds import (
    CORRUPT,
    GOOD,
    faults,
    in_background,
    info_of,
    log,
    refused,
)
from tests.webui.sim import running


def test_a1111_loads_at_the_start_and_a_job_waits_for_it_unseen(tmp_path: Path) -> None:
    with running(tmp_path, "--kind", "a1111", "--load-time", "3") as sim:
        title = "simulated-a.safetensors"
        assert (
            sim.get("sd-models").json()[0] | {"title": title, "hash": None}
            == (sim.get("sd-models").json()[0])
        )
        thread, found = in_background(sim)
        wait_until(lambda: sim.stats()["posts"] == 1)
        body = sim.get("progress").json()
        assert "Model loaded" not in log(sim), "too slow a machine for this test"
        assert (body["progress"], body["state"]["job"], body["state"]["job_count"]) == (0.0, "", 0)
        thread.join(30)
        assert found[0].ok
        item = sim.get("sd-models").json()[0]
        assert item["title"] == f"{title} [{item['hash']}]"
        assert sim.get("options").json()["sd_model_checkpoint"] == item["title"]


def test_a1111_is_poisoned_by_an_unreadable_override_and_the_last_prompt_hides_it(
    tmp_path: Path,
) -> None:
    with running(tmp_path, "--kind", "a1111") as sim:
        assert sim.txt2img().ok
        reply = sim.txt2img(override_settings=CORRUPT)
        assert (reply.status_code, reply.json()["error"]) == (500, "SafetensorError")
        same = {"sd_model_checkpoint": "simulated-a"}
        for cure in ("reload-checkpoint", "unload-checkpoint", "refresh-checkpoints"):
            assert sim.post(cure).ok
        assert sim.post("options", same).ok
        assert sim.txt2img().ok, "its conditioning is cached"
        for fields in ({"prompt": "new"}, {"prompt": "newer", "override_settings": same}):
            reply = sim.txt2img(**fields)
            assert (reply.status_code, reply.json()["error"]) == (500, "AssertionError")
        assert sim.get("progress").ok
        assert sim.txt2img(prompt="other", override_settings=GOOD).ok
        assert sim.txt2img(prompt="new").ok


def test_a1111_takes_an_unreadable_model_in_options_and_is_poisoned(tmp_path: Path) -> None:
    with running(tmp_path, "--kind", "a1111") as sim:
        assert sim.txt2img().ok
        before = sim.get("options").json()["sd_model_checkpoint"]
        reply = sim.post("options", CORRUPT)
        assert (reply.status_code, reply.json()) == (200, None)
        assert sim.get("options").json()["sd_model_checkpoint"] == before
        assert sim.txt2img(prompt="new").status_code == 500
        assert sim.post("options", {"sd_model_checkpoint": "nope"}).status_code == 500
        assert sim.post("options", GOOD).ok
        assert sim.txt2img(prompt="new").ok


def test_a1111_keeps_an_override_that_its_config_never_had(tmp_path: Path) -> None:
    key = "CLIP_stop_at_last_layers"
    with running(tmp_path, "--kind", "a1111") as sim:
        assert sim.get("options").json()[key] == 1
        assert info_of(sim.txt2img(override_settings={key: 2}))["clip_skip"] == 2
        assert sim.get("options").json()[key] == 2
        assert info_of(sim.txt2img())["clip_skip"] == 2, "it leaked"
        assert sim.post("options", {key: 1}).ok
        assert info_of(sim.txt2img(override_settings={key: 3}))["clip_skip"] == 3
        assert sim.get("options").json()[key] == 1, "it was set before, so it was put back"


@pytest.mark.posix_only("SIGTERM can be handled")
def test_a1111_closes_its_port_at_sigterm_and_lives_until_the_job_is_done(tmp_path: Path) -> None:
    with running(tmp_path, "--kind", "a1111", "--step-time", "0.05") as sim:
        thread, found = in_background(sim, steps=40)
        wait_until(lambda: sim.state()["sampling_step"] > 0)
        sim.process.terminate()
        wait_until(lambda: refused(sim))
        assert sim.process.poll() is None
        thread.join(30)
        assert len(found[0].json()["images"]) == 1
        assert sim.exit_code() == -signal.SIGTERM


@pytest.mark.posix_only("SIGTERM can be handled")
def test_a1111_with_a_hung_job_outlives_sigterm(tmp_path: Path) -> None:
    with running(tmp_path, "--kind", "a1111", plan=faults("hang")) as sim:
        in_background(sim)
        wait_until(lambda: sim.state()["job"])
        for _ in range(2):
            sim.process.terminate()
            wait_until(lambda: refused(sim))
        with pytest.raises(subprocess.TimeoutExpired):
            sim.process.wait(0.3)
        sim.process.send_signal(signal.SIGINT)
        assert sim.exit_code() == 0


@pytest.mark.parametrize("name", ["structured-500", "opaque-500", "oom", "nan"])
def test_a1111_reports_a_failure_under_errors(tmp_path: Path, name: str) -> None:
    with running(tmp_path, "--kind", "a1111", plan=faults(name)) as sim:
        reply = sim.txt2img()
        assert reply.status_code == 500
        assert list(reply.json()) == ["error", "detail", "body", "errors"]
        assert "*** API error: POST: http://127.0.0.1:" in log(sim)
        if name == "nan":
            assert reply.json()["error"] == "NansException"
        assert sim.txt2img().ok
        assert sim.state()["job"] == ""

"""SD.Next as the simulator has it: how it loads, fails, shows its progress and limits its rate."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import requests

from tests.support.helpers import wait_until
from tests.webui.kinds import (
    CORRUPT,
    GOOD,
    PICTURE,
    REPLIES,
    faults,
    in_background,
    info_of,
    log,
    log_of,
    opened,
    same_shape,
    up,
)
from tests.webui.sim import running


def test_sdnext_has_no_images_until_its_checkpoint_is_loaded(tmp_path: Path) -> None:
    with running(tmp_path, "--kind", "sdnext", "--load-time", "3") as sim:
        wait_until(lambda: sim.state()["job"] == "Load model")
        assert sim.get("checkpoint").json()["type"] is None
        reply = sim.txt2img()
        assert (reply.status_code, reply.json()["images"], reply.json()["info"]) == (200, [], "")
        assert sim.get("status").json()["status"] == "idle", "the job has wiped the load away"
        assert "Startup time" not in log(sim), "too slow a machine for this test"
        up(sim, "sdnext")
        assert len(sim.txt2img().json()["images"]) == 1
        assert "WARNING Aborted: op=process model not loaded" in log_of(sim)


@pytest.mark.parametrize("name", ["no-such-model", "simulated-corrupt"])
def test_sdnext_is_poisoned_by_options_and_cured_by_a_good_model(tmp_path: Path, name: str) -> None:
    with running(tmp_path, "--kind", "sdnext") as sim:
        up(sim, "sdnext")
        reply = sim.post("options", {"sd_model_checkpoint": name})
        assert (reply.status_code, reply.json()) == (
            200, REPLIES["sdnext"]["post_options_unknown_model"]["body"],
        )  # fmt: skip
        assert sim.get("checkpoint").json()["type"] is None
        for cure in ("reload-checkpoint", "unload-checkpoint"):
            assert sim.post(cure).status_code == 204
        for fields in ({}, {"override_settings": GOOD}):
            body = sim.txt2img(**fields).json()
            assert (body["images"], body["info"]) == ([], "")
        assert f"ERROR Load model: name='{name}' not loaded" in log_of(sim)
        good = {"sd_model_checkpoint": "simulated-a"}
        if name == "no-such-model":
            assert sim.post("options", good).ok
        else:
            url = sim.url("sdapi/v1/checkpoint")
            assert requests.post(url, params=CORRUPT, timeout=30).json() == {"ok": False}
            assert requests.post(url, params=good, timeout=30).json() == {"ok": True}
        assert len(sim.txt2img().json()["images"]) == 1


def test_sdnext_reports_which_options_were_set(tmp_path: Path) -> None:
    with running(tmp_path, "--kind", "sdnext") as sim:
        recorded = REPLIES["sdnext"]["post_options"]
        assert sim.post("options", recorded["request"]).json() == recorded["body"]
        assert sim.post("options", {"clip_skip": 1, "no_such": 1}).json() == {
            "updated": [{"clip_skip": True}, {"no_such": False}]
        }


def test_sdnext_counts_each_stage_from_zero(tmp_path: Path) -> None:
    with running(tmp_path, "--kind", "sdnext", "--step-time", "0.15") as sim:
        up(sim, "sdnext")
        thread, found = in_background(sim, steps=4, n_iter=2)
        seen: list[tuple[str, float]] = [("", 0.0)]
        ids, images = set(), []
        while thread.is_alive():
            body = sim.get("progress").json()
            state = body["state"]
            if seen[-1] != (state["job"], body["progress"]):
                seen.append((state["job"], body["progress"]))
            ids.add(body["id"])
            images.append(body["current_image"])
            if state["job"]:
                same_shape(
                    {**body, "current_image": None},
                    REPLIES["sdnext"]["get_progress_generating"]["body"],
                )
                assert (state["job_count"], state["job_no"]) == (1, 0)
        stages = ["TE Encode", "Inference", "VAE Decode"]
        met = [job for i, (job, _) in enumerate(seen) if job in stages and seen[i - 1][0] != job]
        assert set(met) == set(stages)
        rest = iter(stages * 2)
        assert all(job in rest for job in met), "in this order, twice"
        shares = [share for job, share in seen if job == "Inference"]
        assert set(shares) <= {0.0, 0.25, 0.5, 0.75}
        assert len(set(shares)) > 2
        assert {share for job, share in seen if job != "Inference"} == {0.0}
        assert len(ids) > 3
        assert any(i and i.startswith("/9j/") for i in images)
        assert len(found[0].json()["images"]) == 2


def test_sdnext_answers_an_interrupt_with_a_picture_and_a_skip_with_none(tmp_path: Path) -> None:
    with running(tmp_path, "--kind", "sdnext", "--step-time", "0.05") as sim:
        up(sim, "sdnext")
        for command, count, word in (("interrupt", 1, "interrupted"), ("skip", 0, "skipped")):
            thread, found = in_background(sim, steps=1000)
            wait_until(lambda: sim.state()["sampling_step"] > 0)
            assert sim.post(command).status_code == 204
            thread.join(30)
            assert len(found[0].json()["images"]) == count
            assert len(info_of(found[0])["infotexts"]) == 2 * count
            assert sim.get("status").json()["status"] == word
        state = sim.state()
        assert (state["job"], state["sampling_steps"]) == ("", 1000), "stale numbers"
        assert sim.state()["sampling_step"] > 0


def test_sdnext_limits_the_rate_after_the_work(tmp_path: Path) -> None:
    with running(tmp_path, "--kind", "sdnext", "--rate-limit", "10") as sim:
        wait_until(lambda: "Startup time" in log(sim))
        assert [sim.txt2img().status_code for _ in range(3)] == [200, 200, 429]
        recorded = REPLIES["sdnext"]["post_txt2img_429"]
        reply = sim.txt2img()
        assert (reply.status_code, reply.json()) == (429, recorded["body"])
        assert {"retry-after", "x-process-time"}.isdisjoint(reply.headers)
        assert sim.stats()["generations"] == 4
        assert log(sim).count("  0% 0/") == 4, "all four were computed"
        codes = [sim.get("progress").status_code for _ in range(11)]
        assert codes == [200] * 10 + [429]
        assert sim.get("progress").json() == REPLIES["sdnext"]["get_progress_429"]["body"]
        assert sim.get("sd-models").ok, "other paths keep answering"
        assert "rate limit exceeded" in log_of(sim)


@pytest.mark.posix_only("SIGINT to one process")
def test_sdnext_aborts_at_sigint_in_a_job_and_goes_at_shutdown(tmp_path: Path) -> None:
    with running(tmp_path, "--kind", "sdnext", "--step-time", "0.1") as sim:
        up(sim, "sdnext")
        thread, found = in_background(sim, steps=1000)
        wait_until(lambda: sim.state()["sampling_step"] > 0)
        sim.process.send_signal(signal.SIGINT)
        assert sim.exit_code() == -signal.SIGABRT
        thread.join(30)
        assert isinstance(found[0], requests.ConnectionError)
    with running(tmp_path, "--kind", "sdnext") as sim:
        assert sim.post("shutdown").status_code == 204
        assert sim.exit_code() == 0


def test_sdnext_logs_wrapped_lines_and_few_of_the_polls(tmp_path: Path) -> None:
    with running(tmp_path, "--kind", "sdnext") as sim:
        up(sim, "sdnext")
        for _ in range(5):
            for name in ("progress", "memory", "checkpoint"):
                assert sim.get(name).ok
        assert sim.get("sd-models").ok
        wait_until(lambda: "GET /sdapi/v1/sd-models" in log_of(sim))
        text = log_of(sim)
        assert text.count("GET /sdapi/v1/progress") == 1
        assert "/sdapi/v1/memory" not in text
        assert "code=200 http/1.1 GET /sdapi/v1/sd-models 127.0.0.1 0." in text
        lines = [line for line in log(sim).splitlines() if line]
        assert all(len(line) == 80 for line in lines)
        assert any(line.startswith(" " * 25) for line in lines)


def test_sdnext_can_be_one_whose_extras_work(tmp_path: Path) -> None:
    with running(tmp_path, "--kind", "sdnext", "--extras-work") as sim:
        fields = {"image": PICTURE, "upscaler_1": "Resize Lanczos", "upscaling_resize": 2}
        body = sim.post("extra-single-image", fields).json()
        assert opened(body["image"]).size == (192, 128)


@pytest.mark.parametrize(
    ("name", "error"),
    [("structured-500", "RuntimeError"), ("opaque-500", "RuntimeError"),
     ("oom", "OutOfMemoryError")],
)  # fmt: skip
def test_sdnext_reports_a_failure_in_sampling_in_its_log_only(
    tmp_path: Path, name: str, error: str
) -> None:
    with running(tmp_path, "--kind", "sdnext", plan=faults(name, at=0)) as sim:
        up(sim, "sdnext")
        reply = sim.txt2img(n_iter=3)
        assert (reply.status_code, reply.json()["images"]) == (200, [])
        info = info_of(reply)
        assert (info["prompt"], len(info["infotexts"])) == ("a cat", 3)
        assert sim.state()["interrupted"] is True
        assert sim.get("status").json()["status"] == "interrupted"
        wait_until(lambda: f"ERROR Processing: {error}" in log_of(sim))
        assert "WARNING Processing: no results" in log_of(sim)
        assert "Traceback (most recent call last)" not in log_of(sim)
        assert len(sim.txt2img().json()["images"]) == 1
        assert sim.state()["interrupted"] is False


def test_sdnext_makes_nans_black(tmp_path: Path) -> None:
    with running(tmp_path, "--kind", "sdnext", plan=faults("nan")) as sim:
        up(sim, "sdnext")
        (image,) = sim.txt2img().json()["images"]
        assert all(high < 3 for _, high in opened(image).getextrema())
        assert "ERROR Decode: sample=" in log_of(sim)


@pytest.mark.parametrize(("batch", "width"), [(1, 512), (2, 1024)])
def test_sdnext_answers_an_exception_after_the_first_step_with_its_preview(
    tmp_path: Path, batch: int, width: int
) -> None:
    with running(tmp_path, "--kind", "sdnext", plan=faults("structured-500")) as sim:
        up(sim, "sdnext")
        reply = sim.txt2img(steps=4, batch_size=batch)
        (preview,) = reply.json()["images"]
        assert opened(preview).size == (width, 512)
        assert sim.state()["interrupted"] is True
        words = log_of(sim)
        first = words.index("ERROR Processing: step=base args={")
        assert "} injected failure inside sampling" in words[first:]
        assert words.index("ERROR Processing: RuntimeError") > first, "the class comes last"
        assert len(words[first:].partition("} injected")[0]) > 300, "the text is far behind"


def test_sdnext_keeps_the_rounds_before_an_exception(tmp_path: Path) -> None:
    with running(tmp_path, "--kind", "sdnext", plan=faults("structured-500", at=0.5)) as sim:
        up(sim, "sdnext")
        images = sim.txt2img(steps=4, n_iter=3).json()["images"]
        assert [opened(image).size for image in images] == [(64, 64), (512, 512)]


def test_sdnext_says_no_class_of_a_value_error(tmp_path: Path) -> None:
    with running(tmp_path, "--kind", "sdnext", plan=faults("value-error")) as sim:
        up(sim, "sdnext")
        assert len(sim.txt2img(steps=4).json()["images"]) == 1
        assert sim.state()["interrupted"] is True
        assert "} injected failure of a value" in log_of(sim)
        assert "Processing: ValueError" not in log_of(sim)


@pytest.mark.parametrize(
    ("name", "line"),
    [("assertion-error", "INFO injected assertion"),
     ("vae-decode", "ERROR VAE decode: injected failure in the VAE")],
)  # fmt: skip
def test_sdnext_answers_an_assertion_and_its_vae_without_a_picture_and_not_interrupted(
    tmp_path: Path, name: str, line: str
) -> None:
    with running(tmp_path, "--kind", "sdnext", plan=faults(name)) as sim:
        up(sim, "sdnext")
        reply = sim.txt2img(steps=4)
        assert (reply.status_code, reply.json()["images"]) == (200, [])
        assert sim.state()["interrupted"] is False
        assert line in log_of(sim)
        assert "Processing: step" not in log_of(sim)


def test_sdnext_answers_500_to_any_other_exception(tmp_path: Path) -> None:
    with running(tmp_path, "--kind", "sdnext", plan=faults("key-error")) as sim:
        up(sim, "sdnext")
        reply = sim.txt2img(steps=4)
        assert (reply.status_code, reply.json()["error"]) == (500, "KeyError")
        assert sim.state()["job"] == "Inference"


def test_sdnext_reports_its_memory_after_each_picture(tmp_path: Path) -> None:
    with running(tmp_path, "--kind", "sdnext") as sim:
        up(sim, "sdnext")
        assert len(sim.txt2img().json()["images"]) == 1
        assert "DEBUG Processed: memory={" in log_of(sim)
        assert "Found no NVIDIA driver" in log_of(sim)


def test_sdnext_keeps_a_checkpoint_chosen_by_options_over_a_restart(tmp_path: Path) -> None:
    state = ("--kind", "sdnext", "--state", str(tmp_path / "state.json"))
    with running(tmp_path, *state) as sim:
        up(sim, "sdnext")
        assert sim.post("options", CORRUPT).ok
    with running(tmp_path, *state) as sim:
        wait_until(lambda: "Startup time" in log(sim))
        assert sim.get("checkpoint").json()["type"] is None
        assert sim.txt2img().json()["images"] == []
        assert sim.post("options", GOOD).ok
    with running(tmp_path, *state) as sim:
        up(sim, "sdnext")
        assert sim.get("checkpoint").json()["name"] == "simulated-b"


def test_sdnext_enlarges_in_hires_only_with_a_resize_mode(tmp_path: Path) -> None:
    hires = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Resize Lanczos"}
    with running(tmp_path, "--kind", "sdnext") as sim:
        up(sim, "sdnext")
        (image,) = sim.txt2img(**hires).json()["images"]
        assert opened(image).size == (64, 64)
        (image,) = sim.txt2img(**hires, hr_resize_mode=1).json()["images"]
        assert opened(image).size == (128, 128)


@pytest.mark.parametrize("kind", ["sdnext", "forge"])
def test_routes_may_come_after_the_port(tmp_path: Path, kind: str) -> None:
    plan = "- {fault: late-routes, when: {start: 1}}\n"
    with running(tmp_path, "--kind", kind, plan=plan) as sim:
        assert [sim.get(name).status_code for name in ("progress", "sd-models")] == [404, 200]
        schema = [requests.get(sim.url("openapi.json"), timeout=10) for _ in range(2)]
        assert [reply.status_code for reply in schema] == [500, 200]
        assert schema[0].json()["error"] == "KeyError"

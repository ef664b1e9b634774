"""How the simulated ComfyUI fails and dies, as was measured with ComfyUI 0.33.0, 783545f6."""

from __future__ import annotations

import contextlib
import json
import signal
import uuid
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image

from tests.support.helpers import KILL, ended_by, wait_until
from tests.webui.comfy import (
    REPLIES,
    Comfy,
    canary,
    comfyui,
    error_of,
    images_of,
    plain,
    through,
    txt2img,
)
from tests.webui.kinds import faults, log, log_of, same_shape
from tests.webui.sim import launch


def dies(comfy: Comfy, prompt: dict[str, Any]) -> int:
    """Queue a prompt that ends the process, which a websocket sees at once: the exit code."""
    with comfy.listening("witness") as listener:
        send(comfy, prompt)
        listener.until_closed()
    return comfy.sim.exit_code()


def send(comfy: Comfy, prompt: dict[str, Any], timeout: float = 60) -> None:
    """Queue a prompt; the process may end, or stop, before it has answered."""
    with contextlib.suppress(requests.RequestException):
        requests.post(comfy.url("prompt"), json={"prompt": prompt}, timeout=timeout)


def answers(comfy: Comfy) -> bool:
    try:
        return requests.get(comfy.url("system_stats"), timeout=1).ok
    except requests.RequestException:
        return False


# -- what a node raises


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("structured-500", "RuntimeError", "injected failure inside sampling"),
        ("opaque-500", "RuntimeError", ""),
        ("oom", "torch.OutOfMemoryError", "CUDA out of memory"),
        ("oom-text", "RuntimeError", "CUDA out of memory"),
        ("value-error", "ValueError", "injected failure of a value"),
        ("log-flood", "RuntimeError", "after a flood of lines"),
        ("wrong-dtype", "RuntimeError", "expected scalar type Half but found Float"),
    ],
)
def test_a_node_raises_and_the_next_prompt_runs(
    tmp_path: Path, name: str, kind: str, words: str
) -> None:
    with comfyui(tmp_path, plan=faults(name)) as comfy:
        error = error_of(comfy.run(txt2img()))
        assert (error["node_id"], error["node_type"]) == ("3", "KSampler")
        assert error["exception_type"] == kind
        assert words in error["exception_message"]
        assert set(error["current_inputs"]) == {
            "model",
            "seed",
            "steps",
            "cfg",
            "sampler_name",
            "scheduler",
            "positive",
            "negative",
            "latent_image",
            "denoise",
        }
        assert error["current_inputs"]["seed"] == [1]
        assert "castle" not in str(error["current_inputs"]), "a sampler has no texts"
        is_oom = name == "oom"
        assert ("TIPS: If the workflow worked before" in error["exception_message"]) == is_oom
        assert comfy.run(txt2img())["status"]["completed"]
        wait_until(lambda: "!!! Exception during processing !!!" in log(comfy.sim))
        said = log_of(comfy.sim)
        assert ("Got an OOM, unloading all loaded models." in said) == is_oom
        assert said.count("Requested to load BaseModel") == 1 + is_oom, "it is loaded again"


def test_a_fault_strikes_the_prompt_that_the_plan_names(tmp_path: Path) -> None:
    plan = json.dumps(
        [{"fault": "structured-500", "when": {"prompt": "cursed"}, "times": "always"}]
    )
    with comfyui(tmp_path, plan=plan) as comfy:
        assert comfy.run(txt2img("a castle"))["status"]["completed"]
        for _ in range(2):
            assert not comfy.run(txt2img("a cursed castle"))["status"]["completed"]
        assert comfy.run(canary(1))["status"]["completed"]
        stats = comfy.sim.stats()
        assert (stats["posts"], stats["by_stage"]) == (4, {"txt2img": 4})


def test_a_canary_by_its_header_is_no_generation(tmp_path: Path) -> None:
    with comfyui(tmp_path, plan=faults("structured-500")) as comfy:
        headers = {"X-Sdwatch-Canary": "1"}
        reply = comfy.post("prompt", {"prompt": canary(2)}, headers=headers)
        assert comfy.ended(reply.json()["prompt_id"])["status"]["completed"]
        assert (comfy.sim.stats()["canaries"], comfy.sim.stats()["generations"]) == (1, 0)


def test_a_fault_strikes_workflows_without_steps_too(tmp_path: Path) -> None:
    with comfyui(tmp_path, plan=faults("structured-500", times=2)) as comfy:
        assert error_of(comfy.run(canary(3)))["node_id"] == "2"
        assert error_of(comfy.run(plain(3)))["node_id"] == "9"


@pytest.mark.parametrize("name", ["poisoned", "device-suspended", "xpu-device-lost"])
def test_a_lost_device_fails_everything_until_the_restart(tmp_path: Path, name: str) -> None:
    state = ("--state", str(tmp_path / "state.json"))
    with comfyui(tmp_path, *state, plan=faults(name)) as comfy:
        for prompt in (txt2img(), canary(4), canary(5)):
            assert error_of(comfy.run(prompt))["exception_type"] == "RuntimeError"
        assert comfy.run(plain(4))["status"]["completed"], "it needs no device"
    with comfyui(tmp_path, *state, plan=faults(name)) as comfy:
        assert comfy.run(txt2img())["status"]["completed"]


def test_memory_that_stays_taken_fails_all_but_tiny_pictures(tmp_path: Path) -> None:
    with comfyui(tmp_path, plan=faults("memory-stays-taken")) as comfy:
        large = txt2img()
        large["5"]["inputs"]["width"] = 128
        for _ in range(2):
            assert error_of(comfy.run(large))["exception_type"] == "torch.OutOfMemoryError"
        assert comfy.run(txt2img())["status"]["completed"]
        assert comfy.run(canary(6))["status"]["completed"]


def test_nans_are_a_success_with_a_black_picture_and_one_warning(tmp_path: Path) -> None:
    with comfyui(tmp_path, plan=faults("nan", times=2)) as comfy:
        for seed in (1, 2):
            entry = comfy.run(txt2img(seed=seed))
            assert entry["status"]["completed"]
            assert not comfy.picture(images_of(entry)[0]).getbbox()
        warning = "RuntimeWarning: invalid value encountered in cast"
        assert log(comfy.sim).count(warning) == 1
        assert comfy.picture(images_of(comfy.run(txt2img(seed=3)))[0]).getbbox()


def test_a_full_disk_leaves_a_truncated_picture_under_its_final_name(tmp_path: Path) -> None:
    with comfyui(tmp_path, plan=faults("disk-full")) as comfy:
        error = error_of(comfy.run(txt2img()))
        assert (error["node_id"], error["exception_type"]) == ("9", "OSError")
        assert "[Errno 28]" in error["exception_message"]
        (path,) = (comfy.base / "output/sdw").iterdir()
        assert path.name == "t2i_00001_.png"
        with Image.open(path) as image, pytest.raises(OSError, match="truncated"):
            image.load()


@pytest.mark.parametrize("name", ["empty-images", "undecodable-image", "black-image", "wrong-size"])
def test_a_success_can_be_of_nothing_of_use(tmp_path: Path, name: str) -> None:
    with comfyui(tmp_path, plan=faults(name)) as comfy:
        entry = comfy.run(txt2img())
        assert entry["status"]["completed"]
        images = images_of(entry)
        if name == "empty-images":
            assert images == []
        elif name == "undecodable-image":
            with pytest.raises(OSError, match="truncated"):
                comfy.picture(images[0])
        elif name == "black-image":
            assert not comfy.picture(images[0]).getbbox()
        else:
            assert comfy.picture(images[0]).size == (32, 32)


def test_the_vae_may_fail(tmp_path: Path) -> None:
    with comfyui(tmp_path, plan=faults("vae-decode")) as comfy:
        assert error_of(comfy.run(txt2img()))["node_id"] == "8"


def test_an_error_before_the_queue_is_a_500_and_nothing_is_queued(tmp_path: Path) -> None:
    with comfyui(tmp_path, plan=faults("opaque-500-text")) as comfy:
        prompt_id = str(uuid.uuid4())
        reply = comfy.post("prompt", {"prompt": plain(1), "prompt_id": prompt_id})
        assert reply.status_code == 500
        assert reply.text.endswith("Server got itself in trouble")
        assert comfy.get(f"api/jobs/{prompt_id}").status_code == 404
        assert "Error handling request from" in log(comfy.sim)


@pytest.mark.parametrize("name", ["truncated-body", "broken-json"])
def test_a_reply_can_be_cut_though_the_prompt_is_queued(tmp_path: Path, name: str) -> None:
    with comfyui(tmp_path, plan=faults(name)) as comfy:
        prompt_id = str(uuid.uuid4())
        with pytest.raises(requests.RequestException):
            comfy.post("prompt", {"prompt": plain(1), "prompt_id": prompt_id}).json()
        assert comfy.ended(prompt_id)["status"]["completed"]


def test_all_websockets_can_be_cut_while_the_prompt_runs_on(tmp_path: Path) -> None:
    with comfyui(tmp_path, plan=faults("websocket-closes")) as comfy:
        with comfy.listening("cut") as listener:
            prompt_id = comfy.queue(txt2img(), client_id="cut")
            listener.until_closed()
        assert comfy.ended(prompt_id)["status"]["completed"]


# -- a worker that is dead or stuck


def without_prompts(queue: dict[str, Any]) -> dict[str, Any]:
    """A queue without the workflows, which were others."""
    return {part: [[*item[:2], *item[3:]] for item in items] for part, items in queue.items()}


@pytest.mark.parametrize("name", ["system-exit-500", "worker-dies"])
def test_a_worker_that_dies_leaves_a_server_that_accepts_and_never_runs(
    tmp_path: Path, name: str
) -> None:
    with comfyui(tmp_path, plan=faults(name)) as comfy:
        first = comfy.queue(txt2img())
        wait_until(lambda: comfy.runs(first))
        if name == "worker-dies":
            wait_until(lambda: "\nKeyboardInterrupt" in log(comfy.sim))
            assert "Exception in thread Thread-" in log(comfy.sim)
            assert " (prompt_worker):\n" in log(comfy.sim)
        second = comfy.queue(plain(7))
        assert comfy.post("interrupt", {}).status_code == 200
        comfy.json("object_info")  # time goes by
        queue = comfy.json("queue")
        assert [item[1] for item in queue["queue_running"]] == [first]
        assert [item[1] for item in queue["queue_pending"]] == [second]
        assert comfy.json(f"api/jobs/{first}")["status"] == "in_progress"
        assert comfy.json(f"history/{second}") == {}
        if name == "system-exit-500":
            assert "prompt_worker" not in log(comfy.sim)
            assert "Traceback" not in log(comfy.sim), "it dies without a line"


@pytest.mark.parametrize("kind", ["sys_exit", "keyboard"])
def test_a_node_of_a_workflow_can_end_the_worker(tmp_path: Path, kind: str) -> None:
    with comfyui(tmp_path) as comfy:
        first = comfy.queue(through("SimulatedRaise", kind=kind))
        if kind == "keyboard":
            wait_until(lambda: "(prompt_worker)" in log(comfy.sim))
        second = comfy.queue(plain(8))
        wait_until(lambda: comfy.runs(first))
        assert comfy.json(f"api/jobs/{second}")["status"] == "pending"
        mine = comfy.json("queue")
        theirs = REPLIES[f"zombie_queue_after_{kind}"]["body"]
        same_shape(without_prompts(mine), without_prompts(theirs))


@pytest.mark.parametrize("name", ["hang", "hang-interruptible", "hang-repeating"])
def test_a_node_that_hangs_leaves_http_alive_and_hears_an_interrupt_only_if_it_asks(
    tmp_path: Path, name: str
) -> None:
    with comfyui(tmp_path, plan=faults(name)) as comfy:
        prompt_id = comfy.queue(txt2img())
        wait_until(lambda: "SIMULATED fault" in log(comfy.sim))
        wait_until(lambda: comfy.runs(prompt_id))
        assert comfy.get("system_stats").ok
        assert comfy.post("interrupt", {}).status_code == 200
        if name == "hang-interruptible":
            entry = comfy.ended(prompt_id)
            assert entry["status"]["messages"][-1][0] == "execution_interrupted"
        else:
            comfy.json("object_info")
            assert comfy.runs(prompt_id)


@pytest.mark.posix_only("signals")
def test_code_that_holds_the_interpreter_answers_nothing_and_sigterm_kills_it(
    tmp_path: Path,
) -> None:
    with comfyui(tmp_path, plan=faults("holds-gil")) as comfy:
        send(comfy, txt2img(), timeout=2)
        wait_until(lambda: not answers(comfy))
        comfy.sim.process.terminate()
        assert comfy.sim.exit_code() == -signal.SIGTERM


# -- deaths


@pytest.mark.parametrize(
    ("name", "number", "words"),
    [
        ("sigkill-mid-step", 9, ""),
        ("segv", 11, "Fatal Python error: Segmentation fault"),
        ("abort", 6, "Fatal Python error: Aborted"),
        ("exit-0", 0, ""),
    ],
)
@pytest.mark.posix_only("signals")
def test_a_death_ends_the_websocket_and_nothing_of_queue_and_history_is_left(
    tmp_path: Path, name: str, number: int, words: str
) -> None:
    state = ("--state", str(tmp_path / "state.json"))
    plan = faults(name, when={"generation": 2})
    with comfyui(tmp_path, *state, plan=plan) as comfy:
        (image,) = images_of(comfy.run(plain(9)))
        assert dies(comfy, txt2img()) == (ended_by(number) if number else 0)
        if words:
            assert words in log(comfy.sim)
        path = comfy.file(image)
    with comfyui(tmp_path, *state, plan=plan) as comfy:
        assert comfy.json("history") == {}
        assert comfy.json("queue") == {"queue_running": [], "queue_pending": []}
        assert path.exists(), "files that were written stay"
        entry = comfy.run(plain(9))
        assert images_of(entry)[0]["filename"] == "test_00002_.png", "the cache is gone, too"


def test_a_kill_before_the_history_leaves_the_whole_picture(tmp_path: Path) -> None:
    with comfyui(tmp_path, plan=faults("sigkill-before-reply")) as comfy:
        assert dies(comfy, txt2img()) == ended_by(9)
        (path,) = (comfy.base / "output/sdw").iterdir()
        with Image.open(path) as image:
            image.load()


def test_a_kill_in_the_middle_of_saving_leaves_half_of_it_under_its_final_name(
    tmp_path: Path,
) -> None:
    with comfyui(tmp_path, plan=faults("sigkill-mid-save")) as comfy:
        assert dies(comfy, txt2img()) == ended_by(9)
        (path,) = (comfy.base / "output/sdw").iterdir()
        with Image.open(path) as image, pytest.raises(OSError, match="truncated"):
            image.load()


def test_it_may_fail_and_end_after_that(tmp_path: Path) -> None:
    with comfyui(tmp_path, plan=faults("exit-after-500")) as comfy:
        send(comfy, txt2img())
        assert comfy.sim.exit_code() == 1
        assert "!!! Exception during processing !!!" in log(comfy.sim)


@pytest.mark.posix_only("signals")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 0), (KILL, -KILL)]
)
def test_a_signal_ends_it_also_in_the_middle_of_a_node(
    tmp_path: Path, number: int, code: int
) -> None:
    with comfyui(tmp_path) as comfy:
        prompt_id = comfy.queue(through("SimulatedSleep", seconds=3600.0))
        wait_until(lambda: comfy.runs(prompt_id))
        comfy.sim.process.send_signal(number)
        assert comfy.sim.exit_code() == code
        assert ("Stopped server" in log(comfy.sim)) == (code == 0)


@pytest.mark.parametrize(("name", "code"), [("no-gpu", 1), ("wrong-folder", 2)])
def test_a_start_can_fail_in_its_own_words(tmp_path: Path, name: str, code: int) -> None:
    plan = json.dumps([{"fault": name, "when": {"start": 1}}])
    sim = launch(tmp_path, "--kind", "comfyui", plan=plan)
    assert sim.exit_code() == code
    words = {"no-gpu": "Found no NVIDIA driver", "wrong-folder": "can't open file"}[name]
    assert words in log(sim)
    assert "<webui>" not in log(sim)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "port-taken",
            "is already in use on address 127.0.0.1. Please close the other application",
        ),
        ("port-forbidden", "PermissionError: [Errno 13] error while attempting to bind on address"),
    ],
)
def test_a_port_that_cannot_be_had_is_exit_1(tmp_path: Path, name: str, words: str) -> None:
    plan = json.dumps([{"fault": name, "when": {"start": 1}}])
    sim = launch(tmp_path, "--kind", "comfyui", plan=plan)
    assert sim.exit_code() == 1
    assert words in log(sim)


def test_without_a_checkpoint_a_prompt_is_refused(tmp_path: Path) -> None:
    with comfyui(tmp_path, "--no-model") as comfy:
        assert comfy.json("models/checkpoints") == []
        reply = comfy.post("prompt", {"prompt": txt2img()})
        (error,) = reply.json()["node_errors"]["4"]["errors"]
        assert error["details"] == "ckpt_name: 'simulated-a.safetensors' not in []"
        assert comfy.run(canary(1))["status"]["completed"], "this needs none"

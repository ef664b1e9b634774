"""What the simulated ComfyUI answers, held against what a real one was recorded to answer: the same
keys, types and codes (ComfyUI 0.33.0, 783545f6)."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.helpers import wait_until
from tests.webui.comfy import (
    HISTORIES,
    MESSAGES,
    PROMPTS,
    REPLIES,
    Comfy,
    Listener,
    canary,
    comfyui,
    empty,
    node,
    saved,
    through,
)
from tests.webui.comfy import txt2img as simulated_txt2img
from tests.webui.kinds import facts, same_shape


def txt2img(text: str = "a castle", **changes: Any) -> dict[str, Any]:
    """The workflow of the one checkpoint that was there."""
    return simulated_txt2img(text, **{"ckpt_name": "tiny.safetensors", **changes})


TRACEBACKS = ("traceback", "current_inputs", "current_outputs")
"""What differs in length, and in what the node was given."""


@pytest.fixture(scope="module")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comfy]:
    with comfyui(tmp_path_factory.mktemp("facts"), "--no-model") as it:
        header = json.dumps({"x": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}).encode()
        raw = struct.pack("<Q", len(header)) + header
        (it.base / "models/checkpoints/tiny.safetensors").write_bytes(raw)
        yield it


@pytest.fixture
def bad(comfy: Comfy) -> Iterator[str]:
    """A checkpoint of random bytes, which is there for one test."""
    path = comfy.base / "models/checkpoints/bad.safetensors"
    path.write_bytes(bytes(64))
    yield path.name
    path.unlink()


def without(value: Any, *names: str) -> Any:
    if isinstance(value, dict):
        return {key: without(each, *names) for key, each in value.items() if key not in names}
    return [without(each, *names) for each in value] if isinstance(value, list) else value


def shape(value: Any) -> Any:
    """Keys and JSON types, all the way down."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value]
    return "number" if isinstance(value, int | float) and value is not True else type(value)


# -- POST /prompt


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_gets_the_recorded_answer(comfy: Comfy, name: str) -> None:
    recorded = PROMPTS[name]
    request = recorded["request"]
    data = request if isinstance(request, str) else json.dumps(request)
    reply = requests.post(comfy.url("prompt"), data=data.encode(), timeout=60)
    assert reply.status_code == recorded["status"], reply.text
    assert reply.headers["content-type"] == recorded["type"]
    if reply.status_code == 500:
        assert reply.text == recorded["body"]
        return
    mine, theirs = reply.json(), recorded["body"]
    if "prompt_id" in theirs:
        assert list(mine) == list(theirs)
        mine, theirs = mine["node_errors"], theirs["node_errors"]
    free = ("traceback", "tooltip")
    assert without(mine, *free) == without(theirs, *free)


def test_the_type_of_an_error_is_in_its_node_and_the_texts_are_in_the_log(comfy: Comfy) -> None:
    prompt = txt2img(steps=0)
    reply = comfy.post("prompt", {"prompt": prompt})
    (error,) = reply.json()["node_errors"]["3"]["errors"]
    assert error["type"] == "value_smaller_than_min"
    assert "invalid prompt: {" in comfy.sim.log.read_text(encoding="utf-8")


def test_a_link_of_the_wrong_type_and_a_circle_are_refused(comfy: Comfy) -> None:
    wrong = {"1": empty(), "8": node("VAEDecode", samples=["1", 0], vae=["1", 0]), "9": saved("8")}
    errors = comfy.post("prompt", {"prompt": wrong}).json()["node_errors"]["8"]["errors"]
    assert {e["type"] for e in errors} == {"return_type_mismatch"}
    scale = {"upscale_method": "area", "width": 8, "height": 8, "crop": "disabled"}
    circle = {
        "1": node("ImageScale", image=["2", 0], **scale),
        "2": node("ImageScale", image=["1", 0], **scale),
        "9": saved("1"),
    }
    reply = comfy.post("prompt", {"prompt": circle})
    assert reply.status_code == 400
    errors = reply.json()["node_errors"]["1"]["errors"]
    assert [e["type"] for e in errors] == ["dependency_cycle"]
    assert errors[0]["details"] == "1 (ImageScale) -> 2 (ImageScale) -> 1 (ImageScale)"


def test_values_are_converted_and_unknown_inputs_and_meta_are_ignored(comfy: Comfy) -> None:
    prompt = {
        "1": {**node("EmptyImage", width="64", height=64.7, batch_size=1, color=7, more="x"),
              "_meta": {"title": "Nothing"}},
        "9": saved("1", "sdw/converted"),
    }  # fmt: skip
    entry = comfy.run(prompt)
    assert entry["prompt"][2]["1"]["inputs"]["width"] == 64
    assert comfy.picture(entry["outputs"]["9"]["images"][0]).size == (64, 64)


# -- histories


def prompt_like(name: str) -> dict[str, Any]:
    """A prompt that ends as the recorded one did."""
    match name:
        case "canary_without_model":
            return canary(3)
        case "half_failed":
            raises = node("SimulatedRaise", image=["1", 0], kind="raise")
            good = {"1": empty(8), "9": saved("1", "sdw/part")}
            return {**good, "5": raises, "10": saved("5", "sdw/part2")}
        case "txt2img_batch2_seed2":
            return txt2img(batch_size=2, seed=2)
        case "corrupt_checkpoint":
            return txt2img(ckpt_name="bad.safetensors")
        case "success" | "txt2img_tiny":
            return txt2img(seed=99)
    return through("SimulatedRaise", kind=name.removeprefix("error_"))


SAME = ("canary_without_model", "half_failed", "txt2img_batch2_seed2", "corrupt_checkpoint",
        "error_raise", "error_oom", "error_oom_text", "error_mm_oom", "error_memoryerror",
        "txt2img_tiny")  # fmt: skip


@pytest.mark.usefixtures("bad")
@pytest.mark.parametrize("name", SAME)
def test_a_history_has_the_recorded_shape(comfy: Comfy, name: str) -> None:
    recorded = HISTORIES[name]
    more = {"client_id": "x"} if "client_id" in recorded["prompt"][3] else {}
    prompt = prompt_like(name)
    if name == "txt2img_batch2_seed2":
        comfy.run(txt2img())  # whose nodes are cached then, but the sampler's
    entry = comfy.run(prompt, **more)
    assert list(entry) == list(recorded)
    free = (*TRACEBACKS, "nodes", "executed")
    for part in ("outputs", "meta", "status"):
        assert shape(without(entry[part], *free)) == shape(without(recorded[part], *free)), part
    same_shape(without(entry["prompt"][3], "x"), recorded["prompt"][3])
    assert entry["prompt"][4] == recorded["prompt"][4]
    kind, last = entry["status"]["messages"][-1]
    their_kind, theirs = recorded["status"]["messages"][-1]
    assert kind == their_kind
    if kind == "execution_error":
        assert list(last) == list(theirs)
        assert last["exception_type"] == theirs["exception_type"]
        assert last["exception_message"].count("\n") == theirs["exception_message"].count("\n")
        assert all(isinstance(line, str) for line in last["traceback"])


@pytest.mark.usefixtures("bad")
def test_the_messages_of_errors_are_the_recorded_ones(comfy: Comfy) -> None:
    for name in ("error_raise", "error_mm_oom", "error_memoryerror", "corrupt_checkpoint"):
        entry = comfy.run(prompt_like(name))
        mine, theirs = (e["status"]["messages"][-1][1] for e in (entry, HISTORIES[name]))
        assert mine["exception_message"] == theirs["exception_message"]


def test_a_cuda_error_has_the_recorded_shape_and_poisons(tmp_path: Path) -> None:
    with comfyui(tmp_path) as comfy:
        for prompt, in_node in ((through("SimulatedRaise", kind="cuda_illegal"), "5"),
                                (canary(5), "2")):  # fmt: skip
            entry = comfy.run(prompt)
            theirs = HISTORIES["error_cuda_illegal"]["status"]["messages"][-1][1]
            mine = entry["status"]["messages"][-1][1]
            assert mine["exception_message"] == theirs["exception_message"]
            assert (mine["exception_type"], mine["node_id"]) == ("RuntimeError", in_node)
        assert comfy.post("prompt", {"prompt": canary(6)}).status_code == 200, "it accepts"


# -- the websocket


def summary(listener: Listener) -> list[tuple[Any, ...]]:
    """Kinds of messages with what they are about: nodes, steps, ids left out."""
    found = []
    for message in listener.messages:
        data = message["data"]
        about = (data.get("node"), data.get("value"), data.get("max"))
        if message["type"] == "progress_state":
            about = (*about[:0], *((n, s["value"], s["state"]) for n, s in data["nodes"].items()))
        found.append((message["type"], *about))
    return found


def recorded_summary(name: str) -> list[tuple[Any, ...]]:
    found = []
    for message in MESSAGES[name]:
        if "binary" in message:
            continue
        data = message["data"]
        about: tuple[Any, ...] = (data.get("node"), data.get("value"), data.get("max"))
        if message["type"] == "progress_state":
            states = [
                (n, *((s["value"], s["state"]) if isinstance(s, dict) else (s[0], s[2])))
                for n, s in data["nodes"].items()
            ]
            about = tuple(states)
        found.append((message["type"], *about))
    return found


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("success", through("SimulatedSteps", color=11, steps=3, delay=0)),
        ("txt2img_tiny", txt2img("something new", seed=3)),
    ],
)
def test_the_websocket_says_what_was_recorded_in_that_order(
    comfy: Comfy, name: str, prompt: dict[str, Any]
) -> None:
    comfy.free()
    prompt["9"]["inputs"]["filename_prefix"] = f"sdw/{name}"
    with comfy.listening(name) as listener:
        comfy.queue(prompt, client_id=name)
        listener.until("executing", node=None)
    mine, theirs = summary(listener), recorded_summary(name)
    assert mine == theirs
    heads = [m["binary"] for m in MESSAGES[name] if "binary" in m]
    assert [preview[:8].hex() for preview in listener.previews] == heads
    assert all(preview[8:10] == b"\xff\xd8" for preview in listener.previews), "a JPEG"
    for message in listener.messages:
        like = next(m for m in MESSAGES[name] if m.get("type") == message["type"])
        assert list(message["data"]) == list(like["data"]) or message["type"] in (
            "status", "executing",
        )  # fmt: skip


def test_the_websocket_says_that_all_was_cached(comfy: Comfy) -> None:
    prompt = through("SimulatedSteps", color=12, steps=1, delay=0)
    comfy.run(prompt)
    with comfy.listening("cached") as listener:
        comfy.queue(prompt, client_id="cached")
        listener.until("executing", node=None)
    assert summary(listener) == recorded_summary("cached")


@pytest.mark.usefixtures("bad")
@pytest.mark.parametrize("name", ["error_raise", "corrupt_checkpoint"])
def test_the_websocket_says_an_error(comfy: Comfy, name: str) -> None:
    comfy.free()
    with comfy.listening(name) as listener:
        comfy.queue(prompt_like(name), client_id=name)
        listener.until("executing", node=None)
    kinds = [m[0] for m in recorded_summary(name)]
    assert [k for k in listener.kinds() if k != "progress_state"] == [
        k for k in kinds if k != "progress_state"
    ]
    (mine,) = listener.of("execution_error")
    theirs = next(m["data"] for m in MESSAGES[name] if m.get("type") == "execution_error")
    assert list(mine) == list(theirs)


def test_the_websocket_says_an_interrupt_in_sampling(comfy: Comfy) -> None:
    comfy.free()
    comfy.run(txt2img("to be interrupted", seed=1))
    recorded = recorded_summary("interrupted_sampling")
    with comfy.listening("interrupted") as listener:
        prompt = txt2img("to be interrupted", seed=2, steps=10_000, prefix="sdw/never")
        prompt["5"]["inputs"]["batch_size"] = 2  # so that it runs again, as it did there
        comfy.queue(prompt, client_id="interrupted")
        listener.until("progress", value=3)
        comfy.post("interrupt", {})
        listener.until("executing", node=None)
    assert summary(listener)[:9] == recorded[:9], "up to the sampler"
    assert summary(listener)[-3:] == recorded[-3:]
    (mine,) = listener.of("execution_interrupted")
    theirs = MESSAGES["interrupted_sampling"][-3]["data"]
    assert list(mine) == list(theirs)
    assert mine["executed"] == theirs["executed"]


# -- the other routes


@pytest.mark.parametrize(
    ("name", "path"),
    [("system_stats", "system_stats"), ("queue_idle", "queue"), ("get_prompt_idle", "prompt"),
     ("features", "features")],
)  # fmt: skip
def test_a_route_has_the_recorded_shape(comfy: Comfy, name: str, path: str) -> None:
    recorded = REPLIES[name]
    wait_until(lambda: comfy.json("prompt")["exec_info"]["queue_remaining"] == 0)
    reply = comfy.get(path)
    assert (reply.status_code, reply.headers["content-type"]) == (200, recorded["type"])
    assert reply.headers["server"].startswith("Python/3.11 aiohttp/")
    same_shape(reply.json(), recorded["body"])
    assert comfy.get(f"api/{path}").ok, "each route is below /api, too"


def test_an_object_info_has_the_recorded_shape(comfy: Comfy) -> None:
    recorded = facts("comfyui", "object_info")
    whole = comfy.json("object_info")
    for name, theirs in recorded.items():
        mine = comfy.json(f"object_info/{name}")[name]
        assert mine == whole[name]
        assert list(mine) == list(theirs), name
        assert mine["input_order"] == theirs["input_order"]
        assert mine["output"] == theirs["output"]
        for part, inputs in theirs["input"].items():
            for key, spec in inputs.items():
                given = mine["input"][part][key]
                assert type(given) is type(spec), key
                if isinstance(spec, list):
                    assert type(given[0]) is type(spec[0]), key
                    assert [list(more) for more in given[1:]] == [list(more) for more in spec[1:]]
    assert (
        whole["KSampler"]["input"]["required"]["sampler_name"][0]
        == (recorded["KSampler"]["input"]["required"]["sampler_name"][0])
    )
    assert comfy.json("object_info/NoSuchNode") == {}
    assert whole["SimulatedPaid"]["api_node"] is True


def test_running_and_ended_jobs_have_the_recorded_shape(comfy: Comfy) -> None:
    theirs = {job["status"]: job for job in REPLIES["api_jobs"]["body"]["jobs"]}
    comfy.run(txt2img(seed=71))
    comfy.run(through("SimulatedRaise", color=71, kind="raise"))
    running = comfy.queue(through("SimulatedSteps", color=9, steps=2000, delay=0.02))
    wait_until(lambda: comfy.runs(running))
    item = comfy.json("queue")["queue_running"][0]
    assert shape(item)[:2] == ["number", str]
    assert len(item) == len(REPLIES["queue_running"]["body"]["queue_running"][0])
    body = comfy.json("api/jobs")
    assert shape(body["pagination"]) == shape(REPLIES["api_jobs"]["body"]["pagination"])
    mine = {job["status"]: job for job in reversed(body["jobs"])}
    for status in ("in_progress", "completed", "failed"):
        assert list(mine[status]) == list(theirs[status]), status
    entry = comfy.interrupted(running)
    assert shape(without(entry["status"], "nodes", "executed")) == (
        shape(without(HISTORIES["interrupted"]["status"], "nodes", "executed"))
    )
    job = comfy.json(f"api/jobs/{running}")
    assert list(job) == list(REPLIES["api_job_interrupted"]["body"])
    assert job["status"] == "cancelled"

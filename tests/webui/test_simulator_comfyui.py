"""The simulated ComfyUI as a client meets it: the cache, the queue, files, interrupts, sockets. All
was measured with ComfyUI 0.33.0, 783545f6."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import struct
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image

from tests.support.helpers import free_port, wait_until
from tests.webui.comfy import (
    MODEL,
    Comfy,
    Listener,
    cached_of,
    canary,
    comfyui,
    empty,
    error_of,
    images_of,
    node,
    plain,
    saved,
    through,
    txt2img,
)
from tests.webui.sim import Simulator, launch


@pytest.fixture(scope="module")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comfy]:
    with comfyui(tmp_path_factory.mktemp("comfyui")) as it:
        yield it


def slow(color: int, steps: int = 20_000) -> dict[str, Any]:
    """A prompt that runs until it is interrupted, for a test's purposes."""
    return through("SimulatedSteps", color=color, steps=min(steps, 10_000), delay=0.02)


def printed(comfy: Comfy) -> str:
    """Return the log, without colours."""
    return re.sub(r"\x1b\[[\d;]*m", "", comfy.sim.log.read_text(encoding="utf-8"))


# -- the cache


def test_an_identical_prompt_runs_nothing_and_names_the_old_file_even_a_deleted_one(
    comfy: Comfy,
) -> None:
    prompt = plain(101, "sdw/same")
    first = comfy.run(prompt)
    (image,) = images_of(first)
    comfy.file(image).unlink()
    second = comfy.run(prompt)
    assert (second["status"]["status_str"], images_of(second)) == ("success", [image])
    assert cached_of(second) == ["1", "9"]
    assert not comfy.file(image).exists()
    assert comfy.get("view", **image).status_code == 404


def test_with_a_prefix_of_its_own_only_the_save_node_runs(comfy: Comfy) -> None:
    comfy.run(txt2img("cached", seed=7, prefix="sdw/one/x"))
    entry = comfy.run(txt2img("cached", seed=7, prefix="sdw/two/x"))
    assert sorted(cached_of(entry)) == ["3", "4", "5", "6", "7", "8"]
    (image,) = images_of(entry)
    assert image == {"filename": "x_00001_.png", "subfolder": "sdw/two", "type": "output"}
    assert comfy.file(image).exists()


def test_a_value_may_come_from_a_node_that_holds_it(comfy: Comfy) -> None:
    held = txt2img(seed=["80", 0], text="held")
    held |= {"80": node("PrimitiveInt", value=41)}
    held["6"]["inputs"]["text"] = ["81", 0]
    held["81"] = node("PrimitiveStringMultiline", value="held")
    both = [images_of(comfy.run(each))[0] for each in (held, txt2img("held", seed=41))]
    first, second = (comfy.picture(image).tobytes() for image in both)
    assert first == second


def test_free_empties_the_cache(comfy: Comfy) -> None:
    prompt = plain(102, "sdw/freed")
    comfy.run(prompt)
    comfy.free()
    entry = comfy.run(prompt)
    assert cached_of(entry) == []
    assert images_of(entry)[0]["filename"] == "freed_00002_.png"


def test_without_a_cache_every_call_is_complete(tmp_path: Path) -> None:
    with comfyui(tmp_path, "--cache-none") as comfy:
        entries = [comfy.run(plain(3)) for _ in range(2)]
        assert [cached_of(entry) for entry in entries] == [[], []]
        assert [images_of(e)[0]["filename"] for e in entries] == [
            "test_00001_.png", "test_00002_.png",
        ]  # fmt: skip


def test_a_retry_of_a_failed_prompt_runs_what_was_not_done(comfy: Comfy) -> None:
    prompt = through("SimulatedRaise", color=103, kind="raise")
    comfy.run(prompt)
    assert cached_of(comfy.run(prompt)) == ["1"]


def test_another_picture_under_the_same_name_is_not_answered_from_the_cache(comfy: Comfy) -> None:
    prompt = {"1": node("LoadImage", image="changing.png"), "9": saved("1", "sdw/changing")}
    path = comfy.base / "input/changing.png"
    for color in ((255, 0, 0), (0, 255, 0)):
        Image.new("RGB", (8, 8), color).save(path)
        (image,) = images_of(comfy.run(prompt))
        assert comfy.picture(image).getpixel((0, 0)) == color


def test_two_nodes_that_are_the_same_run_once(comfy: Comfy) -> None:
    # Read in the source, not measured.
    entry = comfy.run({**plain(126, "sdw/twin"), "8": saved("1", "sdw/twin")})
    assert images_of(entry, "8") == images_of(entry, "9")
    assert len(list((comfy.base / "output/sdw").glob("twin_*"))) == 1


# -- the queue


def test_a_client_may_choose_the_id_which_is_not_unique(comfy: Comfy) -> None:
    prompt_id = str(uuid.uuid4())
    for color in (104, 105):
        assert comfy.queue(plain(color), prompt_id=prompt_id) == prompt_id
        comfy.ended(prompt_id)
    wait_until(lambda: comfy.json(f"history/{prompt_id}")[prompt_id]["prompt"][2]["1"]["inputs"]
               ["color"] == 105)  # fmt: skip
    for wrong in (prompt_id.upper(), "x", 7, prompt_id.replace("-", "")):
        reply = comfy.post("prompt", {"prompt": plain(1), "prompt_id": wrong})
        assert reply.json()["error"]["type"] == "invalid_prompt_id"


def test_the_same_id_with_the_same_number_is_a_500_and_waits_all_the_same(comfy: Comfy) -> None:
    blocker = comfy.queue(slow(106))
    wait_until(lambda: comfy.runs(blocker))
    body = {"prompt": plain(107), "prompt_id": str(uuid.uuid4()), "number": 5}
    assert comfy.post("prompt", body).status_code == 200
    reply = comfy.post("prompt", body)
    assert (reply.status_code, reply.headers["content-type"]) == (500, "text/plain; charset=utf-8")
    waiting = [item[1] for item in comfy.json("queue")["queue_pending"]]
    assert waiting == [body["prompt_id"]] * 2
    assert "TypeError: '<' not supported" in comfy.sim.log.read_text(encoding="utf-8")
    comfy.post("queue", {"clear": True})
    comfy.interrupted(blocker)


def test_numbers_sort_the_queue_and_front_is_before_all(comfy: Comfy) -> None:
    blocker = comfy.queue(slow(108))
    wait_until(lambda: comfy.runs(blocker))
    last = comfy.queue(plain(109), number=1e9)
    first = comfy.queue(plain(110), front=True)
    half = comfy.queue(plain(111), number=0.5)
    order = [item[1] for item in sorted(comfy.json("queue")["queue_pending"])]
    assert order == [first, half, last]
    assert comfy.json("prompt")["exec_info"]["queue_remaining"] == 4
    assert comfy.json(f"api/jobs/{half}")["status"] == "pending"
    assert comfy.json(f"history/{half}") == {}, "as of one that is not known"
    assert comfy.post("queue", {"delete": [half]}).status_code == 200
    assert comfy.get(f"api/jobs/{half}").status_code == 404, "no trace of it"
    assert comfy.post("queue", {"delete": [blocker]}).status_code == 200
    assert comfy.runs(blocker), "it is not touched"
    assert comfy.post(f"api/jobs/{last}/cancel").json() == {"cancelled": True}
    assert comfy.post(f"api/jobs/{blocker}/cancel").json() == {"cancelled": True}
    comfy.interrupted(blocker)
    assert comfy.json(f"api/jobs/{blocker}")["status"] == "cancelled"
    assert comfy.post(f"api/jobs/{blocker}/cancel").json() == {"cancelled": False}
    assert comfy.post("api/jobs/unknown/cancel").json() == {"cancelled": False}
    many = comfy.post("api/jobs/cancel", {"job_ids": [blocker, last]})
    assert many.json() == {"cancelled": False}
    assert comfy.post("api/jobs/cancel", {"job_ids": ["x"]}).status_code == 400
    comfy.ended(first)


def test_a_history_can_be_deleted(comfy: Comfy) -> None:
    prompt_id = comfy.queue(plain(112))
    comfy.ended(prompt_id)
    assert comfy.json(f"api/jobs/{prompt_id}")["status"] == "completed"
    assert prompt_id in comfy.json("history")
    assert list(comfy.json("history", max_items=1)) == [prompt_id]
    assert comfy.post("history", {"delete": [prompt_id]}).status_code == 200
    assert comfy.json(f"history/{prompt_id}") == {}


def test_jobs_can_be_listed_by_their_state(comfy: Comfy) -> None:
    comfy.run(plain(113))
    body = comfy.json("api/jobs", status="completed", limit=1)
    assert [job["status"] for job in body["jobs"]] == ["completed"]
    assert comfy.get("api/jobs", status="done").status_code == 400
    assert comfy.get("api/jobs", limit=0).status_code == 400


def test_a_part_of_the_outputs_can_be_asked_for(comfy: Comfy) -> None:
    prompt = {**plain(114), "8": saved("1", "sdw/other")}
    entry = comfy.run(prompt, partial_execution_targets=["8"])
    assert list(entry["outputs"]) == ["8"]


def test_an_output_that_is_invalid_is_left_out_and_the_run_is_a_success(comfy: Comfy) -> None:
    missing = {"7": node("LoadImage", image="no.png"), "8": saved("7")}
    reply = comfy.post("prompt", {"prompt": {**plain(115), **missing}})
    assert list(reply.json()["node_errors"]) == ["7"]
    entry = comfy.ended(reply.json()["prompt_id"])
    assert (entry["status"]["completed"], list(entry["outputs"])) == (True, ["9"])
    assert (
        "[ERROR] Failed to validate prompt for output 8:\n[ERROR] * LoadImage 7:\n"
        "[ERROR]   - Custom validation failed for node: image - Invalid image file: no.png\n"
        "[ERROR] Output will be ignored\n"
    ) in printed(comfy)


# -- interrupts


def test_each_request_to_end_a_prompt_is_a_line_of_the_log(comfy: Comfy) -> None:
    running, waiting, unknown = (str(uuid.uuid4()) for _ in range(3))
    comfy.queue(slow(166), prompt_id=running)
    wait_until(lambda: comfy.json("queue")["queue_running"], 20, "it runs")
    comfy.queue(plain(167), prompt_id=waiting)
    for prompt_id in (waiting, running, unknown):
        comfy.post(f"api/jobs/{prompt_id}/cancel", {})
    comfy.ended(running)
    comfy.post("interrupt", {"prompt_id": unknown})
    comfy.post("interrupt", {})
    log = printed(comfy)
    assert f"[INFO] Cancelling pending prompt {waiting}\n" in log
    assert f"[INFO] Cancelling running prompt {running}\n" in log
    assert f"[INFO] Prompt {unknown} is not currently running, skipping interrupt\n" in log
    assert log.endswith("[INFO] Global interrupt (no prompt_id specified)\n")


def test_an_interrupt_ends_a_run_at_its_next_step_and_an_idle_one_hits_nobody(
    comfy: Comfy,
) -> None:
    for body in ({}, {"prompt_id": str(uuid.uuid4())}):
        assert comfy.post("interrupt", body).status_code == 200
    assert comfy.run(canary(116))["status"]["completed"]
    prompt_id = comfy.queue(slow(117))
    wait_until(lambda: comfy.runs(prompt_id))
    comfy.post("interrupt", {"prompt_id": str(uuid.uuid4())})
    assert comfy.runs(prompt_id), "another one was meant"
    entry = comfy.interrupted(prompt_id)
    kind, data = entry["status"]["messages"][-1]
    assert (kind, data["node_id"]) == ("execution_interrupted", "5")
    assert entry["status"]["status_str"] == "error"
    assert "Processing interrupted" in comfy.sim.log.read_text(encoding="utf-8")


def test_a_node_that_does_not_ask_is_not_interrupted_but_the_run_ends_behind_it(
    comfy: Comfy,
) -> None:
    prompt = through("SimulatedSleep", color=118, seconds=1.0)
    with comfy.listening("sleeper") as listener:
        prompt_id = comfy.queue(prompt, client_id="sleeper")
        listener.until("executing", node="5")
        comfy.post("interrupt", {"prompt_id": prompt_id})
        assert comfy.runs(prompt_id)
        data = listener.until("execution_interrupted")
    assert (data["node_id"], data["executed"]) == ("9", ["1", "5"])


# -- the websocket


def test_what_happens_goes_to_the_client_of_the_prompt_and_the_status_to_all(comfy: Comfy) -> None:
    with comfy.listening("mine") as mine, comfy.listening("other") as other:
        comfy.queue(canary(119), client_id="mine")
        mine.until("executing", node=None)
        other.until("status", status={"exec_info": {"queue_remaining": 0}})
    assert set(other.kinds()) == {"status"}


def test_the_progress_of_a_prompt_without_a_client_goes_to_all(comfy: Comfy) -> None:
    # Read in the source, not measured: so a client has to look at the prompt_id.
    with comfy.listening("bystander") as listener:
        prompt_id = comfy.queue(through("SimulatedSteps", color=125, steps=2, delay=0))
        assert listener.until("progress", value=2)["prompt_id"] == prompt_id
        listener.until("status", status={"exec_info": {"queue_remaining": 0}})
    assert {"executing", "executed", "execution_start"}.isdisjoint(listener.kinds())


def test_a_single_step_is_shown_too(comfy: Comfy) -> None:
    with comfy.listening("single") as listener:
        comfy.queue(txt2img(seed=61, steps=1), client_id="single")
        listener.until("executing", node=None)
    assert [(p["value"], p["max"]) for p in listener.of("progress")] == [(1, 1)]
    assert len(listener.previews) == 1


def test_after_a_reconnect_the_running_node_comes_first(comfy: Comfy) -> None:
    with comfy.listening("again") as listener:
        prompt_id = comfy.queue(slow(120), client_id="again")
        listener.until("progress", node="5")
    with comfy.listening("again") as listener:
        assert listener.until("executing") == {"node": "5"}
        listener.until("progress", node="5")
        comfy.post("interrupt", {"prompt_id": prompt_id})
        listener.until("executing", node=None)
    comfy.ended(prompt_id)


def test_the_last_socket_with_an_id_wins(comfy: Comfy) -> None:
    with comfy.listening("twice") as first, comfy.listening("twice") as second:
        comfy.queue(canary(121), client_id="twice")
        second.until("executing", node=None)
        assert "execution_start" not in first.kinds()


def test_a_first_socket_that_closes_late_takes_the_second_along(comfy: Comfy) -> None:
    with comfy.listening("late") as first:
        with comfy.listening("late") as second:
            first.socket.close()
            wait_until(lambda: not _hears(comfy, second), why="the id to be forgotten")


def _hears(comfy: Comfy, listener: Listener) -> bool:
    """Whether a status still comes, which goes to all."""
    comfy.run(canary(uuid.uuid4().int % 2**24))
    try:
        listener.socket.recv(timeout=0.2)
    except TimeoutError:
        return False
    return True


def test_features_are_answered(comfy: Comfy) -> None:
    with comfy.listening("features") as listener:
        listener.socket.send(json.dumps({"type": "feature_flags", "data": {}}))
        assert listener.until("feature_flags")["max_upload_size"] == 100 * 2**20


# -- files


def test_files_are_numbered_within_their_folder_and_say_what_they_are_of(comfy: Comfy) -> None:
    workflow = {"id": "w", "nodes": []}
    prompt = txt2img("a text", seed=31, batch_size=2, prefix="sdw/run1/x")
    extra = {"extra_pnginfo": {"workflow": workflow}}
    entry = comfy.run(prompt, extra_data=extra)
    assert [i["filename"] for i in images_of(entry)] == ["x_00001_.png", "x_00002_.png"]
    text = comfy.picture(images_of(entry)[0]).info
    assert json.loads(text["prompt"]) == prompt
    assert json.loads(text["workflow"]) == workflow
    two = [comfy.file(i).read_bytes() for i in images_of(entry)]
    assert two[0] != two[1]
    comfy.file(images_of(entry)[1]).with_name("x_00040_.png").touch()
    entry = comfy.run(txt2img("a text", seed=32, prefix="sdw/run1/x"))
    assert images_of(entry)[0]["filename"] == "x_00041_.png"


def test_metadata_can_be_left_out(tmp_path: Path) -> None:
    with comfyui(tmp_path, "--disable-metadata") as comfy:
        (image,) = images_of(comfy.run(plain(1)))
        assert "prompt" not in comfy.picture(image).info


def test_a_preview_is_a_file_of_temp_that_the_next_start_removes(tmp_path: Path) -> None:
    with comfyui(tmp_path) as comfy:
        (image,) = images_of(comfy.run(canary(4)))
        assert (image["type"], image["subfolder"]) == ("temp", "")
        assert image["filename"].startswith("ComfyUI_temp_")
        assert comfy.picture(image).size == (64, 64)
        path = comfy.file(image)
        comfy.sim.process.terminate()
        comfy.sim.exit_code()
        assert path.exists(), "nothing is cleaned up"
    with comfyui(tmp_path):
        assert not path.exists()


def upload(comfy: Comfy, name: str, raw: bytes, **fields: str) -> requests.Response:
    files = {"image": (name, raw, "image/png")}
    return requests.post(comfy.url("upload/image"), files=files, data=fields, timeout=60)


def png(color: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 8), (color, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def test_an_upload_gets_a_name_which_may_be_another_one(comfy: Comfy) -> None:
    given = {"subfolder": "sdw/run1", "type": "input"}
    for raw, name in ((png(1), "b.png"), (png(1), "b.png"), (png(2), "b (1).png")):
        reply = upload(comfy, "b.png", raw, **given)
        assert reply.json() == {"name": name, **given}
    assert upload(comfy, "b.png", png(3), **given, overwrite="true").json()["name"] == "b.png"
    for name, folder in (("../b.png", ""), ("b.png", "../x")):
        assert upload(comfy, name, png(1), subfolder=folder).status_code == 400
    entry = comfy.run(
        {"1": node("LoadImage", image="sdw/run1/b.png"), "9": saved("1", "sdw/uploaded")}
    )
    assert comfy.picture(images_of(entry)[0]).getpixel((0, 0)) == (3, 0, 0)
    shown = comfy.get("view", filename="b.png", subfolder="sdw/run1", type="input")
    assert shown.content == png(3)
    upload(comfy, "top.png", png(9))
    listed = comfy.json("object_info/LoadImage")["LoadImage"]["input"]["required"]["image"][0]
    assert "top.png" in listed


def test_view_gives_what_is_below_its_folders_and_nothing_else(comfy: Comfy) -> None:
    for query, status in (
        ({"filename": "no.png"}, 404),
        ({"filename": "../x.png"}, 400),
        ({"filename": "x.png", "subfolder": "../.."}, 403),
        ({"filename": "x.png", "type": "models"}, 400),
        ({}, 400),
    ):
        assert comfy.get("view", **query).status_code == status, query


@pytest.mark.parametrize("prefix", ["../x", "/tmp/x", "a/../../x"])
def test_saving_outside_fails_in_running(comfy: Comfy, prefix: str) -> None:
    error = error_of(comfy.run(plain(122, prefix)))
    assert "Saving image outside the output folder is not allowed" in error["exception_message"]
    assert error["node_id"] == "9"


@pytest.mark.parametrize("name", ["../output/x.png", "/etc/hostname", "no.png"])
def test_loading_from_outside_is_refused(comfy: Comfy, name: str) -> None:
    (comfy.base / "output/x.png").write_bytes(png(1))
    prompt = {"1": node("LoadImage", image=name), "9": saved("1")}
    errors = comfy.post("prompt", {"prompt": prompt}).json()["node_errors"]["1"]["errors"]
    assert errors[0]["details"] == f"image - Invalid image file: {name}"
    prompt["1"]["inputs"]["image"] = "x.png [output]"
    assert comfy.run(prompt)["status"]["completed"]


def test_other_files_are_whole_ones(comfy: Comfy) -> None:
    prompt = {
        "1": empty(5, batch=3),
        "2": node("CreateVideo", images=["1", 0], fps=24.0),
        "3": node("SaveVideo", video=["2", 0], filename_prefix="sdw/o/v", format="auto"),
        "4": node("EmptyAudio", duration=0.5, sample_rate=8000, channels=2),
        "5": node("SaveAudio", audio=["4", 0], filename_prefix="sdw/o/a"),
        "6": node("EmptyLatentImage", width=64, height=64, batch_size=2),
        "7": node("SaveLatent", samples=["6", 0], filename_prefix="sdw/o/l"),
    }
    outputs = comfy.run(prompt)["outputs"]
    assert outputs["3"]["animated"] == [True]
    (video,), (audio,), (latent,) = (
        outputs["3"]["images"], outputs["5"]["audio"], outputs["7"]["latents"],
    )  # fmt: skip
    raw = comfy.file(video).read_bytes()
    boxes = []
    while raw:
        length, name = struct.unpack(">I4s", raw[:8])
        boxes.append(name)
        raw = raw[length:]
    assert boxes == [b"ftyp", b"moov", b"mdat"]
    assert comfy.file(audio).read_bytes()[:4] == b"fLaC"
    raw = comfy.file(latent).read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    tensor = json.loads(raw[8 : 8 + length])["latent_tensor"]
    assert tensor["data_offsets"] == [0, len(raw) - 8 - length]


def test_a_picture_goes_through_img2img_and_an_upscale(comfy: Comfy) -> None:
    upload(comfy, "start.png", png(200))
    prompt = {
        **txt2img("again", seed=5, denoise=0.5),
        "5": node("VAEEncode", pixels=["10", 0], vae=["4", 2]),
        "10": node("ImageScale", image=["11", 0], upscale_method="lanczos", width=128, height=64,
                   crop="center"),
        "11": node("LoadImage", image="start.png"),
        "12": node("UpscaleModelLoader", model_name="simulated-2x.pth"),
        "13": node("ImageUpscaleWithModel", upscale_model=["12", 0], image=["8", 0]),
        "9": saved("13", "sdw/large"),
    }  # fmt: skip
    entry = comfy.run(prompt)
    assert comfy.picture(images_of(entry)[0]).size == (256, 128)
    assert comfy.sim.stats()["by_stage"]["img2img"] == 1


def test_models_that_appear_are_listed_at_the_next_call(comfy: Comfy) -> None:
    assert MODEL in comfy.json("models/checkpoints")
    (comfy.base / "models/checkpoints/new.safetensors").write_bytes(b"")
    assert "new.safetensors" in comfy.json("models/checkpoints")
    info = comfy.json("object_info/CheckpointLoaderSimple")["CheckpointLoaderSimple"]
    assert "new.safetensors" in info["input"]["required"]["ckpt_name"][0]
    error = error_of(comfy.run(txt2img(ckpt_name="new.safetensors")))
    assert error["exception_type"].endswith("SafetensorError")
    (comfy.base / "models/checkpoints/new.safetensors").unlink()
    assert comfy.get("models/nothing").status_code == 404
    assert "checkpoints" in comfy.json("models")


# -- who may ask, and how much


def test_pages_of_other_origins_are_refused_and_text_is_taken(comfy: Comfy) -> None:
    url, here = comfy.url("queue"), f"http://127.0.0.1:{comfy.sim.port}"
    for headers, status in (
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": f"http://127.0.0.1:{free_port()}"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": here}, 200),
    ):
        assert requests.get(url, headers=headers, timeout=60).status_code == status, headers
    body = json.dumps({"prompt": plain(123)})
    headers = {"Content-Type": "text/plain"}
    reply = requests.post(comfy.url("prompt"), data=body, headers=headers, timeout=60)
    assert reply.status_code == 200


def test_a_body_that_is_too_large_is_a_413(tmp_path: Path) -> None:
    with comfyui(tmp_path, "--max-upload-size", "1") as comfy:
        reply = comfy.post("prompt", {"prompt": {}, "extra": "x" * 2**20})
        assert (reply.status_code, reply.text[:27]) == (413, "Maximum request body size 1")


def test_unknown_routes_and_methods(comfy: Comfy) -> None:
    assert comfy.get("nothing").status_code == 404
    assert comfy.get("interrupt").status_code == 405
    assert comfy.get("sdapi/v1/options").status_code == 404
    assert comfy.get("openapi.json").status_code == 404
    assert "ComfyUI" in comfy.get("").text


# -- the start


def test_the_log_is_on_stderr_with_coloured_levels_in_the_recorded_order(tmp_path: Path) -> None:
    with comfyui(tmp_path) as comfy:
        comfy.run(txt2img())
        wait_until(lambda: "Prompt executed in " in comfy.sim.log.read_text(encoding="utf-8"))
        text = comfy.sim.log.read_text(encoding="utf-8")
    marks = ["Total VRAM", "pytorch version: ", "Set vram state to: ", "Device: ",
             "Python version: ", "ComfyUI version: 0.33.0", "[Prompt Server] web root: ",
             "Starting server", f"To see the GUI go to: http://127.0.0.1:{comfy.sim.port}",
             "got prompt", "Requested to load BaseModel", "loaded completely; ", "100%|",
             "Prompt executed in "]  # fmt: skip
    places = [text.index(mark) for mark in marks]
    assert places == sorted(places)
    assert "\033[32m[INFO]\033[0m got prompt\n" in text
    raw = comfy.sim.log.read_bytes().decode()
    assert "\r  0%|          | 0/4 " in raw


def test_a_port_in_use_is_exit_1_after_everything_was_loaded(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        sim = launch(tmp_path, "--kind", "comfyui", port=port)
        assert sim.exit_code() == 1
    text = sim.log.read_text(encoding="utf-8")
    line = f"Port {port} is already in use on address 127.0.0.1. Please close the other application"
    assert text.index(line) > text.index("Starting server")


def start_in(folder: Path, base: Path, *flags: str, plan: str = "") -> Simulator:
    return launch(folder, "--kind", "comfyui", "--base-directory", str(base), *flags, plan=plan)


def test_a_folder_without_custom_nodes_is_exit_1(tmp_path: Path) -> None:
    sim = start_in(tmp_path, tmp_path)
    assert sim.exit_code() == 1
    assert "FileNotFoundError: [Errno 2]" in sim.log.read_text(encoding="utf-8")


def test_a_second_one_in_the_same_folder_runs_and_says_that_the_database_is_locked(
    tmp_path: Path,
) -> None:
    (tmp_path / "second").mkdir()
    with comfyui(tmp_path) as first:
        for flags, is_locked in (((), True), (("--user-directory", str(tmp_path / "u")), False)):
            sim = start_in(tmp_path / "second", first.base, *flags)
            try:
                wait_until(sim.is_up)
                text = sim.log.read_text(encoding="utf-8")
                assert ("Could not acquire lock on database" in text) == is_locked
            finally:
                sim.process.kill()
                sim.process.wait()


def test_a_broken_custom_node_is_named_and_the_start_continues(tmp_path: Path) -> None:
    plan = json.dumps([{"fault": "extension-not-loaded", "when": {"start": 1}}])
    with comfyui(tmp_path, plan=plan) as comfy:
        text = comfy.sim.log.read_text(encoding="utf-8")
        assert "Cannot import <base>/custom_nodes/injected module for custom nodes: " in text
        assert "   0.0 seconds (IMPORT FAILED): <base>/custom_nodes/injected" in text
        assert comfy.run(canary(1))["status"]["completed"]


def test_without_a_folder_of_its_own_it_has_one_for_its_port(tmp_path: Path) -> None:
    port = free_port()
    base = tmp_path / "temporary"
    base.mkdir()
    words = ["--kind", "comfyui", "--port", str(port), "--boot-time", "0"]
    env = {**os.environ, "TMPDIR": str(base), "TEMP": str(base), "TMP": str(base)}
    command = [sys.executable, "-m", "sdwatch.simulator", *words]
    process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
    try:
        made = base / f"sdwatch-simulator-{port}" / "output"
        wait_until(made.is_dir)
    finally:
        process.kill()
        process.wait()

"""The simulator answers as a real Forge did: keys, types, codes, words, log, exits."""

from __future__ import annotations

import base64
import errno
import io
import json
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image

from tests.support.helpers import wait_until
from tests.webui.kinds import CORRUPT, GOOD
from tests.webui.sim import PAYLOAD, Simulator, launch, running

FACTS = Path(__file__).parents[1] / "facts" / "forge"
HIRES = {"enable_hr": True, "hr_scale": 1.5, "denoising_strength": 0.5, "hr_upscaler": "Latent"}
ERRORS = json.loads((FACTS / "errors.json").read_text(encoding="utf-8"))
LISTS = [
    "sd-models", "samplers", "schedulers", "upscalers", "latent-upscale-modes", "face-restorers",
    "embeddings", "loras", "sd-modules", "scripts", "memory",
]  # fmt: skip


def fact(name: str) -> dict[str, Any]:
    recorded: dict[str, Any] = json.loads((FACTS / f"{name}.json").read_text(encoding="utf-8"))
    return recorded


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with running(tmp_path_factory.mktemp("simulator")) as it:
        yield it


@pytest.fixture(scope="module")
def picture(sim: Simulator) -> str:
    image: str = sim.txt2img().json()["images"][0]
    return image


def same_shape(mine: Any, recorded: Any, where: str = "body") -> None:
    """The same keys and JSON types, all the way down; of a list, its first item."""
    assert type(mine) is type(recorded), where
    if isinstance(recorded, dict):
        assert list(mine) == list(recorded), where
        for key in recorded:
            same_shape(mine[key], recorded[key], f"{where}.{key}")
    if isinstance(recorded, list) and recorded:
        assert mine, where
        same_shape(mine[0], recorded[0], f"{where}[0]")


def opened(image: str) -> Image.Image:
    picture = Image.open(io.BytesIO(base64.b64decode(image)))
    picture.load()
    return picture


@pytest.mark.parametrize("name", [*LISTS, "options"])
def test_a_list_has_the_shape_of_the_recorded_one(sim: Simulator, name: str) -> None:
    recorded = fact(f"get_{name}")
    reply = sim.get(name)
    assert reply.status_code == recorded["status"]
    assert reply.headers["content-type"] == recorded["content-type"]
    same_shape(reply.json(), recorded["body"])


@pytest.mark.parametrize(
    "name", ["interrupt", "skip", "refresh-checkpoints", "unload-checkpoint", "reload-checkpoint"]
)
def test_a_command_answers_what_was_recorded(sim: Simulator, name: str) -> None:
    recorded = fact(f"post_{name}")
    reply = sim.post(name)
    assert (reply.status_code, reply.json()) == (recorded["status"], recorded["body"])


@pytest.mark.parametrize("path", ["/", "/sdapi/v1/nonexistent", "/sdapi/v1/sd-vae"])
def test_a_route_that_does_not_exist_is_404(sim: Simulator, path: str) -> None:
    name = path.removeprefix("/").replace("/", "_") if "nonexistent" in path else path[10:]
    recorded = fact(f"get_{name}")
    reply = requests.get(sim.url(path), timeout=10)
    assert (reply.status_code, reply.json()) == (recorded["status"], recorded["body"])


def test_head_is_not_allowed(sim: Simulator) -> None:
    assert requests.head(sim.url("/sdapi/v1/progress"), timeout=10).status_code == 405
    assert sim.get("txt2img").status_code == 405


def test_cmd_flags_is_always_a_500(sim: Simulator) -> None:
    recorded = fact("get_cmd-flags")
    reply = sim.get("cmd-flags")
    assert reply.status_code == recorded["status"]
    same_shape(reply.json(), recorded["body"])


def test_openapi_names_the_recorded_methods_and_fields(sim: Simulator) -> None:
    recorded = fact("openapi")
    mine = requests.get(sim.url("/openapi.json"), timeout=10).json()
    for path, methods in mine["paths"].items():
        assert sorted(methods) == recorded["paths"][path]
    for schema, fields in recorded["fields"].items():
        found = mine["components"]["schemas"][schema]["properties"]
        assert {k: {a: b for a, b in v.items() if a != "title"} for k, v in found.items()} == {
            k: {a: b for a, b in v.items() if a != "title"} for k, v in fields.items()
        }


@pytest.mark.parametrize("stage", ["txt2img", "img2img"])
def test_a_generation_has_the_recorded_keys_types_and_echo(
    sim: Simulator, picture: str, stage: str
) -> None:
    recorded = fact(f"post_{stage}")
    request = recorded["request"]
    if stage == "img2img":
        request["init_images"] = [picture]
    body = sim.post(stage, request).json()
    same_shape(body, recorded["body"])
    assert body["parameters"] == recorded["body"]["parameters"]
    info, recorded_info = json.loads(body["info"]), json.loads(recorded["body"]["info"])
    same_shape(info, recorded_info)
    mine = info["infotexts"][0].replace(info["sd_model_name"], "M").replace("simulated", "")
    theirs = recorded_info["infotexts"][0].replace(recorded_info["sd_model_name"], "M")
    hashes = (info["sd_model_hash"], recorded_info["sd_model_hash"])
    assert mine.replace(hashes[0], "H") == theirs.replace(hashes[1], "H")
    assert opened(body["images"][0]).info["parameters"] == info["infotexts"][0]


def test_an_upscale_has_the_recorded_keys_and_really_resizes(sim: Simulator, picture: str) -> None:
    recorded = fact("post_extra-single-image")
    body = sim.post("extra-single-image", {**recorded["request"], "image": picture}).json()
    same_shape(body, recorded["body"])
    assert body["html_info"] == recorded["body"]["html_info"]
    assert opened(body["image"]).size == (128, 128)
    assert opened(body["image"]).info == opened(picture).info


def test_png_info_gives_the_infotext_back(sim: Simulator, picture: str) -> None:
    recorded = fact("post_png-info")["body"]
    body = sim.post("png-info", {"image": f"data:image/png;base64,{picture}"}).json()
    assert list(body) == list(recorded)
    for key in ("Steps", "Sampler", "CFG scale", "Seed", "Size-1", "Size-2", "Prompt", "Version"):
        assert body["parameters"][key] == recorded["parameters"][key]


def filled(request: str, picture: str) -> bytes:
    """A recorded request with the good one below it; what is no object stays as it is."""
    try:
        fields = json.loads(request)
    except ValueError:
        return request.encode()
    if not isinstance(fields, dict):
        return request.encode()
    base = {} if "image" in fields or "upscaler_1" in fields else PAYLOAD
    text = json.dumps({**base, **fields})
    half = picture[: len(picture) // 8 * 4]
    return text.replace("<png>", picture).replace("<half a png>", half).encode()


@pytest.mark.parametrize("row", ERRORS, ids=[row["case"] for row in ERRORS])
def test_a_wrong_request_gets_the_recorded_answer(
    sim: Simulator, picture: str, row: dict[str, Any]
) -> None:
    reply = sim.session.post(
        sim.url(f"sdapi/v1/{row['stage']}"),
        data=filled(row["request"], picture),
        headers={"content-type": "application/json"},
        timeout=30,
    )
    assert reply.status_code == row["status"]
    if row["body"] is not None:
        assert reply.json() == row["body"]
    state = sim.state()
    job = (state["job"], state["job_count"])
    assert job == (row["job"], row["job_count"])
    if row["job"]:
        assert sim.txt2img().ok, "a failed upscale does not stand in the way of the next job"
        assert sim.state()["job"] == ""


@pytest.mark.parametrize(
    ("asked", "got"),
    [
        ({"sampler_name": "No Such"}, ("DPM++ 2M", "Karras")),
        ({"sampler_name": None, "sampler_index": "Nope"}, ("DPM++ 2M", "Karras")),
        ({"sampler_name": "DPM++ 2M Karras"}, ("DPM++ 2M", "Karras")),
        ({"scheduler": "nope"}, ("Euler", "Automatic")),
        ({"scheduler": "Karras"}, ("Euler", "Karras")),
        ({"scheduler": "karras"}, ("Euler", "Karras")),
    ],
)
def test_only_the_info_says_which_sampler_was_used(
    sim: Simulator, asked: dict[str, Any], got: tuple[str, str]
) -> None:
    info = json.loads(sim.txt2img(**asked).json()["info"])
    assert info["sampler_name"] == got[0]
    assert f"Sampler: {got[0]}, Schedule type: {got[1]}," in info["infotexts"][0]


def test_a_checkpoint_is_switched_for_one_job_and_an_unknown_one_is_ignored(
    sim: Simulator,
) -> None:
    def model(name: str | None) -> str:
        more = {"override_settings": {"sd_model_checkpoint": name}} if name else {}
        return str(json.loads(sim.txt2img(**more).json()["info"])["sd_model_name"])

    first, second, _ = sim.get("sd-models").json()
    assert model(None) == first["model_name"]
    for name in (second["title"], second["model_name"], second["hash"]):
        assert model(name) == second["model_name"]
    assert model("no-such-model") == second["model_name"]
    assert model(None) == first["model_name"]


def test_a_checkpoint_that_cannot_be_read_poisons_until_another_one_is_loaded(
    tmp_path: Path,
) -> None:
    same = {"sd_model_checkpoint": "simulated-a"}
    with running(tmp_path) as sim:
        assert sim.txt2img().ok
        reply = sim.txt2img(override_settings=CORRUPT)
        assert (reply.status_code, reply.json()["error"]) == (500, "ValueError")
        assert reply.json()["message"] == "Failed to recognize model type!"
        for cure in ("reload-checkpoint", "unload-checkpoint"):
            assert sim.post(cure).ok
        assert sim.post("options", same).ok
        for fields in ({}, {"override_settings": same}):
            reply = sim.txt2img(**fields)
            assert (reply.status_code, reply.json()["error"]) == (500, "AttributeError")
            assert "sd_checkpoint_info" in reply.json()["message"]
        assert sim.get("progress").ok
        assert sim.txt2img(override_settings=GOOD).ok
        assert sim.txt2img().ok


def test_a_checkpoint_that_was_renamed_is_listed_until_the_list_is_refreshed(
    tmp_path: Path,
) -> None:
    with running(tmp_path) as sim:
        assert sim.txt2img(override_settings=CORRUPT).status_code == 500
        assert len(sim.get("sd-models").json()) == 3
        assert sim.post("refresh-checkpoints").ok
        names = [model["model_name"] for model in sim.get("sd-models").json()]
        assert names == ["simulated-a", "simulated-b"]


def test_a_size_that_is_no_multiple_of_eight_shows_in_the_picture_only(sim: Simulator) -> None:
    body = sim.txt2img(width=65, height=70).json()
    info = json.loads(body["info"])
    assert opened(body["images"][0]).size == (64, 64)
    assert (info["width"], info["height"]) == (65, 70)
    assert "Size: 65x70" in info["infotexts"][0]


def test_the_same_request_gives_the_same_bytes_and_another_seed_does_not(
    sim: Simulator, picture: str
) -> None:
    assert sim.txt2img().json()["images"] == [picture]
    for change in ({"seed": 2}, {"steps": 3}, {"prompt": "a dog"}, {"cfg_scale": 5}):
        assert opened(sim.txt2img(**change).json()["images"][0]).tobytes() != (
            opened(picture).tobytes()
        )


def test_rounds_and_batches_count_the_seed_up(sim: Simulator) -> None:
    body = sim.txt2img(n_iter=2, batch_size=2, seed=10).json()
    info = json.loads(body["info"])
    assert info["all_seeds"] == [10, 11, 12, 13]
    assert len(body["images"]) == len(info["infotexts"]) == 4
    third = sim.txt2img(seed=12).json()["images"][0]
    assert opened(body["images"][2]).tobytes() == opened(third).tobytes()


def test_several_images_of_one_img2img_must_fit_into_its_batch(
    sim: Simulator, picture: str
) -> None:
    fields = {"prompt": "x", "width": 64, "height": 64, "steps": 2, "init_images": [picture] * 2}
    refused = sim.post("img2img", fields)
    assert refused.status_code == 500
    assert refused.json()["message"] == "bad number of images passed: 2; expecting 1 or less"
    body = sim.post("img2img", {**fields, "batch_size": 3}).json()
    assert len(body["images"]) == 2


def test_with_a_variation_the_subseed_counts_up(sim: Simulator) -> None:
    info = json.loads(sim.txt2img(n_iter=2, subseed=5, subseed_strength=0.3).json()["info"])
    assert (info["all_seeds"], info["all_subseeds"]) == ([1, 1], [5, 6])


def test_a_random_seed_is_reported(sim: Simulator) -> None:
    body = sim.txt2img(seed=-1).json()
    seed = json.loads(body["info"])["seed"]
    assert seed >= 0
    assert body["parameters"]["seed"] == -1
    again = sim.txt2img(seed=seed).json()["images"][0]
    assert opened(again).tobytes() == opened(body["images"][0]).tobytes()


def test_saving_several_pictures_puts_a_grid_first(sim: Simulator) -> None:
    body = sim.txt2img(batch_size=4, save_images=True).json()
    assert json.loads(body["info"])["index_of_first_image"] == 1
    assert [opened(i).size for i in body["images"]] == [(128, 128), *[(64, 64)] * 4]


def test_the_hires_pass_enlarges(sim: Simulator) -> None:
    body = sim.txt2img(**HIRES, hr_additional_modules=["Use same choices"]).json()
    assert opened(body["images"][0]).size == (96, 96)
    assert "Hires upscale: 1.5, Hires upscaler: Latent" in body["info"]


def test_a_hires_job_without_modules_is_a_500_after_its_first_pass(sim: Simulator) -> None:
    reply = sim.txt2img(**HIRES)
    said = (reply.json()["error"], reply.json()["message"])
    assert said == ("TypeError", "argument of type 'NoneType' is not iterable")
    wait_until(lambda: "not in self.hr_additional_modules:" in sim.log.read_text())
    assert sim.txt2img(**HIRES, hr_additional_modules=[]).ok


def test_scripts_are_always_on_or_selectable(sim: Simulator) -> None:
    names = {
        role: next(
            each["name"]
            for each in sim.get("script-info").json()
            if each["is_alwayson"] is role and not each["is_img2img"]
        )
        for role in (True, False)
    }
    assert sim.txt2img(alwayson_scripts={names[True]: {"args": []}}).ok
    for wrong in (
        {"script_name": names[True]},
        {"script_name": "no such"},
        {"alwayson_scripts": {names[False]: {"args": []}}},
        {"alwayson_scripts": {"no such": {"args": []}}},
    ):
        assert sim.txt2img(**wrong).status_code == 422


def test_the_clip_skip_of_a_call_is_kept_unless_the_settings_have_it(sim: Simulator) -> None:
    def skip() -> float:
        return float(sim.get("options").json()["CLIP_stop_at_last_layers"])

    before = skip()
    assert sim.txt2img(override_settings={"CLIP_stop_at_last_layers": 2}).ok
    assert skip() == 2
    assert sim.post("options", {"CLIP_stop_at_last_layers": before}).ok
    assert sim.txt2img(override_settings={"CLIP_stop_at_last_layers": 3}).ok
    assert skip() == before


@pytest.mark.parametrize(("name", "kind"), [("jpg", "JPEG"), ("webp", "WEBP"), ("png", "PNG")])
def test_the_format_of_the_options_is_used_and_carries_the_infotext(
    sim: Simulator, name: str, kind: str
) -> None:
    assert sim.post("options", {"samples_format": name}).json() is None
    body = sim.txt2img().json()
    assert opened(body["images"][0]).format == kind
    info = sim.post("png-info", {"image": body["images"][0]}).json()["info"]
    assert info == json.loads(body["info"])["infotexts"][0]


def test_options_refuses_unknown_keys(sim: Simulator) -> None:
    assert sim.post("options", {"no_such": 1}).json()["error"] == "KeyError"
    assert sim.post("options", {"CLIP_stop_at_last_layers": 1}).ok


def test_options_take_a_checkpoint_that_does_not_exist_and_are_poisoned(tmp_path: Path) -> None:
    with running(tmp_path) as sim:
        assert sim.txt2img().ok
        reply = sim.post("options", {"sd_model_checkpoint": "nope"})
        assert (reply.status_code, reply.json()) == (200, None)
        assert "sd_checkpoint_info" in sim.txt2img().json()["message"]


def test_an_upscale_without_an_upscaler_changes_nothing(sim: Simulator, picture: str) -> None:
    body = sim.post("extra-single-image", {"image": picture, "upscaling_resize": 4}).json()
    assert body["html_info"] == "<p></p>"
    assert opened(body["image"]).tobytes() == opened(picture).tobytes()


def test_later_stages_show_the_picture_they_were_given(sim: Simulator) -> None:
    size = {"width": 256, "height": 256}
    one, two = (sim.txt2img(seed=s, **size).json()["images"][0] for s in (1, 2))
    fields = {**PAYLOAD, **size, "denoising_strength": 0.5}
    later = [
        sim.post("img2img", {**fields, "init_images": [i]}).json()["images"][0] for i in (one, two)
    ]

    def distance(a: str, b: str) -> int:
        pairs = zip(
            opened(a).resize((16, 16)).tobytes(), opened(b).resize((16, 16)).tobytes(), strict=True
        )
        return sum(abs(x - y) for x, y in pairs)

    assert distance(later[0], one) < distance(later[0], two)
    assert distance(later[1], two) < distance(later[1], one)


def test_generations_run_one_at_a_time_in_order_and_progress_moves(
    tmp_path: Path,
) -> None:
    with running(tmp_path, "--step-time", "0.05", "--load-time", "0.3") as sim:
        finished: list[int] = []

        def ask(seed: int) -> None:
            reply = requests.post(
                sim.url("sdapi/v1/txt2img"), json={**PAYLOAD, "steps": 12, "seed": seed}, timeout=30
            )
            finished.append(json.loads(reply.json()["info"])["seed"])

        threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(3)]
        for number, thread in enumerate(threads, 1):
            thread.start()
            wait_until(lambda n=number: sim.stats()["posts"] == n)
        loading = wait_until(lambda: sim.get("progress").json())
        if loading["state"]["job_count"] == -1:
            assert (loading["progress"], loading["state"]["sampling_steps"]) == (0.01, 0)
        seen = wait_until(lambda: p if (p := sim.get("progress").json())["current_image"] else None)
        same_shape(seen, fact("get_progress_generating_with_image")["body"])
        assert seen["state"]["sampling_step"] >= 10
        for thread in threads:
            thread.join(30)
        assert finished == [0, 1, 2]
        same_shape(sim.get("progress").json(), fact("get_progress_idle")["body"])
        assert sim.state()["job"] == ""


def test_the_first_job_loads_the_checkpoint_and_says_so(tmp_path: Path) -> None:
    with running(tmp_path, "--load-time", "1") as sim:
        thread = threading.Thread(target=sim.txt2img)
        thread.start()
        body = wait_until(lambda: p if (p := sim.get("progress").json())["state"]["job"] else None)
        assert body["progress"] == 0.01
        state = body["state"]
        assert (state["job"], state["job_count"], state["sampling_steps"]) == (
            "scripts_txt2img", -1, 0,
        )  # fmt: skip
        thread.join(30)
        assert any(line.startswith("Loading Model: {") for line in sim.lines())


def test_interrupt_ends_the_running_job_with_a_picture_and_is_remembered(tmp_path: Path) -> None:
    with running(tmp_path, "--step-time", "0.1") as sim:
        replies: list[requests.Response] = []
        thread = threading.Thread(target=lambda: replies.append(sim.txt2img(steps=1000, n_iter=3)))
        thread.start()
        wait_until(lambda: sim.state()["sampling_step"] > 0)
        assert sim.post("interrupt").json() == {}
        thread.join(30)
        body = replies[0].json()
        assert len(body["images"]) == 1
        assert json.loads(body["info"])["steps"] == 1000
        assert sim.state()["interrupted"] is True
        assert sim.txt2img(steps=1).ok
        assert sim.state()["interrupted"] is False


def test_skip_ends_one_round(tmp_path: Path) -> None:
    with running(tmp_path, "--step-time", "0.1") as sim:
        replies: list[requests.Response] = []
        thread = threading.Thread(target=lambda: replies.append(sim.txt2img(steps=1000, n_iter=2)))
        thread.start()
        for round_number in (0, 1):
            wait_until(
                lambda n=round_number: (s := sim.state())["job_no"] == n and s["sampling_step"] > 0
            )
            sim.post("skip")
        thread.join(30)
        assert len(replies[0].json()["images"]) == 2


def test_a_client_that_gives_up_does_not_end_the_job(tmp_path: Path) -> None:
    with running(tmp_path, "--step-time", "0.05") as sim:
        with pytest.raises(requests.ReadTimeout):
            requests.post(
                sim.url("sdapi/v1/txt2img"), json={**PAYLOAD, "steps": 20}, timeout=(5, 0.1)
            )
        assert sim.state()["job"] == "scripts_txt2img"
        wait_until(lambda: sim.state()["job"] == "")
        assert sim.state()["sampling_step"] == 20
        assert any('"POST /sdapi/v1/txt2img HTTP/1.1" 200 OK' in line for line in sim.lines())


def test_auth_is_asked_for_on_all_api_routes(tmp_path: Path) -> None:
    with running(tmp_path, "--auth", "me:secret") as sim:
        reply = sim.get("progress")
        assert (reply.status_code, reply.json()) == (401, {"detail": "Not authenticated"})
        assert reply.headers["www-authenticate"] == "Basic"
        reply = sim.post("txt2img", PAYLOAD, auth=("me", "wrong"))
        assert reply.status_code == 401
        assert reply.json() == {"detail": "Incorrect username or password"}
        assert sim.post("txt2img", PAYLOAD, auth=("me", "secret")).ok
        assert requests.get(sim.url("/openapi.json"), timeout=10).ok


def test_without_a_checkpoint_the_first_job_fails(tmp_path: Path) -> None:
    with running(tmp_path, "--no-model") as sim:
        assert sim.get("sd-models").json() == []
        reply = sim.txt2img()
        assert reply.status_code == 500
        assert reply.json()["message"].startswith("You do not have any model!")


def test_without_the_api_only_the_page_is_there(tmp_path: Path) -> None:
    with running(tmp_path, "--no-api") as sim:
        assert sim.get("progress").status_code == 404
        assert requests.get(sim.url("/"), timeout=10).status_code == 200


def test_the_log_is_what_forge_prints(sim: Simulator) -> None:
    sim.get("progress", params={"skip_current_image": "true"})
    sim.txt2img(steps=0)
    wait_until(lambda: sim.lines()[-2].startswith("ZeroDivisionError: "))
    lines = sim.lines()
    assert lines[0].startswith("Python 3.")
    assert lines[1] == "Version: f2.0.1v1.10.1-previous-669-gdfdcbab6"
    assert "SIMULATED WebUI: pictures are drawn, not generated" in lines
    booted = lines.index(f"INFO:     Started server process [{sim.process.pid}]")
    assert lines[booted - 1].startswith("Startup time: ")
    assert lines[booted + 1 : booted + 4] == [
        "INFO:     Waiting for application startup.",
        "INFO:     Application startup complete.",
        f"INFO:     Uvicorn running on http://127.0.0.1:{sim.port} (Press CTRL+C to quit)",
    ]
    access = '"GET /sdapi/v1/progress?skip_current_image=true HTTP/1.1" 200 OK'
    assert any(li.startswith("INFO:     127.0.0.1:") and li.endswith(access) for li in lines)
    error = lines.index("ERROR:    Exception in ASGI application")
    assert lines[error + 1] == "Traceback (most recent call last):"
    assert "simulator/stats" not in sim.log.read_text(encoding="utf-8")
    assert "\r  0%|          | 0/2 [00:00<?, ?it/s]" in sim.log.read_bytes().decode()


@pytest.mark.posix_only("signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, -15), (signal.SIGINT, 0), (9, -9)])
def test_a_signal_ends_it_at_once_even_in_a_job(tmp_path: Path, number: int, code: int) -> None:
    with running(tmp_path, "--step-time", "0.1") as sim:
        failures: list[Exception] = []

        def ask() -> None:
            try:
                sim.txt2img(steps=1000)
            except requests.ConnectionError as e:
                failures.append(e)

        thread = threading.Thread(target=ask)
        thread.start()
        wait_until(lambda: requests.get(sim.url("sdapi/v1/progress"), timeout=5).json()["progress"])
        sim.process.send_signal(number)
        assert sim.exit_code() == code
        thread.join(30)
        assert len(failures) == 1


@pytest.mark.parametrize(
    "flags",
    [["--no-such-flag"], ["--host", "0.0.0.0"], ["--port", "0"], ["--step-time", "-1"]],
)
def test_a_flag_that_is_refused_is_exit_2(tmp_path: Path, flags: list[str]) -> None:
    sim = launch(tmp_path, *flags)
    assert sim.exit_code() == 2
    assert "error: " in sim.log.read_text(encoding="utf-8")


def test_a_crash_on_start_leaves_a_traceback_and_its_code(tmp_path: Path) -> None:
    sim = launch(tmp_path, "--crash-on-start", "7")
    assert sim.exit_code() == 7
    assert "Traceback (most recent call last):" in sim.lines()
    assert not any("Uvicorn running" in line for line in sim.lines())


def test_never_ready_lives_and_never_opens_its_port(tmp_path: Path) -> None:
    sim = launch(tmp_path, "--never-ready")
    try:
        wait_until(lambda: any(line.startswith("Startup time") for line in sim.lines()))
        assert not sim.is_up()
        assert sim.process.poll() is None
    finally:
        sim.process.kill()
        sim.process.wait()


def test_a_port_in_use_is_a_log_line_and_no_exit(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        sim = launch(tmp_path, port=port)
        try:
            expected = (  # the system's own words follow: Windows has others
                f"ERROR:    [Errno {errno.EADDRINUSE}] error while attempting to bind on address "
                f"('127.0.0.1', {port}): "
            )
            wait_until(lambda: any(line.startswith(expected) for line in sim.lines()))
            assert "INFO:     Application startup complete." in sim.lines()
            assert sim.process.poll() is None
        finally:
            sim.process.kill()
            sim.process.wait()

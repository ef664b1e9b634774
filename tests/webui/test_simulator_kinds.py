"""Each kind of the simulator holds what was measured of the real one, where it is not Forge."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from sdwatch.simulator.__main__ import KINDS
from tests.support.helpers import ended_by, free_port, wait_until
from tests.webui.kinds import (
    OTHERS,
    PICTURE,
    REPLIES,
    Pool,
    facts,
    faults,
    info_of,
    log,
    log_of,
    opened,
    picture,
    same_shape,
    up,
)
from tests.webui.sim import PAYLOAD, Simulator, launch, running

CASES = [(kind, row) for kind in OTHERS for row in facts(kind, "cases")]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    it = Pool(tmp_path_factory.mktemp("kinds"))
    yield it
    it.close()


# -- the tables


def asked(sim: Simulator, row: dict[str, Any]) -> requests.Response:
    fields = row["request"]
    if isinstance(fields, dict):
        base = {} if row["stage"] == "extra-single-image" else PAYLOAD
        half = PICTURE[: len(PICTURE) // 8 * 4]
        text = json.dumps({**base, **fields})
        text = text.replace("<picture>", PICTURE).replace("<half a picture>", half)
    else:
        text = json.dumps(fields) if isinstance(fields, list) else fields or ""
    return requests.post(sim.url(f"sdapi/v1/{row['stage']}"), data=text.encode(), timeout=30)


@pytest.mark.parametrize(("kind", "row"), CASES, ids=[f"{k}: {r['case']}" for k, r in CASES])
def test_a_request_gets_the_measured_answer(pool: Pool, kind: str, row: dict[str, Any]) -> None:
    sim = pool.get(kind)
    before = len(log(sim))
    reply = asked(sim, row)
    assert reply.status_code == row["status"], reply.text[:300]
    if "body" in row:
        assert reply.json() == row["body"]
    if "error" in row:
        assert reply.json()["error"] == row["error"]
    if "images" in row:
        assert len(reply.json()["images"]) == row["images"]
    if "size" in row:
        assert list(opened(reply.json()["images"][0]).size) == row["size"]
    if "info" in row:
        assert {k: info_of(reply)[k] for k in row["info"]} == row["info"]
    if "infotext" in row:
        assert row["infotext"] in info_of(reply)["infotexts"][0]
    if "log" in row:
        wait_until(lambda: " ".join(row["log"].split()) in " ".join(log(sim)[before:].split()))
    if "job" in row:
        assert sim.state()["job"] == row["job"] or (sim.state()["job"] and row["job"] == "*")
    elif kind == "a1111":
        assert sim.state()["job"] == ""


GETS = [(k, n) for k in OTHERS for n in REPLIES[k] if n.startswith("get_")]
NOT_AT_REST = ("progress_generating", "progress_generating_with_image", "progress_401",
               "progress_429", "sdapi_v1_nonexistent")  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name"), [(k, n) for k, n in GETS if n.removeprefix("get_") not in NOT_AT_REST]
)
def test_a_get_has_the_recorded_status_headers_and_shape(pool: Pool, kind: str, name: str) -> None:
    sim, recorded = pool.get(kind), REPLIES[kind][name]
    if name == "get_progress_idle":
        sim.txt2img()
    reply = sim.get(name.removeprefix("get_").removesuffix("_idle"))
    assert reply.status_code == recorded["status"]
    for header in ("content-type", "x-process-time", "www-authenticate", "connection"):
        has = {h.lower() for h in recorded["headers"]}
        assert (header in reply.headers) == (header in has), header
    if recorded["body"] == "":
        assert reply.content == b""
        return
    if name in ("get_options", "get_cmd-flags") and kind != "sdcpp":
        same_shape({k: reply.json()[k] for k in recorded["body"]}, recorded["body"])
    else:
        same_shape(reply.json(), recorded["body"])


COMMANDS = ("interrupt", "skip", "refresh-checkpoints", "unload-checkpoint", "reload-checkpoint")


@pytest.mark.parametrize("kind", ["a1111", "sdnext"])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_answers_what_was_recorded(pool: Pool, kind: str, name: str) -> None:
    recorded = REPLIES[kind][f"post_{name}"]
    reply = pool.get(kind).post(name)
    assert reply.status_code == recorded["status"]
    if recorded["status"] == 204:
        assert reply.content == b""
        assert not {"content-type", "content-length"} & set(reply.headers)
    else:
        assert reply.json() == recorded["body"]


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("stage", ["txt2img", "img2img"])
def test_a_generation_has_the_recorded_keys_and_infotext(pool: Pool, kind: str, stage: str) -> None:
    recorded = REPLIES[kind][f"post_{stage}"]
    given = recorded["request"]
    if "init_images" in given:
        given["init_images"] = [picture(64, 64)]
    body = pool.get(kind).post(stage, given).json()
    same_shape(body, recorded["body"])
    info, theirs = json.loads(body["info"]), json.loads(recorded["body"]["info"])
    same_shape(info, theirs, "info")
    text = theirs["infotexts"][0].replace("random-sd15-a", "simulated-a")
    mine = info["infotexts"][0].split(", SDCPP: ")[0]
    marks = ("Model hash: ", "Init image hash: ")
    assert [p for p in mine.split(", ") if not p.startswith(marks)] == [
        p for p in text.split(", ") if not p.startswith(marks)
    ]
    image = opened(body["images"][0])
    assert image.format == ("JPEG" if kind == "sdnext" else "PNG")
    if kind == "sdnext":
        comment = image.getexif().get_ifd(0x8769)[0x9286]
        assert comment == b"UNICODE\0" + info["infotexts"][0].encode("utf-16-be")
        assert "sd_model_name" not in info
        assert "sd_model_hash" in info
    else:
        assert image.info["parameters"] == info["infotexts"][0]


@pytest.mark.parametrize("kind", ["a1111", "sdnext"])
def test_openapi_has_version_routes_and_fields(pool: Pool, kind: str) -> None:
    recorded = facts(kind, "openapi")
    mine = requests.get(pool.get(kind).url("openapi.json"), timeout=10).json()
    assert (mine["openapi"], mine["info"]["title"]) == (recorded["openapi"], recorded["title"])
    assert {p: sorted(m) for p, m in mine["paths"].items()} == recorded["paths"]
    for stage, defaults in recorded["defaults"].items():
        name = f"StableDiffusionProcessing{stage.capitalize().replace('2i', '2I')}"
        fields = mine["components"]["schemas"][name]["properties"]
        assert len(fields) == recorded["fields"][stage]
        assert {f: fields[f].get("default") for f in defaults} == defaults


def test_the_kinds_can_be_distinguished(pool: Pool) -> None:
    def marks(kind: str) -> tuple[Any, ...]:
        sim = pool.get(kind)
        vae = sim.get("sd-vae")
        routes = (sim.get("cmd-flags"), vae, sim.get("sd-modules"), sim.get("version"))
        page = requests.get(sim.url("openapi.json"), timeout=10)
        version = page.json()["openapi"] if page.ok else None
        codes = tuple(r.status_code for r in routes)
        return (*codes, "x-process-time" in vae.headers, version, info_of(sim.txt2img())["version"])

    assert marks("forge")[:-1] == (500, 404, 200, 404, False, "3.1.0")
    assert marks("a1111") == (200, 200, 404, 404, True, "3.0.2", "v1.10.1")
    assert marks("sdcpp") == (404, 404, 404, 404, False, None, "stable-diffusion.cpp")
    assert "version" not in info_of(pool.get("sdnext").txt2img())
    assert pool.get("sdnext").get("version").json()["app"] == "sd.next"


@pytest.mark.parametrize("kind", ["a1111", "sdnext"])
def test_a_401_has_the_kinds_body_and_no_www_authenticate(tmp_path: Path, kind: str) -> None:
    wrong = {"a1111": "Incorrect username or password", "sdnext": "Unauthorized"}[kind]
    with running(tmp_path, "--kind", kind, "--auth", "me:secret") as sim:
        for auth, detail in ((None, "Not authenticated"), (("me", "no"), wrong)):
            reply = sim.get("progress", auth=auth)
            assert reply.status_code == 401
            assert "www-authenticate" not in reply.headers
            body = {"error": "HTTPException", "code": 401, "detail": detail, "body": ""}
            body["errors"] = f"401: {detail}" if kind == "sdnext" else ""
            if kind == "a1111":
                del body["code"]
            assert reply.json() == body
        assert sim.get("progress", auth=("me", "secret")).ok


# -- faults


@pytest.mark.parametrize("name", ["structured-500", "oom"])
def test_sdcpp_answers_a_server_error(tmp_path: Path, name: str) -> None:
    with running(tmp_path, "--kind", "sdcpp", plan=faults(name)) as sim:
        reply = sim.txt2img()
        assert reply.status_code == 500
        assert reply.json()["error"] == "server_error"
        assert reply.json()["message"]
        assert sim.txt2img().ok


@pytest.mark.parametrize("kind", OTHERS)
def test_a_fault_that_ends_the_process_ends_every_kind(tmp_path: Path, kind: str) -> None:
    with running(tmp_path, "--kind", kind, plan=faults("sigkill-mid-step")) as sim:
        up(sim, kind)
        with pytest.raises(requests.ConnectionError):
            sim.txt2img()
        assert sim.exit_code() == ended_by(9)


@pytest.mark.parametrize("kind", OTHERS)
def test_the_fault_poisoned_lasts_in_the_kinds_own_way(tmp_path: Path, kind: str) -> None:
    plan = faults("poisoned", when={"generation": 2})
    with running(tmp_path, "--kind", kind, plan=plan) as sim:
        up(sim, kind)
        assert sim.txt2img().json()["images"]
        for _ in range(2):
            reply = sim.txt2img(prompt="another")
            if kind == "sdnext":
                assert (reply.json()["images"], reply.json()["info"]) == ([], "")
            else:
                assert reply.status_code == 500
        assert sim.txt2img().ok == (kind != "sdcpp")


@pytest.mark.posix_only("signals")
@pytest.mark.parametrize(
    ("kind", "number", "code"),
    [
        ("a1111", signal.SIGTERM, -signal.SIGTERM),
        ("a1111", signal.SIGINT, 0),
        ("sdnext", signal.SIGTERM, -signal.SIGTERM),
        ("sdnext", signal.SIGINT, 0),
        ("sdcpp", signal.SIGTERM, -signal.SIGTERM),
        ("sdcpp", signal.SIGINT, -signal.SIGINT),
    ],
)
def test_a_signal_while_idle_ends_it(tmp_path: Path, kind: str, number: int, code: int) -> None:
    with running(tmp_path, "--kind", kind) as sim:
        up(sim, kind)
        sim.process.send_signal(number)
        assert sim.exit_code() == code


@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [
        ("a1111", 3, "error while attempting to bind on address"),
        ("sdnext", 1, "OSError: Cannot find empty port in range: "),
    ],
)
def test_a_port_in_use_is_an_exit(tmp_path: Path, kind: str, code: int, words: str) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        sim = launch(tmp_path, "--kind", kind, "--load-time", "0.2", port=holder.getsockname()[1])
        assert sim.exit_code() == code
    assert words in log(sim)
    if kind == "a1111":
        assert log(sim).index(words) < log(sim).index("Model loaded in "), "only after the load"


@pytest.mark.posix_only("SO_REUSEPORT; wine does not share a port by SO_REUSEADDR either")
def test_sdcpp_shares_its_port(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "second").mkdir()
    with running(tmp_path, "--kind", "sdcpp", port=port) as first:
        with running(tmp_path / "second", "--kind", "sdcpp", port=port) as second:
            wait_until(lambda: "listening on" in log(second))
            assert first.process.poll() is None
            assert second.process.poll() is None


# -- no model, flags


@pytest.mark.parametrize("kind", ["a1111", "sdnext"])
def test_without_a_checkpoint_it_is_up_and_cannot_work(tmp_path: Path, kind: str) -> None:
    with running(tmp_path, "--kind", kind, "--no-model") as sim:
        assert sim.get("sd-models").json() == []
        reply = sim.txt2img()
        if kind == "sdnext":
            assert (reply.json()["images"], reply.json()["info"]) == ([], "")
        else:
            assert (reply.status_code, reply.json()["error"]) == (500, "FileNotFoundError")


@pytest.mark.parametrize(
    "flags",
    [
        ["--kind", "comfy"],
        ["--rate-limit", "10"],
        ["--kind", "a1111", "--extras-work"],
        ["--kind", "sdcpp", "--auth", "me:secret"],
        ["--kind", "sdnext", "--rate-limit", "0"],
        ["--kind", "sdnext", "--no-api"],
        ["--cache-none"],
        ["--kind", "sdnext", "--base-directory", "x"],
        ["--kind", "comfyui", "--auth", "me:secret"],
        ["--kind", "comfyui", "--extras-work"],
    ],
)
def test_a_flag_that_makes_no_sense_is_exit_2(tmp_path: Path, flags: list[str]) -> None:
    sim = launch(tmp_path, *flags)
    assert sim.exit_code() == 2
    assert "error: " in log(sim)


def test_every_kind_says_that_it_is_simulated(pool: Pool) -> None:
    for kind in KINDS:
        assert "SIMULATED WebUI: pictures are drawn, not generated" in log_of(pool.get(kind))

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

import psutil

from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.webui.http.canary import SIDE, flaw_in
from tests.functional.cli import drop, heartbeat, make_spool, running, sdwatch
from tests.support import warm
from tests.support.fakes import picture
from tests.support.helpers import PATIENCE, wait_until
from tests.webui.recorded_webui import RecordedWebUI, recorded
from tests.webui.sim import running as simulated


def configure(cwd: Path, url: str, **more: str) -> None:
    """A spool whose WebUI is external, at this address. `more`: of its config."""
    make_spool(cwd)
    config = json.loads((cwd / "sdwatch.yaml").read_text())
    config["webuis"] = {"mine": {"url": url, **more}}
    (cwd / "sdwatch.yaml").write_text(json.dumps(config))


def test_the_picture_its_kind_and_its_version_are_printed(tmp_path: Path) -> None:
    with simulated(tmp_path) as sim:
        configure(tmp_path, sim.url("").rstrip("/"))
        told = sdwatch(tmp_path, "canary")
    assert told.returncode == ExitCode.OK, told.stdout + told.stderr
    (picture,) = tmp_path.glob("canary-mine-*.png")
    assert told.stdout.splitlines()[-1].strip() == str(picture)
    assert "mine: healthy: Forge f2.0.1v1.10.1" in told.stdout


def test_a_webui_that_does_not_answer_is_reported_with_how_to_start_it(tmp_path: Path) -> None:
    make_spool(tmp_path)
    told = sdwatch(tmp_path, "canary", "simulator")
    assert told.returncode == ExitCode.ERROR
    assert "is not ready: " in told.stdout
    assert "start it with `sdwatch run`" in told.stdout
    assert not list(tmp_path.glob("canary-*"))
    assert sdwatch(tmp_path, "canary", "other").returncode == ExitCode.NOT_FOUND


def test_what_is_wrong_with_its_reply_is_explained(tmp_path: Path) -> None:
    body = {"error": "OutOfMemoryError", "detail": "", "body": "", "message": "CUDA out of memory."}
    with recorded("forge", {"txt2img": (500, json.dumps(body).encode())}) as server:
        configure(tmp_path, server.url)
        told = sdwatch(tmp_path, "canary")
    assert told.returncode == ExitCode.ERROR
    _, _, failed, advice = told.stdout.splitlines()
    assert failed.startswith("mine: ")
    assert "memory" in failed
    assert "the WebUI answered 500" in failed
    assert advice.startswith("  ")
    assert "webui_tail.log" not in advice


BUSY = "mine: the WebUI is still busy; waiting for its current call to finish (Ctrl-C to cancel)"


def test_what_the_webui_prints_after_its_reply_explains_it(tmp_path: Path) -> None:
    plan = '[{"fault": "assertion-500", "when": {"prompt": "canary"}, "delay": 0.3}]'
    with simulated(tmp_path, plan=plan) as sim:
        configure(tmp_path, sim.url("").rstrip("/"), log_file=str(sim.log))
        told = sdwatch(tmp_path, "canary")
    assert told.returncode == ExitCode.ERROR
    assert "AssertionError, raised in <webui>/modules/processing.py, line 1" in told.stdout
    assert "  | AssertionError\n" in told.stdout


def busy(server: RecordedWebUI) -> tuple[int, bytes]:
    """Another step each time that it is asked, and idle in the end."""
    job = "scripts_txt2img" if len(server.asked) < 8 else ""
    state = {"job": job, "job_count": 1, "sampling_step": len(server.asked)}
    return 200, json.dumps({"progress": 0.5, "state": state}).encode()


def test_the_canary_waits_while_it_generates_for_somebody_and_says_so(tmp_path: Path) -> None:
    with recorded("forge", {"progress": busy}) as server:
        configure(tmp_path, server.url)
        told = sdwatch(tmp_path, "canary")
    assert told.returncode == ExitCode.OK, told.stdout + told.stderr
    assert told.stdout.startswith(f"mine: checking {server.url}\n{BUSY}\n  no job of this spool ")
    assert "mine: healthy: " in told.stdout
    assert len(server.posts) == 1


def test_the_canary_waits_for_the_call_of_a_job_and_says_which_job(tmp_path: Path) -> None:
    make_spool(tmp_path, "--step-time", str(4 * PATIENCE))
    with running(tmp_path):
        drop(tmp_path, "castle.yaml")  # two steps: longer than a command takes to start
        run = wait_until(lambda: calling(tmp_path), 60, "a call is under way")
        told = sdwatch(tmp_path, "canary")
        assert told.returncode == ExitCode.OK, told.stdout + told.stderr
        lines = told.stdout.splitlines()
        assert lines[1] == BUSY.replace("mine", "simulator")
        where = "stage 1 of 1 (txt2img), call 1 of 1"
        assert lines[2] == f"  it works on castle.yaml ({where})  [{run['run_id']}]"
        assert "simulator: healthy: " in told.stdout
        assert list(tmp_path.glob("done/*/run.json")), "the call was waited for"


def test_the_canary_waits_for_a_restart_and_the_retry_and_says_so(tmp_path: Path) -> None:
    make_spool(tmp_path, "--step-time", str(4 * PATIENCE), cooldown=[5])
    with running(tmp_path):
        drop(tmp_path, "castle.yaml")
        wait_until(lambda: calling(tmp_path), 60, "a call is under way")
        out = tmp_path / "canary.out"
        words = ("-m", "sdwatch", "canary")
        canary = warm.begin(*words, out=out, cwd=tmp_path, env=dict(os.environ))
        wait_until(lambda: "still busy" in out.read_text(), 60, "it waits")
        identity = tmp_path / "state" / "webui-simulator" / "identity.json"
        psutil.Process(json.loads(identity.read_text())["pid"]).kill()
        assert canary.wait(100) == ExitCode.OK, out.read_text()
        assert list(tmp_path.glob("done/*/run.json")), "the retry was waited for"
    told = out.read_text()
    assert "  it is being restarted: cooling down\n" in told
    assert told.index("it is being restarted") < told.index("simulator: healthy: ")


def calling(cwd: Path) -> dict[str, Any] | None:
    """The run whose call is under way."""
    return next((run for run in heartbeat(cwd).get("runs", []) if run["calling"]), None)


def test_one_whose_last_upscale_failed_is_not_busy(tmp_path: Path) -> None:
    state = b'{"progress": 0.01, "state": {"job": "Upscale", "job_count": 1}}'
    with recorded("forge", {"progress": (200, state)}) as server:
        configure(tmp_path, server.url)
        told = sdwatch(tmp_path, "canary")
    assert told.returncode == ExitCode.OK, told.stdout
    assert len(server.posts) == 1


def test_a_server_with_few_routes_generates_it_too(tmp_path: Path) -> None:
    with recorded("sdcpp") as server:
        configure(tmp_path, server.url)
        told = sdwatch(tmp_path, "canary")
    assert told.returncode == ExitCode.OK, told.stdout
    assert "healthy: stable-diffusion.cpp, " in told.stdout


def test_an_undecodable_picture_is_reported() -> None:
    data = picture(size=(SIDE, SIDE))
    assert flaw_in(data) == ""
    at = data.index(b"IDAT")
    length = int.from_bytes(data[at - 4 : at], "big")
    body = b"IDAT" + bytes(length)
    checked = data[:at] + body + zlib.crc32(body).to_bytes(4, "big") + data[at + 8 + length :]
    for broken in (checked, data[:-20], b"", b"GIF89a"):
        assert flaw_in(broken) == "as a file that is not a picture"

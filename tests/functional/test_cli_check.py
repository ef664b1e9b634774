from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from sdwatch.cli.shared.exit_codes import ExitCode
from tests.functional.cli import make_spool, sdwatch
from tests.support.fakes import picture
from tests.support.helpers import free_port
from tests.webui.recorded_webui import recorded
from tests.webui.sim import running


def test_every_mistake_is_reported_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "job.yml").write_text("prompt: a castle\n")
    (tmp_path / "bad.yaml").write_text("prompt: a castle\nstepz: 3\nwidth: wide\n")
    told = sdwatch(tmp_path, "check", "bad.yaml", "none.yaml")
    assert told.returncode == ExitCode.BAD_JOB
    assert "bad.yaml:2:1: " in told.stdout
    assert "bad.yaml:3:8: " in told.stdout
    assert "none.yaml: cannot be read: " in told.stdout
    assert told.stdout.splitlines()[-1] == "2 checked, 2 with mistakes"


def test_a_warning_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "tag.yaml").write_text("prompt: 1girl, #tag\n")
    told = sdwatch(tmp_path, "check", "tag.yaml")
    assert told.returncode == ExitCode.OK
    assert "tag.yaml:1:" in told.stdout
    assert ": warning: " in told.stdout


def test_a_job_that_would_wait_for_a_time_says_until_when(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("prompt: x\nnot_before: 2450-01-01 09:30\n", encoding="utf-8")
    (tmp_path / "b.yaml").write_text("prompt: x\nnot_before: 2001-01-01\n", encoding="utf-8")
    told = sdwatch(tmp_path, "check", "a.yaml", "b.yaml")
    assert told.returncode == ExitCode.OK
    assert "a.yaml: waits until 2450-01-01 09:30: not_before" in told.stdout
    assert "b.yaml" not in told.stdout


def test_the_job_of_a_folder_is_checked_with_its_images(tmp_path: Path) -> None:
    folder = tmp_path / "sketch"
    folder.mkdir()
    (folder / "job.yaml").write_text("stages:\n  - img2img:\n      init_images: castle.png\n")
    assert sdwatch(folder, "check", "job.yaml").returncode == ExitCode.BAD_JOB
    (folder / "castle.png").write_bytes(picture())
    assert sdwatch(folder, "check", "job.yaml").returncode == ExitCode.OK
    assert sdwatch(tmp_path, "check", "sketch").returncode == ExitCode.OK


def test_a_job_may_do_what_the_config_allows(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("prompt: a\noverride_settings: {samples_save: false}\n")
    told = sdwatch(tmp_path, "check", "job.yaml")
    assert told.returncode == ExitCode.BAD_JOB
    assert "job.yaml:2:21: " in told.stdout
    make_spool(tmp_path, allow=["samples_save"])
    assert sdwatch(tmp_path, "check", "job.yaml").returncode == ExitCode.OK
    assert sdwatch(tmp_path, "submit", "job.yaml").returncode == ExitCode.OK


def test_a_config_whose_webui_is_not_there_has_a_mistake_with_its_place(tmp_path: Path) -> None:
    sdwatch(tmp_path, "init", ".", "--webui", "forge")
    file = tmp_path / "sdwatch.yaml"
    text = file.read_text(encoding="utf-8").replace("cwd: ", "cwd: no-such/")
    file.write_text(text, encoding="utf-8")
    told = sdwatch(tmp_path, "check")
    assert told.returncode == ExitCode.BAD_CONFIG
    line = 1 + next(n for n, line in enumerate(text.splitlines()) if "cwd: " in line)
    assert f"sdwatch.yaml:{line}:10: webuis.forge: the folder {tmp_path}" in told.stderr
    assert "no mistakes" not in told.stdout


@pytest.mark.posix_only("the install that is made has links")
def test_a_config_whose_webui_will_start_has_no_mistakes(tmp_path: Path) -> None:
    webui = tmp_path / "webui"
    (webui / "modules").mkdir(parents=True)
    (webui / "launch.py").write_text("")
    (webui / "venv/bin").mkdir(parents=True)
    (webui / "venv/bin/python").symlink_to(sys.executable)
    (tmp_path / "sdwatch.yaml").write_text(
        "spool: .\nstate: state\nwebuis:\n  forge:\n    url: http://127.0.0.1:7861\n"
        "    cwd: webui\n"
        "    command: venv/bin/python -u launch.py --api --port {port} --ckpt-dir gone\n"
    )
    told = sdwatch(tmp_path, "check")
    assert told.returncode == ExitCode.OK
    assert "no mistakes" in told.stdout
    assert "sdwatch.yaml:7:14: warning: webuis.forge: --ckpt-dir: there is no folder" in told.stderr
    assert "listens" not in told.stderr


def test_a_webui_that_would_listen_on_all_interfaces_is_warned_of(tmp_path: Path) -> None:
    sdwatch(tmp_path, "init", ".", "--webui", "forge")
    text = (tmp_path / "sdwatch.yaml").read_text(encoding="utf-8")
    assert "--server-name, 127.0.0.1, " in text
    text = text.replace("--server-name, 127.0.0.1, ", "")
    text = re.sub(r"cwd: \S+", lambda _: f"cwd: {tmp_path}", text)
    (tmp_path / "sdwatch.yaml").write_text(text, encoding="utf-8")
    told = sdwatch(tmp_path, "check")
    assert told.returncode == ExitCode.BAD_CONFIG  # there is no Forge here
    assert "webuis.forge: --nowebui without --server-name listens on all interfaces" in told.stderr
    assert "add --server-name 127.0.0.1 to the command" in told.stderr


def test_jobs_are_held_against_a_running_webui(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text("prompt: a\nsampler_name: Euler\nstyles: [one]\n")
    (tmp_path / "bad.yaml").write_text("prompt: a\nsampler_name: Eulr\nwidth: 65\n")
    with recorded("a1111", {"prompt-styles": (500, b"")}) as server:
        told = sdwatch(tmp_path, "check", "--against", server.url, "good.yaml", "bad.yaml")
        assert server.posts == []
    assert told.returncode == ExitCode.BAD_JOB
    assert told.stdout.splitlines() == [
        f"{server.url}: AUTOMATIC1111",
        'bad.yaml:2:15: this WebUI (AUTOMATIC1111) has no sampler "Eulr"; did you mean "Euler"?',
        "bad.yaml:3:8: width must be a multiple of 8, not 65; the WebUI would silently use 64",
        "prompt-styles: not checked: this WebUI (AUTOMATIC1111): it answered 500",
        "2 checked, 1 with mistakes",
    ]


def test_an_upscale_of_an_image_beside_the_job_is_held_against_the_bound(tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    (tmp_path / "big" / "a.png").write_bytes(picture())
    (tmp_path / "big" / "job.yaml").write_text(
        "stages:\n  - upscale: {image: a.png, upscaler_1: Lanczos, upscaling_resize: 1000}\n"
    )
    with recorded("forge") as server:
        told = sdwatch(tmp_path, "check", "--against", server.url, "big/job.yaml")
    assert told.returncode == ExitCode.BAD_JOB
    assert "job.yaml:2:68: 64000x64000 has 4096 megapixels; max_generation in " in told.stdout


def test_a_webui_that_is_not_there_is_reported(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("prompt: a\n")
    url = f"http://127.0.0.1:{free_port()}"
    told = sdwatch(tmp_path, "check", "--against", url, "job.yaml")
    assert told.returncode == ExitCode.ERROR
    assert f"{url} is not ready: " in told.stderr
    told = sdwatch(tmp_path, "check", "--against", "localhost", "job.yaml")
    assert told.returncode == ExitCode.ERROR
    assert "must be http://HOST:PORT" in told.stderr
    assert sdwatch(tmp_path, "check", "--against", url).returncode == ExitCode.USAGE


def test_the_user_name_is_that_of_the_config(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("prompt: a\n")
    with running(tmp_path, "--auth", "me:secret") as sim:
        url = sim.url("").rstrip("/")
        told = sdwatch(tmp_path, "check", "--against", url, "job.yaml")
        assert told.returncode == ExitCode.ERROR
        assert "set `username` and `password` in the config" in told.stderr
        make_spool(tmp_path)
        config = json.loads((tmp_path / "sdwatch.yaml").read_text())
        config["webuis"] = {"mine": {"url": url, "username": "me", "password": "secret"}}
        (tmp_path / "sdwatch.yaml").write_text(json.dumps(config))
        told = sdwatch(tmp_path, "check", "--against", url, "job.yaml")
        assert told.returncode == ExitCode.OK, told.stdout + told.stderr


def test_the_calls_of_several_stages_are_shown_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "graph.yaml").write_text(
        "keep: last\nstages:\n- txt2img: {id: base, prompt: x, n_iter: 2}\n"
        "- img2img: {id: day, input: base, prompt: d}\n- upscale: {input: base}\n"
        "- img2img: {input: day, prompt: a, fan_out: off}\n"
    )
    told = sdwatch(tmp_path, "check", "graph.yaml")
    assert told.returncode == ExitCode.OK
    assert told.stdout.splitlines()[-7:] == [
        "graph.yaml: calls in order:",
        "  1. base (txt2img): 2 calls",
        "  2. day (img2img), of each image of base: 2 calls",
        "  3. upscale, of each image of base: 2 calls",
        "  4. img2img, of all images of day: 1 call",
        "  kept: the pictures of stages 3, 4",
        "1 checked, 0 with mistakes",
    ]


def test_a_job_with_many_points_is_counted_and_timed_from_the_history(tmp_path: Path) -> None:
    numbers = ", ".join(map(str, range(1, 101)))
    text = f"prompt: a ${{a}}\nmatrix: {{a: [{numbers}], steps: [{numbers}]}}\n"
    (tmp_path / "grid.yaml").write_text(text)
    told = sdwatch(tmp_path, "check", "grid.yaml")
    assert told.stdout.splitlines()[0] == "grid.yaml: 10,000 points, 10,000 pictures"
    spool = make_spool(tmp_path)
    run = spool / "done" / "20260921-000000.000-job-ab12"
    run.mkdir(parents=True)
    record = {"event": "call_finished", "call": "1.1", "seconds": 9.0}
    (run / "journal.jsonl").write_text(json.dumps(record) + "\n")
    told = sdwatch(tmp_path, "check", "grid.yaml")
    assert told.stdout.splitlines()[0] == (
        "grid.yaml: 10,000 points, 10,000 pictures, about 25 h 00 min from the history of this "
        "machine"
    )
    assert told.returncode == ExitCode.OK


def test_a_mistake_in_defaults_is_named_with_the_whole_path(tmp_path: Path) -> None:
    spool = make_spool(tmp_path)
    defaults = spool / "inbox" / "_defaults.yaml"
    defaults.parent.mkdir(parents=True, exist_ok=True)
    defaults.write_text("steps: many\n")
    (tmp_path / "x.yaml").write_text("prompt: x\n")
    told = sdwatch(tmp_path, "check", "x.yaml")
    assert told.returncode == ExitCode.BAD_JOB
    assert told.stdout.startswith(f"{defaults}:1:8: steps must be a whole number")


def test_a_folder_of_wildcards_that_is_not_there_is_a_warning(tmp_path: Path) -> None:
    make_spool(tmp_path, wildcards="no-such")
    told = sdwatch(tmp_path, "check")
    assert told.returncode == ExitCode.OK
    assert "warning: wildcards: there is no folder" in told.stderr

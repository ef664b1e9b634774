"""The commands with a ComfyUI."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.config_file import load_config
from sdwatch.system.resources import config_folder
from tests.functional.cli import make_spool, sdwatch
from tests.integration.test_comfyui import CHECKPOINT, comfyui, job
from tests.webui.comfy import comfyui as simulated


def test_the_canary_of_a_comfyui_needs_no_model(tmp_path: Path) -> None:
    with simulated(tmp_path / "sim", "--no-model") as found:
        make_spool(tmp_path)
        config = json.loads((tmp_path / "sdwatch.yaml").read_text())
        config["webuis"] = {"mine": {"url": found.url("").rstrip("/")}}
        (tmp_path / "sdwatch.yaml").write_text(json.dumps(config))
        told = sdwatch(tmp_path, "canary")
    assert told.returncode == ExitCode.OK, told.stdout + told.stderr
    assert "mine: healthy: ComfyUI 0.33.0" in told.stdout
    assert "mine: sent; the picture needs no checkpoint\n" in told.stdout
    assert len(list(tmp_path.glob("canary-mine-*.png"))) == 1


def test_a_job_is_checked_against_a_comfyui_line_by_line(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(
        f"prompt: a <lora:x:1>\nsampler_name: Eulr\nenable_hr: true\n{CHECKPOINT}\n",
        encoding="utf-8",
    )
    good = tmp_path / "good.yaml"
    good.write_text(job(sampler_name="DPM++ 2M Karras"), encoding="utf-8")
    with simulated(tmp_path / "sim") as found:
        told = sdwatch(tmp_path, "check", "--against", found.url("").rstrip("/"), bad, good)
    assert told.returncode == ExitCode.BAD_JOB
    text = told.stdout + told.stderr
    for place in ("bad.yaml:1:", "bad.yaml:2:", "bad.yaml:3:"):
        assert place in text, text
    assert 'did you mean "Euler"' in text
    assert "good.yaml:" not in text.replace("good.yaml: ok", "")


def replayed(root: Path, times: str) -> subprocess.CompletedProcess[str]:
    """What `replay` says of a call whose node fails so many `times`."""
    plan = f"- {{fault: structured-500, when: {{prompt: castle}}, times: {times}}}\n"
    with comfyui(root, faults=plan) as spool:
        spool.drop("castle.yaml", job())
        spool.start()
        spool.wait_for(failed=1)
        told = sdwatch(root, "replay", "--config", spool.config_file, spool.failed()[0].name)
        spool.stop()
    return told


def test_a_failed_call_is_sent_again_by_hand(tmp_path: Path) -> None:
    told = replayed(tmp_path, "2")
    assert told.returncode == ExitCode.OK, told.stdout + told.stderr
    assert len(list(tmp_path.glob("replay-*.png"))) == 1


def test_a_node_that_fails_again_by_hand_is_an_answer(tmp_path: Path) -> None:
    told = replayed(tmp_path, "always")
    assert told.returncode == ExitCode.ERROR, told.stdout + told.stderr
    assert "failed (WebUIServerError) after " in told.stdout
    assert "no answer" not in told.stdout


def test_init_says_how_a_comfyui_gets_its_venv(tmp_path: Path) -> None:
    for name in ("main.py", "nodes.py", "comfy/cli_args.py"):
        (tmp_path / "ComfyUI" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "ComfyUI" / name).touch()
    told = sdwatch(tmp_path, "init", "mine", "--from", tmp_path / "ComfyUI")
    assert told.returncode == ExitCode.OK, told.stdout + told.stderr
    assert "It has no venv yet: make it by hand, in ComfyUI's folder" in told.stdout
    assert "webui.sh" not in told.stdout


@pytest.mark.parametrize("named", ["ComfyUI", "."])
def test_init_finds_a_comfyui_by_its_files(tmp_path: Path, named: str) -> None:
    """As the portable build has it, with its Python beside it."""
    package = tmp_path / "ComfyUI_windows_portable"
    (package / "ComfyUI" / "comfy").mkdir(parents=True)
    for name in ("main.py", "nodes.py", "comfy/cli_args.py"):
        (package / "ComfyUI" / name).touch()
    told = sdwatch(tmp_path, "init", "mine", "--from", package / named)
    assert told.returncode == ExitCode.OK, told.stdout + told.stderr
    (webui,) = load_config(tmp_path / "mine" / "sdwatch.yaml").webuis
    assert webui.cwd == package / "ComfyUI"
    assert webui.command is not None
    assert "main.py" in webui.command


def test_the_config_for_two_gpus_gives_each_its_own_port_and_device() -> None:
    first, second = load_config(config_folder() / "comfyui-two-gpus.yaml").webuis
    assert first.port != second.port
    assert first.command is not None
    assert second.command is not None
    assert first.command[first.command.index("--cuda-device") + 1] == "0"
    assert second.command[second.command.index("--cuda-device") + 1] == "1"
    assert {"--database-url", "--temp-directory"} <= set(second.command)

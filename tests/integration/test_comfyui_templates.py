"""Templates of workflows on a lane over ComfyUI, and the other files that these save."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from sdwatch.system.resources import config_folder
from tests.functional.cli import sdwatch
from tests.integration.test_comfyui import ask, comfyui, manifest, output, runs_now
from tests.support.helpers import wait_until
from tests.support.monitored import Monitored, journal

FLUX = config_folder() / "comfyui-templates" / "flux-dev.txt2img.json"
SIMULATED = {
    "flux1-dev.safetensors": "simulated-flux.safetensors",
    "t5xxl_fp16.safetensors": "simulated-t5.safetensors",
    "clip_l.safetensors": "simulated-clip.safetensors",
    "ae.safetensors": "simulated-vae.safetensors",
}
JOB = """\
prompt: a castle
steps: 3
width: 64
height: 64
seed: 5
override_settings: {sd_model_checkpoint: flux-dev}
"""
OTHERS: dict[str, Any] = {
    "moving": {"class_type": "SaveAnimatedWEBP", "inputs": {
        "images": ["decode", 0], "filename_prefix": "x", "fps": 8.0, "lossless": True,
        "quality": 80, "method": "default"}},
    "video": {"class_type": "CreateVideo", "inputs": {"images": ["decode", 0], "fps": 8.0}},
    "film": {"class_type": "SaveVideo", "inputs": {
        "video": ["video", 0], "filename_prefix": "x", "format": "auto"}},
    "silence": {"class_type": "EmptyAudio", "inputs": {
        "duration": 0.5, "sample_rate": 8000, "channels": 2}},
    "sound": {"class_type": "SaveAudio", "inputs": {
        "audio": ["silence", 0], "filename_prefix": "x"}},
    "latent": {"class_type": "SaveLatent", "inputs": {
        "samples": ["sampler", 0], "filename_prefix": "x"}},
    "text": {"class_type": "PreviewAny", "inputs": {"source": ["positive", 0]}},
}  # fmt: skip


def template(**more: Any) -> str:
    """The shipped template, with the files that the simulator has."""
    text = FLUX.read_text(encoding="utf-8")
    for name, simulated in SIMULATED.items():
        assert name in text
        text = text.replace(name, simulated)
    return json.dumps({**json.loads(text), **more}, indent=2)


@contextmanager
def flux(root: Path, text: str, *flags: str, **more: Any) -> Iterator[Monitored]:
    folder = root / "templates"
    folder.mkdir()
    (folder / FLUX.name).write_text(text, encoding="utf-8")
    webui = {"templates": str(folder), **more.pop("webui", {})}
    with comfyui(root, *flags, webui=webui, **more) as spool:
        yield spool


def test_a_job_for_flux_runs_by_the_shipped_template(tmp_path: Path) -> None:
    with flux(tmp_path, template()) as spool:
        spool.drop("castle.yaml", JOB)
        spool.start(once=True)
        spool.ended()
        assert (len(spool.done()), spool.failed()) == (1, []), spool.told
        (run,) = spool.done()
        (call,) = manifest(run)["calls"]
        assert [(i["width"], i["height"]) for i in call["images"]] == [(64, 64)]
        assert "other_files" not in call
        (finished,) = journal(run, "call_finished")
        assert finished["model"] == "flux-dev"
        assert finished["used"]["steps"] == 3
        assert finished["used"]["seeds"] == [5]


def page(spool: Monitored) -> str:
    return (spool.spool / "status.html").read_text(encoding="utf-8")


def test_what_else_a_workflow_saves_is_kept_by_its_content(tmp_path: Path) -> None:
    settings = {"outputs": {"folder": str(tmp_path / "gallery"), "name": "{name}-{number}"}}
    (tmp_path / "gallery").mkdir()
    with flux(tmp_path, template(**OTHERS), settings=settings) as spool:
        spool.drop("castle.yaml", JOB.replace("seed: 5", "seed: 5\nbatch_size: 2"))
        spool.start()
        spool.wait_for(done=1)
        run_id = spool.done()[0].name
        told = sdwatch(tmp_path, "replay", "--config", spool.config_file, run_id, "--call", "1.1")
        wait_until(lambda: run_id in page(spool), 60, "the page has it")
        spool.stop()
        assert (len(spool.done()), spool.failed()) == (1, []), spool.told
        (run,) = spool.done()
        (call,) = manifest(run)["calls"]
        assert len(call["images"]) == 2
        endings = [Path(file["name"]).suffix for file in call["other_files"]]
        assert endings == [".webp", ".mp4", ".flac", ".latent", ".txt"]
        for number, file in enumerate(call["other_files"], 1):
            data = (run / "files" / file["name"]).read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (file["size"], file["sha256"])
            assert file["name"].startswith(call["images"][0]["name"].rpartition("-01")[0])
            assert f"-file{number:02d}." in file["name"]
        assert {path.name for path in (run / "files").iterdir()} == {
            file["name"] for file in call["other_files"]
        }
        assert told.returncode == 0, told.stdout + told.stderr
        saved = {path.suffix for path in tmp_path.glob(f"replay-{run_id}-*-file*")}
        assert saved == set(endings)
        for file in call["other_files"][:4]:
            assert f'href="done/{run_id}/files/{file["name"]}"' in page(spool)
        suffixes = sorted(path.suffix for path in (tmp_path / "gallery").iterdir())
        assert suffixes == sorted([".png", ".png", *endings])


def test_a_file_that_somebody_removed_fails_the_run_that_resumes(tmp_path: Path) -> None:
    """As an image would: a finished call is not made again."""
    plan = "- {fault: slow-steps, when: {prompt: night}, times: once, factor: 500}\n"
    two = "stages:\n" + "".join(
        f"- txt2img: {{prompt: a castle{which}, width: 64, height: 64, steps: 3, "
        "override_settings: {sd_model_checkpoint: flux-dev}}\n"
        for which in ("", " at night")
    )
    with flux(tmp_path, template(**OTHERS), faults=plan) as spool:
        spool.drop("castle.yaml", two)
        spool.start_process()
        wait_until(lambda: spool.working() and spool.stats()["posts"] == 2, 60, "the second call")
        spool.kill()
        (run,) = spool.working()
        next((run / "files").glob("*.mp4")).unlink()
        psutil.Process(spool.webui_pid()).kill()
        spool.start(once=True)
        spool.ended()
        (failed,) = spool.failed()
        assert ".mp4" in (failed / "WHY.txt").read_text(encoding="utf-8")


def test_pictures_of_a_template_that_were_saved_before_both_died_are_taken(tmp_path: Path) -> None:
    plan = "- {fault: slow-steps, when: {prompt: castle}, times: once, factor: 150}\n"
    with flux(tmp_path, template(), faults=plan) as spool:
        spool.drop("castle.yaml", JOB)
        spool.start_process()
        wait_until(lambda: spool.lane().get("state") == "ready", 60, "it is ready")
        wait_until(lambda: runs_now(spool), 60, "a prompt runs")
        prompt_id = runs_now(spool)[0]
        spool.kill()
        wait_until(lambda: prompt_id in ask(spool, f"history/{prompt_id}"), 60, "its end")
        psutil.Process(spool.webui_pid()).kill()
        spool.start(once=True)
        spool.ended()
        assert len(spool.done()) == 1, spool.told
        assert [folder.name for folder in output(tmp_path).iterdir()] == [prompt_id]


@pytest.mark.parametrize(
    ("change", "to", "why"),
    [
        ('"{steps:20}"', '"{stepps:20}"', "flux-dev.txt2img.json:"),
        ("simulated-vae", "no-such-vae", "no-such-vae.safetensors"),
        ('"{height:1024}"', "1024", "no {height}"),
    ],
)
def test_a_job_whose_template_does_not_fit_fails_before_anything_is_sent(
    tmp_path: Path, change: str, to: str, why: str
) -> None:
    text = template()
    assert change in text
    with flux(tmp_path, text.replace(change, to)) as spool:
        spool.drop("castle.yaml", JOB)
        spool.start(once=True)
        spool.ended()
        (run,) = spool.failed()
        assert why in (run / "WHY.txt").read_text(encoding="utf-8")
        assert spool.stats()["posts"] == 0


def test_an_edited_template_counts_for_the_next_call(tmp_path: Path) -> None:
    text, file = template(), tmp_path / "templates" / FLUX.name
    with flux(tmp_path, text.replace("simulated-vae", "no-such-vae")) as spool:
        spool.drop("first.yaml", JOB)
        spool.start()
        wait_until(spool.failed, 60, "it lacks the VAE")
        file.write_text(text, encoding="utf-8")
        spool.drop("second.yaml", JOB)
        wait_until(spool.done, 60, "a template that was fixed")
        file.write_text(text.replace("{cfg_scale:3.5}", "{cfg_scale:2.5}"), encoding="utf-8")
        spool.drop("third.yaml", JOB)
        wait_until(lambda: len(spool.done()) == 2, 60, "one more picture")
        last = max(spool.done())
        (picture,) = (last / "images").iterdir()
        prompt = json.loads(Image.open(picture).info["prompt"])
        assert prompt["guidance"]["inputs"]["guidance"] == 2.5


def test_the_self_test_runs_the_template_of_the_last_good_call(tmp_path: Path) -> None:
    """After the canary without a model: the last good workflow, in two steps."""
    plan = "- {fault: structured-500, when: {prompt: cursed}, times: always}\n"
    with flux(tmp_path, template(), faults=plan) as spool:
        spool.drop("castle.yaml", JOB)
        spool.start()
        spool.wait_for(done=1)
        spool.drop("cursed.yaml", JOB.replace("a castle", "a cursed castle"))
        spool.wait_for(done=1, failed=1, timeout=120)
        ran = [entry["prompt"][2] for entry in ask(spool, "history").values()]
        spool.stop()
        canaries = [p for p in ran if "EmptyImage" in {n["class_type"] for n in p.values()}]
        assert {"ImageBlur", "PreviewImage"} <= {n["class_type"] for n in canaries[-1].values()}
        (last,) = [p for p in ran if p.get("sampler", {}).get("inputs", {}).get("steps") == 2]
        assert last["model"]["class_type"] == "UNETLoader"
        assert "sdwatch canary" in last["positive"]["inputs"]["text"]
        assert spool.stats()["starts"] == 2, "one restart for the retry, none for the self-test"

"""What a lane does for a ComfyUI beside its calls: its GPU is freed, its disk is full, its page and
its bundle show it."""

from __future__ import annotations

import io
import json
from pathlib import Path

from PIL import Image

from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.spool import commands
from sdwatch.spool.folders import Spool
from tests.functional.cli import sdwatch
from tests.integration.test_comfyui import comfyui, job, output
from tests.support.helpers import wait_until
from tests.support.monitored import Monitored, journal


def loads(spool: Monitored) -> int:
    """How often a model was moved to the device, by the log."""
    logs = spool.state.glob("webui-sim/*.log")
    return sum(log.read_text(encoding="utf-8").count("Requested to load") for log in logs)


def test_a_hold_frees_its_gpu_and_the_next_job_loads_the_model_again(tmp_path: Path) -> None:
    """POST /free, and ComfyUI loads with the next prompt, without a restart."""
    with comfyui(tmp_path) as spool:
        spool.drop("first.yaml", job())
        spool.start()
        spool.wait_for(done=1)
        assert loads(spool) == 1
        commands.hold(Spool(spool.spool, "none"), free=True)
        wait_until(
            lambda: spool.lane().get("gpu") == "its checkpoint is unloaded", 60, "it is unloaded"
        )
        spool.drop("second.yaml", job(seed=6))
        spool.two_more_beats()
        commands.resume(Spool(spool.spool, "none"))
        spool.wait_for(done=2)
        spool.stop()
        assert loads(spool) == 2, "an unloaded model had to be loaded again"
        assert not any(journal(run, "call_failed") for run in spool.done())
        assert spool.stats()["starts"] == 1


def test_a_picture_that_a_full_disk_cut_off_is_no_result(tmp_path: Path) -> None:
    """It lies there under its final name, and the next attempt has a folder of its own."""
    plan = "- {fault: disk-full, when: {prompt: castle}, times: once}\n"
    with comfyui(tmp_path, faults=plan) as spool:
        spool.drop("castle.yaml", job())
        spool.start()
        note = spool.spool / "HOLD-sim.txt"
        wait_until(lambda: note.exists() or spool.done(), 60, "the hold")
        spool.wait_for(done=1, timeout=120)
        spool.stop()
        (run,) = spool.done()
        (failed,) = journal(run, "call_failed")
        assert failed["diagnosis"] == "storage"
        (image,) = (run / "images").iterdir()
        Image.open(io.BytesIO(image.read_bytes())).load()
        broken = [path for path in output(tmp_path).rglob("*.png") if not _is_whole(path)]
        assert len(broken) == 1, "ComfyUI left it there"
        assert image.read_bytes() != broken[0].read_bytes()


def _is_whole(path: Path) -> bool:
    try:
        Image.open(io.BytesIO(path.read_bytes())).load()
    except OSError:
        return False
    return True


def test_the_page_the_messages_and_a_bundle_show_a_comfyui_without_prompts(tmp_path: Path) -> None:
    plan = "- {fault: structured-500, when: {prompt: Xanadu}, times: always}\n"
    with comfyui(tmp_path, faults=plan) as spool:
        spool.drop("castle.yaml", job("the castle of Xanadu", negative_prompt="Ozymandias"))
        spool.start()
        spool.wait_for(failed=1)
        spool.two_more_beats()
        status = json.dumps(spool.status())
        page = (spool.spool / "status.html").read_text(encoding="utf-8")
        (run,) = spool.failed()
        told = sdwatch(tmp_path, "bundle", "--config", spool.config_file, run.name)
        doctor = sdwatch(tmp_path, "doctor", "--config", spool.config_file)
        spool.stop()
    assert told.returncode == ExitCode.OK, told.stdout + told.stderr
    assert "comfyui" in status.lower()
    assert run.name in page
    for text in (status, page, told.stdout, doctor.stdout + doctor.stderr):
        assert "Xanadu" not in text
        assert "Ozymandias" not in text
    assert "ComfyUI 0.33.0" in doctor.stdout, doctor.stdout + doctor.stderr

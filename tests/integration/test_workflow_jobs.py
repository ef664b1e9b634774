"""Jobs with a workflow of their own, through the real monitor, on a simulated ComfyUI."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from tests.integration.test_comfyui import comfyui, manifest
from tests.monitored import Monitored
from tests.webui.comfy import txt2img

FILE = "portrait.json"


def titled(prompt: dict[str, Any], **titles: str) -> dict[str, Any]:
    """A prompt whose nodes have titles, as the editor exports them; `n6="Positive"`."""
    found = json.loads(json.dumps(prompt))
    for id, title in titles.items():
        found[id.removeprefix("n")]["_meta"] = {"title": title}
    return dict(found)


PORTRAIT = titled(txt2img(steps=2, seed=5), n6="Positive", n7="Negative", n9="Result")


def drop(
    spool: Monitored,
    job: str,
    workflow: Mapping[str, Any] = PORTRAIT,
    name: str = "portrait",
    **files: bytes,
) -> None:
    """Drop a job folder with a workflow; `files`: `a_png=…` is a.png."""
    folder = spool.root / name
    folder.mkdir()
    (folder / FILE).write_text(json.dumps(workflow, indent=2), encoding="utf-8")
    for file, data in files.items():
        (folder / file.replace("_", ".")).write_bytes(data)
    (folder / "job.yaml").write_text(job, encoding="utf-8")
    folder.rename(spool.inbox / name)


def picture(color: int, size: int = 64) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((size, size), 40).convert("RGB").point(lambda n: (n + color) % 256).save(
        file, "PNG"
    )
    return file.getvalue()


def images(run: Path) -> list[Path]:
    return sorted((run / "images").iterdir())


def sent(image: Path) -> dict[str, Any]:
    """The workflow that ComfyUI wrote into a picture."""
    with Image.open(image) as opened:
        found: dict[str, Any] = json.loads(opened.info["prompt"])
        return found


def test_a_workflow_runs_with_what_the_job_sets(tmp_path: Path) -> None:
    with comfyui(tmp_path) as spool:
        drop(
            spool,
            "stages:\n  - workflow:\n      file: portrait.json\n"
            "      set: {Positive.text: a lighthouse, '5.width': 128}\n      steps: 3\n"
            "      repeat: 2\n",
        )
        spool.start(once=True)
        spool.ended()
        assert len(spool.done()) == 1, spool.told
        (run,) = spool.done()
        prompts = [sent(image) for image in images(run)]
        assert [p["6"]["inputs"]["text"] for p in prompts] == ["a lighthouse"] * 2
        assert [p["3"]["inputs"]["seed"] for p in prompts] == [5, 6]
        assert [p["3"]["inputs"]["steps"] for p in prompts] == [3, 3]
        assert [Image.open(i).size for i in images(run)] == [(128, 64)] * 2
        assert manifest(run)["job"]["stages"][0]["workflow"]["seed"] == 5

"""Stages as a graph within a matrix, and outputs, through a real monitor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from sdwatch.monitor.once import MonitorEnd
from sdwatch.policy.job.outputs.picture import settings_in
from tests.support.fakes import picture
from tests.support.helpers import wait_until
from tests.support.monitored import journal, monitored

JOB = """\
name: grid
keep: last
matrix: {animal: [cat, owl], steps: [2, 3]}
outputs: {name: "{date}/{name}-{point}-{animal}-{seed}", format: webp}
defaults: {width: 64, height: 64, seed: 5}
stages:
  - txt2img: {id: base, prompt: "a ${animal}", n_iter: 2}
  - img2img: {id: near, input: base, prompt: "near ${animal}", fan_out: off}
  - img2img: {input: "poses/*.png", prompt: "like ${animal}"}
"""


def manifest(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return found


def drop(root: Path, inbox: Path, text: str) -> None:
    folder = root / "grid"
    (folder / "poses").mkdir(parents=True)
    for number in (1, 2):
        (folder / "poses" / f"{number}.png").write_bytes(picture(number))
    (folder / "job.yaml").write_text(text, encoding="utf-8")
    folder.rename(inbox / "grid")


def test_each_point_of_a_matrix_goes_through_the_graph_and_has_its_outputs(tmp_path: Path) -> None:
    with monitored(tmp_path, flags=("--kind", "a1111")) as spool:
        drop(tmp_path, spool.inbox, JOB)
        spool.start(once=True)
        assert spool.ended(180) is MonitorEnd.EMPTY
        (run,) = spool.done()
    finished = [record["call"] for record in journal(run, "call_finished")]
    assert finished[:5] == ["p1.1.1", "p1.1.2", "p1.2.1", "p1.3.1", "p1.3.2"]
    assert len(finished) == 4 * 5
    assert len(list((run / "images").iterdir())) == 4 * 4, "only what no stage works on is kept"
    outputs = sorted((spool.spool / "outputs").rglob("*.*"))
    assert len(outputs) == 4 * 4
    assert {path.suffix for path in outputs} == {".webp"}
    assert "grid-0001-cat-5.webp" in {path.name for path in outputs}
    assert all("Seed: " in settings_in(path.read_bytes()) for path in outputs)
    assert len(manifest(run)["outputs"]["made"]) == 16
    with Image.open(run / "contact_sheet.jpg") as sheet:
        assert sheet.width * sheet.height <= 12_000_000


def test_outputs_that_their_folder_refused_are_made_at_the_next_start(tmp_path: Path) -> None:
    folder = tmp_path / "not mounted"
    outputs = {"folder": str(folder), "name": "{name}"}
    with monitored(tmp_path, settings={"outputs": outputs}) as spool:
        spool.drop("castle.yaml", "prompt: a castle\nsteps: 2\nwidth: 64\nheight: 64\n")
        spool.start()
        spool.wait_for(done=1)
        (run,) = spool.done()
        refused = manifest(run)["outputs"]["refused"]
        assert "make it, or mount its disk" in refused
        assert not folder.exists()
        spool.stop()
        folder.mkdir()
        spool.start()
        made = wait_until(lambda: list(folder.glob("*.png")), 60, "late outputs")
        assert [path.name for path in made] == ["castle.png"]
        wait_until(lambda: "refused" not in manifest(run)["outputs"], 60, "run.json says so")

"""The examples that `init` writes: each runs on the WebUI that they were asked for, as it is."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from sdwatch.cli.check import check_jobs
from sdwatch.cli.checks.find_webuis import InstalledWebUI
from sdwatch.cli.init import EXAMPLES, MORE_EXAMPLES, WEBUIS, add_examples, checkpoint_in
from sdwatch.policy.job.calls.preflight import check_against
from sdwatch.policy.job.stage.confinement import JobRules
from sdwatch.policy.job.when import local
from sdwatch.policy.kinds.table import KINDS
from sdwatch.spool.new_jobs import read_job_at
from sdwatch.system.clock import SystemClock
from tests.facts.catalogues import catalogue
from tests.integration.test_comfyui import comfyui
from tests.integration.test_times_of_jobs import SetClock
from tests.support.monitored import Monitored, journal, monitored
from tests.webui.comfy import MODEL

INSTALLED = {
    "checkpoints": ["sd_xl_base_1.0", "sd_xl_refiner_1.0", "flux1-dev-Q8_0"],
    "modules": ["ae.safetensors", "clip_l.safetensors", "t5xxl_fp16.safetensors"],
    "scripts": ["adetailer", "regional prompter"],
}
"""What the jobs that need more need beside what a fresh Forge has."""

PICTURES = {
    "adetailer": 1,
    "after-out-of-memory": 4,
    "alwayson-script": 1,
    "castle": 1,
    "castle by day and by night": 4,
    "castle in three stages": 6,
    "castles by night": 20,
    "controlnet-poses": 2,
    "flux": 1,
    "hires": 1,
    "lighthouse": 4,
    "matrix": 6,
    "night-window": 10,
    "prompt-list": 3,
    "refiner": 1,
    "regional-prompter": 1,
    "sketch": 1,
    "table": 3,
    "wildcards": 5,
}
"""How many are in the result of each job, by its name."""

NAMED = {
    "a baker, smiling-N.png",
    "a chess player-N.png",
    "an old sailor-N.png",
    "knight-standing.png",
    "knight-waving.png",
    "lighthouse-N-dawn-N.webp",
    "lighthouse-N-night-N.webp",
}
"""The names of their outputs; N: a number."""


def run_all(spool: Monitored, folder: Path) -> dict[str, Path]:
    """Drop all jobs of a folder at night; the finished runs by their jobs' names."""
    clock = SetClock()
    clock.set("2026-12-01 23:00")
    names = [path.name for path in folder.iterdir() if path.suffix != ".md"]
    for name in names:
        (folder / name).rename(spool.inbox / name)
    spool.start(clock=clock)
    spool.wait_for(done=len(names), timeout=120)
    assert spool.failed() == []
    assert spool.events("crash") == []
    runs = {name_of(run): run for run in spool.done()}
    assert len(runs) == len(names)
    for run in runs.values():
        assert journal(run, "call_failed") == []
    return runs


def manifest(run: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return found


def name_of(run: Path) -> str:
    job = manifest(run)["job"]
    assert isinstance(job, dict)
    return str(job["name"])


def pictures_of(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "images").iterdir())


def test_all_examples_run_on_a_forge_that_has_what_they_need(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_examples(tmp_path / "examples", [*EXAMPLES["forge"], *MORE_EXAMPLES["forge"]])
    shutil.copytree(tmp_path / "examples", tmp_path / "kept")
    installed = tmp_path / "installed.yaml"
    installed.write_text(json.dumps(INSTALLED), encoding="utf-8")
    with monitored(tmp_path, flags=("--step-time", "0", "--has", str(installed))) as spool:
        runs = run_all(spool, tmp_path / "examples")
        assert {name: len(pictures_of(run)) for name, run in runs.items()} == PICTURES
        sheets = {name for name, run in runs.items() if (run / "contact_sheet.jpg").is_file()}
        assert sheets == {"matrix", "lighthouse"}
        outputs = (spool.spool / "outputs").rglob("*.*")
        named = {re.sub(r"[0-9]{3,}", "N", path.name) for path in outputs}
        assert named == NAMED
        what_check_says(tmp_path / "kept", spool.spool, capsys)


def local_hour() -> int:
    clock = SystemClock()
    return local(clock.wall(), clock.utc_offset).hour


def what_check_says(folder: Path, spool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`sdwatch check` of the same jobs, on a machine that has made them before."""
    jobs = sorted(path for path in folder.iterdir() if path.suffix != ".md")
    before = local_hour()
    assert check_jobs(jobs, JobRules(), None, spool) == 0
    is_day = {7 <= hour < 22 for hour in (before, local_hour())}
    lines = capsys.readouterr().out.replace(f"{folder}{os.sep}", "").splitlines()
    about = r", about .+ from the history of this machine"
    counted = [re.sub(about, " (about)", line) for line in lines if re.search(about, line)]
    assert counted == [
        "after-out-of-memory.yaml: 4 pictures (about)",
        "controlnet-poses: 2 points, 2 pictures (about)",
        "graph.yaml: 4 pictures (about)",
        "matrix.yaml: 6 points, 6 pictures (about)",
        "night-window.yaml: 10 pictures (about)",
        "night.yaml: 20 pictures (about)",
        "outputs.yaml: 4 points, 4 pictures (about)",
        "prompt-list: 3 points, 3 pictures (about)",
        "table: 3 points, 3 pictures (about)",
        "three-stages.yaml: 2 pictures (about)",
        "wildcards: 5 points, 5 pictures (about)",
    ]
    others = [line for line in lines if not re.search(about, line)]
    waits = [line for line in others if re.match("night-window.yaml: waits until", line)]
    assert bool(waits) in is_day
    assert [line for line in others if line not in waits] == [
        "graph.yaml: calls in order:",
        "  1. base (txt2img): 2 calls",
        "  2. img2img, of each image of base: 2 calls",
        "  3. img2img, of all images of base: 1 call",
        "  kept: the pictures of stages 2, 3",
        "three-stages.yaml: calls in order:",
        "  1. txt2img: 1 call",
        "  2. img2img, of each image of stage 1: 2 calls",
        "  3. upscale, of each image of stage 2: 2 calls",
    ]


@pytest.mark.parametrize(
    "webui", [webui for webui in WEBUIS if webui not in ("simulator", "forge", "comfyui")]
)
def test_the_examples_that_are_written_for_a_webui_run_on_it(tmp_path: Path, webui: str) -> None:
    own = [folder for folder in EXAMPLES[webui] if folder != "any"]
    add_examples(tmp_path / "examples", own)
    with monitored(tmp_path, flags=("--kind", webui, "--step-time", "0")) as spool:
        runs = run_all(spool, tmp_path / "examples")
        assert runs.keys() >= {"castle in three stages", "hires"}


PICTURES_OF_COMFYUI = {
    "castle": 1,
    "castle by a workflow": 4,
    "castles by night": 20,
    "photos repainted": 2,
    "sketch": 2,
}


def test_all_examples_run_on_a_comfyui_that_has_a_checkpoint(tmp_path: Path) -> None:
    """As `init` writes them where it finds an install."""
    installed = tmp_path / "installed"
    (installed / "models/checkpoints/sd15").mkdir(parents=True)
    for name in ("simulated-a.safetensors", "another.safetensors.part", "put_checkpoints_here"):
        (installed / "models/checkpoints" / name).touch()
    checkpoint = checkpoint_in(InstalledWebUI(installed, KINDS["comfyui"]))
    assert checkpoint == MODEL
    add_examples(tmp_path / "examples", EXAMPLES["comfyui"], checkpoint)
    with comfyui(tmp_path, "--step-time", "0") as spool:
        runs = run_all(spool, tmp_path / "examples")
        assert {name: len(pictures_of(run)) for name, run in runs.items()} == PICTURES_OF_COMFYUI
        assert (runs["castle by a workflow"] / "contact_sheet.jpg").is_file()


def test_where_no_checkpoint_is_known_the_examples_leave_it_to_a_person(tmp_path: Path) -> None:
    assert checkpoint_in(None) == ""
    assert checkpoint_in(InstalledWebUI(tmp_path, KINDS["comfyui"])) == ""
    add_examples(tmp_path, EXAMPLES["comfyui"])
    assert "# checkpoint:" in (tmp_path / "workflow/job.yaml").read_text(encoding="utf-8")
    assert check_jobs([p for p in tmp_path.iterdir() if p.suffix != ".md"], JobRules()) == 0


def test_the_simulator_gets_the_examples_of_the_kind_that_it_plays() -> None:
    assert EXAMPLES["simulator"] == EXAMPLES["forge"]


@pytest.mark.parametrize("kind", ["forge", "a1111", "sdnext"])
def test_a_fresh_webui_can_do_each_example_for_it(tmp_path: Path, kind: str) -> None:
    add_examples(tmp_path, EXAMPLES[kind])
    for path in tmp_path.iterdir():
        assert check_against(read_job_at(path, JobRules()), catalogue(kind)).problems == (), (
            path.name
        )


@pytest.mark.parametrize(
    ("job", "kind", "lacks"),
    [
        ("controlnet-poses", "a1111", ["ControlNet"]),
        ("adetailer.yaml", "forge", ["ADetailer"]),
        ("regional-prompter.yaml", "a1111", ["Regional Prompter"]),
        ("refiner.yaml", "a1111", ["sd_xl_base_1.0", "sd_xl_refiner_1.0"]),
        ("flux.yaml", "forge", ["flux1-dev-Q8_0", "ae.safetensors", "clip_l", "t5xxl_fp16"]),
    ],
)
def test_a_fresh_webui_refuses_an_example_that_needs_more_and_names_what_it_lacks(
    tmp_path: Path, job: str, kind: str, lacks: list[str]
) -> None:
    add_examples(tmp_path, MORE_EXAMPLES[kind])
    problems = check_against(read_job_at(tmp_path / job, JobRules()), catalogue(kind)).problems
    assert len(problems) == len(lacks)
    for name in lacks:
        assert any(name in problem.message for problem in problems), name


def test_the_examples_that_need_more_are_listed_where_they_are_installed(tmp_path: Path) -> None:
    add_examples(tmp_path, MORE_EXAMPLES["forge"])
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    for path in tmp_path.iterdir():
        assert path.name in text or path.name == "README.md"

"""The examples that `init` writes: each runs on the WebUI that they were asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdwatch.cli.init import WEBUIS, add_examples
from sdwatch.policy.job.job import image_names, parse_job
from sdwatch.policy.job.preflight import check_against
from sdwatch.system import resources
from tests.facts.catalogues import catalogue
from tests.monitored import journal, monitored


@pytest.mark.parametrize("webui", WEBUIS)
def test_each_example_runs_on_its_webui_as_it_is(tmp_path: Path, webui: str) -> None:
    kind = () if webui == "simulator" else ("--kind", webui)
    examples = tmp_path / "examples"
    add_examples(examples, webui)
    night = examples / "night.yaml"
    night.write_text(night.read_text(encoding="utf-8").replace("n_iter: 20", "n_iter: 2"), "utf-8")
    with monitored(tmp_path, flags=kind) as spool:
        names = sorted(path.name for path in examples.iterdir())
        for name in names:
            (examples / name).rename(spool.inbox / name)
        spool.start()
        spool.wait_for(done=len(names))
        assert not spool.failed()
        for run in spool.done():
            assert journal(run, "call_failed") == []
        assert spool.events("crash") == []


EXTENSIONS = resources.config_folder() / "examples" / "extensions"
NEEDED = {
    "controlnet/job.yaml": "ControlNet",
    "adetailer.yaml": "ADetailer",
    "regional-prompter.yaml": "Regional Prompter",
}


@pytest.mark.parametrize("file", NEEDED)
def test_an_example_for_an_extension_fits_a_webui_that_has_it_and_no_other(file: str) -> None:
    path = EXTENSIONS / file
    images = frozenset(each.name for each in path.parent.glob("*.png"))
    job = parse_job(path.read_bytes(), file, images or None)
    assert set(image_names(job.stages[0])) == images
    fresh = catalogue("a1111")
    (problem,) = check_against(job, fresh).problems
    assert NEEDED[file] in problem.message
    info = {"name": NEEDED[file].lower(), "is_alwayson": True, "is_img2img": False, "args": []}
    names = [NEEDED[file].lower()]
    has = fresh.with_list("scripts", {"txt2img": names, "img2img": names})
    has = has.with_list("script-info", [info, {**info, "is_img2img": True}])
    assert check_against(job, has).problems == ()

"""Jobs named in every script, with spaces and emoji, through all commands and narrow pipes."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest

from sdwatch.cli.shared.exit_codes import ExitCode
from tests.functional.cli import LIMIT, ROOT, drop, make_spool, running
from tests.support import warm

NAMES = {
    "Ärger im Büro": "ärger-im-büro",
    "画像": "画像",
    "مرحبا بالعالم": "مرحبا-بالعالم",
    "🏰 e\u0301": "🏰-é",
}
WRONG = "فشل Straße"


@pytest.mark.timeout(900)  # many commands, which wine takes its time to start
@pytest.mark.parametrize("encoding", ["cp1252", "utf-8"])
def test_jobs_in_every_script_work_with_all_commands(tmp_path: Path, encoding: str) -> None:
    home = tmp_path / "Büro 画像"
    home.mkdir()
    spool = make_spool(home)

    def command(*words: str, code: int = ExitCode.OK) -> str:
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": f"{encoding}:strict"}
        told = warm.run("-m", "sdwatch", *words, cwd=spool, env=env, limit=LIMIT)
        out, err = told.stdout.decode(encoding), told.stderr.decode(encoding)
        assert told.returncode == code, (words, out, err)
        assert "Traceback" not in err
        return out

    for name in NAMES:
        drop(spool, f"{name}.yaml")
    drop(spool, f"{WRONG}.yaml", "prompt: a\nsampler_name: no such sampler\n")
    command("list")
    command("check", *(f"inbox/{name}.yaml" for name in NAMES))
    command("run", "--once")
    done = {run.name.split("-", 2)[2].rsplit("-", 1)[0]: run for run in (spool / "done").iterdir()}
    assert set(done) == set(NAMES.values())
    for slug, run in done.items():
        manifest = json.loads((run / "run.json").read_text(encoding="utf-8"))
        (image,) = (run / "images").iterdir()
        assert manifest["calls"][0]["images"][0]["name"] == image.name
        assert f"-{slug}-" in image.name
    (failed,) = (spool / "failed").iterdir()
    assert "-فشل-straße-" in failed.name
    assert failed.name in (failed / "WHY.txt").read_text(encoding="utf-8")
    command("status")
    command("list")
    command("bundle", "Ärger im Büro")
    command("bundle", WRONG)
    bundles = list(spool.glob("*.zip"))
    assert len(bundles) == 2
    for bundle in bundles:
        with zipfile.ZipFile(bundle) as file:
            everything = [bundle.name, *file.namelist()]
            everything += [file.read(name).decode("utf-8", "replace") for name in file.namelist()]
        for word in ("rger", "büro", "فشل", "stra"):
            assert not [text for text in everything if f"-{word}" in text.lower()]
    command("retry", "画像", "🏰")
    assert {path.name for path in (spool / "inbox").iterdir()} == {"画像.yaml", "🏰 e\u0301.yaml"}
    command("cancel", "画像")
    with running(spool):
        command("replay", "مرحبا بالعالم", "--call", "1.1")
        command("status")

from __future__ import annotations

from pathlib import Path

import pytest

from sdwatch.cli.exit_codes import ExitCode
from sdwatch.cli.init import WEBUIS
from sdwatch.config import load_config
from tests.functional.cli import sdwatch


@pytest.mark.parametrize("webui", WEBUIS)
def test_init_writes_a_config_that_can_be_used(tmp_path: Path, webui: str) -> None:
    folder = tmp_path / "mine"
    told = sdwatch(tmp_path, "init", "mine", "--webui", webui)
    assert told.returncode == ExitCode.OK, told.stderr
    config = load_config(folder / "sdwatch.yaml")
    assert (config.spool, config.state) == (folder, folder / "state")
    assert [lane.name for lane in config.webuis] == [webui]
    there = {path.name for path in folder.iterdir()}
    assert there >= {"inbox", "working", "done", "failed", "examples"}
    assert (folder / "inbox" / "README.md").is_file()


@pytest.mark.parametrize("webui", WEBUIS)
def test_the_examples_have_no_mistakes_and_find_their_schema(tmp_path: Path, webui: str) -> None:
    sdwatch(tmp_path, "init", ".", "--webui", webui)
    folder = tmp_path / "examples"
    examples = sorted(folder.iterdir())
    assert {path.name for path in examples} >= {"castle.yaml", "night.yaml", "sketch"}
    told = sdwatch(tmp_path, "check", *examples)
    assert told.returncode == ExitCode.OK, told.stdout
    assert (tmp_path / "job.schema.json").is_file()
    commands: list[tuple[object, ...]] = [("submit", folder / "castle.yaml")]
    for command in [*commands, *([("check",)] if webui == "simulator" else [])]:
        assert sdwatch(tmp_path, *command).returncode == ExitCode.OK


def test_init_never_overwrites_a_config(tmp_path: Path) -> None:
    (tmp_path / "sdwatch.yaml").write_text("mine")
    told = sdwatch(tmp_path, "init", tmp_path)
    assert told.returncode == ExitCode.ERROR
    assert "already" in told.stderr
    assert (tmp_path / "sdwatch.yaml").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["sdwatch.yaml"]

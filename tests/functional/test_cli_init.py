from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sdwatch.cli.init import MORE_EXAMPLES, NEEDING_MORE, WEBUIS
from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.config_file import load_config
from tests.functional.cli import sdwatch
from tests.webui.sim import running


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


def examples_in(folder: Path) -> list[Path]:
    """The job files in a folder of examples, also those of job folders."""
    return sorted(folder.rglob("*.yaml"))


@pytest.mark.parametrize("webui", WEBUIS)
def test_the_examples_have_no_mistakes_and_find_their_schema(tmp_path: Path, webui: str) -> None:
    sdwatch(tmp_path, "init", ".", "--webui", webui)
    folder = tmp_path / "examples"
    examples = sorted(folder.iterdir())
    assert {path.name for path in examples} >= {"castle.yaml", "night.yaml", "sketch"}
    told = sdwatch(tmp_path, "check", *examples)
    assert told.returncode == ExitCode.OK, told.stdout
    for name in ("job.schema.json", "defaults.schema.json"):
        assert json.loads((tmp_path / name).read_text(encoding="utf-8"))["$schema"]
    for job in examples_in(folder):
        named = re.search(r"\$schema=(\S+)", job.read_text(encoding="utf-8"))
        assert named is not None
        assert (job.parent / named[1]).resolve() == tmp_path / "job.schema.json"
    commands: list[tuple[object, ...]] = [("submit", folder / "castle.yaml")]
    for command in [*commands, *([("check",)] if webui == "simulator" else [])]:
        assert sdwatch(tmp_path, *command).returncode == ExitCode.OK


@pytest.mark.parametrize("webui", WEBUIS)
def test_jobs_that_need_extensions_or_models_are_kept_apart_from_the_examples(
    tmp_path: Path, webui: str
) -> None:
    sdwatch(tmp_path, "init", ".", "--webui", webui)
    folder = tmp_path / NEEDING_MORE
    assert folder.exists() is (webui in MORE_EXAMPLES)
    if folder.exists():
        assert (folder / "flux.yaml").exists() is ("forge" in webui)
        assert "need extensions" in (folder / "README.md").read_text(encoding="utf-8")
        jobs = [path for path in sorted(folder.iterdir()) if path.suffix != ".md"]
        assert len(jobs) == (5 if "forge" in webui else 4)
        told = sdwatch(tmp_path, "check", *jobs)
        assert told.returncode == ExitCode.OK, told.stdout


def test_init_never_overwrites_a_config(tmp_path: Path) -> None:
    (tmp_path / "sdwatch.yaml").write_text("mine")
    told = sdwatch(tmp_path, "init", tmp_path)
    assert told.returncode == ExitCode.ERROR
    assert "already" in told.stderr
    assert (tmp_path / "sdwatch.yaml").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["sdwatch.yaml"]


@pytest.mark.parametrize("webui", [webui for webui in WEBUIS if webui != "simulator"])
def test_the_header_of_a_generated_config_names_a_file_that_is_beside_it(
    tmp_path: Path, webui: str
) -> None:
    sdwatch(tmp_path, "init", ".", "--webui", webui)
    head = (tmp_path / "sdwatch.yaml").read_text(encoding="utf-8").partition("\nspool:")[0]
    assert re.findall(r"[\w-]+\.yaml", head) == ["all-settings.yaml"]
    explained = (tmp_path / "all-settings.yaml").read_text(encoding="utf-8")
    assert "start_limit:" in explained
    assert "one_colour: fail" in explained


def test_the_config_of_the_simulator_names_no_file_that_is_not_beside_it(tmp_path: Path) -> None:
    sdwatch(tmp_path, "init", ".")
    head = (tmp_path / "sdwatch.yaml").read_text(encoding="utf-8").partition("\nspool:")[0]
    named = set(re.findall(r"[\w-]+\.yaml", head))
    assert named <= {path.name for path in tmp_path.iterdir()}
    assert "sdwatch init DIR --webui forge" in head


def test_forge_neo_is_started_by_its_own_config(tmp_path: Path) -> None:
    sdwatch(tmp_path, "init", ".", "--webui", "forge-neo")
    (webui,) = load_config(tmp_path / "sdwatch.yaml").webuis
    assert webui.env == {"COLUMNS": "250"}
    assert webui.command is not None
    assert webui.command[-4:-1] == ("--server-name", "127.0.0.1", "--port")


def test_a_forge_neo_can_do_the_examples_that_are_written_for_it(tmp_path: Path) -> None:
    sdwatch(tmp_path, "init", ".", "--webui", "forge-neo")
    files = [tmp_path / "examples" / name for name in ("castle.yaml", "three-stages.yaml")]
    with running(tmp_path, "--kind", "forge-neo") as neo:
        told = sdwatch(tmp_path, "check", "--against", f"http://127.0.0.1:{neo.port}", *files)
    assert told.returncode == ExitCode.OK, told.stdout
    assert "Forge Neo" in told.stdout


def test_a_folder_that_cannot_be_made_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told = sdwatch(tmp_path, "init", tmp_path / "file" / "below")
    assert told.returncode == ExitCode.ERROR
    (line,) = told.stderr.splitlines()
    assert line.startswith("sdwatch: ")
    file = tmp_path / "file"
    assert line.endswith((f": {file}", f": {file / 'below'}"))  # Windows names the file
    assert "Errno" not in line
    assert "WinError" not in line

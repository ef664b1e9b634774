from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sdwatch import __version__
from sdwatch.cli import COMMANDS, main
from sdwatch.cli.shared.exit_codes import ExitCode
from tests.functional.cli import ROOT, make_spool, started


def test_help_names_every_command(tmp_path: Path) -> None:
    told = started(tmp_path, "--help")
    assert told.returncode == ExitCode.OK
    assert re.findall(r"(?m)^    (\w+)(?= |$)", told.stdout)[: len(COMMANDS)] == list(COMMANDS)


def test_version_is_the_packages(tmp_path: Path) -> None:
    assert started(tmp_path, "--version").stdout == f"sdwatch {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    assert f"usage: sdwatch {name}" in capsys.readouterr().out


@pytest.mark.parametrize("args", [(), ("nonsense",), ("run", "--nonsense"), ("submit",)])
def test_a_wrong_command_line_is_exit_2(tmp_path: Path, args: tuple[str, ...]) -> None:
    assert started(tmp_path, *args).returncode == ExitCode.USAGE


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_wrong_config_is_reported_with_its_place_and_no_traceback(
    tmp_path: Path, command: str
) -> None:
    (tmp_path / "bad.yaml").write_text("spool: .\nstate: state\nsettel: 3\nwebuis: {}\n")
    told = started(tmp_path, command, "--config", "bad.yaml")
    assert told.returncode == ExitCode.BAD_CONFIG
    assert "bad.yaml:3:1: " in told.stderr
    assert "settle" in told.stderr
    assert "Traceback" not in told.stderr


def test_a_missing_config_is_reported_with_what_to_do(tmp_path: Path) -> None:
    told = started(tmp_path, "run", "--config", "none.yaml")
    assert told.returncode == ExitCode.BAD_CONFIG
    assert "sdwatch init" in told.stderr


def test_without_a_config_the_built_in_one_serves_and_says_so(tmp_path: Path) -> None:
    told = started(tmp_path, "check")
    assert told.returncode == ExitCode.OK
    assert str(tmp_path / "sdwatch-spool") in told.stderr
    assert str(tmp_path / "sdwatch-spool" / "state") in told.stdout
    assert not list(tmp_path.iterdir())


def test_the_config_in_the_folder_config_is_found(tmp_path: Path) -> None:
    make_spool(tmp_path)
    (tmp_path / "config").mkdir()
    (tmp_path / "sdwatch.yaml").rename(tmp_path / "config" / "sdwatch.yaml")
    told = started(tmp_path, "check")
    assert str(Path("config", "sdwatch.yaml")) in told.stdout


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    told = started(tmp_path, "run", "--config", "none.yaml", SDWATCH_DEBUG="1")
    assert "Traceback" in told.stderr


def test_schema_prints_what_lies_beside_the_config(tmp_path: Path) -> None:
    told = started(tmp_path, "schema")
    there = (ROOT / "config" / "job.schema.json").read_text(encoding="utf-8")
    assert json.loads(told.stdout) == json.loads(there)

from __future__ import annotations

from pathlib import Path

from sdwatch.cli.exit_codes import ExitCode
from tests.fakes import picture
from tests.functional.cli import make_spool, sdwatch


def test_every_mistake_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "job.yml").write_text("prompt: a castle\n")
    (tmp_path / "bad.yaml").write_text("prompt: a castle\nstepz: 3\nwidth: wide\n")
    told = sdwatch(tmp_path, "check", "bad.yaml", "none.yaml")
    assert told.returncode == ExitCode.BAD_JOB
    assert "bad.yaml:2:1: " in told.stdout
    assert "bad.yaml:3:8: " in told.stdout
    assert "none.yaml: cannot be read: No such file" in told.stdout
    assert told.stdout.splitlines()[-1] == "2 checked, 2 with mistakes"


def test_a_warning_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "tag.yaml").write_text("prompt: 1girl, #tag\n")
    told = sdwatch(tmp_path, "check", "tag.yaml")
    assert told.returncode == ExitCode.OK
    assert "tag.yaml:1:" in told.stdout
    assert ": warning: " in told.stdout


def test_the_job_of_a_folder_is_checked_with_its_images(tmp_path: Path) -> None:
    folder = tmp_path / "sketch"
    folder.mkdir()
    (folder / "job.yaml").write_text("stages:\n  - img2img:\n      init_images: castle.png\n")
    assert sdwatch(folder, "check", "job.yaml").returncode == ExitCode.BAD_JOB
    (folder / "castle.png").write_bytes(picture())
    assert sdwatch(folder, "check", "job.yaml").returncode == ExitCode.OK
    assert sdwatch(tmp_path, "check", "sketch").returncode == ExitCode.OK


def test_a_job_may_do_what_the_config_allows(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("prompt: a\noverride_settings: {samples_save: false}\n")
    told = sdwatch(tmp_path, "check", "job.yaml")
    assert told.returncode == ExitCode.BAD_JOB
    assert "job.yaml:2:21: " in told.stdout
    make_spool(tmp_path, allow=["samples_save"])
    assert sdwatch(tmp_path, "check", "job.yaml").returncode == ExitCode.OK
    assert sdwatch(tmp_path, "submit", "job.yaml").returncode == ExitCode.OK


def test_a_config_whose_webui_is_not_there_is_warned_of(tmp_path: Path) -> None:
    sdwatch(tmp_path, "init", ".", "--webui", "forge")
    text = (tmp_path / "sdwatch.yaml").read_text(encoding="utf-8").replace("cwd: ", "cwd: no-such/")
    (tmp_path / "sdwatch.yaml").write_text(text, encoding="utf-8")
    told = sdwatch(tmp_path, "check")
    assert told.returncode == ExitCode.OK
    assert "webuis.forge: there is no folder" in told.stderr

from __future__ import annotations

from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sdwatch.cli.shared.exit_codes import ExitCode
from tests.functional.cli import make_spool, sdwatch
from tests.support.fakes import picture


def _inbox(cwd: Path) -> set[str]:
    return {path.name for path in (cwd / "inbox").iterdir()}


def test_a_job_is_copied_and_never_overwrites(tmp_path: Path) -> None:
    make_spool(tmp_path)
    job = tmp_path / "castle.yaml"
    job.write_text("prompt: a castle\n")
    assert sdwatch(tmp_path, "submit", job, job).returncode == ExitCode.OK
    assert _inbox(tmp_path) == {"castle.yaml", "castle-2.yaml"}
    assert (tmp_path / "inbox" / "castle.yaml").read_bytes() == job.read_bytes()
    assert job.is_file()


def test_a_job_folder_is_copied_whole(tmp_path: Path) -> None:
    make_spool(tmp_path)
    folder = tmp_path / "sketch"
    folder.mkdir()
    (folder / "job.yaml").write_text("stages:\n  - img2img:\n      init_images: a.png\n")
    (folder / "a.png").write_bytes(picture())
    assert sdwatch(tmp_path, "submit", "sketch").returncode == ExitCode.OK
    assert {path.name for path in (tmp_path / "inbox" / "sketch").iterdir()} == {
        "job.yaml",
        "a.png",
    }


def test_a_job_beside_the_spool_is_submitted_from_within_it(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    make_spool(spool)
    (tmp_path / "sketch").mkdir()
    (tmp_path / "sketch" / "job.yaml").write_text("prompt: a castle\n")
    for command, job in (("check", "../sketch/job.yaml"), ("submit", "../sketch")):
        told = sdwatch(spool, command, job)
        assert told.returncode == ExitCode.OK, told.stdout + told.stderr
    assert _inbox(spool) == {"sketch"}


def test_one_mistake_and_nothing_is_submitted(tmp_path: Path) -> None:
    make_spool(tmp_path)
    (tmp_path / "good.yaml").write_text("prompt: a castle\n")
    (tmp_path / "bad.yaml").write_text("promt: a castle\n")
    (tmp_path / "empty").mkdir()
    told = sdwatch(tmp_path, "submit", "good.yaml", "bad.yaml", "empty", "sdwatch.txt")
    assert told.returncode == ExitCode.BAD_JOB
    assert "bad.yaml:1:1: " in told.stdout
    assert "no job.yaml in this folder" in told.stdout
    assert "nothing was submitted" in told.stdout
    assert not _inbox(tmp_path)


def test_a_name_that_the_inbox_would_ignore_is_changed(tmp_path: Path) -> None:
    make_spool(tmp_path)
    (tmp_path / "~castle.yaml").write_text("prompt: a castle\n")
    assert sdwatch(tmp_path, "submit", "~castle.yaml").returncode == ExitCode.OK
    assert _inbox(tmp_path) == {"job-castle.yaml"}


def test_a_picture_is_submitted_as_a_job_of_its_settings(tmp_path: Path) -> None:
    make_spool(tmp_path)
    settings = PngInfo()
    settings.add_text("parameters", "a castle\nSteps: 3, Sampler: Euler, Seed: 5, Size: 64x64")
    picture = tmp_path / "castle.png"
    Image.new("RGB", (8, 8)).save(picture, pnginfo=settings)
    assert sdwatch(tmp_path, "check", str(picture)).returncode == ExitCode.OK
    told = sdwatch(tmp_path, "submit", str(picture))
    assert told.returncode == ExitCode.OK, told.stderr
    assert (tmp_path / "inbox" / "castle.yaml").read_text().startswith("a castle\nSteps: 3")


def test_the_settings_in_a_jpeg_are_a_job_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    text = "a castle\nSteps: 3, Sampler: Euler, Seed: 5, Size: 64x64"
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + text.encode("utf-16-be")
    Image.new("RGB", (8, 8)).save(tmp_path / "castle.jpg", exif=exif)
    told = sdwatch(tmp_path, "check", "castle.jpg")
    assert "1 checked, 0 with mistakes" in told.stdout


def test_a_picture_without_settings_is_refused(tmp_path: Path) -> None:
    make_spool(tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / "castle.png")
    told = sdwatch(tmp_path, "submit", "castle.png")
    assert told.returncode == ExitCode.BAD_JOB
    assert "no WebUI wrote its settings into this picture" in told.stdout
    assert not list((tmp_path / "inbox").iterdir())

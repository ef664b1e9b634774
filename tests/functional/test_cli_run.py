from __future__ import annotations

from pathlib import Path

from PIL import Image

from sdwatch.cli.init import WEBUIS
from sdwatch.cli.shared.exit_codes import ExitCode
from tests.functional.cli import drop, make_spool, only, running, sdwatch, states, stop
from tests.support.helpers import wait_until

SECRET = "a most secret prompt"


def test_once_does_all_jobs_and_ends(tmp_path: Path) -> None:
    make_spool(tmp_path)
    drop(tmp_path, "castle.yaml", f"prompt: {SECRET}\nsteps: 2\nwidth: 64\nheight: 64\n")
    drop(tmp_path, "mistake.yaml", "promt: a castle\n")
    told = sdwatch(tmp_path, "run", "--once")
    assert told.returncode == ExitCode.OK, told.stderr
    first, *_, last = told.stdout.splitlines()
    assert first.startswith("The pictures will not be real: the WebUI is the simulator.")
    assert "--webui " + "|".join(WEBUIS[1:]) in first
    assert "sdwatch.yaml" in first
    assert "1 done, 1 failed, 0 cancelled" in last
    assert str(tmp_path / "done") in last
    (picture,) = (only(tmp_path, "done") / "images").iterdir()
    with Image.open(picture) as image:
        assert image.size == (64, 64)
    assert "promt" in (only(tmp_path, "failed") / "WHY.txt").read_text(encoding="utf-8")
    assert SECRET not in (tmp_path / "state" / "sdwatch.log").read_text(encoding="utf-8")


def test_once_ends_on_a_hold_and_leaves_the_jobs(tmp_path: Path) -> None:
    make_spool(tmp_path)
    job = drop(tmp_path, "castle.yaml")
    (tmp_path / "hold").touch()
    told = sdwatch(tmp_path, "run", "--once")
    assert told.returncode == ExitCode.HOLD
    assert job.is_file()


def test_once_ends_when_the_webui_cannot_be_used(tmp_path: Path) -> None:
    make_spool(tmp_path, "--no-model")
    job = drop(tmp_path, "castle.yaml")
    told = sdwatch(tmp_path, "run", "--once")
    assert told.returncode == ExitCode.HOLD
    assert "no checkpoint" in told.stdout
    assert job.is_file()


def test_a_second_monitor_is_turned_away_and_the_first_stops_cleanly(tmp_path: Path) -> None:
    make_spool(tmp_path)
    with running(tmp_path) as monitor:
        second = sdwatch(tmp_path, "run")
        assert second.returncode == ExitCode.ALREADY_RUNNING
        assert f"process {monitor.pid}" in second.stderr
        drop(tmp_path, "castle.yaml")
        wait_until(lambda: list(tmp_path.glob("done/*/run.json")), 60, "done")
        assert stop(monitor) == ExitCode.OK
    assert "1 done, 0 failed" in (tmp_path / "run.out").read_text(encoding="utf-8")
    assert not states(tmp_path)


def test_the_log_is_bounded(tmp_path: Path) -> None:
    make_spool(tmp_path, log_cap="10 KB")
    state = tmp_path / "state"
    state.mkdir()
    (state / "sdwatch.log").write_text("old\n" * 5000)
    drop(tmp_path, "castle.yaml")
    sdwatch(tmp_path, "run", "--once")
    assert (state / "sdwatch.log").stat().st_size <= 5000
    names = {path.name for path in state.glob("sdwatch.log*")}
    assert names == {"sdwatch.log", "sdwatch.log.1"}

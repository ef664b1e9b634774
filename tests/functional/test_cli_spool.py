"""list, cancel, retry, hold, resume: what people do with runs and jobs by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sdwatch.cli.shared.exit_codes import ExitCode
from tests.functional.cli import drop, make_spool, only, sdwatch


def test_a_mistake_is_fixed_retried_and_done(tmp_path: Path) -> None:
    make_spool(tmp_path)
    drop(tmp_path, "castle.yaml", "promt: a castle\n")
    sdwatch(tmp_path, "run", "--once")
    run = only(tmp_path, "failed")
    line = sdwatch(tmp_path, "list", "failed").stdout
    assert run.name in line
    assert "failed" in line
    assert "castle.yaml" in line
    assert 'unknown field "promt"' in line

    (run / "job.yaml").write_text("prompt: a castle\nsteps: 2\n")
    assert sdwatch(tmp_path, "retry", "castle").returncode == ExitCode.OK
    assert "waits" in sdwatch(tmp_path, "list", "inbox").stdout
    sdwatch(tmp_path, "run", "--once")
    newest, older = sdwatch(tmp_path, "list").stdout.splitlines()
    assert only(tmp_path, "done").name in newest
    assert "1 image " in newest
    assert run.name in older


def test_a_name_that_fits_more_than_one_run_is_asked_for_again(tmp_path: Path) -> None:
    make_spool(tmp_path)
    for name in ("20261123-065243.123-castle-3f2a", "20261124-065243.123-castle-4b11"):
        (tmp_path / "done" / name).mkdir(parents=True)
    told = sdwatch(tmp_path, "retry", "castle")
    assert told.returncode == ExitCode.NOT_FOUND
    assert "castle-3f2a" in told.stderr
    assert "castle-4b11" in told.stderr


@pytest.mark.parametrize("command", ["cancel", "retry"])
def test_a_name_that_fits_nothing_is_exit_7(tmp_path: Path, command: str) -> None:
    make_spool(tmp_path)
    told = sdwatch(tmp_path, command, "nothing")
    assert told.returncode == ExitCode.NOT_FOUND
    assert "'nothing'" in told.stderr


def test_a_job_that_waits_is_cancelled_before_it_starts(tmp_path: Path) -> None:
    make_spool(tmp_path)
    drop(tmp_path, "castle.yaml")
    drop(tmp_path, "castle-2.yaml")
    assert sdwatch(tmp_path, "cancel", "castle").returncode == ExitCode.OK
    assert (tmp_path / "inbox" / "castle.yaml.cancel").exists()
    sdwatch(tmp_path, "run", "--once")
    assert "cancelled" in sdwatch(tmp_path, "list", "failed").stdout
    assert "castle-2.yaml" in sdwatch(tmp_path, "list", "done").stdout


def test_a_run_is_cancelled_by_the_next_monitor_where_none_is_running(tmp_path: Path) -> None:
    make_spool(tmp_path)
    run = tmp_path / "working" / "here" / "20261129-100000.000-castle-0000"
    run.mkdir(parents=True)
    told = sdwatch(tmp_path, "cancel", "castle")
    assert told.stdout == f"{run.name}: will be cancelled when a monitor runs here next\n"
    heartbeat = {"worker": "here", "host": "elsewhere", "pid": 1, "beat": 1}
    (run.parent / "heartbeat.json").write_text(json.dumps(heartbeat), encoding="utf-8")
    told = sdwatch(tmp_path, "cancel", "castle")
    assert told.stdout == f"{run.name}: will be cancelled by the monitor that runs it\n"


def test_status_without_a_monitor_names_the_notes_of_holds(tmp_path: Path) -> None:
    make_spool(tmp_path)
    (tmp_path / "HOLD-sim.txt").write_text("why", encoding="utf-8")
    told = sdwatch(tmp_path, "status").stdout
    assert "ended on a hold: HOLD-sim.txt in the spool says why, and what to do" in told


def test_hold_and_resume_are_a_file(tmp_path: Path) -> None:
    make_spool(tmp_path)
    assert sdwatch(tmp_path, "hold").returncode == ExitCode.OK
    assert (tmp_path / "hold").exists()
    assert "Already" in sdwatch(tmp_path, "hold").stdout
    assert "on hold" in sdwatch(tmp_path, "status").stdout
    (tmp_path / "hold.txt").touch()
    assert sdwatch(tmp_path, "resume").returncode == ExitCode.OK
    assert not list(tmp_path.glob("hold*"))
    assert "not on hold" in sdwatch(tmp_path, "resume").stdout


def test_a_hold_may_free_the_gpu_and_keeps_what_somebody_wrote_into_it(tmp_path: Path) -> None:
    make_spool(tmp_path)
    (tmp_path / "hold.txt").write_text("for games", encoding="utf-8")
    assert "frees the GPU" in sdwatch(tmp_path, "hold", "--free").stdout
    assert (tmp_path / "hold.txt").read_text(encoding="utf-8") == "for games\nfree: true\n"
    assert "Already" in sdwatch(tmp_path, "hold", "--free").stdout
    assert sdwatch(tmp_path, "resume").returncode == ExitCode.OK
    sdwatch(tmp_path, "hold", "--free")
    assert (tmp_path / "hold").read_text(encoding="utf-8") == "free: true\n"


def test_a_hold_where_there_is_no_spool_is_an_error(tmp_path: Path) -> None:
    told = sdwatch(tmp_path, "hold")
    assert told.returncode == ExitCode.ERROR
    assert "no spool here" in told.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.posix_only("Windows has no such names")
def test_a_job_is_one_line_of_the_list_whatever_it_is_called(tmp_path: Path) -> None:
    make_spool(tmp_path)
    drop(tmp_path, "castle\n-  done  \x1b[31mcave.yaml")
    lines = sdwatch(tmp_path, "list").stdout.splitlines()
    assert len(lines) == 1
    assert "castle\\n-  done  \\x1b[31mcave.yaml" in lines[0]
    lines = sdwatch(tmp_path, "cancel", "castle").stdout.splitlines()
    assert len(lines) == 1
    assert "\x1b" not in lines[0]


def test_a_diagnosis_is_found_however_it_is_written(tmp_path: Path) -> None:
    make_spool(tmp_path)
    told = sdwatch(tmp_path, "list", "--diagnosis", "nan")
    assert told.returncode == ExitCode.OK, told.stderr
    assert "nothing that fits these filters" in told.stdout
    told = sdwatch(tmp_path, "list", "--diagnosis", "none of them")
    assert told.returncode == ExitCode.USAGE


def test_an_empty_list_says_so(tmp_path: Path) -> None:
    make_spool(tmp_path)
    assert "nothing in done/" in sdwatch(tmp_path, "list", "done").stdout

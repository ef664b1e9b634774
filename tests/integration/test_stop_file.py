"""The file `stop` in the spool asks the monitor to stop; one that was there before is ignored."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.monitor.once import MonitorEnd
from sdwatch.policy.queue.control import is_stop
from tests.functional.cli import sdwatch
from tests.integration.test_share import on_share
from tests.support.helpers import wait_until
from tests.support.monitored import Monitored, job, journal, monitored
from tests.support.mounts import needs_share

SLOW = ["--step-time", "0.3" if sys.platform == "win32" else "0.05"]


def stop_command(spool: Monitored) -> str:
    done = sdwatch(spool.root, "stop", "--config", spool.config_file)
    assert done.returncode == ExitCode.OK, done.stderr
    return done.stdout


def ignored(spool: Monitored) -> list[str]:
    names: list[str] = spool.status().get("stop_ignored", [])
    return names


@pytest.mark.parametrize("name", ["stop", "stop.txt", "Stop", "STOP.TXT"])
def test_a_person_may_write_its_name_in_any_case(name: str) -> None:
    assert is_stop(name)


@pytest.mark.parametrize(
    "name", ["stopped", "stop.yaml", "stop.txt.txt", "stop.tmp", "nonstop", ""]
)
def test_what_only_looks_like_it_is_none(name: str) -> None:
    assert not is_stop(name)


def test_the_call_under_way_ends_and_its_job_resumes(tmp_path: Path) -> None:
    with monitored(tmp_path, flags=SLOW) as spool:
        spool.drop("castle.yaml", job(n_iter=4, steps=20))
        spool.start_process()
        spool.wait_posts(1)
        (spool.spool / "stop").touch()
        assert spool.process is not None
        assert spool.process.wait(60) == 0, spool.monitor_log
        assert "stopping: asked by the file stop in the spool" in spool.monitor_log
        (run,) = spool.working()
        records = [record["event"] for record in journal(run)]
        assert records[-1] == "call_finished"
        assert not spool.processes()
        assert (spool.spool / "stop").exists()  # the monitor removes no file of a person

        spool.start_process()
        spool.wait_for(done=1)
        assert ignored(spool) == ["stop"]
        said = sdwatch(spool.root, "status", "--config", spool.config_file).stdout
        assert "the file stop in the spool is older than its start, and is ignored" in said

        # The command makes it in place of the old one.
        assert "the monitor stops once its current call has ended" in stop_command(spool)
        assert spool.process.wait(60) == 0, spool.monitor_log


def test_without_a_monitor_there_is_nothing_to_stop(tmp_path: Path) -> None:
    with monitored(tmp_path) as spool:
        assert "No monitor is running" in stop_command(spool)
        assert not (spool.spool / "stop").exists()


def test_an_old_one_that_is_removed_and_made_again_stops(tmp_path: Path) -> None:
    with monitored(tmp_path) as spool:
        stop = spool.spool / "STOP.txt"
        stop.write_text("please")
        spool.start()
        wait_until(lambda: ignored(spool) == ["STOP.txt"], 30, "it is ignored")
        stop.unlink()
        wait_until(lambda: ignored(spool) == [], 30, "it is forgotten")
        stop.write_text("now")
        assert spool.ended() is MonitorEnd.STOPPED


def test_what_is_in_it_does_not_matter_and_an_old_one_may_be_of_any_age(tmp_path: Path) -> None:
    with monitored(tmp_path) as spool:
        old, new = spool.spool / "stop", spool.spool / "stop.txt"
        old.write_bytes(b"\0" * 1000)
        os.utime(old, (4e9, 4e9))  # by a clock that is wrong
        spool.start()
        wait_until(lambda: ignored(spool) == ["stop"], 30, "it is ignored")
        spool.two_more_beats()
        with new.open("wb") as file:
            file.truncate(1 << 40)  # as large as a disk, and never read
        os.utime(new, (0, 0))
        assert spool.ended() is MonitorEnd.STOPPED


@pytest.mark.posix_only("Windows needs a privilege to make a symbolic link")
def test_a_link_or_a_folder_of_that_name_stops_nothing(tmp_path: Path) -> None:
    with monitored(tmp_path) as spool:
        spool.start()
        spool.wait_ready()
        target = tmp_path / "outside"
        target.touch()
        (spool.spool / "stop").symlink_to(target)
        (spool.spool / "stop.txt").mkdir()
        os.mkfifo(spool.spool / "STOP")
        spool.two_more_beats()
        spool.two_more_beats()
        spool.drop("castle.yaml", job())
        spool.wait_for(done=1)
        assert ignored(spool) == []
        spool.stop()


@needs_share
def test_it_works_from_the_other_side_of_a_share(tmp_path: Path) -> None:
    with on_share(tmp_path) as (spool, mounted):
        (mounted.served / "spool" / "stop").touch()
        spool.start()
        spool.wait_ready()
        wait_until(lambda: ignored(spool) == ["stop"], 30, "it is ignored")
        mounted.unmount()
        wait_until(lambda: any("share gone" in line for line in spool.told), 60, "share gone")
        mounted.mount()
        wait_until(lambda: "everything: resumes" in spool.told, 60, "it is back, with the old file")
        spool.two_more_beats()
        (spool.spool / "stop.txt").touch()
        assert spool.ended() is MonitorEnd.STOPPED

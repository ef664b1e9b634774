"""The spool on a share that goes away and comes back, mounted for real (support/mounts.py)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sdwatch.monitor.once import MonitorEnd
from tests.support.helpers import wait_until
from tests.support.monitored import Monitored, job, journal, monitored
from tests.support.mounts import Share, needs_share, share

pytestmark = needs_share
ROOT = Path(__file__).parents[2]


@contextmanager
def on_share(root: Path, *flags: str) -> Iterator[tuple[Monitored, Share]]:
    """A monitor to be, whose spool is on a share; `spool.spool` is the server's own side of it."""
    with share(root) as mounted:
        settings = {"spool": str(mounted.folder / "spool"), "watch": "poll"}
        (mounted.served / "spool").mkdir()
        with monitored(root / "box", flags=flags, settings=settings) as spool:
            spool.spool = mounted.served / "spool"
            spool.inbox = spool.spool / "inbox"
            spool.inbox.mkdir()
            yield spool, mounted


def drop(spool: Monitored, name: str, text: str) -> None:
    """Somebody at the server puts a file there."""
    (spool.spool / name).write_text(text)
    (spool.spool / name).rename(spool.inbox / name)


def local_status(spool: Monitored) -> dict[str, Any]:
    try:
        status: dict[str, Any] = json.loads((spool.state / "status.json").read_text())
    except (OSError, ValueError):
        return {}
    return status


def wait_gone(spool: Monitored) -> None:
    wait_until(lambda: "share gone" in local_status(spool).get("hold", ""), 60, "share gone")
    assert any("share gone" in line for line in spool.told)


def status_command(spool: Monitored) -> str:
    command = [sys.executable, "-m", "sdwatch", "status", "--config", str(spool.config_file)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_server_dies_during_a_call_and_comes_back(tmp_path: Path) -> None:
    with on_share(tmp_path, "--step-time", "0.1") as (spool, mounted):
        drop(spool, "castle.yaml", job(steps=20))
        spool.start()
        spool.wait_posts(1)
        mounted.die()
        wait_gone(spool)
        told = status_command(spool)
        assert "on hold: share gone" in told
        assert "is running: process" in told

        mounted.serve()
        drop(spool, "tower.yaml", job("a tower"))
        spool.wait_for(done=2)
        castle = next(run for run in spool.done() if "castle" in run.name)
        assert len(journal(castle, "call_started")) == 1, "the reply was kept"
        assert spool.stats()["posts"] == 2
        assert "everything: resumes" in spool.told
        spool.stop()


def test_unmounted_nothing_is_made_in_the_empty_folder_and_mounted_again_it_resumes(
    tmp_path: Path,
) -> None:
    with on_share(tmp_path) as (spool, mounted):
        (mounted.served / "spool" / "inbox").mkdir(exist_ok=True)
        spool.start()
        spool.wait_ready()
        mounted.unmount()
        drop(spool, "castle.yaml", job())
        wait_gone(spool)
        beat = local_status(spool)["beat"]
        wait_until(lambda: local_status(spool)["beat"] > beat + 1, 30, "two more rounds")
        assert list(mounted.folder.iterdir()) == []

        mounted.mount()
        spool.wait_for(done=1)
        assert spool.stats()["posts"] == 1
        spool.stop()


def test_started_before_its_share_is_mounted_it_waits_and_with_once_it_ends_on_hold(
    tmp_path: Path,
) -> None:
    with on_share(tmp_path) as (spool, mounted):
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.EMPTY
        mounted.unmount()
        drop(spool, "castle.yaml", job())
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.HOLD
        assert list(mounted.folder.iterdir()) == []

        spool.start()
        wait_gone(spool)
        mounted.mount()
        spool.wait_for(done=1)
        spool.stop()


def test_the_clock_of_the_share_is_of_no_effect(tmp_path: Path) -> None:
    with on_share(tmp_path) as (spool, _):
        for hours in (-1, 1):
            path = spool.spool / f"clock{hours}.yaml"
            path.write_text(job(f"{hours} h"))
            moment = time.time() + 3600 * hours
            os.utime(path, (moment, moment))
            path.rename(spool.inbox / path.name)
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.EMPTY
        assert len(spool.done()) == 2

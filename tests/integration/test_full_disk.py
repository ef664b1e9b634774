"""A disk that is full, for real: a small file system of the test's own (support/mounts.py)."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.helpers import wait_until
from tests.support.monitored import Monitored, job, journal, monitored
from tests.support.mounts import (
    breaking_disk,
    needs_quota,
    needs_root,
    remount,
    small_disk,
    with_quota,
)

pytestmark = needs_root
NEEDED = ("run.json", "journal.jsonl", "job.yaml")


@contextmanager
def on_small_disk(root: Path, *flags: str) -> Iterator[Monitored]:
    """The spool on a disk of 4 MB; a call starts only if 1 MB is free."""
    with small_disk(root / "spool", "4m"):
        with monitored(root, flags=flags, settings={"min_free": "1 MB"}) as spool:
            yield spool
            spool.stop()


def fill(spool: Monitored, leave: int) -> Path:
    """Take all room but so many bytes."""
    status = os.statvfs(spool.spool)
    filler = spool.spool / "filler"
    with open(filler, "wb") as file:
        file.write(bytes(max(0, status.f_bavail * status.f_frsize - leave)))
    return filler


def not_whole(run: Path) -> Iterator[str]:
    """What a published run lacks: a file, the last word of its journal, a byte of an image."""
    if missing := [name for name in NEEDED if not (run / name).is_file()]:
        yield f"no {missing}"
        return
    if journal(run)[-1]["event"] != "ended":
        yield "its journal goes on"
    for call in json.loads((run / "run.json").read_text(encoding="utf-8"))["calls"]:
        for image in call["images"]:
            data = (run / "images" / image["name"]).read_bytes()
            if hashlib.sha256(data).hexdigest() != image["sha256"]:
                yield image["name"]


@contextmanager
def watching(folder: Path) -> Iterator[list[str]]:
    """What was ever seen in `folder` that was not whole."""
    stop, found = threading.Event(), list[str]()

    def look() -> None:
        seen: set[str] = set()
        while not stop.wait(0.001):
            for name in {p.name for p in folder.glob("*")} - seen:
                seen.add(name)
                found.extend(f"{name}: {what}" for what in not_whole(folder / name))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def test_without_room_no_generation_starts_and_with_room_it_resumes(tmp_path: Path) -> None:
    with on_small_disk(tmp_path) as spool:
        filler = fill(spool, leave=500_000)
        spool.drop("castle.yaml", job())
        spool.start()
        wait_until(lambda: "less than min_free" in spool.status().get("hold", ""), 30)
        spool.wait_ready()
        spool.two_more_beats()
        assert spool.stats()["posts"] == 0
        assert spool.waiting() == ["castle.yaml"]

        filler.unlink()
        spool.wait_for(done=1)
        assert spool.stats()["posts"] == 1


def test_a_disk_that_fills_up_during_a_call_keeps_the_reply_and_publishes_nothing_half_written(
    tmp_path: Path,
) -> None:
    with on_small_disk(tmp_path, "--step-time", "0.05") as spool:
        spool.drop("castle.yaml", job(steps=20))
        spool.drop("tower.yaml", job("a tower"))
        spool.start()
        with watching(spool.spool / "done") as half:
            spool.wait_posts(1)
            filler = fill(spool, leave=0)
            wait_until(lambda: spool.status().get("hold", "") or _told_hold(spool), 60)
            assert not spool.done()

            filler.unlink()
            spool.wait_for(done=2)
        assert half == []
        assert spool.stats()["posts"] == 2
        for run in spool.done():
            assert len(journal(run, "call_started")) == 1
            assert not journal(run, "call_failed")


def _told_hold(spool: Monitored) -> bool:
    """A heartbeat needs room as well."""
    return any("on hold" in line for line in spool.told)


def test_a_disk_that_fills_up_while_an_image_is_written_leaves_no_half_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In the second call of three, only the first part of the image still has room."""
    flags = ("--step-time", "0.05")
    with on_small_disk(tmp_path, *flags) as spool:
        spool.drop("castle.yaml", job(steps=20, n_iter=3, width=256, height=256))
        spool.start()
        spool.wait_posts(2)
        (run,) = spool.working()
        wait_until(lambda: len(journal(run, "call_finished")) == 1, 30)
        (first,) = (run / "images").iterdir()
        filler = fill(spool, leave=4096)
        assert first.stat().st_size > 4096, "an image does not fit"
        wait_until(lambda: "the disk refuses: No space left" in caplog.text, 60)
        assert [path.name for path in (run / "images").iterdir() if path != first] == []
        assert not spool.done()

        filler.unlink()
        spool.wait_for(done=1)
        (done,) = spool.done()
        assert list(not_whole(done)) == []
        assert len(list((done / "images").iterdir())) == 3
        assert spool.stats()["posts"] == 3
        assert not journal(done, "call_failed")


def test_a_disk_that_becomes_read_only_holds_all_and_loses_nothing(tmp_path: Path) -> None:
    """As ext4 does after an error. A job that waits is claimed once it can be written to."""
    with on_small_disk(tmp_path) as spool:
        spool.start()
        spool.wait_ready()
        (spool.spool / "hold").touch()
        wait_until(lambda: "hold" in spool.status().get("hold", ""), 30, "a person holds it")
        spool.drop("castle.yaml", job())
        wait_until(lambda: "castle.yaml" in spool.status().get("next", []), 30, "it has settled")
        (spool.spool / "hold").unlink()
        remount(spool.spool, "ro")
        wait_until(lambda: any("Read-only" in line for line in spool.told), 60, "it is said")
        assert spool.waiting() == ["castle.yaml"]
        assert spool.stats()["posts"] == 0
        remount(spool.spool, "rw")
        spool.wait_for(done=1)
        assert spool.stats()["posts"] == 1


def test_a_disk_that_fails_in_mid_call_is_named_and_the_run_resumes_on_the_repaired_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """ext4 after an error: read-only under files that are open. The second of three calls."""
    with breaking_disk(tmp_path, tmp_path / "spool") as broken:
        settings = {"min_free": "1 MB"}
        with monitored(tmp_path, flags=("--step-time", "0.05"), settings=settings) as spool:
            spool.drop("castle.yaml", job(steps=20, n_iter=3))
            os.sync()  # what whoever dropped it has not, the failing disk loses
            spool.start()
            spool.wait_posts(2)
            (run,) = spool.working()
            wait_until(lambda: len(journal(run, "call_started")) == 2, 30)
            broken.fail()
            wait_until(lambda: "Read-only file system" in caplog.text, 60, "the log says so")
            wait_until(lambda: any("Read-only" in line for line in spool.told), 60, "it is said")
            assert (spool.working(), spool.done(), spool.failed()) == ([run], [], [])
            assert len(journal(run, "call_finished")) == 1

            broken.repair()
            spool.wait_for(done=1)
            (done,) = spool.done()
            assert list(not_whole(done)) == []
            assert len(list((done / "images").iterdir())) == 3
            assert not journal(done, "call_failed")
            assert [c["call"] for c in journal(done, "call_started")].count("1.1") == 1
            spool.stop()


@needs_quota
def test_a_quota_that_is_used_up_in_mid_run_is_named_and_costs_no_call(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The disk has 200 MB free, and `min_free` is about those; the quota does not show there."""
    with with_quota(tmp_path, tmp_path / "spool", "8M"):
        flags = ("--step-time", "0.05")
        with monitored(tmp_path, flags=flags, settings={"min_free": "1 MB"}) as spool:
            spool.drop("castle.yaml", job(steps=20, n_iter=3, width=512, height=512))
            spool.start()
            spool.wait_posts(2)
            (run,) = spool.working()
            wait_until(lambda: len(journal(run, "call_finished")) == 1, 30)
            filler = use_up_quota(spool)
            wait_until(lambda: "Disk quota exceeded" in caplog.text, 60, "the log says so")
            wait_until(lambda: any("quota" in line for line in spool.told), 60, "it is said")
            assert (spool.working(), spool.done(), spool.failed()) == ([run], [], [])

            filler.unlink()
            spool.wait_for(done=1)
            (done,) = spool.done()
            assert list(not_whole(done)) == []
            assert len(list((done / "images").iterdir())) == 3
            assert not journal(done, "call_failed")
            assert spool.stats()["posts"] == 3
            spool.stop()


def use_up_quota(spool: Monitored) -> Path:
    """Write until the quota is reached, to the last block."""
    filler = spool.spool / "filler"
    with open(filler, "wb", buffering=0) as file:
        for size in (1 << 20, 1 << 14, 1 << 12):
            with pytest.raises(OSError, match=os.strerror(errno.EDQUOT)):
                _write_on(file.fileno(), size)
    return filler


def _write_on(fd: int, size: int) -> None:
    while True:
        os.write(fd, b"x" * size)
        os.fsync(fd)

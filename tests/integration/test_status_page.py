"""status.html and status.json of a real monitor: they say what happens, and cost no job."""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from sdwatch.monitor import status_page
from sdwatch.monitor.status_page import StatusPage
from sdwatch.policy.page import page
from sdwatch.policy.page.overview import Presence
from sdwatch.spool.overview_reader import OverviewReader
from sdwatch.system import disk
from sdwatch.system.clock import SystemClock
from tests.policy.pages import ReadPage
from tests.spool.spools import made_spool
from tests.spool.test_overview import STATUS
from tests.support.helpers import wait_until
from tests.support.monitored import Monitored, job, monitored

SECRET = "a very private lighthouse"
SLOW = ("--step-time", "0.3")


def data(spool: Monitored) -> dict[str, Any]:
    """What status.json says; {} before it is there."""
    path = spool.spool / "status.json"
    return json.loads(disk.patiently(path.read_bytes)) if path.is_file() else {}


def html(spool: Monitored) -> str:
    return disk.patiently((spool.spool / "status.html").read_bytes).decode()


def page_says(spool: Monitored, words: str) -> bool:
    """Whether the page is there and has these words."""
    return (spool.spool / "status.html").is_file() and words in ReadPage(html(spool)).text


def shows(spool: Monitored, presence: str) -> bool:
    """Whether both files are there (the page is written last) and say so."""
    written = (spool.spool / "status.html").is_file()
    return written and data(spool).get("monitor", {}).get("presence") == presence


def test_the_page_follows_a_job_from_the_queue_to_its_picture(tmp_path: Path) -> None:
    with monitored(tmp_path, flags=SLOW) as spool:
        spool.drop("castle.yaml", job(SECRET, steps=30, n_iter=2))  # the page comes each 5 s
        spool.drop("tower.yaml.txt", job(SECRET))
        spool.drop("broken.yaml", "prompt: x\nstepz: 3\n")
        spool.start()
        step = wait_until(
            lambda: next((a for a in data(spool).get("active", []) if a["progress"]["step"]), None),
            60,
            "a step is shown",
        )
        assert (step["source"], step["stage"], step["calls"]) == ("castle.yaml", "txt2img", 2)
        wait_until(lambda: page_says(spool, "step"), 60, "the page, which is written last")
        spool.wait_for(done=1, failed=1)
        found = wait_until(lambda: data(spool).get("done"), 30, "the picture is shown")
        for thumbnail in found[0]["thumbnails"]:
            assert (spool.spool / thumbnail["path"]).is_file()
            assert (spool.spool / thumbnail["image"]).is_file()
        for words in ('did you mean "steps"?', "tower.yaml.txt"):
            wait_until(lambda words=words: page_says(spool, words), 60, words)
        assert SECRET not in html(spool) + json.dumps(data(spool))
        wait_until(lambda: not data(spool)["active"], 30, "nothing runs")
        spool.stop()
        assert data(spool)["monitor"]["presence"] == "stopped"
        assert "Stopped" in ReadPage(html(spool)).text
        assert not list(spool.spool.glob("*.tmp"))


def test_whoever_reads_the_files_sees_whole_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_page, "SHORTEST", 0.2)
    with monitored(tmp_path, flags=SLOW) as spool:
        spool.drop("castle.yaml", job(steps=10))
        spool.start()
        wait_until(lambda: shows(spool, "running"), 60, "it is written")
        seen: set[str] = set()
        while len(spool.done()) < 1:
            assert html(spool).endswith("</html>\n")
            seen.add(data(spool)["made_at"])
        assert len(seen) > 1
        spool.stop()


def test_a_killed_monitor_leaves_a_page_that_says_when_it_was_written(tmp_path: Path) -> None:
    with monitored(tmp_path) as spool:
        spool.start_process()
        wait_until(lambda: shows(spool, "running"), 60, "it is written")
        spool.kill()
        assert "if that is long ago, the monitor, its machine or the share is gone" in html(spool)
        found = OverviewReader(spool.spool).read()
        assert found.monitor.presence is Presence.GONE
        assert "The monitor is gone" in ReadPage(page.whole(found)).text


def test_a_page_that_cannot_be_written_costs_no_job_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with monitored(tmp_path) as spool, caplog.at_level(logging.WARNING):
        (spool.spool / "status.json").mkdir()
        spool.start()
        spool.drop("castle.yaml", job())
        spool.wait_for(done=1)
        spool.two_more_beats()
        spool.stop()
    lines = [record.getMessage() for record in caplog.records]
    said = [line for line in lines if "the status page cannot be written" in line]
    assert len([line for line in said if "written: still" not in line]) == 1


# -- how often


class Writes:
    """A status page on a spool without a monitor, and what it writes."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.spool = made_spool(tmp_path)
        self.pages: list[str] = []
        self.more = threading.Condition()
        self.error: OSError | None = None
        refresh = disk.refresh

        def writing(path: Path, content: bytes) -> None:
            if self.error is not None and path.suffix == ".html":
                raise self.error
            refresh(path, content)
            if path.suffix == ".html":
                with self.more:
                    self.pages.append(ReadPage(content.decode()).text)
                    self.more.notify_all()

        monkeypatch.setattr(disk, "refresh", writing)
        monkeypatch.setattr(status_page, "SHORTEST", 0.01)
        about = {"worker": self.spool.worker, "host": "render-7", "pid": os.getpid()}
        self.page = StatusPage(self.spool, about, SystemClock())
        self.page.open()

    def wait(self, words: str) -> None:
        wait_until(lambda: self.pages and words in self.pages[-1], 30, words)


def status(**fields: Any) -> dict[str, Any]:
    return {**STATUS, **fields}


def test_a_status_that_says_nothing_new_writes_no_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = Writes(tmp_path, monkeypatch)
    writes.page.show(status())
    writes.wait("Generating")
    for number in range(20):
        lanes = [{**STATUS["lanes"][0], "rss": number}]
        writes.page.show(status(at=f"2026-09-21T14:13:{number:02}.000Z", lanes=lanes))
    writes.page.show(status(hold="the disk is full"))
    writes.wait("On hold")
    assert len(writes.pages) == 2
    writes.page.close()
    writes.wait("Stopped")
    assert len(writes.pages) == 3


def test_a_page_is_written_when_nothing_changes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_page, "LONGEST", 0.02)
    writes = Writes(tmp_path, monkeypatch)
    writes.page.show(status())
    wait_until(lambda: len(writes.pages) >= 3, 30, "three pages")
    writes.page.close()


def test_what_the_disk_refused_is_written_when_it_accepts_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_page, "LONGEST", 0.02)
    writes = Writes(tmp_path, monkeypatch)
    writes.error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    writes.page.show(status())
    writes.error = None
    writes.wait("Generating")
    writes.page.close()


def test_the_last_page_of_one_that_lost_its_spool_to_another_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = Writes(tmp_path, monkeypatch)
    writes.page.show(status())
    writes.wait("Generating")
    other = made_spool(tmp_path, worker="box-2")
    beat = {**STATUS, "worker": "box-2", "host": "elsewhere", "pid": 1, "beat": 1}
    (other.working / "heartbeat.json").write_text(json.dumps(beat))
    writes.page.close()
    assert not [text for text in writes.pages if "Stopped" in text]


def test_without_a_share_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = Writes(tmp_path, monkeypatch)
    for folder in ("inbox", "done", "failed"):
        (writes.spool.root / folder).rmdir()
    writes.spool.working.rmdir()
    writes.spool.working.parent.rmdir()
    writes.page.show(status())
    writes.page.close()
    assert list(writes.spool.root.iterdir()) == []

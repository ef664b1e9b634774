"""A disk without room: no generation is wasted, no job fails."""

from __future__ import annotations

import errno
import itertools
import os
from pathlib import Path

import pytest

from sdwatch.monitor.monitor import Monitor
from sdwatch.monitor.once import MonitorEnd
from sdwatch.policy.queue.run_names import image_prefix
from sdwatch.policy.report.notice import Notice
from sdwatch.system import disk
from sdwatch.system.failpoints import Failpoint
from tests.support.helpers import wait_until
from tests.support.monitored import Monitored, has, job, journal, monitored


def test_nothing_starts_with_too_little_room_and_status_says_so(tmp_path: Path) -> None:
    with monitored(tmp_path, settings={"min_free": "900 TB"}) as spool:
        spool.drop("castle.yaml", job())
        spool.start()
        wait_until(lambda: "less than min_free" in spool.status().get("hold", ""), 30)
        spool.wait_ready()
        assert spool.waiting() == ["castle.yaml"]
        assert spool.stats()["posts"] == 0
        assert "less than min_free (900000000 MB)" in spool.status()["hold"]
        note = spool.spool / "HOLD-sim.txt"
        assert "Fault:     the machine" in note.read_text(encoding="utf-8")
        spool.stop()
        assert not note.exists()

        spool.write_config(min_free="1 MB")
        spool.start()
        spool.wait_for(done=1)


def test_once_ends_on_hold_and_leaves_the_jobs(tmp_path: Path) -> None:
    with monitored(tmp_path, settings={"min_free": "900 TB"}) as spool:
        spool.drop("castle.yaml", job())
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.HOLD
        assert spool.waiting() == ["castle.yaml"]
        assert any("MB free on the spool's disk" in line for line in spool.told)


def test_a_change_of_the_free_space_is_not_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = itertools.count(10**9, 10**6)
    with monitored(tmp_path, settings={"min_free": "900 TB"}) as spool:
        monkeypatch.setattr(disk, "free_bytes", lambda _: next(left))
        spool.start()
        wait_until(lambda: "less than min_free" in spool.status().get("hold", ""), 30)
        before = spool.status()["hold"]
        note = spool.spool / "HOLD-sim.txt"
        wait_until(note.exists, 30, "the note")
        text = note.read_text(encoding="utf-8")
        wait_until(lambda: spool.status().get("hold", before) != before, 30, "another number")
        spool.two_more_beats()
        assert note.read_text(encoding="utf-8") == text
        assert len([line for line in spool.told if "less than min_free" in line]) == 1


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """While this file is there, the disk takes no images."""
    flag = tmp_path / "disk-is-full"

    def refuse(effect: Failpoint) -> None:
        if effect.label == "write" and effect.path.parent.name == "images" and flag.exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(effect.path))

    monkeypatch.setattr("sdwatch.system.failpoints.before", refuse)
    flag.touch()
    return flag


def test_a_full_disk_is_logged_once_with_the_path_and_at_its_end(
    tmp_path: Path,
    full: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="sdwatch")
    monkeypatch.setattr("sdwatch.spool.patient_disk.STORAGE_PAUSE", 0.05)

    def about_the_disk() -> list[str]:
        lines = [record.getMessage() for record in caplog.records if record.name == "sdwatch.run"]
        return [line for line in lines if "the disk" in line]

    with monitored(tmp_path) as spool:
        spool.drop("castle.yaml", job())
        spool.start()
        wait_for_refusal(spool)
        for _ in range(2):
            spool.two_more_beats()  # dozens of tries
        (told,) = about_the_disk()
        (run,) = spool.working()
        image = run / "images"
        assert "the disk refuses: No space left on device: " in told
        assert str(image) in told
        full.unlink()
        spool.wait_for(done=1)
        assert "the disk accepts it again, after " in about_the_disk()[-1]
        assert len(about_the_disk()) == 2

        def holds() -> list[str]:
            return [line for line in spool.told if line.startswith("everything: ")]

        wait_until(lambda: len(holds()) == 2, 30, "its end is reported")
        assert holds()[1] == "everything: resumes"


def test_a_journal_that_is_refused_suspends_its_run_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="sdwatch")
    monkeypatch.setattr("sdwatch.monitor.runs_without_lane.REFUSED_FOR", 0.05)
    monkeypatch.setattr("sdwatch.monitor.runs.REFUSED_FOR", 0.05)
    refused: list[Path] = []
    read_only = tmp_path / "journal-is-read-only"
    read_only.touch()

    def refuse(effect: Failpoint) -> None:
        is_journal = effect.label == "append" and effect.path.name == "journal.jsonl"
        if is_journal and read_only.exists() and b"planned" in effect.path.read_bytes():
            refused.append(effect.path)
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(effect.path))

    with monitored(tmp_path) as spool:
        spool.start()
        spool.wait_ready()
        monkeypatch.setattr("sdwatch.system.failpoints.before", refuse)
        spool.drop("castle.yaml", job())
        wait_until(lambda: len(refused) > 5, 60, "it was tried again and again")
        read_only.unlink()
        spool.wait_for(done=1)
        (run,) = spool.done()

        def lines(*words: str) -> list[str]:
            messages = [record.getMessage() for record in caplog.records]
            ours = [message for message in messages if run.name in message]
            return [message for message in ours if any(word in message for word in words)]

        wait_until(lambda: lines("the disk accepts it again, after "), 30, "its end is reported")
        told = lines("suspended", "resumes")
        assert len(told) == 1
        assert str(refused[0]) in told[0]


def test_a_claim_that_is_refused_is_reported_once_with_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdwatch.monitor.intake.REFUSED_FOR", 0.05)
    tries: list[Path] = []
    read_only = tmp_path / "spool-is-read-only"
    read_only.touch()

    def refuse(effect: Failpoint) -> None:
        if effect.label == "append" and read_only.exists():
            tries.append(effect.path)
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(effect.path))

    with monitored(tmp_path) as spool:
        spool.start()
        spool.wait_ready()
        monkeypatch.setattr("sdwatch.system.failpoints.before", refuse)
        spool.drop("castle.yaml", job())
        wait_until(lambda: len(tries) > 3, 60, "it was tried again and again")
        read_only.unlink()
        spool.wait_for(done=1)
        (told,) = (line for line in spool.told if "cannot be claimed" in line)
        assert str(spool.spool / "working") in told


def wait_for_refusal(spool: Monitored) -> None:
    wait_until(
        lambda: "the spool's disk" in spool.status().get("hold", ""), 60, "status says the disk"
    )


def test_while_the_disk_refuses_an_image_nothing_is_sent_and_then_the_run_resumes(
    tmp_path: Path, full: Path
) -> None:
    with monitored(tmp_path) as spool:
        spool.drop("castle.yaml", job(n_iter=2))
        spool.start()
        wait_for_refusal(spool)
        assert os.strerror(errno.ENOSPC) in spool.status()["hold"]
        spool.drop("later.yaml", job())
        wait_until(lambda: "later.yaml" in spool.status()["next"], 30, "the other one waits")
        spool.two_more_beats()
        assert spool.stats()["posts"] == 1
        assert spool.waiting() == ["later.yaml"]
        assert not spool.failed()

        full.unlink()
        spool.wait_for(done=2)
        sent = [[call["call"] for call in journal(run, "call_started")] for run in spool.done()]
        assert sorted(sent) == [["1.1"], ["1.1", "1.2"]]
        assert not any(journal(run, "call_failed") for run in spool.done())
        assert spool.stats()["posts"] == 3
        wait_until(lambda: spool.status()["hold"] == "", 20, "status says no hold any more")
        assert any("everything: on hold: " in line for line in spool.told)
        assert "everything: resumes" in spool.told


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.EROFS, errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("label", ["write", "sync", "rename"])
def test_whatever_a_disk_refuses_of_an_image_nothing_is_lost_or_left_over(
    tmp_path: Path, number: int, label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quota that is used up, a disk that became read-only: the second of three calls."""
    monkeypatch.setattr("sdwatch.spool.patient_disk.STORAGE_PAUSE", 0.05)
    refused: list[Path] = []

    def refuse(effect: Failpoint) -> None:
        is_image = effect.path.parent.name == "images" and "_002-" in effect.path.name
        if is_image and effect.label == label and len(refused) < 3:
            assert not list(effect.path.parent.glob(".*")) or label != "write"
            refused.append(effect.path)
            raise OSError(number, os.strerror(number), str(effect.path))

    monkeypatch.setattr("sdwatch.system.failpoints.before", refuse)
    with monitored(tmp_path) as spool:
        spool.drop("castle.yaml", job(n_iter=3))
        spool.start()  # `--once` would end where it sees the hold in between
        spool.wait_for(done=1)
        (run,) = spool.done()
        assert len(refused) == 3
        assert spool.stats()["posts"] == 3
        assert not journal(run, "call_failed")
        assert len(list((run / "images").iterdir())) == 3


def test_a_file_half_written_at_a_kill_is_not_published(tmp_path: Path) -> None:
    with monitored(tmp_path, flags=("--step-time", "0.2")) as spool:
        spool.drop("castle.yaml", job(n_iter=2, steps=10))
        spool.start_process()
        spool.wait_posts(2)
        assert spool.process is not None
        spool.process.kill()
        spool.process.wait()
        (run,) = spool.working()
        half = run / "images" / f".{image_prefix(run.name)}_1-txt2img_007-01.png.tmp"
        half.write_bytes(b"half an image")
        (run / ".stage_failure_payload.9.json.tmp").write_bytes(b"{")
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.EMPTY
        (done,) = spool.done()
        left = [path.name for path in done.rglob("*") if path.name.endswith(".tmp")]
        assert left == []
        assert len(list((done / "images").iterdir())) == 2


def test_two_runs_on_a_full_disk_send_no_more_than_one_call_each(
    tmp_path: Path, full: Path
) -> None:
    with monitored(tmp_path) as spool:
        for name in ("castle.yaml", "tower.yaml"):
            spool.drop(name, job(n_iter=2))
        spool.start()
        wait_for_refusal(spool)
        spool.two_more_beats()
        assert spool.stats()["posts"] <= 2
        full.unlink()
        spool.wait_for(done=2)
        assert spool.stats()["posts"] == 4


def test_once_ends_on_hold_when_the_disk_refuses_an_image(tmp_path: Path, full: Path) -> None:
    with monitored(tmp_path, settings={"stop_grace": 3600}) as spool:
        spool.drop("castle.yaml", job())
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.HOLD
        assert has(spool.working, "call_given_up")()
        assert not spool.processes()

        full.unlink()
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.EMPTY
        assert len(spool.done()) == 1
        assert spool.stats()["posts"] == 2


def test_a_stop_while_the_disk_refuses_an_image_does_not_take_the_grace_time(
    tmp_path: Path, full: Path
) -> None:
    assert full.exists()
    with monitored(tmp_path, settings={"stop_grace": 3600}) as spool:
        spool.drop("castle.yaml", job())
        spool.start()
        wait_for_refusal(spool)
        assert spool.monitor is not None
        spool.monitor.stop()
        assert spool.ended() is MonitorEnd.STOPPED
        assert len(spool.working()) == 1
        assert not spool.processes()


def test_a_run_that_has_ended_is_moved_once_its_folder_can_be_and_never_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rename that publishes it is refused twice, of a job that no WebUI can do."""
    refused: list[Path] = []

    def refuse(effect: Failpoint) -> None:
        if effect.label == "rename" and effect.path.parent.name == "failed" and len(refused) < 2:
            refused.append(effect.path)
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(effect.path))

    monkeypatch.setattr("sdwatch.system.failpoints.before", refuse)
    monkeypatch.setattr("sdwatch.monitor.runs_without_lane.REFUSED_FOR", 0.1)
    with monitored(tmp_path) as spool:
        spool.drop("bad.yaml", job(sampler_name="Eulr"))
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.EMPTY, spool.told
        (run,) = spool.failed()
        assert len(refused) == 2
        assert spool.stats()["posts"] == 0
        assert len(journal(run, "ended")) == 1


def test_a_terminal_behind_which_the_disk_is_full_stops_nothing(tmp_path: Path) -> None:
    def tell(notice: Notice) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(notice))

    with monitored(tmp_path) as spool:
        spool.drop("castle.yaml", job())
        result = Monitor(spool.config, once=True, notify=tell).run()
        assert result is MonitorEnd.EMPTY
        assert len(spool.done()) == 1

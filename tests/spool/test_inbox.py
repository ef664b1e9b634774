"""What in the inbox is a job, and when it is ready."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from sdwatch import system
from sdwatch.errors import JobError
from sdwatch.policy.job import Job
from sdwatch.spool.archive import Spool
from sdwatch.spool.inbox import Inbox
from sdwatch.spool.watch import InboxWatch
from tests.helpers import FakeClock, wait_until
from tests.spool.spools import (
    ARRIVAL_TIMEOUT,
    JOB,
    SETTLE,
    arrival_of,
    folder_job,
    inbox_of,
    made_spool,
    picture,
    settled,
)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return made_spool(tmp_path)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def inbox(spool: Spool, clock: FakeClock) -> Inbox:
    return inbox_of(spool, clock)


def sources(inbox: Inbox) -> list[str]:
    return [arrival.source for arrival in inbox.scan()]


# -- settling


def test_a_file_is_ready_when_it_has_stayed_the_same_for_the_settle_time(
    inbox: Inbox, clock: FakeClock
) -> None:
    (inbox.root / "castle.yaml").write_text(JOB)
    assert inbox.scan() == []
    assert inbox.waiting == {"castle.yaml": "still arriving"}
    clock.advance(SETTLE - 0.01)
    assert inbox.scan() == []
    clock.advance(0.01)
    (arrival,) = inbox.scan()
    assert (arrival.source, arrival.cancelled) == ("castle.yaml", False)
    assert isinstance(arrival.job, Job)
    assert inbox.waiting == {}


def test_a_file_that_changes_settles_from_its_last_change(inbox: Inbox, clock: FakeClock) -> None:
    path = inbox.root / "castle.yaml"
    path.write_text("prompt: a")
    inbox.scan()
    clock.advance(SETTLE - 0.5)
    path.write_text("prompt: a castle\n")
    assert inbox.scan() == []
    clock.advance(SETTLE - 0.5)
    assert inbox.scan() == []
    clock.advance(0.5)
    assert len(inbox.scan()) == 1


def test_a_file_of_the_same_size_with_another_mtime_has_changed(
    inbox: Inbox, clock: FakeClock
) -> None:
    path = inbox.root / "castle.yaml"
    path.write_text(JOB)
    assert len(settled(inbox, clock)) == 1
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert inbox.scan() == []
    clock.advance(SETTLE)
    assert len(inbox.scan()) == 1


def test_a_clock_set_wrong_does_not_make_a_file_older(inbox: Inbox, clock: FakeClock) -> None:
    path = inbox.root / "castle.yaml"
    path.write_text(JOB)
    os.utime(path, (0, 0))
    inbox.scan()
    clock.wall_now += 10_000
    assert inbox.scan() == []


def test_what_was_renamed_into_place_is_ready_at_once(inbox: Inbox) -> None:
    path = inbox.root / "castle.yaml"
    path.write_text(JOB)
    inbox.renamed_in(path)
    assert sources(inbox) == ["castle.yaml"]
    assert sources(inbox) == ["castle.yaml"]


def test_what_is_written_after_it_was_renamed_into_place_settles(
    inbox: Inbox, clock: FakeClock
) -> None:
    path = inbox.root / "castle.yaml"
    path.write_text(JOB)
    inbox.renamed_in(path)
    inbox.scan()
    path.write_text(JOB + "steps: 3\n")
    assert inbox.scan() == []
    clock.advance(SETTLE)
    assert sources(inbox) == ["castle.yaml"]


def test_a_file_that_is_taken_away_is_forgotten(inbox: Inbox, clock: FakeClock) -> None:
    path = inbox.root / "castle.yaml"
    path.write_text(JOB)
    assert len(settled(inbox, clock)) == 1
    path.unlink()
    assert inbox.scan() == []
    assert inbox.waiting == {}
    path.write_text(JOB)
    assert inbox.scan() == []


def test_a_file_that_cannot_be_parsed_is_ready_with_its_error(
    inbox: Inbox, clock: FakeClock
) -> None:
    (inbox.root / "castle.yaml").write_text("prompt: a\nstep: 2\n")
    (arrival,) = settled(inbox, clock)
    assert isinstance(arrival.job, JobError)
    assert "castle.yaml:2:1:" in str(arrival.job)


class TickingClock(FakeClock):
    """Each look at it takes an eighth of a second."""

    def monotonic(self) -> float:
        self.advance(0.125)
        return self.now


def test_a_large_burst_is_parsed_over_several_scans(spool: Spool) -> None:
    clock = TickingClock()
    inbox = inbox_of(spool, clock)
    for number in range(10):
        (inbox.root / f"castle-{number}.yaml").write_text(JOB)
    assert len(settled(inbox, clock)) == 4
    assert set(inbox.waiting.values()) == {"its turn to be read comes with the next scan"}
    assert [len(inbox.scan()), len(inbox.scan())] == [8, 10]


def test_an_inbox_that_is_gone_is_an_error_to_the_caller(inbox: Inbox) -> None:
    inbox.root.rmdir()
    with pytest.raises(FileNotFoundError):
        inbox.scan()


# -- job folders

SKETCH = "stages:\n  - img2img: {init_images: sketch.png}\n"


def test_a_job_folder_is_one_job_with_its_images(
    inbox: Inbox, spool: Spool, clock: FakeClock
) -> None:
    folder_job(spool, "night/sketch", SKETCH, "sketch.png")
    (arrival,) = settled(inbox, clock)
    assert arrival.source == "night/sketch"
    assert isinstance(arrival.job, Job)
    assert arrival.job.name == "sketch"


def test_a_job_folder_waits_for_the_images_it_names(
    inbox: Inbox, spool: Spool, clock: FakeClock
) -> None:
    folder = folder_job(spool, "sketch", SKETCH)
    assert settled(inbox, clock) == []
    assert inbox.waiting == {"sketch": "waits for sketch.png"}
    clock.advance(ARRIVAL_TIMEOUT / 2)
    assert inbox.scan() == []
    (folder / "sketch.png").write_bytes(picture())
    (arrival,) = settled(inbox, clock)
    assert isinstance(arrival.job, Job)


def test_after_the_arrival_timeout_a_missing_image_is_a_mistake_in_the_job(
    inbox: Inbox, spool: Spool, clock: FakeClock
) -> None:
    folder_job(spool, "sketch", SKETCH, "sketch.jpg")
    assert settled(inbox, clock) == []
    clock.advance(ARRIVAL_TIMEOUT)
    (arrival,) = inbox.scan()
    assert isinstance(arrival.job, JobError)
    assert 'did you mean "sketch.jpg"?' in str(arrival.job)


def test_a_job_folder_settles_as_a_whole(inbox: Inbox, spool: Spool, clock: FakeClock) -> None:
    folder = folder_job(spool, "sketch", SKETCH, "sketch.png")
    inbox.scan()
    clock.advance(SETTLE - 0.5)
    (folder / "sketch.png").write_bytes(picture(colour=9) * 2)
    clock.advance(0.5)
    assert inbox.scan() == []
    clock.advance(SETTLE)
    assert sources(inbox) == ["sketch"]


# -- what is no job


@pytest.mark.parametrize(
    "name",
    [
        ".castle.yaml",
        "~castle.yaml",
        "~$castle.yaml",
        "#castle.yaml#",
        "_tmp_castle.yaml",
        "castle.yaml~",
        "castle.yaml.tmp",
        "castle.yaml.part",
        "castle.yaml.crdownload",
        "castle.yaml.filepart",
        "castle.yaml.swp",
        "castle.yaml.bak",
        ".syncthing.castle.yaml.tmp",
        "castle.syncthing.yaml",
        "README.md",
        "castle.png",
        "desktop.ini",
        "Thumbs.db",
        "castle.yaml.cancel",
        "._castle.yaml",
        ".castle.yaml.icloud",
        ".fuse_hidden0001.yaml",
        "~syncthing~castle.yaml",
        "castle.yaml___jb_tmp___",
        ".rsync-partial/castle.yaml",
        ".~tmp~/castle.yaml",
        ".stversions/castle~20260101-120000.yaml",
        ".dropbox.cache/castle.yaml",
        ".tmp.drivedownload/castle.yaml",
        ".Trash-1000/files/castle.yaml",
        "castle.yaml.download/castle.yaml",
        "sketch.part/job.yaml",
        "(A Document Being Saved By TextEdit 2)/castle.yaml",
        "$RECYCLE.BIN/castle.yaml",
        "System Volume Information/castle.yaml",
        "@eaDir/castle.yaml/job.yaml",
        "@Recycle/castle.yaml",
        "#recycle/castle.yaml",
        "__MACOSX/castle.yaml",
        "lost+found/castle.yaml",
    ],
)
def test_temporary_names_and_other_files_are_left_alone(
    inbox: Inbox, clock: FakeClock, name: str
) -> None:
    path = inbox.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(JOB)
    assert settled(inbox, clock) == []
    assert inbox.waiting == {}
    assert path.exists()


@pytest.mark.parametrize(
    "name",
    [
        "castle.yaml",
        "castle.yml",
        "Castle.YAML",
        "a castle.yaml",
        "#1 castle.yaml",
        "$5 castle.yaml",
        "castle - Copy.yaml",
        "castle.sync-conflict-20260101-120000-ABCDEFG.yaml",
        "castle (Ann's conflicted copy 2026-01-01).yaml",
    ],
)
def test_the_names_of_job_files(inbox: Inbox, clock: FakeClock, name: str) -> None:
    (inbox.root / name).write_text(JOB)
    assert [arrival.source for arrival in settled(inbox, clock)] == [name]


def test_symbolic_links_are_never_followed(inbox: Inbox, clock: FakeClock, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "job.yaml").write_text(JOB)
    (inbox.root / "file.yaml").symlink_to(outside / "job.yaml")
    (inbox.root / "folder").symlink_to(outside, target_is_directory=True)
    (inbox.root / "loop").symlink_to(inbox.root, target_is_directory=True)
    assert settled(inbox, clock) == []


def test_a_link_inside_a_job_folder_is_not_one_of_its_images(
    inbox: Inbox, spool: Spool, clock: FakeClock, tmp_path: Path
) -> None:
    (tmp_path / "secret.png").write_bytes(picture())
    folder = folder_job(spool, "sketch", SKETCH)
    (folder / "sketch.png").symlink_to(tmp_path / "secret.png")
    settled(inbox, clock)
    assert inbox.waiting == {"sketch": "waits for sketch.png"}


# -- order and sources


def test_sub_folders_are_kept_as_the_source(inbox: Inbox, clock: FakeClock) -> None:
    for name in ("ann/night/castle.yaml", "bob/castle.yaml"):
        path = inbox.root / name
        path.parent.mkdir(parents=True)
        path.write_text(JOB)
    assert {arrival.source for arrival in settled(inbox, clock)} == {
        "ann/night/castle.yaml",
        "bob/castle.yaml",
    }


def test_the_order_is_priority_then_mtime_then_path(inbox: Inbox, clock: FakeClock) -> None:
    jobs = {"c.yaml": (0, 50), "b.yaml": (0, 100), "a.yaml": (0, 100), "z.yaml": (7, 200)}
    for name, (priority, mtime) in jobs.items():
        path = inbox.root / name
        path.write_text(f"prompt: a\npriority: {priority}\n")
        os.utime(path, (mtime, mtime))
    assert [a.source for a in settled(inbox, clock)] == ["z.yaml", "c.yaml", "a.yaml", "b.yaml"]


def test_a_marker_beside_a_waiting_job_cancels_it(
    inbox: Inbox, spool: Spool, clock: FakeClock
) -> None:
    arrival_of(spool, clock)
    (spool.inbox / "castle.yaml.cancel").touch()
    (arrival,) = settled(inbox, clock)
    assert arrival.cancelled


# -- hints from the system


def test_the_watch_says_scan_and_tells_a_rename_into_place(tmp_path: Path) -> None:
    root = tmp_path / "inbox"
    root.mkdir()
    hints: list[str] = []
    renamed: list[Path] = []
    watch = InboxWatch(root, lambda: hints.append("scan"), renamed.append)
    watch.start()
    try:
        (tmp_path / "whole.yaml").write_text(JOB)
        (tmp_path / "whole.yaml").rename(root / "whole.yaml")
        wait_until(lambda: hints, why="a hint for a rename into place")
        if sys.platform.startswith("linux"):
            wait_until(lambda: renamed == [root / "whole.yaml"], why="which path it was")
        hints.clear()
        (root / "written.yaml").write_text(JOB)
        wait_until(lambda: hints, why="a hint for a file that is written")
        assert root / "written.yaml" not in renamed
    finally:
        watch.stop()


def test_what_leaves_the_inbox_is_no_reason_to_scan(tmp_path: Path) -> None:
    root = tmp_path / "inbox"
    root.mkdir()
    (root / "castle.yaml").write_text(JOB)
    hints: list[str] = []
    watch = InboxWatch(root, lambda: hints.append("scan"), lambda _: None)
    watch.start()
    try:
        (root / "castle.yaml").rename(tmp_path / "castle.yaml")
    finally:
        watch.stop()
    assert hints == []


def test_an_image_that_is_closed_to_us_is_told_by_its_name(
    inbox: Inbox, spool: Spool, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = system.open_inside

    def closed(folder: Path, name: str) -> int:
        if name == "sketch.png":
            raise PermissionError(errno.EACCES, "Permission denied", "/somewhere")
        return real(folder, name)

    folder_job(spool, "sealed", SKETCH, "sketch.png")
    monkeypatch.setattr(system, "open_inside", closed)
    assert settled(inbox, clock) == []
    assert inbox.waiting == {"sealed": "sketch.png cannot be read yet: Permission denied"}
    assert inbox.unreadable == {"sealed"}
    clock.advance(ARRIVAL_TIMEOUT)
    (arrival,) = inbox.scan()
    assert str(arrival.job) == "sealed: sketch.png cannot be read: Permission denied"


def test_an_accent_that_is_taken_apart_on_disk_is_the_same_name(
    inbox: Inbox, spool: Spool, clock: FakeClock
) -> None:
    apart = "cafe\u0301.png"
    folder_job(spool, "sketch", SKETCH.replace("sketch.png", "caf\u00e9.png"), apart)
    (arrival,) = settled(inbox, clock)
    assert isinstance(arrival.job, Job)
    assert arrival.job.stages[0].fields["init_images"] == [apart]

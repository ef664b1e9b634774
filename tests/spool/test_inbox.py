"""What in the inbox is a job, and when it is ready."""

from __future__ import annotations

import errno
import io
import math
import os
import sys
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sdwatch import system
from sdwatch.errors import JobError
from sdwatch.policy.job.files.near_miss import why_not_a_job
from sdwatch.policy.job.job import Job
from sdwatch.spool import archive
from sdwatch.spool import inbox as inbox_module
from sdwatch.spool.fingerprint import DEEPEST
from sdwatch.spool.folders import Spool
from sdwatch.spool.inbox import Inbox
from sdwatch.spool.watch import InboxWatch
from sdwatch.system import disk, links
from tests.spool.spools import (
    ARRIVAL_TIMEOUT,
    JOB,
    SETTLE,
    arrival_of,
    folder_job,
    inbox_of,
    picture,
    settled,
)
from tests.support.helpers import FakeClock, wait_until
from tests.support.stage_images import images_named


@pytest.fixture
def inbox(spool: Spool, clock: FakeClock) -> Inbox:
    return inbox_of(spool, clock)


SKETCH = "stages:\n  - img2img: {prompt: a, init_images: sketch.png}\n"


def noise(kind: str) -> bytes:
    """A picture large enough to be cut anywhere."""
    data = io.BytesIO()
    Image.effect_noise((256, 256), 90).convert("RGB").save(data, kind)
    return data.getvalue()


def sources(inbox: Inbox) -> list[str]:
    return [arrival.source for arrival in inbox.scan()]


# -- settling


def test_a_file_is_ready_when_it_has_stayed_the_same_for_the_settle_time(
    inbox: Inbox, clock: FakeClock
) -> None:
    (inbox.root / "castle.yaml").write_text(JOB)
    assert inbox.scan() == []
    assert dict(inbox.reasons()) == {"castle.yaml": "still arriving"}
    clock.advance(SETTLE - 0.01)
    assert inbox.scan() == []
    clock.advance(0.01)
    (arrival,) = inbox.scan()
    assert (arrival.source, arrival.cancelled) == ("castle.yaml", False)
    assert isinstance(arrival.job, Job)
    assert dict(inbox.reasons()) == {}


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
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 100))
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
    assert dict(inbox.reasons()) == {}
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
    """Each look at it takes a part of a round."""

    def monotonic(self) -> float:
        self.advance(inbox_module._READING / 4)
        return self.now


def test_a_large_burst_is_read_in_rounds_in_the_order_of_the_claims(spool: Spool) -> None:
    clock = TickingClock()
    inbox = inbox_of(spool, clock)
    for number in range(20):
        path = inbox.root / f"castle-{number}.yaml"
        path.write_text(JOB)
        os.utime(path, (0, 100 - number))
    ready = [arrival.source for arrival in settled(inbox, clock)]
    assert 0 < len(ready) < 20
    assert ready == [f"castle-{number}.yaml" for number in range(19, 19 - len(ready), -1)]
    assert inbox.unread == 20 - len(ready)
    assert dict(inbox.reasons()) == {}
    assert [arrival.source for arrival in inbox.newly_ready()] == ready
    inbox.read_for(inbox_module._READING)
    assert [a.source for a in inbox.ready] == ready + [a.source for a in inbox.newly_ready()]
    while inbox.unread:
        inbox.scan()
    assert len(inbox.ready) == 20


def test_what_has_settled_is_read_without_another_scan(inbox: Inbox, clock: FakeClock) -> None:
    (inbox.root / "castle.yaml").write_text(JOB)
    inbox.scan()
    assert inbox.settles_at == clock.now + SETTLE
    clock.advance(SETTLE)
    inbox.take_settled()
    inbox.read_to_first()
    assert [arrival.source for arrival in inbox.ready] == ["castle.yaml"]
    assert (dict(inbox.reasons()), inbox.settles_at) == ({}, math.inf)


def test_what_changed_since_the_scan_settles_again_before_it_is_read(
    inbox: Inbox, clock: FakeClock
) -> None:
    path = inbox.root / "castle.yaml"
    path.write_text("prompt: a")
    inbox.scan()
    clock.advance(SETTLE)
    path.write_text("prompt: a castle\n")
    inbox.take_settled()
    inbox.read_to_first()
    assert (inbox.ready, dict(inbox.reasons())) == ([], {"castle.yaml": "still arriving"})
    clock.advance(SETTLE)
    inbox.take_settled()
    inbox.read_to_first()
    (arrival,) = inbox.ready
    assert isinstance(arrival.job, Job)
    assert inbox.scan() == [arrival]


def test_what_is_gone_since_the_scan_is_not_read(inbox: Inbox, clock: FakeClock) -> None:
    path = inbox.root / "castle.yaml"
    path.write_text(JOB)
    inbox.scan()
    clock.advance(SETTLE)
    path.unlink()
    inbox.take_settled()
    inbox.read_to_first()
    assert (inbox.ready, dict(inbox.reasons())) == ([], {})


@pytest.mark.posix_only("on Windows a person may make no links")
def test_a_link_that_came_since_the_scan_is_not_followed(
    inbox: Inbox, spool: Spool, clock: FakeClock
) -> None:
    path, elsewhere = inbox.root / "castle.yaml", spool.root.parent / "elsewhere.yaml"
    path.write_text(JOB)
    elsewhere.write_text(JOB)
    inbox.scan()
    clock.advance(SETTLE)
    path.unlink()
    path.symlink_to(elsewhere)
    for _ in range(2):
        inbox.take_settled()
        inbox.read_to_first()
        assert inbox.ready == []
        clock.advance(SETTLE)
    assert inbox.scan() == []
    assert inbox.ignored.keys() == {"castle.yaml"}


def test_a_file_settles_from_the_time_when_its_status_was_read_in_a_scan_that_takes_long(
    spool: Spool,
) -> None:
    clock = TickingClock()
    inbox = inbox_of(spool, clock)
    for number in range(4):
        (inbox.root / f"castle-{number}.yaml").write_text(JOB)
    inbox.scan()
    began = sorted(arrival.since for arrival in inbox._settling)
    assert began == sorted(set(began)), "each has a time of its own"
    assert inbox.settles_at == began[0] + SETTLE


def test_a_job_that_cannot_be_parsed_keeps_nothing_of_the_scan_that_read_it(
    inbox: Inbox, clock: FakeClock
) -> None:
    """Through its traceback it kept all that each scan had found."""
    (inbox.root / "castle.yaml").write_text("prompt: a\nstep: 2\n")
    (arrival,) = settled(inbox, clock)
    assert isinstance(arrival.error, JobError)
    assert arrival.error.__traceback__ is None


def test_what_is_unread_counts_as_priority_0(spool: Spool) -> None:
    clock = TickingClock()
    inbox = inbox_of(spool, clock)
    for number in range(20):
        path = inbox.root / f"castle-{number:02}.yaml"
        path.write_text(JOB + f"priority: {[-1, 5][number > 15]}\n")
        os.utime(path, (0, number))
    assert {a.priority for a in settled(inbox, clock)} == {-1}
    while inbox.ready[0].priority < 0:
        inbox.read_to_first()
    assert [a.priority for a in inbox.ready[:2]] == [5, -1], "read until one comes before the rest"
    assert inbox.unread


def test_of_many_jobs_only_some_are_kept_and_the_others_are_parsed_again(
    inbox: Inbox, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_module, "_JOBS_KEPT", 3)
    for number in range(8):
        (inbox.root / f"castle-{number}.yaml").write_text(f"name: castle {number}\n{JOB}")
    ready = settled(inbox, clock)
    assert [arrival.parsed is not None for arrival in ready] == [False] * 5 + [True] * 3
    for number, arrival in enumerate(ready):
        assert isinstance(arrival.job, Job)
        assert arrival.job.name == f"castle {number}"
    assert sum(arrival.parsed is not None for arrival in ready) == 3
    ready[0].path.unlink()
    assert ready[0].job is None


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
    assert dict(inbox.reasons()) == {"sketch": "waits for sketch.png"}
    clock.advance(ARRIVAL_TIMEOUT / 2)
    assert inbox.scan() == []
    (folder / "sketch.png").write_bytes(picture())
    (arrival,) = settled(inbox, clock)
    assert isinstance(arrival.job, Job)


def test_an_image_is_found_whatever_the_case_of_its_letters(
    inbox: Inbox, spool: Spool, clock: FakeClock
) -> None:
    text = "stages:\n  - img2img: {prompt: a, init_images: [Parts/A\u0308.PNG, a.png]}\n"
    folder = folder_job(spool, "sketch", text, "A.png")
    (folder / "parts").mkdir()
    (folder / "parts" / "ä.png").write_bytes(picture())
    (arrival,) = settled(inbox, clock)
    assert isinstance(arrival.job, Job)
    assert images_named(arrival.job.stages[0]) == ["parts/ä.png", "A.png"]
    run = archive.claim(arrival, spool, clock)
    assert run is not None
    assert run.read_image("a.png", own=True) == picture()  # as a script has it
    run.close()


@pytest.mark.posix_only("Windows has no two such files in one folder")
def test_only_the_exact_one_of_two_images_that_differ_in_case_is_meant_or_none(
    inbox: Inbox, spool: Spool, clock: FakeClock
) -> None:
    folder_job(spool, "exact", SKETCH, "sketch.png", "Sketch.png")
    folder_job(spool, "neither", SKETCH, "Sketch.png", "SKETCH.png")
    exact, neither = sorted(settled(inbox, clock), key=lambda arrival: arrival.source)
    assert isinstance(exact.job, Job)
    assert images_named(exact.job.stages[0]) == ["sketch.png"]
    assert isinstance(neither.job, JobError)  # at once: none of them is still to come
    assert '"sketch.png" is ambiguous; it matches "SKETCH.png" and "Sketch.png"' in str(neither.job)


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
        "castle.yaml.CANCEL.txt",
        "castle.yaml:Zone.Identifier",
        "castle.yaml:Zone.Identifier:$DATA",
        "castle.yaml\uf03aZone.Identifier",
        "castle.yaml\uf022Zone.Identifier",
        "castle.yamlZone.Identifier",
        "castle.yaml_Zone.Identifier",
        "castle.yaml:com.dropbox.attrs",
        "castle.yaml:com.apple.quarantine",
        "castle.yaml:AFP_AfpInfo:$DATA",
        "castle.yaml:notes.json",
        "sketch.png:Zone.Identifier",
        "~WRL0001.tmp",
        "castle.yaml~RF1a2b3c.TMP",
        "castle.yaml.opdownload",
        "Unconfirmed 123456.crdownload",
        "castle.yaml.ffs_tmp",
        "castle.yaml___jb_old___",
        "castle.yaml.sb-d8e2f1c2-AbCdEf",
        "ehthumbs_vista.db",
        ".recycle/ann/castle.yaml",
        "@tmp/castle.yaml",
        "Network Trash Folder/castle.yaml",
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
    assert dict(inbox.reasons()) == {}
    assert all("picture" in why for why in inbox.ignored.values())
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
        "castle - Copy (2).yaml",
        "Copy of castle.yaml",
        "castle (1).yaml",
        "New Text Document.yaml",
        "at 12:30 a castle.yaml",
        "look.png: again.yaml",
        "castle.json",
        "war conflict.yaml",
        "castle (conflict of interest).yaml",
        "job.yaml",
    ],
)
def test_the_names_of_job_files(inbox: Inbox, clock: FakeClock, name: str) -> None:
    (inbox.root / name).write_text(JOB)
    assert [arrival.source for arrival in settled(inbox, clock)] == [name]


@pytest.mark.parametrize(
    "name",
    [
        "castle.yaml.txt",
        "castle.txt",
        "New Text Document.txt",
        "castle.yaml - Copy.txt",
        "Castle.YML.TXT",
        "castle.yaml.1",
        "castle.yaml (1)",
        "castle.yaml - Copy",
        "castle.yalm",
        "castle.yam",
        "castle.jsn",
        pytest.param("castle.yaml ", marks=pytest.mark.posix_only("spaces at the end")),
        "job",
        "hold.txt",
        "castle.sync-conflict-20260101-120000-ABCDEFG.yaml",
        "castle (Ann's conflicted copy 2026-01-01).yaml",
        "castle (SFConflict ann@example.org 2026-01-01-12-00-00).yml",
        "castle_conflict-20260101-120000.yaml",
        "artists/castle.txt",
    ],
)
def test_a_near_miss_is_named_with_its_reason_and_left_alone(
    inbox: Inbox, clock: FakeClock, name: str
) -> None:
    path = inbox.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(JOB)
    assert settled(inbox, clock) == []
    assert list(inbox.ignored) == [name]
    assert dict(inbox.reasons()) == {}
    assert path.read_text() == JOB
    path.unlink()
    inbox.scan()
    assert inbox.ignored == {}


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("castle.yaml.txt", "castle.yaml"),
        ("castle.txt", "castle.yaml"),
        ("castle.json.txt", "castle.json"),
        ("castle.yalm", "castle.yaml"),
        ("castle.yaml (1)", "castle.yaml"),
    ],
)
def test_a_near_miss_gets_the_right_name(name: str, right: str) -> None:
    assert f"rename it to {right}" in f"{why_not_a_job(name)} ".replace(" if it is one", "")


@pytest.mark.posix_only("symbolic links, which need a privilege on Windows")
def test_a_link_and_a_pipe_are_named_as_what_they_are(
    inbox: Inbox, clock: FakeClock, tmp_path: Path
) -> None:
    (tmp_path / "castle.yaml").write_text(JOB)
    (inbox.root / "link.yaml").symlink_to(tmp_path / "castle.yaml")
    os.mkfifo(inbox.root / "pipe.yaml")
    assert settled(inbox, clock) == []
    assert "link" in inbox.ignored["link.yaml"]
    assert inbox.ignored["pipe.yaml"] == "not a plain file"


def test_a_folder_too_deep_to_be_scanned_is_named(inbox: Inbox, clock: FakeClock) -> None:
    deep = inbox.root.joinpath(*["d"] * (DEEPEST + 1))
    deep.mkdir(parents=True)
    (deep / "castle.yaml").write_text(JOB)
    assert settled(inbox, clock) == []
    (reason,) = inbox.ignored.values()
    assert str(DEEPEST) in reason


DEEPER_THAN_WINDOWS = pytest.param(
    1500, marks=pytest.mark.posix_only("Windows takes minutes to make so many, one in the other")
)


@pytest.mark.parametrize("levels", [DEEPEST + 1, DEEPER_THAN_WINDOWS])
def test_a_job_folder_nested_too_deep_is_refused_with_a_reason(
    inbox: Inbox, spool: Spool, clock: FakeClock, levels: int
) -> None:
    folder = folder_job(spool, "deep", JOB)
    with chdir(folder):  # deeper than a recursion follows
        for _ in range(levels):
            Path("d").mkdir()
            os.chdir("d")
        try:
            (arrival,) = settled(inbox, clock)
        finally:
            for _ in range(levels):
                os.chdir("..")
                Path("d").rmdir()
    assert isinstance(arrival.job, JobError)
    assert str(DEEPEST) in str(arrival.job)


def test_a_job_folder_as_deep_as_people_make_them_is_a_job(
    inbox: Inbox, spool: Spool, clock: FakeClock
) -> None:
    folder = folder_job(spool, "deep", JOB)
    folder.joinpath(*["d"] * DEEPEST).mkdir(parents=True)
    (arrival,) = settled(inbox, clock)
    assert isinstance(arrival.job, Job)


@pytest.mark.parametrize("name", ["Job.yaml", "JOB.YML", "job.YAML", "Job.json", "job.json"])
def test_the_job_file_of_a_folder_has_its_name_in_any_case(
    inbox: Inbox, spool: Spool, clock: FakeClock, name: str
) -> None:
    folder = folder_job(spool, "Sketch", SKETCH, "sketch.png")
    (folder / "job.yaml").rename(folder / name)
    (arrival,) = settled(inbox, clock)
    assert (arrival.source, type(arrival.job)) == ("Sketch", Job)
    run = archive.claim(arrival, spool, clock)
    assert run is not None
    assert run.read_job().stages[0].fields["init_images"] == ["sketch.png"]


# -- unfinished files

UNFINISHED = {
    "empty": b"",
    "blank": b"\n\n",
    "zeros": bytes(60),
    "text, then zeros": b"prompt: a castle\nste" + bytes(40),
    "only a comment": b"# a castle\n",
    "an open quote": b'prompt: "a cast',
    "an open bracket": b"prompt: a\nalwayson_scripts: {adetailer: {args: [",
    "a key without its colon": b"prompt: a castle\nste",
    "the begin of the first key": b"pro",
    "stages without one": b"stages:\n",
    "the begin of a stage": b"stages:\n  - txt2i",
    "a stage that just begins": b"stages:\n  - txt2img:\n      pro",
    "half a character": "prompt: Schloß"[:-1].encode() + "ß".encode()[:1],
    "json without its end": b'{"prompt": "a castle",',
}


@pytest.mark.parametrize("text", UNFINISHED.values(), ids=UNFINISHED)
def test_an_unfinished_file_waits_and_is_a_job_once_it_is_whole(
    inbox: Inbox, clock: FakeClock, text: bytes
) -> None:
    path = inbox.root / "castle.yaml"
    path.write_bytes(text)
    assert settled(inbox, clock) == []
    assert "looks unfinished; fails in 28 s" in dict(inbox.reasons())["castle.yaml"]
    assert "castle.yaml:" in dict(inbox.reasons())["castle.yaml"]
    clock.advance(27)
    assert inbox.scan() == []
    path.write_text(JOB)
    (arrival,) = settled(inbox, clock)
    assert isinstance(arrival.job, Job)


@pytest.mark.parametrize("text", UNFINISHED.values(), ids=UNFINISHED)
def test_an_unfinished_file_that_does_not_change_fails_after_its_timeout(
    inbox: Inbox, clock: FakeClock, text: bytes
) -> None:
    (inbox.root / "castle.yaml").write_bytes(text)
    inbox.scan()
    clock.advance(29.9)
    assert inbox.scan() == []
    clock.advance(0.2)
    (arrival,) = inbox.scan()
    assert isinstance(arrival.job, JobError)


CUT = {name: text for name, text in UNFINISHED.items() if text}


@pytest.mark.parametrize("text", CUT.values(), ids=CUT)
def test_an_unfinished_file_that_was_renamed_in_fails_at_once(inbox: Inbox, text: bytes) -> None:
    path = inbox.root / "castle.yaml"
    path.write_bytes(text)
    inbox.renamed_in(path)
    (arrival,) = inbox.scan()
    assert isinstance(arrival.job, JobError)


def test_an_empty_file_that_got_its_name_by_a_rename_is_waited_for(
    inbox: Inbox, clock: FakeClock
) -> None:
    """As Explorer makes one, which is renamed first and edited then."""
    path = inbox.root / "castle.yaml"
    path.touch()
    inbox.renamed_in(path)
    assert settled(inbox, clock) == []
    assert "looks unfinished" in dict(inbox.reasons())["castle.yaml"]
    path.write_text(JOB)
    (arrival,) = settled(inbox, clock)
    assert isinstance(arrival.job, Job)


MISTAKES = {
    "a misspelt field": b"prompt: a\nstepz: 3\n",
    "a misspelt field without a line end": b"prompt: a\nstepz: 3",
    "no prompt": b"steps: 3\n",
    "a tab": b"prompt: a\n\tsteps: 3\n",
    "a quote that closes early": b'prompt: "a" castle\nsteps: 3\n',
    "a bracket in the middle": b"prompt: a\nsteps: ]\nwidth: 64\n",
    "a list": b"- a\n- b\n",
    "latin-1": "prompt: Schloß\nsteps: 3\n".encode("latin-1"),
    "zeros in the middle": b"prompt: a\n" + bytes(8) + b"\nsteps: 3\n",
    "a mistake before an open end": b"prompt: a\nstepz: 3\nwidth: 6x",
}


@pytest.mark.parametrize("text", MISTAKES.values(), ids=MISTAKES)
def test_every_other_mistake_fails_as_soon_as_it_has_settled(
    inbox: Inbox, clock: FakeClock, text: bytes
) -> None:
    (inbox.root / "castle.yaml").write_bytes(text)
    (arrival,) = settled(inbox, clock)
    assert isinstance(arrival.job, JobError)


def cut(data: bytes, kept: float) -> bytes:
    return data[: int(len(data) * kept)]


def preallocated(data: bytes, kept: float) -> bytes:
    return cut(data, kept).ljust(len(data), b"\0")


@pytest.mark.parametrize("how", [cut, preallocated])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("kept", [0, 0.05, 0.5, 0.9])
def test_an_image_that_pauses_on_its_way_is_waited_for(
    inbox: Inbox,
    spool: Spool,
    clock: FakeClock,
    how: Callable[[bytes, float], bytes],
    kind: str,
    kept: float,
) -> None:
    whole = noise(kind)
    folder = folder_job(spool, "sketch", SKETCH)
    (folder / "sketch.png").write_bytes(how(whole, kept))
    assert settled(inbox, clock) == []
    assert "looks unfinished" in dict(inbox.reasons())["sketch"]
    assert "sketch.png" in dict(inbox.reasons())["sketch"]
    (folder / "sketch.png").write_bytes(whole)
    (arrival,) = settled(inbox, clock)
    assert isinstance(arrival.job, Job)


def test_an_image_that_stays_cut_fails_after_the_unfinished_timeout(
    inbox: Inbox, spool: Spool, clock: FakeClock
) -> None:
    folder = folder_job(spool, "sketch", SKETCH)
    (folder / "sketch.png").write_bytes(cut(noise("PNG"), 0.5))
    settled(inbox, clock)
    clock.advance(28)
    (arrival,) = inbox.scan()
    assert isinstance(arrival.job, JobError)
    assert "cut off" in str(arrival.job)


def test_an_image_with_other_data_behind_it_is_whole(
    inbox: Inbox, spool: Spool, clock: FakeClock
) -> None:
    folder = folder_job(spool, "sketch", SKETCH)
    (folder / "sketch.png").write_bytes(noise("JPEG") + b"a film of three seconds" * 9)
    (arrival,) = settled(inbox, clock)
    assert isinstance(arrival.job, Job)


def test_a_file_that_is_not_an_image_fails_at_once(
    inbox: Inbox, spool: Spool, clock: FakeClock
) -> None:
    folder = folder_job(spool, "sketch", SKETCH)
    (folder / "sketch.png").write_bytes(b"<html>404, and more than a few bytes of it</html>")
    (arrival,) = settled(inbox, clock)
    assert isinstance(arrival.job, JobError)


@pytest.mark.posix_only("symbolic links, which need a privilege on Windows")
def test_symbolic_links_are_never_followed(inbox: Inbox, clock: FakeClock, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "job.yaml").write_text(JOB)
    (inbox.root / "file.yaml").symlink_to(outside / "job.yaml")
    (inbox.root / "folder").symlink_to(outside, target_is_directory=True)
    (inbox.root / "loop").symlink_to(inbox.root, target_is_directory=True)
    assert settled(inbox, clock) == []


@pytest.mark.posix_only("symbolic links, which need a privilege on Windows")
def test_a_link_inside_a_job_folder_is_not_one_of_its_images(
    inbox: Inbox, spool: Spool, clock: FakeClock, tmp_path: Path
) -> None:
    (tmp_path / "secret.png").write_bytes(picture())
    folder = folder_job(spool, "sketch", SKETCH)
    (folder / "sketch.png").symlink_to(tmp_path / "secret.png")
    settled(inbox, clock)
    why = "is a link, which is never followed; put the file itself into the job folder"
    assert dict(inbox.reasons()) == {"sketch": f"waits for sketch.png, which {why}"}
    clock.advance(inbox.arrival_timeout)
    (arrival,) = settled(inbox, clock)
    assert why in str(arrival.error)


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


@pytest.mark.parametrize(
    "marker",
    [
        "castle.yaml.cancel",
        "castle.yaml.cancel.txt",
        "Castle.yaml.Cancel",
        "CASTLE.YAML.CANCEL.TXT",
    ],
)
def test_a_marker_beside_a_waiting_job_cancels_it_in_any_case_and_goes_with_it(
    inbox: Inbox, spool: Spool, clock: FakeClock, marker: str
) -> None:
    arrival_of(spool, clock)
    (spool.inbox / marker).touch()
    (arrival,) = settled(inbox, clock)
    assert arrival.cancelled
    run = archive.claim(arrival, spool, clock)
    assert run is not None
    assert run.cancel_asked()
    assert list(spool.inbox.iterdir()) == []


def test_a_folder_named_like_a_marker_is_a_folder(
    inbox: Inbox, spool: Spool, clock: FakeClock
) -> None:
    arrival_of(spool, clock)
    (spool.inbox / "castle.yaml.cancel").mkdir()
    (spool.inbox / "castle.yaml.cancel" / "tower.yaml").write_text(JOB)
    assert {(a.source, a.cancelled) for a in settled(inbox, clock)} == {
        ("castle.yaml", False),
        ("castle.yaml.cancel/tower.yaml", False),
    }


# -- programs that keep a file open


@pytest.mark.skipif(
    sys.platform != "linux", reason="leases of Linux; tests/windows has share modes"
)
def test_a_file_that_a_program_has_open_to_write_to_waits_and_one_that_is_read_does_not(
    inbox: Inbox, clock: FakeClock
) -> None:
    path = inbox.root / "castle.yaml"
    path.write_text(JOB)
    with open(path, "ab"):
        assert settled(inbox, clock) == []
        assert dict(inbox.reasons()) == {
            "castle.yaml": "another program is still writing castle.yaml"
        }
    with open(path, "rb"):
        assert [arrival.source for arrival in inbox.scan()] == ["castle.yaml"]


@pytest.mark.skipif(
    sys.platform != "linux", reason="leases of Linux; tests/windows has share modes"
)
def test_an_image_of_a_job_folder_that_is_still_written_is_waited_for(
    inbox: Inbox, clock: FakeClock
) -> None:
    folder = inbox.root / "castle"
    folder.mkdir()
    (folder / "job.yaml").write_text(SKETCH)
    (folder / "sketch.png").write_bytes(picture())
    (folder / "Thumbs.db").touch()
    with open(folder / "Thumbs.db", "ab"), open(folder / "sketch.png", "ab"):
        assert settled(inbox, clock) == []
        assert dict(inbox.reasons()) == {"castle": "another program is still writing sketch.png"}
    with open(folder / "Thumbs.db", "ab"):
        assert [arrival.source for arrival in inbox.scan()] == ["castle"]


@pytest.mark.skipif(
    sys.platform != "linux", reason="leases of Linux; tests/windows has share modes"
)
def test_a_program_that_forgets_a_file_it_opened_keeps_it_only_for_the_arrival_timeout(
    inbox: Inbox, clock: FakeClock
) -> None:
    path = inbox.root / "castle.yaml"
    path.write_text(JOB)
    with open(path, "ab"):
        assert settled(inbox, clock) == []
        clock.advance(inbox.arrival_timeout)
        assert [arrival.source for arrival in inbox.scan()] == ["castle.yaml"]


@pytest.mark.posix_only("on Windows a person may make no links")
def test_whether_a_file_is_still_written_is_not_asked_through_a_link(
    inbox: Inbox, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "sketch.png").touch()
    links.follow_none_below(inbox.root)
    (inbox.root / "castle").symlink_to(outside)
    with open(outside / "sketch.png", "ab"):
        assert not disk.is_still_written(inbox.root / "castle" / "sketch.png")


@pytest.mark.skipif(sys.platform != "linux", reason="leases of Linux")
@pytest.mark.parametrize("own", [errno.EAGAIN, errno.EINVAL])
def test_a_file_system_that_refuses_every_lease_says_nothing_of_writers(
    inbox: Inbox, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, own: int
) -> None:
    """As NFS and CIFS do, with EAGAIN as for a file that is written to."""
    fcntl: Any = pytest.importorskip("fcntl")

    def refuse(fd: int, command: int, value: int = 0) -> int:
        if command == fcntl.F_SETLEASE:
            raise OSError(own, os.strerror(own))
        return real(fd, command, value)

    real = fcntl.fcntl
    monkeypatch.setattr(fcntl, "fcntl", refuse)
    (inbox.root / "castle.yaml").write_text(JOB)
    assert [arrival.source for arrival in settled(inbox, clock)] == ["castle.yaml"]


# -- hints from the system


def test_the_watch_says_scan_and_reports_a_rename_into_place(tmp_path: Path) -> None:
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


def test_an_image_that_we_may_not_read_is_reported_by_its_name(
    inbox: Inbox, spool: Spool, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = system.open_inside

    def closed(folder: Path, name: str) -> int:
        if name.endswith("/sketch.png"):
            raise PermissionError(errno.EACCES, "Permission denied", "/somewhere")
        return real(folder, name)

    folder_job(spool, "sealed", SKETCH, "sketch.png")
    monkeypatch.setattr(system, "open_inside", closed)
    assert settled(inbox, clock) == []
    assert dict(inbox.reasons()) == {"sealed": "sketch.png cannot be read yet: Permission denied"}
    assert inbox.for_a_person == {"sealed"}
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


@pytest.mark.parametrize(
    ("named", "there", "meant"),
    [
        ("sketch.png", ["Sketch.PNG"], "Sketch.PNG"),
        ("Straße.png", ["STRASSE.PNG"], "STRASSE.PNG"),
        ("CAF\u00c9.png", ["cafe\u0301.png"], "cafe\u0301.png"),
        pytest.param(
            "sketch.png",
            ["Sketch.PNG", "sketch.png"],
            "sketch.png",
            marks=pytest.mark.posix_only("there both are one file"),
        ),
    ],
)
def test_an_image_is_found_in_any_case_where_one_file_fits_best(
    inbox: Inbox, spool: Spool, clock: FakeClock, named: str, there: list[str], meant: str
) -> None:
    folder_job(spool, "sketch", SKETCH.replace("sketch.png", named), *there)
    (arrival,) = settled(inbox, clock)
    assert isinstance(arrival.job, Job)
    assert arrival.job.stages[0].fields["init_images"] == [meant]

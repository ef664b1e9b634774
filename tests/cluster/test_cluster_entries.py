"""Entries travel as JSON, and what others put there is no entry."""

from __future__ import annotations

import json

import pytest

from sdwatch.cluster.remote_run import _may_be_written
from sdwatch.policy.cluster.dispatching import (
    WorkMessage,
    reconcile,
)
from sdwatch.policy.cluster.entries import (
    Accepted,
    BoxEnd,
    Closed,
    Ended,
    Entry,
    Granted,
    LinesStored,
    StoredFile,
    TakenBack,
    TakenFor,
    entry_of,
    files_of,
    files_to_bytes,
    is_plain_path,
    to_bytes,
)
from sdwatch.policy.cluster.lines import files_named, lines_in, text_of
from sdwatch.policy.cluster.names import token_of, work_subject
from sdwatch.policy.cluster.run_log import Phase, RunLog

DIGEST = "ab" * 32
FILE = StoredFile("images/ärger_1.png", DIGEST, 12, 5)


@pytest.mark.parametrize(
    "entry",
    [
        Granted(3, "box-1", DIGEST),
        Accepted(1),
        LinesStored(2, 0, 4, DIGEST, (FILE,)),
        Ended(2, BoxEnd.FAILED, 4, (FILE,), {"name": "forge"}),
        TakenBack(2, TakenFor.CANCELLED),
        Closed(9),
    ],
)
def test_an_entry_comes_back_as_it_was_appended(entry: Entry) -> None:
    assert entry_of(to_bytes(entry)) == entry


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": 0},
        {"epoch": "1"},
        {"epoch": True},
        {"first": -1},
        {"text": "../../etc/passwd"},
        {"images": [{"name": "../x.png", "sha256": DIGEST, "size": 1}]},
        {"images": [{"name": "C:/x.png", "sha256": DIGEST, "size": 1}]},
        {"images": 5},
        {"files": []},
        {"entry": "other"},
        {"more": 1},
    ],
)
def test_what_is_no_entry_is_none(change: dict[str, object]) -> None:
    good = json.loads(to_bytes(LinesStored(2, 0, 4, DIGEST, (FILE,))))
    assert entry_of(json.dumps(good).encode()) is not None
    assert entry_of(json.dumps({**good, **change}).encode()) is None


def test_the_key_of_stored_files_is_the_one_of_earlier_versions() -> None:
    given = json.loads(to_bytes(LinesStored(2, 0, 4, DIGEST, (FILE,))))
    assert list(given) == ["entry", "epoch", "first", "count", "text", "images", "inline"]
    assert [file["name"] for file in given["images"]] == [FILE.name]


@pytest.mark.parametrize("data", [b"", b"\xff", b"5", b"[]", b"null", b"[" * 100_000])
def test_bytes_that_are_no_entry_are_none(data: bytes) -> None:
    assert entry_of(data) is None


def test_a_list_of_files_comes_back() -> None:
    assert files_of(files_to_bytes([FILE])) == (FILE,)
    with pytest.raises(ValueError, match="path"):
        files_of(files_to_bytes([StoredFile("a/../b", DIGEST, 1)]))


def test_all_that_a_call_made_travels_with_its_line() -> None:
    image = {"name": "a.png", "sha256": DIGEST, "size": 9, "width": 8, "height": 8}
    clip = {"name": "b.mp4", "sha256": DIGEST, "size": 9}
    line = {"event": "call_finished", "call": "1.1", "images": [image], "other_files": [clip]}
    assert files_named([line]) == ["images/a.png", "files/b.mp4"]
    assert lines_in(text_of([line])) == [line]
    for key in ("images", "other_files"):
        with pytest.raises(ValueError, match="name"):
            lines_in(text_of([{**line, key: [{"name": "../x"}]}]))


@pytest.mark.parametrize(
    "name",
    ["", "/x", "a//b", "..", "a/..", "a\\b", "a:b", "x. ", "a\0", "x.", "NUL", "a/Con.png", "com1"],
)
def test_a_path_that_leads_elsewhere_on_some_system_is_refused(name: str) -> None:
    assert not is_plain_path(name)


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"5",
        b"[" * 100_000,
        b'{"event": "handed_over", "epoch": 9, "box": "x"}',
        b'{"event": "ended", "outcome": "done"}',
        b'{"event": "call_finished"}',
        b'{"event": "call_finished", "call": "1.1", "images": [5]}',
        b'{"event": "call_finished", "call": "1.1", "images": [{"name": "a.png"}]}',
        b'{"event": "evidence", "files": 7}',
        b'{"event": "call_failed"}',
    ],
)
def test_lines_that_no_box_forwards_reach_no_journal(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"line|record"):
        lines_in(line)


@pytest.mark.parametrize(
    "name",
    [
        "journal.jsonl", "Journal.JSONL", "JOURNA~1.JSO", "job.yaml", "JOB.yaml", "job/x.png",
        "used/x.txt", "run.json", ".hidden", "images", "a/b/c.png",
    ],
)  # fmt: skip
def test_what_a_box_may_not_write(name: str) -> None:
    assert not _may_be_written(name)


def test_what_a_box_may_write() -> None:
    for name in ("images/ärger_1.png", "files/a.mp4", "WHY.txt", "error.json", "webui.1.log"):
        assert _may_be_written(name), name


def test_names_in_subjects_are_never_the_same_for_two_runs() -> None:
    assert token_of("20261128-235959.123-ärger-3f2a") != token_of("20261128-235959-123-ärger-3f2a")
    assert work_subject("box", "a.b c>*") == "sdwatch.work.box.a=2Eb=20c=3E=2A"


def test_stuck_messages_are_sent_again_and_leftover_ones_removed() -> None:
    stuck = WorkMessage(1, "a", "r1", 1, 50)
    fresh = WorkMessage(2, "a", "r2", 1, 1)
    old = WorkMessage(3, "a", "r3", 1, 1)
    unknown = WorkMessage(4, "a", "r4", 1, 1)
    logs = {
        "r1": RunLog(1, 1, "a", Phase.GRANTED),
        "r2": RunLog(1, 1, "a", Phase.GRANTED),
        "r3": RunLog(5, 2, "b", Phase.ACCEPTED),
    }
    assert reconcile([stuck, fresh, old, unknown], logs, 30) == [
        (stuck, True),
        (old, False),
        (unknown, False),
    ]

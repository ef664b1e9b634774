"""The inbox's watch events: what is renamed in is named, what is renamed away is not told."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from sdwatch.spool.watch import InboxWatch
from tests.support.helpers import wait_until


class Heard:
    """What a watch said, in order."""

    def __init__(self, inbox: Path) -> None:
        self.renamed_in: list[Path] = []
        self.changed = threading.Event()
        self.watch = InboxWatch(inbox, self.changed.set, self.renamed_in.append)


@pytest.mark.posix_only("Windows reports a rename from outside as a new file")
def test_a_rename_in_is_reported_and_a_rename_away_is_not(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "old.yaml").write_text("prompt: a")
    (tmp_path / "new.yaml").write_text("prompt: b")
    heard = Heard(inbox)
    heard.watch.start()
    try:
        (inbox / "old.yaml").rename(tmp_path / "claimed.yaml")
        (tmp_path / "new.yaml").rename(inbox / "new.yaml")
        wait_until(lambda: heard.renamed_in, why="the rename-in is told")
    finally:
        heard.watch.stop()
    assert heard.renamed_in == [inbox / "new.yaml"]


def test_an_editors_save_by_temporary_and_rename_is_a_rename_in(tmp_path: Path) -> None:
    heard = Heard(tmp_path)
    heard.watch.start()
    try:
        (tmp_path / ".castle.yaml.tmp").write_text("prompt: a")
        (tmp_path / ".castle.yaml.tmp").rename(tmp_path / "castle.yaml")
        wait_until(lambda: heard.renamed_in, why="the rename is told")
    finally:
        heard.watch.stop()
    assert heard.renamed_in == [tmp_path / "castle.yaml"]


def test_a_new_sub_folder_is_watched_too(tmp_path: Path) -> None:
    heard = Heard(tmp_path)
    heard.watch.start()
    try:
        (tmp_path / "ann").mkdir()
        wait_until(heard.changed.is_set, why="the new folder is told")
        heard.changed.clear()
        (tmp_path / "ann" / "a.yaml").write_text("prompt: a")
        wait_until(heard.changed.is_set, why="a file in it is told")
    finally:
        heard.watch.stop()


def test_a_folder_that_cannot_be_watched_is_left_to_the_scans(tmp_path: Path) -> None:
    heard = Heard(tmp_path / "is not there")
    heard.watch.start()
    heard.watch.stop()
    assert not heard.changed.is_set()


def test_a_watch_that_does_not_end_cleanly_does_not_keep_the_monitor_from_stopping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """watchdog 7.1 raises where folders were exchanged; it takes its last steps all the same."""
    heard = Heard(tmp_path)
    heard.watch.start()
    observer = heard.watch._observer
    assert observer is not None
    stop = observer.stop

    def stops_and_raises() -> None:
        stop()
        raise KeyError(b"inbox/zz")

    monkeypatch.setattr(observer, "stop", stops_and_raises)
    heard.watch.stop()
    assert not observer.is_alive()

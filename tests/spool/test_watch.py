"""The inbox's watch events: what is renamed in is named, what is renamed away is not reported."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from sdwatch.spool.watch import _AGAIN_AFTER_S, InboxWatch
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
        wait_until(lambda: heard.renamed_in, why="the rename-in is reported")
    finally:
        heard.watch.stop()
    assert heard.renamed_in == [inbox / "new.yaml"]


def test_an_editors_save_by_temporary_and_rename_is_a_rename_in(tmp_path: Path) -> None:
    heard = Heard(tmp_path)
    heard.watch.start()
    try:
        (tmp_path / ".castle.yaml.tmp").write_text("prompt: a")
        (tmp_path / ".castle.yaml.tmp").rename(tmp_path / "castle.yaml")
        wait_until(lambda: heard.renamed_in, why="the rename is reported")
    finally:
        heard.watch.stop()
    assert heard.renamed_in == [tmp_path / "castle.yaml"]


def test_a_new_sub_folder_is_watched_too(tmp_path: Path) -> None:
    heard = Heard(tmp_path)
    heard.watch.start()
    try:
        (tmp_path / "ann").mkdir()
        wait_until(heard.changed.is_set, why="the new folder is reported")
        heard.changed.clear()
        (tmp_path / "ann" / "a.yaml").write_text("prompt: a")
        wait_until(heard.changed.is_set, why="a file in it is reported")
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


# -- a watch that has ended


def keeps_hearing(heard: Heard, folder: Path, now: float) -> None:
    """It is started again if that is due, and hears of a new file."""
    heard.watch.keep(now)
    heard.changed.clear()
    (folder / f"{now}.yaml").write_text("prompt: a")
    wait_until(heard.changed.is_set, why="the new file is reported")


@pytest.mark.posix_only("Windows keeps the name of a folder that is watched")
def test_a_folder_that_was_removed_and_made_again_is_watched_at_once(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    heard = Heard(inbox)
    heard.watch.start()
    try:
        inbox.rmdir()
        wait_until(lambda: not heard.watch._is_alive(), why="the watch ends with it")
        heard.watch.keep(0)  # a scan while there is none
        inbox.mkdir()
        keeps_hearing(heard, inbox, 1)
    finally:
        heard.watch.stop()


@pytest.mark.posix_only("Windows keeps the name of a folder that is watched")
def test_another_folder_by_the_same_name_is_watched_and_the_old_one_is_not(tmp_path: Path) -> None:
    inbox, old = tmp_path / "inbox", tmp_path / "old"
    inbox.mkdir()
    (tmp_path / "castle.yaml").write_text("prompt: a")
    heard = Heard(inbox)
    heard.watch.start()
    try:
        inbox.rename(old)
        inbox.mkdir()
        keeps_hearing(heard, inbox, 0)
        (tmp_path / "castle.yaml").rename(old / "castle.yaml")
        keeps_hearing(heard, inbox, 1)
    finally:
        heard.watch.stop()
    assert heard.renamed_in == []


def test_a_watch_that_could_not_be_started_leaves_nothing_behind_and_waits_for_its_folder(
    tmp_path: Path,
) -> None:
    inbox = tmp_path / "inbox"
    heard = Heard(inbox)
    threads = set(threading.enumerate())
    heard.watch.start()
    assert set(threading.enumerate()) <= threads
    inbox.mkdir()
    try:
        keeps_hearing(heard, inbox, 0)
    finally:
        heard.watch.stop()
    assert set(threading.enumerate()) <= threads


@pytest.mark.skipif(sys.platform != "linux", reason="the thread that reads inotify")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_of_watchdog_that_died_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after lost events while folders are exchanged, which takes an attacker a quarter of a
    minute (tests/support/attacker.py)."""
    inotify: Any = pytest.importorskip("watchdog.observers.inotify")
    heard = Heard(tmp_path)

    def its_thread_dies() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(inotify.InotifyWatchGroup, "on_event", lambda *_: {}[b"inbox/zz"])
            (tmp_path / "castle.yaml").write_text("prompt: a")
            wait_until(lambda: not heard.watch._is_alive(), why="the thread died")

    heard.watch.start()
    try:
        its_thread_dies()
        keeps_hearing(heard, tmp_path, 0)
        its_thread_dies()
        heard.watch.keep(_AGAIN_AFTER_S - 1)
        assert not heard.watch._is_alive(), "it was started again less than an hour ago"
        keeps_hearing(heard, tmp_path, _AGAIN_AFTER_S)
    finally:
        heard.watch.stop()

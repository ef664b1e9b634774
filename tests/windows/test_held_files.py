"""Another program has a file open for a moment, as virus scanners, indexers and Explorer do on
Windows: the effect is tried again. What is refused for good is not."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.system import disk, patience, renames
from sdwatch.system.state_folder import StateFolder
from sdwatch.webui.process import process_identity
from tests.functional.cli import drop, make_spool, only, started
from tests.windows.imitated import imitating
from tests.windows.inside.imitations import refused

ACCESS_DENIED, SHARING_VIOLATION, LOCK_VIOLATION, DIR_NOT_EMPTY = 5, 32, 33, 145


class Refusals:
    """Refuses the first `count` calls of a function, and counts all of them."""

    def __init__(self, count: float, error: Callable[[Any], OSError]) -> None:
        self.left, self.calls = count, 0
        self._error = error

    def of(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def effect(path: Any, *args: Any, **options: Any) -> Any:
            self.calls += 1
            if self.left > 0:
                self.left -= 1
                raise self._error(path)
            return real(path, *args, **options)

        return effect


Do = Callable[[Path], object]

EFFECTS: list[Any] = [
    pytest.param(os, "replace", lambda p: disk.write(p / "file", b"new"), id="write"),
    pytest.param(os, "open", lambda p: disk.write(p / "file", b"new"), id="open to write"),
    pytest.param(os, "open", lambda p: os.close(disk.open_lines(p / "file")), id="open lines"),
    pytest.param(os, "rename", lambda p: renames.rename(p / "file", p / "moved"), id="rename"),
    pytest.param(os, "unlink", lambda p: disk.remove(p / "file"), id="remove"),
    pytest.param(os, "rmdir", lambda p: disk.remove_empty_folder(p / "empty"), id="folder"),
    pytest.param(os, "rmdir", lambda p: disk.remove_tree(p / "empty"), id="tree"),
    pytest.param(os, "open", lambda p: disk.read(p / "file"), id="read"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(b"old\n")
    (tmp_path / "empty").mkdir()
    return tmp_path


@pytest.mark.posix_only("Windows opens the file by CreateFile, which is not replaced here")
@pytest.mark.parametrize("code", [ACCESS_DENIED, SHARING_VIOLATION, LOCK_VIOLATION])
@pytest.mark.parametrize(("module", "name", "do"), EFFECTS)
def test_an_effect_on_a_file_that_is_held_is_tried_again(
    folder: Path, module: Any, name: str, do: Do, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = Refusals(3, lambda path: refused(code, path))
    with monkeypatch.context() as patched:
        patched.setattr(module, name, refusals.of(getattr(module, name)))
        do(folder)
    assert refusals.calls >= 4


@pytest.mark.posix_only("on Windows an error without a winerror may pass by itself")
@pytest.mark.parametrize(("module", "name", "do"), EFFECTS)
def test_a_permission_error_that_will_not_change_is_raised_at_once(
    folder: Path, module: Any, name: str, do: Do, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = Refusals(float("inf"), lambda path: PermissionError(errno.EACCES, "no", str(path)))
    with monkeypatch.context() as patched:
        patched.setattr(module, name, refusals.of(getattr(module, name)))
        with pytest.raises(PermissionError):
            do(folder)
    assert refusals.calls == 1


def test_a_file_that_is_held_for_long_is_an_error_in_the_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "HELD_FOR", 0.05)
    refusals = Refusals(float("inf"), lambda path: refused(SHARING_VIOLATION, path))
    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", refusals.of(os.rename))
        with pytest.raises(PermissionError, match="winerror 32"):
            renames.rename(folder / "file", folder / "moved")
    assert refusals.calls > 1
    assert (folder / "file").read_bytes() == b"old\n"


def test_a_folder_with_many_files_that_are_held_one_after_the_other_is_removed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    time = SimpleNamespace(
        monotonic=lambda: now[0], sleep=lambda pause: now.__setitem__(0, now[0] + pause)
    )
    monkeypatch.setattr(patience, "time", time)
    monkeypatch.setattr(patience, "HELD_FOR", 0.05)  # less than all of them take
    names = [folder / "empty" / f"{n}.png" for n in range(20)]
    for name in names:
        name.touch()
    held = {str(name): 2 for name in names}
    real = os.unlink

    def unlink(path: Any, *args: Any, **options: Any) -> None:
        whole = str(folder / "empty" / Path(os.fsdecode(path)).name)
        if held.get(whole, 0):
            held[whole] -= 1
            raise refused(ACCESS_DENIED, whole)
        real(path, *args, **options)

    monkeypatch.setattr(os, "unlink", unlink)
    disk.remove_tree(folder / "empty")
    assert not (folder / "empty").exists()
    assert now[0] > 0.05


def test_a_folder_whose_removed_files_are_still_open_is_removed_once_they_are_closed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = Refusals(3, lambda path: refused(DIR_NOT_EMPTY, path, errno.ENOTEMPTY))
    monkeypatch.setattr(os, "rmdir", refusals.of(os.rmdir))
    disk.remove_tree(folder / "empty")
    assert not (folder / "empty").exists()


# -- what would be lost if such a moment were taken for the truth


@pytest.mark.posix_only("Windows opens the file by CreateFile, which is not replaced here")
def test_the_workers_id_and_the_webuis_identity_outlast_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = StateFolder(tmp_path).worker
    intent = process_identity.intend(tmp_path, "boot-1", "python")
    refusals = Refusals(2, lambda path: refused(SHARING_VIOLATION, path))
    monkeypatch.setattr(os, "open", refusals.of(os.open))
    assert StateFolder(tmp_path).worker == worker
    refusals.left = 2
    assert process_identity.load(tmp_path) == intent
    assert sorted(path.name for path in tmp_path.iterdir()) == ["identity.json", "worker"]


def test_jobs_a_crash_and_a_failure_under_a_virus_scanner_end_as_they_should(
    tmp_path: Path,
) -> None:
    result = started(tmp_path, "demo", **imitating("scanner"))
    assert result.returncode == ExitCode.OK, result.stdout + result.stderr
    assert "on hold" not in result.stdout


def test_the_commands_work_under_a_virus_scanner(tmp_path: Path) -> None:
    spool, scanner = make_spool(tmp_path), imitating("scanner")
    (tmp_path / "castle.yaml").write_text("prompt: a castle\nsteps: 2\n", encoding="utf-8")
    drop(spool, "village.yaml")

    def command(*words: object) -> str:
        result = started(spool, *words, **scanner)
        assert result.returncode == ExitCode.OK, result.stdout + result.stderr
        return result.stdout

    command("submit", "castle.yaml")
    command("hold")
    command("resume")
    command("cancel", "village.yaml")
    result = started(spool, "run", "--once", **scanner)
    assert "1 done, 0 failed, 1 cancelled" in result.stdout, result.stdout + result.stderr
    run = only(spool, "done").name
    command("list")
    command("status")
    command("bundle", run)
    command("retry", run)
    assert (spool / "inbox" / "castle.yaml").is_file()


def test_no_line_of_the_log_is_lost_while_somebody_reads_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sdwatch.cli.shared.log_files import _LogFile

    log = tmp_path / "sdwatch.log"
    handler = _LogFile(log, 100, lambda _: None)
    refusals = Refusals(3, lambda path: refused(SHARING_VIOLATION, path))
    monkeypatch.setattr(os, "rename", refusals.of(os.rename))
    try:
        for number in range(5):
            line = f"line {number} of about thirty letters"
            handler.emit(logging.makeLogRecord({"msg": line, "levelno": logging.INFO}))
    finally:
        handler.close()
    kept = (tmp_path / "sdwatch.log.1").read_text() + log.read_text()
    assert [f"line {number}" in kept for number in range(5)] == [True] * 5
    assert refusals.calls == 4  # and the last line is in a new file
    assert "line 3" not in log.read_text()

"""What Windows does differently in small things: each as it is there, or imitated."""

from __future__ import annotations

import errno
import io
import os
import queue
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from watchdog.observers.api import BaseObserver

from sdwatch import system
from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.policy.job.files.job_images import on_disk
from sdwatch.policy.report.command import words_on_windows
from sdwatch.spool.watch import InboxWatch
from sdwatch.system import disk, streams
from sdwatch.system.interpreter import found_for
from tests.functional.cli import drop, make_spool, started
from tests.windows.imitated import imitating
from tests.windows.inside.imitations import refused

ON_WINDOWS = pytest.mark.skipif(sys.platform != "win32", reason="Windows' own API")


# -- watch events


@pytest.mark.parametrize(
    "error", [queue.Empty(), OSError("no"), RuntimeError("can't start new thread")]
)
def test_watch_events_that_cannot_be_had_leave_the_inbox_to_its_scans(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def start(_: object) -> None:
        raise error

    monkeypatch.setattr(BaseObserver, "start", start)
    watch = InboxWatch(tmp_path, lambda: None, lambda _: None)
    watch.start()
    watch.stop()
    assert "the inbox is scanned" in caplog.text


# -- files that are marked read-only


@pytest.fixture
def read_only(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "images").mkdir(parents=True)
    for path in (folder / "images" / "1.png", folder / "job.yaml"):
        path.write_bytes(b"x")
        path.chmod(stat.S_IREAD)
    return folder


def test_a_folder_with_read_only_files_and_folders_is_removed(read_only: Path) -> None:
    (read_only / "images").chmod(stat.S_IREAD | stat.S_IEXEC)
    disk.remove_tree(read_only)
    assert not read_only.exists()


def test_a_read_only_file_is_replaced_and_removed(read_only: Path) -> None:
    disk.write(read_only / "job.yaml", b"new")
    assert (read_only / "job.yaml").read_bytes() == b"new"
    (read_only / "job.yaml").chmod(stat.S_IREAD)
    disk.remove(read_only / "job.yaml")
    assert not (read_only / "job.yaml").exists()


# -- who has a file open


@ON_WINDOWS
def test_who_reads_a_job_does_not_write_it(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("prompt: a castle")
    with path.open("rb"):
        assert not disk.is_still_written(path)
    with path.open("ab"):
        assert disk.is_still_written(path)
    assert not disk.is_still_written(path)


# -- a command as one line

LINES = [
    (r'py --ckpt-dir="D:\My Models" -x', ["py", r"--ckpt-dir=D:\My Models", "-x"]),
    (r'"C:\My WebUI\py.exe" launch.py', [r"C:\My WebUI\py.exe", "launch.py"]),
    ('"C:\\My WebUI\\"py.exe a', ["C:\\My WebUI\\py.exe", "a"]),
    (r'py "a b\\" c', ["py", "a b\\", "c"]),
    (r'py "abc" d e', ["py", "abc", "d", "e"]),
    (r"py a\\b d", ["py", r"a\\b", "d"]),
    (r"py a\\\"b c d", ["py", r"a\"b", "c", "d"]),
    (r'py a\\\\"b c" d', ["py", r"a\\b c", "d"]),
    (r'py "a""b" "" c', ["py", 'a"b', "", "c"]),
    (r"py D:\sd\ it's", ["py", "D:\\sd\\", "it's"]),
    (" py \t -x \n", ["py", "-x"]),
    ("", []),
]


@pytest.mark.parametrize(("line", "words"), LINES)
def test_a_line_is_taken_apart_as_windows_does(line: str, words: list[str]) -> None:
    assert words_on_windows(line) == words


@ON_WINDOWS
@pytest.mark.parametrize("words", [words for _, words in LINES if words])
def test_a_line_that_windows_would_be_given_comes_back(words: list[str]) -> None:
    assert words_on_windows(subprocess.list2cmdline(words)) == words


def test_a_quote_that_is_not_closed_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="not closed"):
        words_on_windows('py --dir="D:\\My Models')


# -- which program is this Python


def test_in_a_service_python_is_beside_it_or_in_its_folders(tmp_path: Path) -> None:
    scripts, base = tmp_path / "venv" / "Scripts", tmp_path / "base"
    for folder in (scripts, base, tmp_path / "w"):
        folder.mkdir(parents=True)
        (folder / "python.exe").touch()
    host = str(tmp_path / "win32" / "pythonservice.exe")
    assert found_for(host, [scripts, base]) == str(scripts / "python.exe")
    assert found_for(host, [tmp_path / "nothing", base]) == str(base / "python.exe")
    assert found_for("", [base]) == str(base / "python.exe")
    without_console = str(tmp_path / "w" / "pythonw.exe")
    assert found_for(without_console, [base]) == str(tmp_path / "w" / "python.exe")
    assert found_for(host, []) == host


@pytest.mark.parametrize("name", ["python.exe", "Python.EXE", "python3.11.exe", "python_d.exe"])
def test_a_python_with_a_console_is_itself(name: str, tmp_path: Path) -> None:
    (tmp_path / "python.exe").touch()
    assert found_for(str(tmp_path / name), [tmp_path]) == str(tmp_path / name)


# -- job objects


def spawned(tmp_path: Path, name: str) -> subprocess.Popen[bytes]:
    return system.spawn(
        [sys.executable, "-c", "import time; time.sleep(60)"],
        cwd=None,
        env=dict(os.environ),
        stdout=tmp_path / "out",
        stderr=tmp_path / "err",
        job_name=name,
    )


@ON_WINDOWS
@pytest.mark.parametrize("refusing", ["CreateJobObject", "AssignProcessToJobObject"])
def test_a_job_object_that_is_refused_forbids_no_start(
    refusing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pywintypes
    import win32job

    def refuse(*_: object) -> None:
        raise pywintypes.error(5, refusing, "Access is denied.")

    monkeypatch.setattr(win32job, refusing, refuse)
    process = spawned(tmp_path, "sdwatch-test-refused")
    assert process.poll() is None
    system.kill([process.pid], "sdwatch-test-refused")
    process.wait(20)


@ON_WINDOWS
def test_a_job_that_lets_nobody_go_forbids_no_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, flags = subprocess.Popen, []

    def popen(*args: Any, **more: Any) -> Any:
        flags.append(more["creationflags"] & subprocess.CREATE_BREAKAWAY_FROM_JOB)
        if flags[-1]:
            raise refused(5, "python")
        return real(*args, **more)

    monkeypatch.setattr(subprocess, "Popen", popen)
    process = spawned(tmp_path, "sdwatch-test-kept")
    system.kill([process.pid], "sdwatch-test-kept")
    process.wait(20)
    assert [bool(each) for each in flags] == [True, False]


@ON_WINDOWS
def test_another_process_of_any_session_ends_the_job_by_its_name(tmp_path: Path) -> None:
    process = spawned(tmp_path, "sdwatch-test-name")
    code = "from sdwatch import system; system.kill([], 'sdwatch-test-name')"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=400, stdin=subprocess.DEVNULL)
    assert process.wait(20) == 1
    system.kill([], "sdwatch-test-name")


# -- output


class NoReader(io.RawIOBase):
    """A pipe as Windows has it when its reader is gone."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        del data
        raise OSError(errno.EINVAL, "Invalid argument")


def test_a_pipe_whose_reader_is_gone_is_a_broken_pipe_whatever_the_system_says() -> None:
    ours, theirs = os.pipe()
    try:
        buffer = io.BufferedWriter(NoReader(theirs))
        stream = streams._lasting(io.TextIOWrapper(buffer, "utf-8"))
        stream.write("castle\n")
        with pytest.raises(BrokenPipeError):
            stream.flush()
        stream.buffer.raw.close()  # type: ignore[attr-defined]
        buffer.raw.close()
    finally:
        os.close(ours)
        os.close(theirs)


@ON_WINDOWS
def test_into_a_pipe_every_letter_is_printed() -> None:
    code = "from sdwatch.system import streams; streams.prepare(); print('\\u753b\\u50cf')"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONIOENCODING"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, check=True, timeout=60
    )
    assert done.stdout.decode("utf-8").strip() == "画像"


# -- names


@pytest.mark.parametrize(
    ("name", "there", "meant"),
    [
        ("A.png", ["a.png"], "a.png"),
        ("./MASKS/A.PNG", ["masks/a.png"], "masks/a.png"),
        ("Ärger.png", ["a\u0308rger.PNG"], "a\u0308rger.PNG"),
        ("a.png", ["a.png", "A.png"], "a.png"),
        ("A.PNG", ["a.png", "A.png"], "A.PNG"),
        ("b.png", ["a.png"], "b.png"),
    ],
)
def test_an_image_is_found_whatever_the_case_of_its_name(
    name: str, there: list[str], meant: str
) -> None:
    assert on_disk(name, there) == meant


# -- file systems whose files have other numbers after a move


def test_jobs_and_folders_are_done_on_a_file_system_that_keeps_no_numbers(tmp_path: Path) -> None:
    make_spool(tmp_path)
    drop(tmp_path, "castle.yaml")
    (tmp_path / "inbox" / "tower").mkdir()
    drop(tmp_path, "tower/job.yaml")
    result = started(tmp_path, "run", "--once", **imitating("fat_inodes"))
    assert result.returncode == ExitCode.OK, result.stdout + result.stderr
    assert len(list(tmp_path.glob("done/*/run.json"))) == 2, result.stdout + result.stderr
    assert not list(tmp_path.glob("inbox/.*"))


# -- junctions


@ON_WINDOWS
@pytest.mark.parametrize(
    ("attributes", "tag", "is_link"),
    [
        (0x410, 0xA0000003, True),  # a junction, or a volume mounted in a folder
        (0x410, 0xA000000C, True),  # a symbolic link to a folder
        (0x400, 0xA000000C, True),  # and to a file
        (0x400, 0xA000001D, True),  # a link made by the Linux of Windows (WSL)
        (0x420, 0x9000601A, False),  # OneDrive keeps the file elsewhere
        (0x420, 0x80000013, False),  # deduplicated
        (0x10, 0xA0000003, False),  # no reparse point, whatever the tag says
    ],
)
def test_a_reparse_point_is_a_link_where_it_stands_for_another_name(
    attributes: int, tag: int, is_link: bool
) -> None:
    status: Any = SimpleNamespace(st_file_attributes=attributes, st_reparse_tag=tag)
    assert system.is_link(status) == is_link


# -- connections


def test_a_read_that_is_blocked_is_freed() -> None:
    ours, theirs = socket.socketpair()
    started, got = threading.Event(), []

    def read() -> None:
        started.set()
        try:
            got.append(ours.recv(1))
        except OSError as error:
            got.append(error)

    with theirs:
        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        started.wait(20)
        system.cut(ours)
        thread.join(20)
        assert not thread.is_alive()
        assert got == [b""] or isinstance(got[0], OSError)
        system.cut(ours)  # again is as good as once
        ours.close()

"""Readers and writers of one file at the same moment. On Windows an open file is in the way of who
wants to replace or remove it, unless its reader has agreed to that."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

import pytest

from sdwatch import system
from sdwatch.spool.heartbeat import HEARTBEAT, UNREADABLE, Heartbeat, read_heartbeats
from sdwatch.system import disk
from tests.spool.spools import made_spool
from tests.windows.imitated import python


def test_a_file_that_is_read_can_be_renamed_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with disk.open_to_read(path) as reader:
        path.rename(tmp_path / "moved")
        (tmp_path / "moved").unlink()
        assert reader.read() == b"old"


def test_a_file_that_is_read_is_replaced_at_the_latest_when_its_reader_closes_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    reader = disk.open_to_read(path)
    closes = threading.Timer(0.2, reader.close)
    closes.start()
    disk.write(path, b"new")
    closes.join()
    assert disk.read(path) == b"new"


def test_a_folder_and_what_is_not_there_are_errors_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        disk.read(tmp_path / "nothing")
    with pytest.raises(OSError, match=tmp_path.name):
        disk.read(tmp_path)


READS = """
import json, sys
from pathlib import Path
from sdwatch.spool.heartbeat import read_heartbeats
print("reads", flush=True)
beats = []
while len(beats) < 100:
    found = read_heartbeats(Path(sys.argv[1]))
    beats.append([(beat["worker"], beat.get("beat", -1)) for beat in found])
print(json.dumps(beats))
"""


def _line(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline()


def test_a_reader_never_misses_a_heartbeat_and_never_stops_one(tmp_path: Path) -> None:
    spool = made_spool(tmp_path)
    heartbeat = Heartbeat(spool)
    heartbeat.beat({"queued": 0})
    with subprocess.Popen(
        python("-c", READS, spool.root), stdout=subprocess.PIPE, text=True
    ) as reader:
        assert _line(reader.stdout) == "reads\n"
        count = 1
        while reader.poll() is None and count < 5000:
            heartbeat.beat({"queued": count})
            count += 1
        seen = _line(reader.stdout)
    assert reader.returncode == 0
    beats = json.loads(seen)
    assert all(len(found) == 1 and found[0][1] > 0 for found in beats), seen


@pytest.mark.skipif(sys.platform != "win32", reason="elsewhere nobody can keep others away")
def test_a_heartbeat_that_somebody_keeps_for_himself_is_read_and_written_a_moment_later(
    tmp_path: Path,
) -> None:
    import win32con
    import win32file

    spool = made_spool(tmp_path)
    heartbeat = Heartbeat(spool)
    heartbeat.beat({"queued": 1})
    path = str(spool.working / HEARTBEAT)
    kept = win32file.CreateFile(
        path, win32con.GENERIC_READ, 0, None, win32con.OPEN_EXISTING, 0, None
    )
    later = threading.Timer(0.2, kept.Close)
    later.start()
    assert [beat.get("queued") for beat in read_heartbeats(spool.root)] == [1]
    later.join()

    kept = win32file.CreateFile(
        path, win32con.GENERIC_READ, 0, None, win32con.OPEN_EXISTING, 0, None
    )
    assert UNREADABLE in read_heartbeats(spool.root)[0]  # for longer than one reads again
    later = threading.Timer(0.2, kept.Close)
    later.start()
    heartbeat.beat({"queued": 2})
    later.join()
    assert [beat.get("queued") for beat in read_heartbeats(spool.root)] == [2]


@pytest.mark.skipif(sys.platform != "win32", reason="elsewhere nobody can keep others away")
def test_an_open_file_is_held_and_a_missing_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    with open(path, "rb"), pytest.raises(PermissionError) as refusal:
        path.unlink()
    assert system.is_held(refusal.value)
    with pytest.raises(FileNotFoundError) as missing:
        (tmp_path / "nothing").unlink()
    assert not system.is_held(missing.value)

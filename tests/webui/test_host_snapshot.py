"""What the machine looked like: at the failure, just before it and a minute before."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from sdwatch.webui.process import host_snapshot
from sdwatch.webui.process.host_snapshot import (
    MINUTE,
    SAMPLE_INTERVAL_S,
    HostSnapshots,
    Snapshot,
    ask_gpu,
    memory_low,
)
from tests.support.helpers import FakeClock


def a_tool(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{body}")
    path.chmod(0o755)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_a_snapshot_is_taken_every_ten_seconds_and_two_minutes_are_kept(
    clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_snapshot, "ask_gpu", lambda: "none")
    looked = HostSnapshots(clock, {"state": tmp_path}, lambda: [psutil.Process()])
    for _ in range(1000):
        looked.sample()
        clock.now += 2
        clock.wall_now += 2
    evidence = looked.at_failure()
    failed, before, minute = (
        evidence[name]["at"] for name in ("at_the_failure", "just_before", "a_minute_before")
    )
    assert failed > before > minute
    assert evidence["disk_free"]["state"] > 0
    (process,) = evidence["at_the_failure"]["processes"]
    assert process["pid"] == os.getpid()
    assert process["rss"] > 0
    # A command line may hold a password.
    assert set(process) == {"pid", "parent", "name", "rss", "cpu", "children"}
    assert evidence["just_before"]["seconds_before"] == SAMPLE_INTERVAL_S
    assert evidence["a_minute_before"]["seconds_before"] == MINUTE
    assert len(looked._seen) == 120 / SAMPLE_INTERVAL_S


def test_before_the_first_snapshot_there_is_only_the_failure(clock: FakeClock) -> None:
    evidence = HostSnapshots(clock, {}).at_failure()
    assert evidence["at_the_failure"]["memory_total"] > 0
    assert evidence["just_before"] is evidence["a_minute_before"] is None


def test_in_the_first_minute_what_was_seen_first_says_from_when_it_is(clock: FakeClock) -> None:
    looked = HostSnapshots(clock, {})
    looked.sample()
    clock.now += 5
    evidence = looked.at_failure()
    assert evidence["just_before"]["seconds_before"] == 5
    assert evidence["a_minute_before"] is None
    clock.now += SAMPLE_INTERVAL_S
    looked.sample()
    assert looked.at_failure()["a_minute_before"]["seconds_before"] == 5 + SAMPLE_INTERVAL_S


def test_processes_are_a_tree(clock: FakeClock) -> None:
    family = [a_process(*ids) for ids in ((7, 1), (8, 7), (9, 8), (10, 7), (20, 4))]
    looked = HostSnapshots(clock, {}, lambda: family)
    shell, orphan = looked.at_failure()["at_the_failure"]["processes"]
    assert [child["pid"] for child in shell["children"]] == [8, 10]
    assert [child["pid"] for child in shell["children"][0]["children"]] == [9]
    assert (orphan["pid"], orphan["parent"], orphan["children"]) == (20, 4, ())


def a_process(pid: int, parent: int) -> psutil.Process:
    process: Any = SimpleNamespace(
        pid=pid,
        ppid=lambda: parent,
        name=lambda: "python",
        cpu_times=lambda: SimpleNamespace(user=1.0, system=0.5),
        memory_info=lambda: SimpleNamespace(rss=1000),
    )
    return process  # type: ignore[no-any-return]


def test_memory_is_low_when_it_was_so_just_before(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert memory_low(Snapshot("", memory_total=100, memory_available=2))
    assert not memory_low(Snapshot("", memory_total=100, memory_available=4))
    assert not memory_low(Snapshot(""))
    looked = HostSnapshots(clock, {})
    left = {"memory_total": 100, "memory_available": 1}
    monkeypatch.setattr(HostSnapshots, "_snapshot", lambda _: Snapshot("", **left))
    looked.sample()
    left["memory_available"] = 90  # it died, and gave its memory back
    assert memory_low(looked.memory_before())
    clock.now += 1000
    assert not memory_low(looked.memory_before())


def test_what_cannot_be_read_of_the_host_is_left_out(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: object) -> None:
        raise OSError("no /proc here")

    for name in ("virtual_memory", "swap_memory"):
        monkeypatch.setattr(psutil, name, broken)
    gone = HostSnapshots(clock, {"state": tmp_path / "gone"}, broken)  # type: ignore[arg-type]
    evidence = gone.at_failure()
    assert evidence["at_the_failure"]["memory_total"] == 0
    assert evidence["disk_free"] == {"state": None}


@pytest.mark.posix_only("scripts with #!")
def test_the_gpu_is_asked_through_its_own_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ask_gpu() == "neither nvidia-smi nor rocm-smi is installed"
    a_tool(tmp_path, "rocm-smi", "print('card0, 12 %')")
    assert ask_gpu() == ["card0, 12 %"]
    a_tool(tmp_path, "nvidia-smi", "import sys; print(len(sys.argv)); print('RTX, 8 GB')")
    assert ask_gpu() == ["3", "RTX, 8 GB"]
    a_tool(tmp_path, "nvidia-smi", "import time; time.sleep(600)")
    assert "did not answer within" in ask_gpu(limit=0.05)
    (tmp_path / "nvidia-smi").write_text("#!/no/such/program\n")
    words = "nvidia-smi could not be started: No such file or directory"
    assert ask_gpu() == f"{words}: {tmp_path / 'nvidia-smi'}"

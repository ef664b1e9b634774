"""What the benchmarks read of what their simulators have written."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_latency_reads_past_other_events_and_a_line_that_is_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    latency = importlib.import_module("latency")
    recorded = latency.Recorded(tmp_path / "recorded.txt")
    lines = "start 12 1.5\npost 12 2.5\ncall 12 2.75 txt2img 5e1f\npost 12 3.5\npost 1"
    recorded.path.write_text(lines, encoding="ascii")
    assert recorded.all("post") == [(12, 2.5), (12, 3.5)]
    assert recorded.all("start") == [(12, 1.5)]


@pytest.mark.slow
def test_fuzz_reads_files_inboxes_and_arguments_and_says_how_many() -> None:
    counts = ("--files", "60", "--inboxes", "4", "--arguments", "60", "--workers", "1")
    words = (sys.executable, str(BENCHMARKS / "fuzz.py"), *counts, "--limit", "60")
    ended = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = re.findall(r"(?m)^(\d+) ([a-z ]+) in \d+ s: .*, 0 broken$", ended.stdout)
    assert found == [("60", "job files"), ("4", "inboxes"), ("60", "script arguments")]


@pytest.mark.slow
def test_throughput_makes_the_same_images_with_sdwatch_as_with_a_bare_loop() -> None:
    words = (sys.executable, str(BENCHMARKS / "throughput.py"), "--jobs", "2", "--rounds", "1")
    ended = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "ratio of medians" in ended.stdout


@pytest.mark.slow
def test_affinity_needs_a_load_for_each_checkpoint_and_delays_nobody_too_long() -> None:
    words = (sys.executable, str(BENCHMARKS / "affinity.py"), "--jobs", "8")
    ended = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr

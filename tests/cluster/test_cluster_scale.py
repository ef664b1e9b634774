"""A few boxes that only pretend, at a real broker: a short run of benchmarks/cluster_scale.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.machines import needs_nats
from tests.support.helpers import UNHURRIED

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "cluster_scale.py"


@pytest.mark.posix_only("it stops its processes with signals")
def test_all_jobs_of_boxes_that_pretend_are_published() -> None:
    needs_nats()
    words = [sys.executable, str(BENCHMARK), "--boxes", "5", "--jobs", "50", "--call", "0.1"]
    ended = subprocess.run(
        [*words, "--idle", "1"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100 * UNHURRIED,
    )
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-6000:]
    assert "5 boxes, 50 jobs" in ended.stdout

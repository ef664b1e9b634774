"""A cluster of hosts in network namespaces, and faults: a short run of
benchmarks/cluster.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.machines import needs_nats
from tests.support.helpers import UNHURRIED

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NOT_PERMITTED = 77


@pytest.mark.posix_only("it has no network namespaces")
def test_no_promise_is_broken_whatever_fails_in_a_cluster() -> None:
    needs_nats()
    words = [sys.executable, str(BENCHMARKS / "cluster.py"), "--jobs", "6", "--faults", "4"]
    ended = subprocess.run(
        [*words, "--seed", "7", "--boxes", "2", "--lease", "4"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100 * UNHURRIED,
    )
    if ended.returncode == NOT_PERMITTED and os.environ.get("SDWATCH_REQUIRE_NAMESPACES") != "1":
        pytest.skip(ended.stderr.strip())
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-6000:]
    assert "no promise was broken" in ended.stdout

"""The order of the jobs that wait."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from sdwatch.policy.job.schedule import in_order


@dataclass(frozen=True)
class Waits:
    source: str
    mtime: float = 0.0
    priority: int = 0


def test_priority_then_age_then_path_however_they_were_found() -> None:
    expected = [
        Waits("z.yaml", mtime=9, priority=5),
        Waits("old.yaml", mtime=1),
        Waits("a/same.yaml", mtime=2),
        Waits("b/same.yaml", mtime=2),
        Waits("urgent-looking.yaml", mtime=0, priority=-1),
    ]
    for found in itertools.permutations(expected):
        assert in_order(found) == expected


def test_nothing_waits() -> None:
    assert in_order([]) == []

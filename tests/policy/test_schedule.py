"""The order of the jobs that wait."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from sdwatch.policy.queue.schedule import place_in_order


@dataclass(frozen=True)
class Waits:
    source: str
    mtime_ns: int = 0
    priority: int = 0


def test_priority_then_age_then_path_however_they_were_found() -> None:
    expected = [
        Waits("z.yaml", mtime_ns=9, priority=5),
        Waits("old.yaml", mtime_ns=1),
        Waits("a/same.yaml", mtime_ns=2),
        Waits("b/same.yaml", mtime_ns=2),
        Waits("urgent-looking.yaml", mtime_ns=0, priority=-1),
    ]
    for found in itertools.permutations(expected):
        assert sorted(found, key=place_in_order) == expected

"""One job with many points, and some fail; `python benchmarks/points.py` has a thousand."""

from __future__ import annotations

from pathlib import Path

from tests.support.many_points import live_through, night_of


def test_all_possible_pictures_are_there_and_the_others_are_retried_alone(tmp_path: Path) -> None:
    live_through(night_of(60, 0.1), tmp_path)

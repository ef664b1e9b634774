"""Death at any instruction, a sample of it; `python benchmarks/every_point.py` tries them all."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from sdwatch.system import disk
from sdwatch.system.failpoints import Failpoint, failpoint
from tests.death import Points, Unsynced, listening
from tests.every_point import IN_PROCESS, How, count, disturb

POINTS = 125
"""About as many as a night has; one that is not reached is an undisturbed night."""

draw = random.Random(20261124)
SAMPLE = [(draw.randrange(1, POINTS), how) for how in IN_PROCESS for _ in range(4)]
KILLED = sorted(draw.sample(range(1, POINTS), 6))


def test_a_night_has_about_as_many_points_as_it_chooses_from(tmp_path: Path) -> None:
    assert abs(count(tmp_path) - POINTS) < 15


@pytest.mark.parametrize(("number", "how"), SAMPLE)
def test_nothing_is_lost_or_doubled_at_this_point(tmp_path: Path, number: int, how: How) -> None:
    disturb(tmp_path, number, how)


@pytest.mark.parametrize("number", KILLED)
def test_nothing_is_lost_or_doubled_by_a_kill_at_this_point(tmp_path: Path, number: int) -> None:
    assert disturb(tmp_path, number, How.KILL), "the monitor ended before it was killed"


@pytest.mark.parametrize(("synced", "left"), [(True, b"whole"), (False, b"")])
def test_a_new_file_that_was_renamed_and_never_synced_comes_back_empty(
    tmp_path: Path, synced: bool, left: bytes
) -> None:
    def never(effect: Failpoint) -> None:
        raise AssertionError(effect)

    unsynced, path, temporary = Unsynced(), tmp_path / "run.json", tmp_path / ".run.json.tmp"
    with listening(Points(0, never, unsynced)):
        if synced:
            disk.write(path, b"whole")
        else:  # as disk.write would be without its fsync
            failpoint("write", temporary)
            temporary.write_bytes(b"whole")
            failpoint("rename", path, source=temporary)
            temporary.rename(path)
        disk.sync_folder(tmp_path)
    unsynced.lose()
    unsynced.close()
    assert path.read_bytes() == left

"""Death at any instruction, a sample of it; `python benchmarks/every_point.py` tries them all."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from sdwatch.system import disk
from sdwatch.system.failpoints import Failpoint, failpoint
from tests.support.death import Points, Unsynced, listening
from tests.support.every_point import IN_PROCESS, MATRIX, OF_COMFYUI, WORKFLOWS, How, count, disturb

POINTS = 151
"""About as many as a night has; one that is not reached is an undisturbed night."""

draw = random.Random(20261124)
SAMPLE = [(draw.randrange(1, POINTS), how) for how in IN_PROCESS for _ in range(4)]
KILLED = sorted(draw.sample(range(1, POINTS), 6))

POINTS_OF_A_MATRIX = 179
IN_A_MATRIX = [(draw.randrange(1, POINTS_OF_A_MATRIX), how) for how in IN_PROCESS]
KILLED_IN_A_MATRIX = sorted(draw.sample(range(1, POINTS_OF_A_MATRIX), 3))


def test_a_night_has_about_as_many_points_as_it_chooses_from(tmp_path: Path) -> None:
    assert abs(count(tmp_path) - POINTS) < 15


@pytest.mark.parametrize(("number", "how"), SAMPLE)
def test_nothing_is_lost_or_doubled_at_this_point(tmp_path: Path, number: int, how: How) -> None:
    disturb(tmp_path, number, how)


@pytest.mark.parametrize("number", KILLED)
def test_nothing_is_lost_or_doubled_by_a_kill_at_this_point(tmp_path: Path, number: int) -> None:
    assert disturb(tmp_path, number, How.KILL), "the monitor ended before it was killed"


def test_a_night_with_a_matrix_has_about_as_many_points_too(tmp_path: Path) -> None:
    assert abs(count(tmp_path, MATRIX) - POINTS_OF_A_MATRIX) < 15


@pytest.mark.parametrize(("number", "how"), IN_A_MATRIX)
def test_nothing_of_a_matrix_is_lost_or_doubled_at_this_point(
    tmp_path: Path, number: int, how: How
) -> None:
    disturb(tmp_path, number, how, MATRIX)


@pytest.mark.parametrize("number", KILLED_IN_A_MATRIX)
def test_nothing_of_a_matrix_is_lost_or_doubled_by_a_kill_at_this_point(
    tmp_path: Path, number: int
) -> None:
    assert disturb(tmp_path, number, How.KILL, MATRIX), "the monitor ended before it was killed"


POINTS_OF_COMFYUI = [
    (draw.randrange(30, POINTS), how)
    for how in (How.KEPT, How.KEPT, How.LOST, How.KILL, How.KILL, How.KILL)
    if how in (*IN_PROCESS, How.KILL)
]
"""After its first call went out: before that, all kinds are alike."""


@pytest.mark.parametrize(("number", "how"), POINTS_OF_COMFYUI)
def test_nothing_is_lost_or_doubled_at_this_point_of_a_comfyui(
    tmp_path: Path, number: int, how: How
) -> None:
    disturb(tmp_path, number, how, OF_COMFYUI)


POINTS_OF_WORKFLOWS = [
    (draw.randrange(30, 120), how)
    for how in (How.KEPT, How.LOST, How.KILL, How.KILL)
    if how in (*IN_PROCESS, How.KILL)
]


@pytest.mark.parametrize(("number", "how"), POINTS_OF_WORKFLOWS)
def test_nothing_is_lost_or_doubled_at_this_point_of_a_job_with_workflows(
    tmp_path: Path, number: int, how: How
) -> None:
    disturb(tmp_path, number, how, WORKFLOWS)


@pytest.mark.posix_only("a power cut is made with functions relative to a folder")
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

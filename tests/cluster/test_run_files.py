"""Which files of a run go to another machine."""

from __future__ import annotations

import os
from pathlib import Path

from sdwatch.cluster.objects import MOST_BYTES
from sdwatch.cluster.run_files import evidence_in, why_not
from sdwatch.spool.run import Run
from sdwatch.system.clock import SystemClock


def test_a_file_that_is_too_large_to_be_handed_over_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "20261128-235959.123-castle-3f2a"
    (folder / "used").mkdir(parents=True)
    (folder / "used" / "animals.txt").touch()
    (folder / "notes.txt").touch()
    run = Run(folder, SystemClock())
    assert why_not(run) == ""
    assert evidence_in(folder) == ["notes.txt"]
    os.truncate(folder / "used" / "animals.txt", MOST_BYTES + 1)
    os.truncate(folder / "notes.txt", MOST_BYTES + 1)
    assert "used/animals.txt has 256 MB" in why_not(run)
    assert evidence_in(folder) == []


def test_a_name_that_some_system_does_not_take_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "20261128-235959.123-castle-3f2a"
    (folder / "job").mkdir(parents=True)
    (folder / "job" / "aux.png").touch()
    (folder / "con.txt").touch()
    assert "job/aux.png: what has a name" in why_not(Run(folder, SystemClock()))
    assert evidence_in(folder) == []

"""Which files of a run go to another machine."""

from __future__ import annotations

import os
from pathlib import Path

from sdwatch.cluster.objects import MOST_BYTES
from sdwatch.cluster.run_files import evidence_in, too_large
from sdwatch.spool.run import Run
from sdwatch.system.clock import SystemClock


def test_a_file_that_is_too_large_to_be_handed_over_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "20261128-235959.123-castle-3f2a"
    (folder / "used").mkdir(parents=True)
    (folder / "used" / "animals.txt").touch()
    (folder / "notes.txt").touch()
    run = Run(folder, SystemClock())
    assert too_large(run) == ""
    assert evidence_in(folder) == ["notes.txt"]
    os.truncate(folder / "used" / "animals.txt", MOST_BYTES + 1)
    os.truncate(folder / "notes.txt", MOST_BYTES + 1)
    assert "used/animals.txt has 256 MB" in too_large(run)
    assert evidence_in(folder) == []

"""What lies where a job had settled is another thing by the time of the claim's rename."""

from __future__ import annotations

from pathlib import Path

from sdwatch.spool import archive
from sdwatch.system import failpoints
from sdwatch.system.failpoints import Failpoint
from tests.spool.spools import JOB, inbox_of, made_spool, settled
from tests.support.helpers import FakeClock


def test_a_folder_that_takes_a_jobs_place_during_the_rename_goes_back_where_it_was(
    tmp_path: Path,
) -> None:
    spool, clock = made_spool(tmp_path), FakeClock()
    job = spool.inbox / "zz" / "Documents"
    job.mkdir(parents=True)
    (job / "job.yaml").write_text(JOB)
    mine = spool.inbox / "zz" / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("mine")
    (arrival,) = settled(inbox_of(spool, clock), clock)

    def swap(effect: Failpoint) -> None:
        if effect.label == "rename" and effect.source == job:
            job.rename(job.with_name("aside"))
            mine.rename(job)

    original, failpoints.before = failpoints.before, swap
    try:
        assert archive.claim(arrival, spool, clock) is None
    finally:
        failpoints.before = original
    assert (job / "letter.txt").read_text() == "mine"
    assert (job.with_name("aside") / "job.yaml").read_text() == JOB
    assert spool.run_folders() == []

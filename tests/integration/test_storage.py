"""A disk without room: no generation is wasted, no job is spent."""

from __future__ import annotations

from pathlib import Path

from sdwatch.monitor import Result
from tests.helpers import wait_until
from tests.monitored import job, monitored


def test_with_too_little_room_nothing_is_begun_and_status_says_so(tmp_path: Path) -> None:
    with monitored(tmp_path, settings={"min_free": "900 TB"}) as spool:
        spool.drop("castle.yaml", job())
        spool.start()
        wait_until(lambda: "less than min_free" in spool.status().get("hold", ""), 30)
        spool.wait_ready()
        assert spool.waiting() == ["castle.yaml"]
        assert spool.stats()["posts"] == 0
        spool.stop()

        spool.write_config(min_free="1 MB")
        spool.start()
        spool.wait_for(done=1)


def test_once_ends_on_hold_and_leaves_the_jobs(tmp_path: Path) -> None:
    with monitored(tmp_path, settings={"min_free": "900 TB"}) as spool:
        spool.drop("castle.yaml", job())
        spool.start(once=True)
        assert spool.ended() is Result.HOLD
        assert spool.waiting() == ["castle.yaml"]
        assert any("MB free on the spool's disk" in line for line in spool.told)

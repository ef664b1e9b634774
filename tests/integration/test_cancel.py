"""Cancelling is done with files, too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers import wait_until
from tests.monitored import job, monitored


@pytest.mark.parametrize("name", ["cancel", "cancel.txt"])
def test_a_cancel_file_in_a_running_run_ends_it_and_interrupts_the_webui(
    tmp_path: Path, name: str
) -> None:
    with monitored(tmp_path, flags=["--step-time", "0.2"]) as spool:
        spool.drop("castle.yaml", job(steps=150))
        spool.start()
        spool.wait_posts(1)
        (spool.working()[0] / name).touch()
        spool.wait_for(failed=1)
        wait_until(spool.interrupted, 10, "the WebUI was told")

        run = spool.failed()[0]
        assert json.loads((run / "run.json").read_text())["outcome"] == "cancelled"
        assert "somebody cancelled" in (run / "WHY.txt").read_text(encoding="utf-8")
        assert spool.events("crash") == []
        spool.drop("next.yaml", job())
        spool.wait_for(done=1, failed=1)
        assert spool.stats()["starts"] == 1


def test_a_marker_beside_a_waiting_job_cancels_it_unsent(tmp_path: Path) -> None:
    with monitored(tmp_path) as spool:
        (spool.spool / "hold").touch()
        spool.drop("castle.yaml", job())
        spool.drop("other.yaml", job())
        spool.start()
        wait_until(lambda: len(spool.status().get("next", [])) == 2, 30, "both wait")
        (spool.inbox / "castle.yaml.cancel").touch()
        spool.wait_for(failed=1)

        run = spool.failed()[0]
        assert json.loads((run / "run.json").read_text())["outcome"] == "cancelled"
        assert spool.waiting() == ["other.yaml"]
        (spool.spool / "hold").unlink()
        spool.wait_for(done=1, failed=1)
        assert spool.stats()["posts"] == 1

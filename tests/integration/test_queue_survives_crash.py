"""A queue of jobs, and a WebUI that dies in the middle of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.monitored import job, journal, monitored


@pytest.mark.parametrize("fault", ["sigkill-mid-reply", "sigkill-mid-step", "exit-0"])
def test_ten_jobs_are_done_although_the_webui_dies_at_the_third(tmp_path: Path, fault: str) -> None:
    plan = f"- fault: {fault}\n  when: {{generation: 3}}\n"
    with monitored(tmp_path, faults=plan) as spool:
        for number in range(10):
            spool.drop(f"castle-{number}.yaml", job(seed=number))
        spool.start()
        spool.wait_for(done=10)
        spool.stop()

        assert spool.stats()["starts"] == 2
        assert spool.stats()["posts"] == 11
        journals = [journal(run) for run in spool.done()]
        failures = [r for records in journals for r in records if r["event"] == "call_failed"]
        assert [(failure["diagnosis"], failure["counted"]) for failure in failures] == [
            ("crash", True)
        ]
        assert "refused" not in str(journals).lower()
        assert [record["event"] for record in spool.crashes()] == [
            "start",
            "crash",
            "start",
            "stable",
        ]


def test_the_run_that_met_the_crash_keeps_its_evidence(tmp_path: Path) -> None:
    plan = "- fault: sigkill-mid-step\n  when: {generation: 1}\n"
    with monitored(tmp_path, faults=plan) as spool:
        spool.drop("castle.yaml", job("a very secret castle"))
        spool.start()
        spool.wait_for(done=1)
        spool.stop()

        run = spool.done()[0]
        names = {path.name for path in run.iterdir()}
        assert {"stage_failure_payload.json", "webui_tail.log", "run.json", "job.yaml"} <= names
        assert not names & {"WHY.txt", "error.json"}
        for name in ("stage_failure_payload.json", "webui_tail.log"):
            assert "secret castle" not in (run / name).read_text(encoding="utf-8")
        assert len(list((run / "images").iterdir())) == 1

"""A job that the WebUI always answers with 500."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.monitored import job, journal, monitored


@pytest.mark.parametrize("fault", ["opaque-500", "structured-500"])
def test_it_fails_after_exactly_two_posts_and_the_next_job_succeeds(
    tmp_path: Path, fault: str
) -> None:
    plan = f"- fault: {fault}\n  when: {{prompt: cursed}}\n  times: always\n"
    with monitored(tmp_path, faults=plan) as spool:
        spool.drop("bad.yaml", job("a cursed castle", priority=5))
        spool.drop("good.yaml", job("a castle"))
        spool.start()
        spool.wait_for(done=1, failed=1)
        spool.stop()

        bad, good = spool.failed()[0], spool.done()[0]
        assert len(journal(bad, "call_started")) == 2
        assert len(journal(good, "call_started")) == 1
        assert spool.stats()["posts"] == 3
        error = json.loads((bad / "error.json").read_text())
        assert (error["diagnosis"], error["blame"]) == ("server error", "job")
        assert [attempt["status"] for attempt in error["attempts"]] == [500, 500]
        assert error["evidence"]
        assert all((bad / name).is_file() for name in error["evidence"])
        assert "cursed" not in (bad / "WHY.txt").read_text(encoding="utf-8")


def test_with_recovery_off_it_fails_after_one_post_with_evidence(tmp_path: Path) -> None:
    plan = "- fault: opaque-500\n  when: {prompt: cursed}\n  times: always\n"
    with monitored(tmp_path, faults=plan, settings={"recovery": False}) as spool:
        spool.drop("bad.yaml", job("a cursed castle"))
        spool.start()
        spool.wait_for(failed=1)
        spool.stop()

        assert spool.stats()["posts"] == 1
        assert spool.stats()["starts"] == 1
        assert (spool.failed()[0] / "stage_failure_payload.json").is_file()


def test_the_crash_of_a_job_that_is_named_after_its_prompt_names_its_run(tmp_path: Path) -> None:
    plan = "- fault: opaque-500\n  when: {prompt: castle}\n  times: always\n"
    with monitored(tmp_path, faults=plan) as spool:
        spool.drop("castle.yaml", job("castle"))
        spool.start()
        spool.wait_for(failed=1)
        spool.stop()
        (run,) = spool.failed()
        (crash,) = [line for line in spool.told if "cooling down" in line]
        assert f": {run.name}: the WebUI answered 500" in crash

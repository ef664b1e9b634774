"""A call that does not move any more is ended, by the mildest means that helps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.monitored import job, journal, monitored


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same road in less time, but for each probe, which a busy machine may answer late. (An
    interrupt gets no longer than the stall time.)"""
    monkeypatch.setattr("sdwatch.webui.http.call_watch._SHORTEST_TIMEOUT", 1.5)
    monkeypatch.setattr("sdwatch.webui.http.call_watch.PROBE_INTERVAL_S", 0.3)


WEBUI = {"stall": 3, "health": {"interval": 1, "timeout": 3, "failures": 3}}


def test_a_call_that_an_interrupt_frees_is_retried_without_a_restart(tmp_path: Path) -> None:
    plan = "- fault: hang-interruptible\n  when: {generation: 1}\n"
    with monitored(tmp_path, faults=plan, webui=WEBUI) as spool:
        spool.drop("castle.yaml", job(steps=4))
        spool.start()
        spool.wait_for(done=1)

        (failure,) = journal(spool.done()[0], "call_failed")
        assert failure["diagnosis"] == "stuck"
        assert "interrupt" in failure["decision"]
        assert (spool.stats()["starts"], spool.stats()["posts"]) == (1, 2)
        assert spool.events("crash") == []


@pytest.mark.parametrize("fault", ["hang", "hang-repeating", "freeze"])
def test_a_call_that_an_interrupt_does_not_free_restarts_the_webui(
    tmp_path: Path, fault: str
) -> None:
    plan = f"- fault: {fault}\n  when: {{generation: 1}}\n"
    plan += "  every: 0.3\n" if fault == "hang-repeating" else ""
    with monitored(tmp_path, faults=plan, webui=WEBUI) as spool:
        spool.drop("castle.yaml", job(steps=4))
        spool.start()
        spool.wait_for(done=1)

        (failure,) = journal(spool.done()[0], "call_failed")
        assert (failure["diagnosis"], failure["counted"]) == ("stuck", True)
        assert (spool.stats()["starts"], spool.stats()["posts"]) == (2, 2)
        assert [crash["kind"] for crash in spool.events("crash")] == ["stuck"]


@pytest.mark.parametrize(("fault", "says"), [("hang", "answered all"), ("freeze", "answered none")])
def test_a_call_stuck_twice_says_whether_the_webui_still_answered(
    tmp_path: Path, fault: str, says: str
) -> None:
    plan = f"- fault: {fault}\n  when: {{prompt: castle}}\n  times: always\n"
    with monitored(tmp_path, faults=plan, webui=WEBUI) as spool:
        spool.drop("castle.yaml", job(steps=4))
        spool.start()
        spool.wait_for(failed=1)
        (run,) = spool.failed()
        why = (run / "WHY.txt").read_text(encoding="utf-8")
        attempt = json.loads((run / "error.json").read_text(encoding="utf-8"))["attempts"][-1]
        assert f"made no progress for 3 s; it {says}" in why
        assert bool(attempt["probes"]["answered"]) == (fault == "hang")
        assert bool(attempt["probes"]["unanswered"]) == (fault == "freeze")
        assert attempt["probes"]["seconds"] >= 3
        if fault == "freeze":
            assert "did not answer within 1.5 s" in why


def test_a_slow_call_that_moves_is_left_alone(tmp_path: Path) -> None:
    with monitored(tmp_path, flags=["--step-time", "0.4"], webui=WEBUI) as spool:
        spool.drop("castle.yaml", job(steps=12))
        spool.start()
        spool.wait_for(done=1)
        assert journal(spool.done()[0], "call_failed") == []
        assert spool.stats()["posts"] == 1


def test_a_call_that_hangs_twice_fails_its_job_and_the_next_one_runs(tmp_path: Path) -> None:
    plan = "- fault: hang\n  when: {prompt: cursed}\n  times: always\n"
    with monitored(tmp_path, faults=plan, webui=WEBUI) as spool:
        spool.drop("bad.yaml", job("a cursed castle", steps=4, priority=1))
        spool.drop("good.yaml", job())
        spool.start()
        spool.wait_for(done=1, failed=1)
        assert spool.stats()["posts"] == 3
        why = (spool.failed()[0] / "WHY.txt").read_text(encoding="utf-8")
        assert "no progress for 3 s" in why

"""A WebUI that does not give memory back: everything but tiny pictures fails until it is restarted
(agent-scheduler#16, #158, #262; sdnext#4012; AI-Horde-Worker#263)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.helpers import wait_until
from tests.support.monitored import EXTERNAL, Monitored, has, job, journal, monitored
from tests.webui.sim import running

SIZE = {"width": 256, "height": 256}
NEVER_FITS = "- {fault: oom, when: {prompt: cursed}, times: always}\n"
NEVER_FITS_AND_KEEPS = "- {fault: memory-stays-taken, when: {prompt: cursed}, times: always}\n"
LEAKS_ONCE = "- {fault: memory-stays-taken, when: {prompt: leaky}, times: once}\n"
LEAKS_QUIETLY = "- {fault: memory-stays-taken, when: {prompt: leaky}, times: once, fails: 0}\n"


def error(run: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((run / "error.json").read_text(encoding="utf-8"))
    return value


def drop_nine(spool: Monitored) -> None:
    for name in "ab":
        spool.drop(f"cursed-{name}.yaml", job(f"a cursed castle {name}", priority=9, **SIZE))
    spool.drop("leaky.yaml", job("a leaky castle", priority=5, **SIZE))
    for number in range(6):
        spool.drop(f"innocent-{number}.yaml", job(f"castle {number}", **SIZE))


@pytest.mark.parametrize("cursed", [NEVER_FITS, NEVER_FITS_AND_KEEPS])
@pytest.mark.parametrize("leak", [LEAKS_ONCE, LEAKS_QUIETLY])
def test_one_leak_of_memory_costs_a_restart_and_no_job(
    tmp_path: Path, cursed: str, leak: str
) -> None:
    with monitored(tmp_path, faults=cursed + leak, settings={"cooldown": [0.1]}) as spool:
        drop_nine(spool)
        spool.start()
        spool.wait_for(done=7, failed=2, timeout=120)
        spool.stop()
        assert all("cursed" in run.name for run in spool.failed())
        assert {error(run)["blame"] for run in spool.failed()} == {"job"}
        assert {error(run)["diagnosis"] for run in spool.failed()} == {"out of memory"}
        for run in spool.done() + spool.failed():
            assert len(journal(run, "call_started")) <= 3
        assert not any("on hold" in line for line in spool.told)


def test_the_advice_says_whether_this_machine_can_draw_that_size(tmp_path: Path) -> None:
    with monitored(tmp_path, faults=NEVER_FITS, settings={"cooldown": [0.1]}) as spool:
        spool.drop("cursed.yaml", job("a cursed castle", **SIZE))
        spool.start()
        spool.wait_for(failed=1)
        spool.stop()
        (run,) = spool.failed()
        works = "A plain two-step picture of this size works now"
        assert works in error(run)["advice"]
        assert works in (run / "WHY.txt").read_text("utf-8")
        assert spool.stats()["canaries"] == 3, "the canary, a plain picture, one for the advice"


def test_a_generic_body_with_the_cause_in_the_log_is_out_of_memory(tmp_path: Path) -> None:
    plan = "- {fault: memory-stays-taken, when: {prompt: cursed}, times: always, opaque: 1}\n"
    with monitored(tmp_path, faults=plan, settings={"cooldown": [0.1]}) as spool:
        spool.drop("cursed.yaml", job("a cursed castle", priority=5, **SIZE))
        spool.drop("good.yaml", job("a castle", **SIZE))
        spool.start()
        spool.wait_for(done=1, failed=1)
        spool.stop()
        (run,) = spool.failed()
        assert {attempt["diagnosis"] for attempt in error(run)["attempts"]} == {"out of memory"}
        assert "HIP out of memory" in error(run)["attempts"][0]["evidence"]


def test_on_an_external_webui_it_holds_the_lane_and_costs_no_job(tmp_path: Path) -> None:
    counted = ("--state", str(tmp_path / "simulator.json"))
    with monitored(tmp_path, webui=EXTERNAL, settings={"cooldown": [0.1]}) as spool:
        with running(tmp_path, *counted, port=spool.port, plan=LEAKS_ONCE):
            spool.drop("leaky.yaml", job("a leaky castle", **SIZE))
            spool.start()
            spool.wait_posts(1)  # first, whichever of two settles first
            spool.drop("good.yaml", job("a castle", **SIZE))
            note = spool.spool / "HOLD-sim.txt"
            wait_until(note.exists, 60, "the note")
            assert "a plain picture of 512x512 in two steps failed" in note.read_text("utf-8")
            assert not spool.failed() + spool.done()
        with running(tmp_path, *counted, port=spool.port):  # somebody restarts it
            spool.wait_for(done=2)
            spool.stop()


# -- the monitor dies in between


def kill_monitor(spool: Monitored) -> None:
    """As the system does, at once."""
    assert spool.process is not None
    spool.process.kill()
    spool.process.wait()
    spool.process = None


@pytest.mark.posix_only("a WebUI goes with its console on Windows")
def test_killed_during_a_self_test_it_is_made_again_and_no_attempt_more(tmp_path: Path) -> None:
    faults = "- {fault: structured-500, when: {prompt: cursed}, times: always}\n"
    faults += "- {fault: hang-interruptible, when: {prompt: sdwatch}, times: once}\n"
    with monitored(tmp_path, faults=faults, settings={"cooldown": [0.1]}) as spool:
        spool.drop("cursed.yaml", job("a cursed castle"))
        spool.start_process()
        wait_until(lambda: spool.stats().get("canaries") == 1, 60, "the self-test is under way")
        kill_monitor(spool)
        spool.start()
        spool.wait_for(failed=1)
        spool.stop()
        assert error(spool.failed()[0])["blame"] == "job"
        assert spool.stats()["posts"] == 2


@pytest.mark.posix_only("a WebUI goes with its console on Windows")
def test_killed_after_a_failed_self_test_the_webui_is_restarted_and_tested_again(
    tmp_path: Path,
) -> None:
    settings = {"cooldown": [0.1, 2]}
    with monitored(tmp_path, faults=NEVER_FITS_AND_KEEPS, settings=settings) as spool:
        spool.drop("cursed.yaml", job("a cursed castle", **SIZE))
        spool.start_process()
        wait_until(
            has(spool.working, "call_self_tested", self_test_passed=False),
            60,
            "it failed its self-test",
        )
        kill_monitor(spool)
        spool.start()
        spool.drop("good.yaml", job("a castle", **SIZE))
        spool.wait_for(done=1, failed=1)
        spool.stop()
        assert error(spool.failed()[0])["blame"] == "job"
        assert len(journal(spool.failed()[0], "call_started")) == 2
        assert not any("on hold" in line for line in spool.told)


@pytest.mark.posix_only("a WebUI goes with its console on Windows")
def test_killed_while_the_lane_is_on_hold_the_run_has_its_one_last_attempt(tmp_path: Path) -> None:
    # Two attempts, the self-test, and that of a fresh WebUI.
    faults = "- {fault: structured-500, when: {prompt: '.'}, times: 4}\n"
    with monitored(tmp_path, faults=faults, settings={"cooldown": [0.1, 0.1, 2]}) as spool:
        spool.drop("castle.yaml", job("a castle", **SIZE))
        spool.start_process()
        wait_until((spool.spool / "HOLD-sim.txt").exists, 60, "the note")
        kill_monitor(spool)
        spool.start()
        spool.wait_for(done=1)
        spool.stop()
        assert spool.stats()["posts"] == 3


@pytest.mark.posix_only("a WebUI goes with its console on Windows")
def test_killed_between_the_two_self_tests_of_a_faulty_webui_no_job_fails(
    tmp_path: Path,
) -> None:
    """The next monitor sees a fresh WebUI fail, which the run's own ledger does not have."""
    faults = "- {fault: structured-500, when: {prompt: '.'}, times: 5}\n"
    with monitored(tmp_path, faults=faults, settings={"cooldown": [0.1, 2, 0.1]}) as spool:
        spool.drop("castle.yaml", job("a castle", **SIZE))
        spool.start_process()
        wait_until(
            has(spool.working, "call_self_tested", self_test_passed=False),
            60,
            "it failed its self-test",
        )
        kill_monitor(spool)
        spool.start()
        spool.wait_for(done=1)
        spool.stop()
        assert spool.stats()["posts"] == 3

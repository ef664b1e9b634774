"""Whose fault is it? After a second failure of the same call the canary decides, with a real WebUI
behind it (the simulator), and no job fails because a WebUI is unhealthy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sdwatch.lane.crash_history_file import CrashHistoryFile
from sdwatch.policy.failure.recovery import TRACED_TO_OTHERS
from sdwatch.policy.report.envelope import CANARY_HEALTHY
from sdwatch.spool import back_to_inbox
from sdwatch.system.clock import SystemClock
from tests.support.helpers import wait_until
from tests.support.monitored import EXTERNAL, Monitored, job, journal, monitored
from tests.webui.sim import launch

EVERYBODY = "'.'"
"""A plan's prompt that matches canaries, too: the WebUI itself is unhealthy."""


def plan(fault: str, prompt: str, times: object = "always") -> str:
    return f"- fault: {fault}\n  when: {{prompt: {prompt}}}\n  times: {times}\n"


def error(run: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((run / "error.json").read_text(encoding="utf-8"))
    return value


def sent(run: Path) -> int:
    """How often a run sent its call. Which of two runs on a lane is first with its request is up to
    their threads, so the one that met the fault is not always the first by name."""
    return len(journal(run, "call_started"))


def crashes_in_a_row(spool: Monitored) -> int:
    path = spool.state / "webui-sim" / "crashes.jsonl"
    return CrashHistoryFile(path, [0.1], SystemClock()).value.in_a_row


# -- (a) the job's


@pytest.mark.parametrize(
    ("fault", "diagnosis", "starts"),
    [("structured-500", "server error", 2), ("sigkill-mid-step", "crash", 3)],
)
def test_a_job_that_fails_twice_on_a_healthy_webui_is_to_blame(
    tmp_path: Path, fault: str, diagnosis: str, starts: int
) -> None:
    with monitored(tmp_path, faults=plan(fault, "cursed")) as spool:
        spool.drop("bad.yaml", job("a cursed castle", priority=5))
        spool.drop("good.yaml", job())
        spool.start()
        spool.wait_for(done=1, failed=1)
        spool.stop()
        (bad,) = spool.failed()
        assert (error(bad)["diagnosis"], error(bad)["blame"]) == (diagnosis, "job")
        assert error(bad)["canary"] == CANARY_HEALTHY
        (tested,) = journal(bad, "call_self_tested")
        assert (tested["self_test_passed"], tested["excused"]) == (True, False)
        stats = spool.stats()
        assert (stats["posts"], stats["canaries"], stats["starts"]) == (3, 2, starts)
        assert crashes_in_a_row(spool) == 0, "its crashes lengthen no cool-down"


def test_after_the_canary_a_plain_picture_is_the_second_part_of_the_self_test(
    tmp_path: Path,
) -> None:
    with monitored(tmp_path, faults=plan("structured-500", "cursed")) as spool:
        spool.drop("good.yaml", job(priority=5))
        spool.drop("bad.yaml", job("a cursed castle"))
        spool.start()
        spool.wait_for(done=1, failed=1)
        assert (spool.stats()["posts"], spool.stats()["canaries"]) == (3, 2)
        spool.stop()


def test_twelve_jobs_with_the_same_mistake_cost_two_restarts(tmp_path: Path) -> None:
    with monitored(tmp_path, faults=plan("structured-500", "cursed")) as spool:
        for number in range(12):
            spool.drop(f"bad-{number:02}.yaml", job(f"a cursed castle, {number}"))
        spool.start()
        spool.wait_for(failed=12)
        spool.stop()
        assert spool.stats()["starts"] == 3
        assert spool.stats()["posts"] == 12 * 2, "each has its second attempt"
        assert {error(run)["blame"] for run in spool.failed()} == {"job"}
        last = error(spool.failed()[-1])
        assert last["diagnosis"] == "server error"
        assert TRACED_TO_OTHERS in last["attempts"][0]["decision"]
        assert last["canary"] == CANARY_HEALTHY
        assert "the same failure was traced to two other jobs" in last["attempts"][-1]["evidence"]


def test_a_run_that_is_cancelled_during_its_canary_blames_no_webui(tmp_path: Path) -> None:
    """The canary goes off the WebUI before another call may go out, and proves nothing."""
    faults = plan("structured-500", "cursed") + plan("hang-interruptible", "sdwatch", 1)
    with monitored(tmp_path, faults=faults) as spool:
        spool.drop("bad.yaml", job("a cursed castle", priority=5))
        spool.start()
        wait_until(lambda: spool.stats().get("canaries") == 1, 60, "the canary draws")
        (run,) = spool.working()
        (run / "cancel").touch()
        spool.wait_for(failed=1)
        spool.drop("good.yaml", job())
        spool.wait_for(done=1, failed=1)
        spool.stop()
        assert error(run_of(spool, "bad"))["diagnosis"] == "cancelled"
        assert [crash["kind"] for crash in spool.events("crash")] == ["server error"]
        assert spool.stats()["starts"] == 2, "it was found well, and goes on"


def run_of(spool: Monitored, name: str) -> Path:
    return next(run for run in spool.failed() if name in run.name)


# -- (b) the WebUI's


def test_a_webui_that_fails_the_canary_costs_no_job_and_all_jobs_resume_when_it_passes(
    tmp_path: Path,
) -> None:
    # Two attempts fail, the canary, and that of a fresh WebUI; the third canary passes.
    with monitored(tmp_path, faults=plan("structured-500", EVERYBODY, 4)) as spool:
        for name in "abcde":
            spool.drop(f"{name}.yaml", job(f"castle {name}"))
        spool.start()
        spool.wait_for(done=5)
        spool.stop()
        first = max(spool.done(), key=sent)
        tested = [
            (each["self_test_passed"], each["excused"])
            for each in journal(first, "call_self_tested")
        ]
        assert tested == [(False, False), (False, True)]
        assert len(journal(first, "call_started")) == 3
        calls = sorted(len(journal(run, "call_started")) for run in spool.done())
        assert calls[:2] == [1, 1], "no other job was spent"
        kinds = [crash["kind"] for crash in spool.events("crash")]
        assert kinds == ["server error", "failed canary", "failed canary"]
        assert any("on hold: the canary" in line for line in spool.told)
        assert not list(spool.spool.glob("HOLD-*"))


def test_an_unhealthy_webui_is_on_hold_and_the_spool_says_so(tmp_path: Path) -> None:
    settings = {"cooldown": [0.05, 0.05, 600]}
    with monitored(tmp_path, faults=plan("structured-500", EVERYBODY), settings=settings) as spool:
        for name in "abc":
            spool.drop(f"{name}.yaml", job(f"castle {name}"))
        spool.start()
        note = spool.spool / "HOLD-sim.txt"
        wait_until(note.exists, 60, "the note")
        wait_until(lambda: len(spool.events("crash")) == 3, 60, "the last cool-down")
        text = note.read_text(encoding="utf-8")
        assert text.startswith("the canary (64x64, one step) failed")
        assert "No job is lost" in text
        spool.stop()
        assert not note.exists()
        assert not spool.done() + spool.failed()
        assert len(spool.waiting()) + len(spool.working()) == 3
        assert sum(len(journal(run, "call_started")) for run in spool.working()) == 2


def test_the_hold_says_what_is_known_of_the_failure_and_what_to_do(tmp_path: Path) -> None:
    settings = {"cooldown": [0.05, 0.05, 600]}
    with monitored(tmp_path, faults=plan("oom", EVERYBODY), settings=settings) as spool:
        spool.drop("a.yaml", job("a castle of marzipan"))
        spool.start()
        note = spool.spool / "HOLD-sim.txt"
        wait_until(note.exists, 60, "the note")
        text = note.read_text(encoding="utf-8")
        assert text.startswith("the canary (64x64, one step) failed: the GPU ran out of memory")
        assert "Lower width" in text
        wait_until(lambda: "| " in note.read_text("utf-8"), 20, "the lines that matter")
        text = note.read_text(encoding="utf-8")
        assert "CUDA out of memory" in text
        assert "marzipan" not in text


@pytest.mark.posix_only("signals")
def test_a_canary_that_kills_the_webui_says_how_it_died(tmp_path: Path) -> None:
    settings = {"cooldown": [0.05, 0.05, 600]}
    faults = plan("sigkill-mid-step", EVERYBODY)
    with monitored(tmp_path, faults=faults, settings=settings) as spool:
        spool.drop("a.yaml", job())
        spool.start()
        note = spool.spool / "HOLD-sim.txt"
        wait_until(note.exists, 60, "the note")
        first, *rest = note.read_text(encoding="utf-8").splitlines()
        assert "died during the call (killed by signal 9, SIGKILL): " in first
        assert any("journalctl" in line for line in rest)


def test_held_for_longer_than_hold_max_the_suspended_run_fails_with_its_evidence(
    tmp_path: Path,
) -> None:
    settings = {"cooldown": [0.05], "hold_max": "0.02 min"}
    with monitored(tmp_path, faults=plan("structured-500", EVERYBODY), settings=settings) as spool:
        spool.drop("a.yaml", job(priority=1))
        spool.drop("b.yaml", job("a tower"))
        spool.start()
        spool.wait_for(failed=1)
        spool.stop()
        (run,) = spool.failed()
        told = error(run)
        assert (told["error"], told["blame"]) == ("HeldTooLong", "WebUI")
        assert all((run / name).is_file() for name in told["evidence"])
        assert len(told["evidence"]) == 6
        assert len(told["attempts"]) == 2
        assert "What was tried" in (run / "WHY.txt").read_text(encoding="utf-8")
        assert len(spool.waiting() + spool.working()) == 1, "no other job was spent"


def test_a_run_whose_own_call_put_the_lane_on_hold_is_given_up_after_hold_max_too(
    tmp_path: Path,
) -> None:
    settings = {"cooldown": [0.05], "hold_max": "0.02 min"}
    with monitored(tmp_path, faults=plan("disk-full", EVERYBODY), settings=settings) as spool:
        spool.drop("a.yaml", job(priority=1))
        spool.drop("b.yaml", job("a tower"))
        spool.start()
        spool.wait_for(failed=1)
        spool.stop()
        (run,) = spool.failed()
        assert error(run)["error"] == "HeldTooLong"
        assert not any(attempt["counted"] for attempt in error(run)["attempts"])
        assert len(spool.waiting() + spool.working()) == 1, "no other job was spent"


def test_the_doubt_outlives_the_monitor(tmp_path: Path) -> None:
    settings = {"cooldown": [0.05, 0.05, 600]}
    plan_of_four = plan("structured-500", EVERYBODY, 4)
    with monitored(tmp_path, faults=plan_of_four, settings=settings) as spool:
        spool.drop("a.yaml", job())
        spool.start()
        wait_until(lambda: len(spool.events("crash")) == 3, 60, "a fresh one failed the canary")
        spool.stop()
        canaries = spool.stats()["canaries"]
        spool.write_config(cooldown=[0.05])
        spool.start()
        spool.wait_for(done=1)
        spool.stop()
        assert spool.stats()["canaries"] > canaries, "a canary came before the last attempt"
        assert len(journal(spool.done()[0], "call_started")) == 3


# -- (c) three in a row that kill it


def test_three_jobs_in_a_row_that_kill_it_hold_it_and_can_be_put_back(tmp_path: Path) -> None:
    settings = {"cooldown": [0.05, 0.05, 600]}
    with monitored(tmp_path, faults=plan("sigkill-mid-step", "cursed"), settings=settings) as spool:
        for name in "abc":
            spool.drop(f"{name}.yaml", job(f"a cursed castle {name}", priority=5))
        spool.drop("good.yaml", job())
        spool.start()
        note = spool.spool / "HOLD-sim.txt"
        wait_until(note.exists, 60, "the note")
        spool.wait_for(failed=3)
        text = note.read_text(encoding="utf-8")
        runs = [run.name for run in spool.failed()]
        assert f"sdwatch retry {' '.join(runs)} --config {spool.config_file}\n" in text
        assert "No job is lost" not in text
        wait_until(lambda: spool.lane().get("failed_runs") == runs, 20, "status names them")
        spool.two_more_beats()
        assert not spool.done(), "nothing is sent meanwhile"

        note.unlink()  # a person asks for a new attempt
        spool.wait_for(done=1, failed=3)
        wait_until(lambda: not note.exists(), 30, "the hold is over")
        spool.stop()
        for run in spool.failed():
            back_to_inbox.retry(run, spool.inbox)
        assert spool.waiting() == ["a.yaml", "b.yaml", "c.yaml"]


def test_the_hold_survives_a_restart_of_the_monitor(tmp_path: Path) -> None:
    settings = {"cooldown": [0.05, 0.05, 600]}
    with monitored(tmp_path, faults=plan("sigkill-mid-step", "cursed"), settings=settings) as spool:
        for name in "abc":
            spool.drop(f"{name}.yaml", job(f"a cursed castle {name}", priority=5))
        spool.start()
        spool.wait_for(failed=3)
        wait_until(lambda: "different jobs" in spool.lane()["hold"], 60, "the lane is on hold")
        spool.stop()
        spool.drop("good.yaml", job())
        spool.start()
        wait_until(lambda: "different jobs" in spool.lane().get("hold", ""), 60, "on hold again")
        spool.two_more_beats()
        assert [len(spool.failed()), spool.waiting()] == [3, ["good.yaml"]]
        note = (spool.spool / "HOLD-sim.txt").read_text(encoding="utf-8")
        assert all(run.name in note for run in spool.failed())


def test_the_hold_ends_after_the_last_cool_down(tmp_path: Path) -> None:
    with monitored(
        tmp_path, faults=plan("sigkill-mid-step", "cursed"), settings={"cooldown": [0.05, 1]}
    ) as spool:
        for name in "abc":
            spool.drop(f"{name}.yaml", job(f"a cursed castle {name}", priority=5))
        spool.drop("good.yaml", job())
        spool.start()
        spool.wait_for(done=1, failed=3)
        spool.stop()
        assert any("different jobs in a row crashed the WebUI" in line for line in spool.told)


# -- (d) poisoned


def test_a_job_that_poisons_the_webui_each_time_is_found_before_the_next_job_fails(
    tmp_path: Path,
) -> None:
    with monitored(tmp_path, faults=plan("poisoned", "cursed")) as spool:
        spool.drop("bad.yaml", job("a cursed castle", priority=5))
        spool.drop("good.yaml", job())
        spool.start()
        spool.wait_for(done=1, failed=1)
        spool.stop()
        (good,), (bad,) = spool.done(), spool.failed()
        assert len(journal(good, "call_started")) == 1
        assert not journal(good, "call_failed")
        assert error(bad)["blame"] == "job"
        assert len(journal(bad, "call_started")) <= 3


# -- (e) one that cannot be restarted


def test_an_external_webui_is_waited_for_and_asked_again(tmp_path: Path) -> None:
    with monitored(tmp_path, webui=EXTERNAL, settings={"cooldown": [0.2]}) as spool:
        faults = tmp_path / "plan.yaml"
        faults.write_text(plan("structured-500", EVERYBODY, 4))
        sim = launch(
            tmp_path, "--faults", str(faults), "--state", str(tmp_path / "simulator.json"),
            port=spool.port,
        )  # fmt: skip
        try:
            spool.drop("a.yaml", job())
            spool.drop("b.yaml", job("a tower"))
            spool.start()
            spool.wait_for(done=2)
            spool.stop()
            assert spool.stats()["starts"] == 1
            assert len(journal(spool.done()[0], "call_self_tested")) == 1
        finally:
            sim.process.kill()
            sim.process.wait()


# -- proofs that must not be fooled


def test_why_txt_has_the_lines_of_its_own_call(tmp_path: Path) -> None:
    """The WebUI lives on after the first one, whose traceback stays in its log."""
    with monitored(tmp_path, faults=plan("oom", "huge") + plan("black-image", "dark")) as spool:
        spool.drop("a.yaml", job("a huge castle", priority=5))
        spool.drop("b.yaml", job("a dark castle"))
        spool.start()
        spool.wait_for(failed=2)
        spool.stop()
        why = (run_of(spool, "-b-") / "WHY.txt").read_text(encoding="utf-8")
        assert "OutOfMemory" not in why
        assert "OutOfMemory" in (run_of(spool, "-a-") / "WHY.txt").read_text(encoding="utf-8")


def test_two_mistakes_that_take_turns_cost_two_restarts_each(tmp_path: Path) -> None:
    faults = plan("structured-500", "cursed") + plan("oom", "huge")
    with monitored(tmp_path, faults=faults) as spool:
        for number in range(5):
            spool.drop(f"{number}-a.yaml", job(f"a cursed castle, {number}"))
            spool.drop(f"{number}-b.yaml", job(f"a huge castle, {number}"))
        spool.start()
        spool.wait_for(failed=10)
        spool.stop()
        assert spool.stats()["starts"] == 1 + 2 + 2
        assert {error(run)["blame"] for run in spool.failed()} == {"job"}


def test_a_failure_without_a_word_is_never_taken_for_a_jobs_own(tmp_path: Path) -> None:
    """The third job meets it once, and succeeds after a restart."""
    faults = plan("opaque-500-text", "cursed") + plan("opaque-500-text", "unlucky", 1)
    with monitored(tmp_path, faults=faults) as spool:
        for name in "ab":
            spool.drop(f"{name}.yaml", job(f"a cursed castle {name}", priority=5))
        spool.drop("c.yaml", job("an unlucky castle"))
        spool.start()
        spool.wait_for(done=1, failed=2)
        spool.stop()
        assert len(journal(spool.done()[0], "call_started")) == 2


def test_a_failure_traced_to_two_jobs_does_not_count_on_an_unhealthy_webui(
    tmp_path: Path,
) -> None:
    """From the third job on it says the same to all, the canary included."""
    faults = plan("structured-500", "cursed") + plan("structured-500", "castle|canary", 3)
    with monitored(tmp_path, faults=faults, settings={"cooldown": [0.1]}) as spool:
        for name in "ab":
            spool.drop(f"{name}.yaml", job(f"a cursed tower {name}", priority=5))
        spool.start()
        spool.wait_for(failed=2)
        for name in "cdef":
            spool.drop(f"{name}.yaml", job(f"castle {name}"))
        spool.wait_for(done=4, failed=2)
        spool.stop()


def test_a_failed_canary_is_not_forgotten_over_a_start_that_failed(tmp_path: Path) -> None:
    faults = plan("structured-500", EVERYBODY, 4)
    faults += "- {fault: exit-on-start, when: {start: 3}}\n"
    with monitored(tmp_path, faults=faults) as spool:
        for name in "abc":
            spool.drop(f"{name}.yaml", job(f"castle {name}"))
        spool.start()
        spool.wait_for(done=3)
        spool.stop()
        kinds = [crash["kind"] for crash in spool.events("crash")]
        assert kinds[:3] == ["server error", "failed canary", "failed start"]
        assert "failed canary" in kinds[3:], "it was asked again after that start"
        assert sorted(map(sent, spool.done()))[:2] == [1, 1], "no other job was spent"

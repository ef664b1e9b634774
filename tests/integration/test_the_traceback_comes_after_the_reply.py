"""The traceback of a 500 comes after its reply: the diagnosis waits for it, and not for long."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sdwatch.policy.lane.effects import RunSelfTest
from sdwatch.policy.lane.events import SelfTestAnswered
from sdwatch.policy.lane.knowledge import Plain
from tests.integration.test_external_webui import external
from tests.support.helpers import wait_until
from tests.support.lanes import lane_of, simulator
from tests.support.monitored import job, journal, monitored

KINDS = ("forge", "a1111", "sdnext")
STRUCTURED = "RuntimeError: injected failure inside sampling"
WAITS = ("sdwatch.webui.log.call_log.TRACEBACK_WAIT", "sdwatch.policy.lane.attempts.TRACEBACK_WAIT")
LONG = 1000.0  # seconds: the traceback never comes while a test runs


def plan(fault: str, prompt: str = "cursed", times: Any = "always", **more: float) -> str:
    entry = {"fault": fault, "when": {"prompt": prompt}, "times": times, **more}
    return f"- {json.dumps(entry)}\n"


def why_of(run: Path) -> str:
    return (run / "WHY.txt").read_text(encoding="utf-8")


def explained(root: Path, faults: str, **more: Any) -> tuple[str, Path]:
    """WHY.txt of a job that fails, and its folder."""
    with monitored(root, faults=faults, **more) as spool:
        spool.drop("bad.yaml", job("a cursed castle"))
        spool.start()
        spool.wait_for(failed=1)
        spool.stop()
        (run,) = spool.failed()
        return why_of(run), run


@pytest.mark.parametrize("delay", [0.0, 0.012, 0.3])
@pytest.mark.parametrize("fault", ["structured-500", "opaque-500-text"])
def test_why_has_the_traceback_that_came_after_the_reply(
    tmp_path: Path, fault: str, delay: float
) -> None:
    why, run = explained(tmp_path, plan(fault, delay=delay))
    assert "  | RuntimeError" in why
    assert "webui_tail.2.log has the exception." in why
    assert all(
        any("RuntimeError" in line for line in record["lines"])
        for record in journal(run, "call_failed")
    )


def test_a_traceback_that_comes_in_two_writes_is_waited_for_to_its_last_line(
    tmp_path: Path,
) -> None:
    why, _ = explained(tmp_path, plan("structured-500", delay=0.02, pause=0.4))
    assert f"  | {STRUCTURED}" in why


# SD.Next answers 200 without an image, and its log does not name an AssertionError (measured).
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "sdnext"])
def test_an_exception_without_a_message_is_explained_by_the_line_that_raised_it(
    tmp_path: Path, kind: str
) -> None:
    faults = plan("assertion-500", delay=0.2)
    why, run = explained(tmp_path, faults, flags=("--kind", kind))
    error = json.loads((run / "error.json").read_text(encoding="utf-8"))
    assert (
        "AssertionError, raised in <webui>/modules/processing.py, line 1, in simulated: "
        in (error["message"])
    )
    assert "assert p.prompt is not None" in why.splitlines()[0]


@pytest.mark.parametrize("settings", [{}, {"recovery": False}], ids=["recovery", "no recovery"])
def test_a_missing_traceback_is_awaited_for_a_second_and_not_in_the_advice(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    why, run = explained(tmp_path, plan("structured-500", delay=LONG), settings=settings)
    first = journal(run, "call_failed")[0]
    assert 1.0 <= first["seconds"] < 10
    assert "Traceback" not in why
    assert "the exception" not in why
    assert "webui_tail" in why


def test_with_recovery_off_the_only_attempt_has_its_traceback(tmp_path: Path) -> None:
    why, _ = explained(tmp_path, plan("structured-500", delay=0.3), settings={"recovery": False})
    assert f"  | {STRUCTURED}" in why
    assert "webui_tail.log has the exception." in why


def test_the_end_of_the_process_ends_the_wait_and_is_the_cause(tmp_path: Path) -> None:
    faults = plan("exit-after-500", delay=LONG, seconds=0.1)
    _, run = explained(tmp_path, faults)
    failed = journal(run, "call_failed")
    assert [record["diagnosis"] for record in failed] == ["crash", "crash"]
    assert [record["exit_code"] for record in failed] == [1, 1]
    assert all(record["seconds"] < 1.0 for record in failed)


def test_a_system_exit_is_printed_before_its_reply(tmp_path: Path) -> None:
    why, _ = explained(tmp_path, plan("system-exit-500"))
    assert "SystemExit: 3" in why.splitlines()[0]


@pytest.mark.parametrize("how", ["stop", "cancel"])
def test_a_stop_or_cancel_during_the_wait_is_prompt(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for constant in WAITS:
        monkeypatch.setattr(constant, LONG)
    faults = plan("structured-500", delay=LONG)
    with monitored(tmp_path, faults=faults) as spool:
        spool.drop("bad.yaml", job("a cursed castle"))
        spool.start()
        run = wait_until(lambda: next(iter(spool.working()), None))
        wait_until(lambda: "500" in log_of(spool.state), why="it has answered")
        assert not journal(run, "call_failed"), "it waits"
        if how == "cancel":
            (run / "cancel").touch()
            spool.wait_for(failed=1)
        spool.stop()
        (record,) = [*spool.working(), *spool.failed()]
        (failed,) = journal(record, "call_failed")
        assert failed["diagnosis"] == "server error"
        assert not journal(record, "call_given_up")


def log_of(state: Path) -> str:
    logs = state.glob("webui-sim/incarnation-*")
    return "".join(path.read_text(encoding="utf-8", errors="replace") for path in logs)


def test_the_traceback_of_an_external_webui_with_a_log_file_is_awaited_too(tmp_path: Path) -> None:
    log_file = tmp_path / "external.log"
    with external(tmp_path, log_file=str(log_file)) as (spool, hands):
        (tmp_path / "faults.yaml").write_text(plan("structured-500", delay=0.3))
        sim = hands.start("--faults", str(tmp_path / "faults.yaml"))
        log_file.hardlink_to(sim.log)
        spool.drop("bad.yaml", job("a cursed castle"))
        spool.start()
        spool.wait_for(failed=1)
        why = why_of(spool.failed()[0])
        assert f"  | {STRUCTURED}" in why
        assert "has the exception." in why


def test_without_a_log_file_there_is_nothing_to_wait_for_and_no_file_is_spoken_of(
    tmp_path: Path,
) -> None:
    with external(tmp_path) as (spool, hands):
        (tmp_path / "faults.yaml").write_text(plan("opaque-500", delay=LONG))
        hands.start("--faults", str(tmp_path / "faults.yaml"))
        spool.drop("bad.yaml", job("a cursed castle"))
        spool.start()
        spool.wait_for(failed=1)
        (run,) = spool.failed()
        assert all(record["seconds"] < 1.0 for record in journal(run, "call_failed"))
        advice = why_of(run).partition("What to do:")[2].partition("Files beside this one")[0]
        assert "webui_tail" not in advice
        assert "more in" not in why_of(run)


def test_the_traceback_of_a_canary_is_awaited_too(tmp_path: Path) -> None:
    faults = tmp_path / "faults.yaml"
    faults.write_text(plan("opaque-500-text", "sdwatch canary", 1, delay=0.3))
    with lane_of(simulator("--faults", str(faults)), tmp_path / "state", [0.1]) as lane:
        answered = lane.loop.effects.self_test(RunSelfTest(Plain()))
        assert isinstance(answered, SelfTestAnswered)
        assert "its log: RuntimeError, raised in <webui>" in answered.reason.cause


def test_a_late_traceback_of_one_job_is_not_taken_for_the_next_ones(tmp_path: Path) -> None:
    faults = plan("structured-500", "cursed", delay=1.4) + plan(
        "opaque-500-text", "unlucky", delay=LONG
    )
    with monitored(tmp_path, faults=faults, settings={"recovery": False}) as spool:
        spool.drop("first.yaml", job("a cursed castle", priority=5))
        spool.drop("second.yaml", job("an unlucky castle"))
        spool.start()
        spool.wait_for(failed=2)
        spool.stop()
        first, second = sorted(spool.failed(), key=lambda run: "second" in run.name)
        assert "injected failure" in log_of(spool.state)  # it was printed meanwhile
        assert "injected failure" not in why_of(second).partition("Files beside this one")[0]
        (failed,) = journal(second, "call_failed")
        assert not [line for line in failed["lines"] if "Traceback" in line]
        assert failed["message"].endswith("Internal Server Error")
        assert "injected failure" in why_of(first).splitlines()[0]  # its reply said so


def test_a_late_traceback_of_the_first_attempt_is_not_taken_for_the_retrys(
    tmp_path: Path,
) -> None:
    log_file = tmp_path / "external.log"
    with external(tmp_path, log_file=str(log_file)) as (spool, hands):
        first = plan("structured-500", times=1, delay=1.9)
        (tmp_path / "faults.yaml").write_text(first + plan("opaque-500-text", delay=LONG))
        sim = hands.start("--faults", str(tmp_path / "faults.yaml"))
        log_file.hardlink_to(sim.log)
        spool.drop("bad.yaml", job("a cursed castle"))
        spool.start()
        spool.wait_for(failed=1)
        wait_until(lambda: STRUCTURED in sim.lines(), why="it was printed")
        once, again = journal(spool.failed()[0], "call_failed")
        assert once["message"].endswith(STRUCTURED)
        assert again["message"].endswith("Internal Server Error")
        assert not [line for line in again["lines"] if STRUCTURED in line]

"""The supervisor beside a run that has the permit: neither must surprise the other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sdwatch.lane.lane import Lane
from sdwatch.policy.failure.diagnosis import Diagnosis
from sdwatch.policy.failure.hold_reason import HoldReason
from sdwatch.policy.failure.lifecycle import State
from sdwatch.webui.http.canary import By, SelfTestFailure
from sdwatch.webui.http.mailbox import Mailbox
from tests.helpers import wait_until
from tests.lanes import lane_of, simulator


@pytest.fixture
def lane(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Lane]:
    """One whose simulator is ready. A parameter is the last entry of its cool-down, in seconds."""
    monkeypatch.setattr("sdwatch.lane.supervisor.PROBE_INTERVAL_S", 0.1)
    health = {"interval": 0.1, "timeout": 0.5, "failures": 2}
    last = getattr(request, "param", 0.5)
    with lane_of(simulator(health=health, stop_grace=1), tmp_path, (0.05, last)) as lane:
        yield lane


def test_a_webui_that_dies_just_before_its_self_test_is_started_first(lane: Lane) -> None:
    with lane.permit(Mailbox()):
        for process in lane.process.family():
            process.kill()
        wait_until(lambda: not lane.process.is_process_alive(), why="it is dead")
        assert lane.supervisor.availability.state is State.READY, "nobody has looked yet"
        assert lane.supervisor.run_self_test(threading.Event()) is None
        assert lane.process.incarnation == 2


def test_the_reason_of_a_hold_has_no_prompt(lane: Lane) -> None:
    lane.redactor.learn({"prompt": "a purple hippopotamus"})
    with lane.permit(Mailbox()):
        lane.supervisor.put_on_hold(HoldReason("it said: a purple hippopotamus"))
        assert lane.hold_reason.startswith("it said: <text")
        assert lane.held is not None
        assert lane.held.hold_reason.lines, "what it printed"


@pytest.mark.parametrize("lane", [5.0], indirect=True)  # longer than a start takes
def test_three_blamed_jobs_in_a_row_hold_the_webui_and_restart_it(
    lane: Lane,
) -> None:
    with lane.permit(Mailbox()):
        for number in (1, 2):
            lane.supervisor.blamed(f"job-{number}", f"run-{number}", f"words {number}", 0, True)
        lane.supervisor.crashed(Diagnosis.POISONED)  # it lives, and must be restarted
        lane.supervisor.blamed("job-3", "run-3", "words 3", 1, True)
        alive = [process.pid for process in lane.process.family()]
    wait_until(
        lambda: lane.supervisor.availability.state is State.NOT_USABLE, 30, "it is up, and on hold"
    )
    assert lane.held is not None
    assert lane.held.hold_reason.failed_runs == ("run-1", "run-2", "run-3")
    wait_until(lambda: lane.ready, 30, "the hold is over")
    assert lane.process.incarnation == 2
    assert lane.hold_reason == ""
    assert not any(map(psutil.pid_exists, alive))


def test_a_proof_that_a_stop_cuts_off_condemns_nobody(
    lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(*_: object) -> SelfTestFailure:
        lane.supervisor.close()
        return SelfTestFailure("the canary failed: sdwatch stops")

    monkeypatch.setattr(lane.supervisor._self_test, "why_it_failed", cut_off)
    with lane.permit(Mailbox()):
        self_test = lane.supervisor.run_self_test(threading.Event())
    assert self_test is not None
    assert self_test.by is By.NOT_ASKED
    assert lane.status()["crashes_in_a_row"] == 0


@pytest.mark.posix_only("SIGSTOP")
def test_a_webui_that_freezes_on_hold_is_restarted(lane: Lane) -> None:
    with lane.permit(Mailbox()):
        lane.supervisor.put_on_hold(HoldReason("it has no model"))
    for process in lane.process.family():
        process.suspend()
    wait_until(lambda: lane.process.incarnation == 2, 60, "it is started anew")
    wait_until(lambda: lane.ready, 60, "it goes on")

"""A real lane on hold, and one that is cut off: what its people see, and what it does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sdwatch.errors import RunStoppedError
from sdwatch.lane.lane import Lane
from sdwatch.policy.failure.hold_reason import HoldReason
from sdwatch.policy.failure.lifecycle import State
from sdwatch.policy.lane.events import Health, ProbeAnswered, ProcessExited
from sdwatch.webui.http.run_control import RunControl
from tests.support.helpers import wait_until
from tests.support.lanes import lane_of, simulator
from tests.support.recorders import recorder_alone


@pytest.fixture
def lane(tmp_path: Path) -> Iterator[Lane]:
    """One whose simulator is ready."""
    health = {"interval": 0.1, "timeout": 0.5, "failures": 2}
    with lane_of(simulator(health=health, stop_grace=1), tmp_path, (0.05, 0.5)) as lane:
        yield lane


def lacks(what: str) -> ProbeAnswered:
    return ProbeAnswered(Health.LACKS, HoldReason(what))


def test_the_reason_of_a_hold_has_no_prompt(lane: Lane) -> None:
    lane.redactor.learn({"prompt": "a purple hippopotamus"})
    lane.loop.tell(lacks("it said: a purple hippopotamus"))
    held = wait_until(lambda: lane.held, why="it is on hold")
    assert held.hold_reason.cause.startswith("it said: <text")
    assert "hippopotamus" not in str(held)
    held = wait_until(lambda: (now := lane.held) and now.hold_reason.lines and now, why="its lines")
    assert "hippopotamus" not in str(held)


def test_a_webui_that_dies_is_one_crash_and_starts_again(lane: Lane) -> None:
    for process in lane.process.family():
        process.kill()
    wait_until(lambda: lane.process.incarnation == 2, 60, "it is started again")
    wait_until(lambda: lane.ready, 60, "it is ready")
    assert lane.status()["crashes_in_a_row"] == 1


def test_the_exit_of_an_earlier_incarnation_changes_nothing(lane: Lane) -> None:
    lane.loop.tell(ProcessExited(0, -9))
    lane.loop.tell(lacks("a mark"))
    wait_until(lambda: lane.held, why="both were handled")
    assert lane.loop.state.history.in_a_row == 0


def test_an_internal_error_of_the_loop_is_a_hold_and_the_lane_continues(
    lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(_: object) -> None:
        monkeypatch.undo()
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(lane.loop, "_changed", breaks)
    lane.release()
    wait_until(lambda: "broken on purpose" in lane.hold_reason, why="it is reported")
    wait_until(lambda: lane.loop.state.life is State.READY, 60, "it continues")


@pytest.mark.posix_only("SIGSTOP")
def test_a_webui_that_freezes_on_hold_is_restarted(lane: Lane) -> None:
    for process in lane.process.family():
        process.suspend()
    lane.loop.tell(lacks("it has no model"))
    wait_until(lambda: lane.process.incarnation == 2, 60, "it is started again")
    wait_until(lambda: lane.ready, 60, "it resumes")


def test_a_call_that_is_requested_after_the_stop_is_given_up(lane: Lane) -> None:
    lane.start_stop()
    wait_until(lambda: lane.loop.state.life is State.STOPPED, 60, "it has stopped")
    lane.loop.thread.join(20)
    with pytest.raises(RunStoppedError):
        lane.api(recorder_alone(), RunControl()).generate_images_with_recovery("txt2img", {})

"""Why a lane is on hold, as it is remembered and written into the spool."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from sdwatch.config import WebUIConfig
from sdwatch.lane.context import LaneSettings
from sdwatch.lane.hold_view import held_of, tried_words
from sdwatch.lane.lane import Lane
from sdwatch.policy.failure.facts import Diagnosis
from sdwatch.policy.failure.hold_reason import Cure, Held, HoldCode, HoldKey, HoldReason, NoCall
from sdwatch.policy.lane.instant import Instant
from sdwatch.policy.lane.lane_hold import CrashSeen, HoldState, asked_again_after, is_waited_for
from sdwatch.spool.hold_note import HoldNote
from sdwatch.system.clock import SystemClock
from tests.support.helpers import free_port, wait_until
from tests.support.tables import table

NOW = Instant(1_790_000_000.0, 1000.0, "boot")


def held(hold: HoldState) -> Held:
    """As people see it."""
    shown = held_of(hold, hold.reason, lambda text: text)
    assert shown is not None
    return shown


def tried(hold: HoldState) -> list[str]:
    return [what for _, what in held(hold).tried]


def test_what_was_tried_is_listed_in_order_and_bounded() -> None:
    hold = HoldState()
    for number in range(7):
        reason = HoldReason(f"exit code {number}", key=HoldKey(facts=(number,)))
        hold = hold.update(reason, NOW)
    assert tried(hold) == [f"exit code {n}" for n in range(2, 7)]
    assert held(hold).before == 2
    hold = hold.clear()
    assert (hold.reason, hold.since) == (None, 0.0)
    assert held_of(hold, None, str) is None


def test_only_a_new_attempt_or_another_reason_is_recorded() -> None:
    hold = HoldState()
    for retried in (True, False, True, False):
        hold = hold.update(HoldReason("refused"), NOW, retried=retried)
    assert tried(hold) == ["refused", "refused"]


def test_the_history_of_a_hold_starts_with_its_causes_and_ends_with_a_success() -> None:
    crash = CrashSeen(Diagnosis.CRASH, "exit code 1", 5.0)
    hold = HoldState().record(crash, NOW).clear()  # it was restarted
    hold = hold.update(HoldReason("the canary failed"), NOW)
    assert tried(hold) == ["crash, cooling down for 5 s: exit code 1", "the canary failed"]
    hold = hold.succeeded()
    hold = hold.update(HoldReason("refused", key=HoldKey(HoldCode.NO_ANSWER)), NOW)
    assert tried(hold) == ["refused"]


def test_the_run_of_a_crash_keeps_its_name_where_that_is_in_a_prompt() -> None:
    """castle.yaml with the prompt `castle`: what is withheld of a prompt must not hide which run
    it was."""
    run = "20261129-211847.185-castle-687f"
    crash = CrashSeen(Diagnosis.CRASH, "it died at castle", 5.0, run)
    words = tried_words(crash, lambda text: text.replace("castle", "…"))
    assert words == f"crash, cooling down for 5 s: {run}: it died at …"


def test_the_reason_it_started_with_is_restored() -> None:
    hold = HoldState().start(HoldReason("busy"), NOW)
    assert hold.in_a_row == 1
    hold = hold.update(HoldReason("refused"), NOW).restore(NOW)
    assert held(hold).hold_reason.cause == "busy"


def test_the_note_is_removed_when_the_lane_resumes_and_kept_when_sdwatch_ends(
    tmp_path: Path,
) -> None:
    hold = HoldState().update(HoldReason("exit code 1", "Correct it."), NOW)
    note = HoldNote(tmp_path, "sim", " --config /sd/a.yaml")
    path = tmp_path / "HOLD-sim.txt"
    note.show(held(hold))
    assert "sdwatch resume --config /sd/a.yaml" in path.read_text("utf-8")
    note.show(held(hold), ended=True)
    assert "sdwatch run --config /sd/a.yaml" in path.read_text("utf-8")
    note.show(None)
    assert not path.exists()


def test_a_log_on_a_share_that_hangs_keeps_the_lane_from_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, answers = threading.Event(), threading.Event()

    def hangs() -> dict[str, str]:
        reading.set()
        answers.wait(60)
        return {"log_file": "ValueError: it broke"}

    url = f"http://127.0.0.1:{free_port()}"
    config = WebUIConfig(name="sim", url=url, log_file=tmp_path / "webui.log")
    lane = Lane(config, LaneSettings(tmp_path, (0.05,), SystemClock()))
    monkeypatch.setattr(lane.process, "get_tail_logs", hangs)
    lane.open()
    try:
        wait_until(reading.is_set, why="its output is read")
        assert lane.held is not None
        assert lane.held.hold_reason.lines == ()
        lane.allow_calls(NoCall("paused", HoldKey()), None)
        wait_until(lambda: lane.loop.state.no_call, why="the loop handles events")
        answers.set()
        wait_until(lambda: lane.held and lane.held.hold_reason.lines == ("ValueError: it broke",))
    finally:
        answers.set()
        lane.start_stop()
        lane.finish_stop()


@table(
    ("cure", "crashes", "held_for", "waits"),
    [
        (Cure.RESTART, 1, 1e6, True),
        (Cure.RESTART, 3, 0.0, True),  # the last entry of the list is still waited out
        (Cure.RESTART, 4, 0.0, False),
        (Cure.TIME, 9, 90.0, True),
        (Cure.TIME, 0, 91.0, False),
        (Cure.PERSON, 0, 0.0, False),
    ],
)
def test_once_waits_for_what_a_restart_or_time_may_end(
    cure: Cure, crashes: int, held_for: float, waits: bool
) -> None:
    assert is_waited_for(cure, crashes, held_for, [5, 10, 15]) is waits


def test_what_is_not_usable_is_asked_again_at_a_pace_that_grows_and_stays_modest() -> None:
    paces = [asked_again_after(number) for number in range(1, 100)]
    assert paces == sorted(paces)
    assert 2 <= paces[0] <= paces[-1] <= 30

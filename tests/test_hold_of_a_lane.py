"""Why a lane is on hold, as it is remembered and written into the spool."""

from __future__ import annotations

from pathlib import Path

from sdwatch.lane.hold import Hold
from sdwatch.policy.failure.hold_reason import HoldCode, HoldKey, HoldReason
from sdwatch.spool.hold_note import HoldNote
from sdwatch.system.clock import SystemClock


def test_what_was_tried_is_listed_in_order_and_bounded() -> None:
    hold = Hold(SystemClock())
    for number in range(7):
        hold.update(HoldReason(f"exit code {number}", key=HoldKey(facts=(number,))))
    assert hold.held is not None
    assert [what for _, what in hold.held.tried] == [f"exit code {n}" for n in range(2, 7)]
    assert hold.held.before == 2
    hold.clear()
    assert (hold.held, hold.since, hold.reason) == (None, 0.0, "")


def test_only_a_new_attempt_or_another_reason_is_recorded() -> None:
    hold = Hold(SystemClock())
    for anew in (True, False, True, False):
        hold.update(HoldReason("refused"), retried=anew)
    assert hold.held is not None
    assert [what for _, what in hold.held.tried] == ["refused", "refused"]


def test_the_history_of_a_hold_starts_with_its_causes_and_ends_with_a_success() -> None:
    hold = Hold(SystemClock())
    hold.record("crash")
    hold.clear()  # it was restarted
    hold.update(HoldReason("the canary failed"))
    assert hold.held is not None
    assert [what for _, what in hold.held.tried] == ["crash", "the canary failed"]
    hold.succeeded()
    hold.update(HoldReason("refused", key=HoldKey(HoldCode.NO_ANSWER)))
    assert [what for _, what in hold.held.tried] == ["refused"]


def test_the_reason_it_started_with_is_restored() -> None:
    hold = Hold(SystemClock())
    assert hold.start(HoldReason("busy")) == 1
    hold.update(HoldReason("refused"))
    hold.restore()
    assert hold.reason == "busy"


def test_the_note_is_removed_when_the_lane_resumes_and_kept_when_sdwatch_ends(
    tmp_path: Path,
) -> None:
    hold = Hold(SystemClock())
    hold.update(HoldReason("exit code 1", "Correct it."))
    note = HoldNote(tmp_path, "sim", " --config /sd/a.yaml")
    path = tmp_path / "HOLD-sim.txt"
    note.show(hold.held)
    assert "sdwatch resume --config /sd/a.yaml" in path.read_text("utf-8")
    note.show(hold.held, ended=True)
    assert "sdwatch run --config /sd/a.yaml" in path.read_text("utf-8")
    note.show(None)
    assert not path.exists()

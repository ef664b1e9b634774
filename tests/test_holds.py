"""Holds are reported once each; removing a note releases its lane, and no other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from sdwatch.lane.lane import Lane
from sdwatch.monitor.holds import Holds
from sdwatch.policy.failure.hold_reason import Held, HoldCode, HoldKey, HoldReason, NoCall
from sdwatch.spool.folders import Spool
from sdwatch.system.clock import SystemClock

FULL = NoCall("12 MB free on the spool's disk, less than min_free", HoldKey(HoldCode.NO_ROOM))


class StandIn:
    """A lane, as far as Holds needs it."""

    name = "sim"

    def __init__(self) -> None:
        self.held: Held | None = None
        self.released = 0

    @property
    def hold_reason(self) -> str:
        return self.held.hold_reason.cause if self.held else ""

    def release(self) -> None:
        self.released += 1


class EndsMeanwhile(StandIn):
    """Its hold ends just after somebody has seen it."""

    @property
    def held(self) -> Held | None:
        seen, self._held = self._held, None
        return seen

    @held.setter
    def held(self, held: Held | None) -> None:
        self._held = held


@pytest.fixture
def reported() -> list[str]:
    return []


@pytest.fixture
def holds(tmp_path: Path, reported: list[str]) -> Holds:
    return Holds(
        Spool(tmp_path, "me"),
        ["sim"],
        clock=SystemClock(),
        report=lambda n: reported.append(str(n)),
    )


def test_a_changed_number_is_not_reported(holds: Holds, reported: list[str]) -> None:
    for free in (12, 11, 10):
        holds.report([], replace(FULL, text=FULL.text.replace("12", str(free))))
    holds.report([], None)
    assert reported == [f"everything: on hold: {FULL}", "everything: resumes"]


def test_a_note_of_a_full_disk_that_is_taken_away_releases_no_later_hold(
    holds: Holds, tmp_path: Path
) -> None:
    lane = StandIn()
    lanes = [cast(Lane, lane)]
    note = tmp_path / "HOLD-sim.txt"
    holds.report(lanes, FULL)
    note.unlink()
    holds.report(lanes, FULL)
    assert note.exists(), "it is still so"
    note.unlink()
    holds.report(lanes, None)
    lane.held = Held(HoldReason("it has no model"), "now")
    holds.report(lanes, None)
    holds.report(lanes, None)
    assert (lane.released, note.exists()) == (0, True)
    note.unlink()
    holds.report(lanes, None)
    assert lane.released == 1


def test_a_hold_may_end_while_it_is_reported(holds: Holds, reported: list[str]) -> None:
    lane = EndsMeanwhile()
    lane.held = Held(HoldReason("it has no model"), "now")
    for _ in range(2):
        holds.report([cast(Lane, lane)], None)
    assert reported == ["sim: on hold: it has no model", "sim: resumes"]

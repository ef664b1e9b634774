"""What a journal says, told as histories."""

from __future__ import annotations

from typing import Any

import pytest

from sdwatch.policy.failure.ledger import Image, Ledger, LeftCall, read_ledger
from tests.support.tables import table

Records = list[dict[str, Any]]
IMAGE = {"name": "x.png", "sha256": "ab", "size": 3, "width": 8, "height": 8, "grid": False}


def started(call: str = "1.1") -> dict[str, Any]:
    return {"event": "call_started", "call": call}


def failed(call: str = "1.1", counted: bool = True) -> dict[str, Any]:
    return {"event": "call_failed", "call": call, "counted": counted}


def finished(call: str = "1.1") -> dict[str, Any]:
    return {"event": "call_finished", "call": call, "images": [IMAGE], "seconds": 1.0}


def given_up(call: str = "1.1") -> dict[str, Any]:
    return {"event": "call_given_up", "call": call, "why": "cancelled"}


# history: (records, sent, counted, cut_offs, finished)
HISTORIES: dict[str, tuple[Records, int, int, int, bool]] = {
    "never begun": ([], 0, 0, 0, False),
    "done at once": ([started(), finished()], 1, 0, 0, True),
    "failed once, then done": ([started(), failed(), started(), finished()], 2, 1, 0, True),
    "failed twice": ([started(), failed(), started(), failed()], 2, 2, 0, False),
    "a busy reply does not count": ([started(), failed(counted=False)], 1, 0, 0, False),
    "an old record without `counted` counts": (
        [started(), {"event": "call_failed", "call": "1.1"}], 1, 1, 0, False,
    ),
    "cut off by the monitor's death": ([started()], 1, 0, 1, False),
    "cut off, then done": ([started(), started(), finished()], 2, 0, 1, True),
    "cut off three times": ([started(), started(), started()], 3, 0, 3, False),
    "failed, then cut off": ([started(), failed(), started()], 2, 1, 1, False),
    "given up by a stop": ([started(), given_up()], 1, 0, 0, False),
    "given up, then done": ([started(), given_up(), started(), finished()], 2, 0, 0, True),
}  # fmt: skip


@table(
    ("records", "sent", "counted", "cut_offs", "is_finished"),
    HISTORIES.values(),
    ids=HISTORIES.keys(),
)
def test_the_ledger_of_a_history(
    records: Records, sent: int, counted: int, cut_offs: int, is_finished: bool
) -> None:
    call = read_ledger(records).call("1.1")
    assert (call.sent, call.counted, call.cut_offs) == (sent, counted, cut_offs)
    assert call.images == ((Image(**IMAGE),) if is_finished else None)
    assert not call.open


SENT = {**started(), "lane": "one", "incarnation": 3, "log_offset": [0, 512]}


@table(
    ("records", "left"),
    [
        ([SENT], LeftCall("one", 3, (0, 512))),
        ([SENT, finished()], None),
        ([SENT, failed()], None),
        ([started(), finished(), {**SENT, "call": "1.2"}], LeftCall("one", 3, (0, 512))),
        ([started()], None),
        ([{**SENT, "log_offset": [-1, 512]}], None),
        ([{**SENT, "log_offset": "0"}], None),
    ],
)
def test_the_call_that_a_death_left_in_flight(records: Records, left: LeftCall | None) -> None:
    assert read_ledger(records).left == left


def test_calls_are_counted_each_for_itself() -> None:
    ledger = read_ledger(
        [started(), failed(), started(), finished(), started("1.2"), failed("1.2")]
    )
    assert ledger.call("1.1").counted == ledger.call("1.2").counted == 1
    assert ledger.call("1.2").images is None
    assert ledger.call("2.1").sent == 0


@table(("deaths", "too_often"), [(1, False), (2, False), (3, True), (4, True)])
def test_two_cut_offs_are_forgiven_and_the_third_is_not(deaths: int, too_often: bool) -> None:
    assert read_ledger([started()] * deaths).call("1.1").was_cut_off_too_often is too_often


@pytest.mark.parametrize(
    ("records", "given_up"),
    [
        ([started(), given_up()] * 6, 6),
        ([started(), failed(), given_up()], 0),
        ([started(), given_up(), started()], 1),
        ([given_up()], 0),
    ],
)
def test_attempts_given_up_by_a_stop_are_counted_separately(
    records: Records, given_up: int
) -> None:
    assert read_ledger(records).call("1.1").given_up == given_up


def test_cut_offs_of_a_finished_call_are_past() -> None:
    records = [started(), started(), started(), started(), finished()]
    assert not read_ledger(records).call("1.1").was_cut_off_too_often


def test_reading_does_not_take_a_call_in_flight_for_cut_off() -> None:
    ledger = Ledger()
    ledger.apply(started())
    assert ledger.call("1.1").open
    assert ledger.call("1.1").cut_offs == 0


def test_what_belongs_to_the_whole_run() -> None:
    seeds = [{"seed": 1, "subseed": 2, "drawn": True}, None]
    ledger = read_ledger(
        [
            {"event": "claimed", "source": "a.yaml", "at": "then"},
            {"event": "planned", "seeds": seeds},
            {"event": "evidence", "call": "1.1", "files": ["a", "b"]},
            {"event": "something new", "call": "1.1"},
            {"event": "evidence", "call": "1.1", "files": ["a.2"]},
            {"event": "ended", "outcome": "failed"},
        ]
    )
    assert ledger.claimed["source"] == "a.yaml"
    assert ledger.seeds == seeds
    assert list(ledger.evidence) == ["a", "b", "a.2"]
    assert ledger.ended == "failed"


@pytest.mark.parametrize(
    ("records", "failed_attempts"),
    [
        ([started(), failed(counted=False)], 1),
        ([started(), failed(), started(), failed(counted=False)], 2),
        ([started(), given_up()], 0),
        ([started()], 0),
        ([started(), started(), failed()], 1),
    ],
)
def test_attempts_that_failed_are_those_that_nobody_cut_short(
    records: Records, failed_attempts: int
) -> None:
    assert read_ledger(records).call("1.1").failed == failed_attempts


def crashed() -> dict[str, Any]:
    return failed() | {"crashed": True}


def self_tested(excused: bool = False, action: str = "retry") -> dict[str, Any]:
    return {"event": "call_self_tested", "call": "1.1", "excused": excused, "action": action}


@table(
    ("records", "crashes"),
    [
        ([started(), crashed()], 1),
        ([started(), failed()], 0),
        ([started(), crashed(), started(), crashed()], 2),
        ([started(), crashed(), started(), failed(), self_tested(action="test-again")], 2),
        ([started(), crashed(), started(), crashed(), self_tested(excused=True)], 0),
    ],
)
def test_the_crashes_of_a_call_are_in_its_ledger(records: Records, crashes: int) -> None:
    assert read_ledger(records).call("1.1").crash_count == crashes

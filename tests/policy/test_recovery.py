"""The gate's table, row by row."""

from __future__ import annotations

import pytest

from sdwatch.policy.recovery import COUNTED_ATTEMPTS, Action, counts, decide
from sdwatch.policy.verdict import Diagnosis

CURED_BY_RESTART = (Diagnosis.CRASH, Diagnosis.SERVER_ERROR, Diagnosis.SILENT)
WAITED_OUT = (Diagnosis.BUSY, Diagnosis.NOT_USABLE, Diagnosis.STORAGE)


@pytest.mark.parametrize(
    ("diagnosis", "attempts", "recovery", "action"),
    [
        *[(d, 1, True, Action.RESTART) for d in CURED_BY_RESTART],
        *[(d, 2, True, Action.FAIL) for d in CURED_BY_RESTART],
        *[(d, 1, False, Action.FAIL) for d in CURED_BY_RESTART],
        (Diagnosis.STUCK, 1, True, Action.INTERRUPT),
        (Diagnosis.STUCK, 2, True, Action.FAIL),
        (Diagnosis.STUCK, 1, False, Action.FAIL),
        (Diagnosis.BAD_REQUEST, 1, True, Action.FAIL),
        (Diagnosis.BAD_REQUEST, 1, False, Action.FAIL),
        *[(d, attempts, on, Action.HOLD) for d in WAITED_OUT for attempts in (0, 1, 2, 9)
          for on in (True, False)],
    ],
)  # fmt: skip
def test_the_gate_returns_what_its_table_says(
    diagnosis: Diagnosis, attempts: int, recovery: bool, action: Action
) -> None:
    assert decide(diagnosis, attempts, recovery).action is action


@pytest.mark.parametrize("diagnosis", Diagnosis)
def test_every_decision_says_why(diagnosis: Diagnosis) -> None:
    for attempts in (1, 2):
        for recovery in (True, False):
            assert len(decide(diagnosis, attempts, recovery).why) > 10


@pytest.mark.parametrize("diagnosis", Diagnosis)
def test_no_call_is_tried_again_after_its_counted_attempts(diagnosis: Diagnosis) -> None:
    for attempts in range(COUNTED_ATTEMPTS, 6):
        assert decide(diagnosis, attempts).action in (Action.FAIL, Action.HOLD)


@pytest.mark.parametrize("diagnosis", Diagnosis)
def test_what_is_waited_out_and_only_that_costs_the_call_no_attempt(diagnosis: Diagnosis) -> None:
    assert counts(diagnosis) == (diagnosis not in WAITED_OUT)


def test_the_second_failure_counts_whatever_kind_the_first_was() -> None:
    decision = decide(Diagnosis.CRASH, 2)
    assert decision.action is Action.FAIL
    assert "2 times" in decision.why

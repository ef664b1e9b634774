"""The gate's table, row by row."""

from __future__ import annotations

import pytest

from sdwatch.policy.recovery import (
    COUNTED_ATTEMPTS,
    EXCUSED_ATTEMPTS,
    PROVEN,
    SENT_AT_MOST,
    Action,
    after_canary,
    counts,
    decide,
    is_crash,
)
from sdwatch.policy.verdict import Diagnosis

CURED_BY_RESTART = (
    Diagnosis.CRASH, Diagnosis.SERVER_ERROR, Diagnosis.OUT_OF_MEMORY, Diagnosis.NAN,
    Diagnosis.POISONED, Diagnosis.SILENT,
)  # fmt: skip
WAITED_OUT = (Diagnosis.BUSY, Diagnosis.NOT_USABLE, Diagnosis.STORAGE)


@pytest.mark.parametrize(
    ("diagnosis", "attempts", "recovery", "action"),
    [
        *[(d, 1, True, Action.RESTART) for d in CURED_BY_RESTART],
        *[(d, 2, True, Action.CANARY) for d in CURED_BY_RESTART],
        *[(d, 1, False, Action.FAIL) for d in CURED_BY_RESTART],
        (Diagnosis.STUCK, 1, True, Action.INTERRUPT),
        (Diagnosis.STUCK, 2, True, Action.CANARY),
        (Diagnosis.INTERRUPTED, 1, True, Action.RETRY),
        (Diagnosis.INTERRUPTED, 2, True, Action.FAIL),
        (Diagnosis.INTERRUPTED, 1, False, Action.FAIL),
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
        assert decide(diagnosis, attempts).action in (Action.FAIL, Action.HOLD, Action.CANARY)


@pytest.mark.parametrize("diagnosis", Diagnosis)
def test_what_is_waited_out_and_only_that_costs_the_call_no_attempt(diagnosis: Diagnosis) -> None:
    assert counts(diagnosis) == (diagnosis not in WAITED_OUT)


def test_the_second_failure_counts_whatever_kind_the_first_was() -> None:
    decision = decide(Diagnosis.CRASH, 2)
    assert decision.action is Action.CANARY
    assert "2 times" in decision.why


@pytest.mark.parametrize(
    ("unwell", "excused", "sent", "action"),
    [
        ("", 0, 2, Action.FAIL),
        ("", 1, 5, Action.FAIL),
        ("it died", 0, 2, Action.HOLD),
        ("it died", 0, SENT_AT_MOST, Action.FAIL),
        ("it died", EXCUSED_ATTEMPTS, 3, Action.FAIL),
    ],
)
def test_the_canary_decides_once_for_the_job_and_never_for_ever(
    unwell: str, excused: int, sent: int, action: Action
) -> None:
    assert after_canary(unwell, excused, sent).action is action


@pytest.mark.parametrize("diagnosis", CURED_BY_RESTART)
def test_what_is_not_ours_is_waited_for_and_cools_down_as_well(diagnosis: Diagnosis) -> None:
    decision = decide(diagnosis, 1, managed=False)
    assert decision.action is Action.WAIT
    assert "restart" in decision.why
    assert is_crash(diagnosis, False, decision)


def test_what_was_proven_before_is_put_to_the_proof_at_once_and_says_so() -> None:
    decision = decide(Diagnosis.OUT_OF_MEMORY, 1, known=True)
    assert decision.action is Action.CANARY
    assert PROVEN in decision.why
    assert "request" not in decision.why


def test_the_hard_bound_is_five_posts() -> None:
    assert SENT_AT_MOST == 5

"""The recovery gate's table, row by row."""

from __future__ import annotations

import pytest

from sdwatch.policy.failure.diagnosis import Diagnosis
from sdwatch.policy.failure.recovery import (
    COUNTED_ATTEMPTS,
    EXCUSED_ATTEMPTS,
    SENT_AT_MOST,
    TRACED_TO_OTHERS,
    Action,
    BlameTest,
    after_self_test,
    counts,
    decide,
    needs_restart,
)
from tests.support.tables import table

CURED_BY_RESTART = (
    Diagnosis.CRASH, Diagnosis.SERVER_ERROR, Diagnosis.OUT_OF_MEMORY, Diagnosis.NAN,
    Diagnosis.POISONED, Diagnosis.SILENT,
)  # fmt: skip
WAITED_OUT = (Diagnosis.BUSY, Diagnosis.NOT_USABLE, Diagnosis.STORAGE)


@table(
    ("diagnosis", "attempts", "recovery", "action"),
    [
        *[(d, 1, True, Action.RESTART) for d in CURED_BY_RESTART],
        *[(d, 2, True, Action.SELF_TEST) for d in CURED_BY_RESTART],
        *[(d, 1, False, Action.FAIL) for d in CURED_BY_RESTART],
        (Diagnosis.STUCK, 1, True, Action.INTERRUPT),
        (Diagnosis.STUCK, 2, True, Action.SELF_TEST),
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


@table("diagnosis", Diagnosis)
def test_every_decision_says_why(diagnosis: Diagnosis) -> None:
    for attempts in (1, 2):
        for recovery in (True, False):
            assert len(decide(diagnosis, attempts, recovery).why) > 10


@table("diagnosis", Diagnosis)
def test_no_call_is_tried_again_after_its_counted_attempts(diagnosis: Diagnosis) -> None:
    for attempts in range(COUNTED_ATTEMPTS, 6):
        assert decide(diagnosis, attempts).action in (Action.FAIL, Action.HOLD, Action.SELF_TEST)


@table("diagnosis", Diagnosis)
def test_what_is_waited_out_and_only_that_costs_the_call_no_attempt(diagnosis: Diagnosis) -> None:
    assert counts(diagnosis) == (diagnosis not in WAITED_OUT)


def test_the_second_failure_counts_whatever_kind_the_first_was() -> None:
    decision = decide(Diagnosis.CRASH, 2)
    assert decision.action is Action.SELF_TEST
    assert "2 times" in decision.why


P, R, F, H = (
    BlameTest.PASSED,
    BlameTest.PASSED_AFTER_RESTART,
    BlameTest.FAILED,
    BlameTest.HELD,
)


@table(
    ("result", "first_call", "excused", "sent", "action", "blame"),
    [
        (P, True, 0, 2, Action.FAIL, "job"),
        (P, False, 0, 2, Action.FAIL, "job"),
        (R, True, 0, 2, Action.FAIL, "job"),
        (R, False, 0, 2, Action.RETRY, ""),
        (F, True, 0, 2, Action.TEST_AGAIN, ""),
        (F, False, 0, 2, Action.TEST_AGAIN, ""),
        (H, True, 0, 2, Action.HOLD, ""),
        (H, False, 0, 2, Action.HOLD, ""),
        # the last attempt: the run fails, whatever the self-test says, which is for the lane alone
        *[(each, first, EXCUSED_ATTEMPTS, 3, Action.FAIL, "job")
          for each in BlameTest for first in (True, False)],
        # the hard bound
        (R, False, 0, SENT_AT_MOST, Action.FAIL, "WebUI"),
        (H, True, 0, SENT_AT_MOST, Action.FAIL, "WebUI"),
        (P, False, 0, SENT_AT_MOST, Action.FAIL, "job"),
    ],
)  # fmt: skip
def test_the_self_test_decides_as_the_table_of_blame_says(
    result: BlameTest, first_call: bool, excused: int, sent: int, action: Action, blame: str
) -> None:
    why = "" if result in (P, R) else "it died"
    decision = after_self_test(result, why, first_call=first_call, excused=excused, sent=sent)
    assert (decision.action, decision.blame or "") == (action, blame)
    assert decision.excuses is (action in (Action.RETRY, Action.HOLD))


@table("diagnosis", CURED_BY_RESTART)
def test_what_is_not_ours_is_waited_for_and_cools_down_too(diagnosis: Diagnosis) -> None:
    decision = decide(diagnosis, 1, managed=False)
    assert decision.action is Action.WAIT
    assert "restart" in decision.why
    assert needs_restart(diagnosis, False, decision)


@pytest.mark.parametrize("managed", [True, False])
def test_what_was_traced_before_saves_the_restart_and_never_the_second_attempt(
    managed: bool,
) -> None:
    decision = decide(Diagnosis.OUT_OF_MEMORY, 1, known=True, managed=managed)
    assert decision.action is Action.RETRY
    assert not decision.excuses, "only a self-test excuses"
    assert TRACED_TO_OTHERS in decision.why
    assert not needs_restart(Diagnosis.OUT_OF_MEMORY, False, decision)
    assert decide(Diagnosis.OUT_OF_MEMORY, 2, known=True).action is Action.SELF_TEST


@table("diagnosis", Diagnosis)
@table("known", [True, False])
def test_a_first_failure_that_a_restart_may_cure_never_ends_a_call(
    diagnosis: Diagnosis, known: bool
) -> None:
    if diagnosis is not Diagnosis.BAD_REQUEST:
        decision = decide(diagnosis, int(counts(diagnosis)), known=known)
        assert decision.action not in (Action.FAIL, Action.SELF_TEST)


def test_a_time_limit_of_a_proxy_ends_a_call_without_a_self_test() -> None:
    decision = decide(Diagnosis.BUSY, 0, sent=2, time_limit=True)
    assert decision.action is Action.FAIL
    assert decide(Diagnosis.BUSY, 0, sent=2).action is Action.HOLD


def test_the_hard_bound_is_five_posts() -> None:
    assert SENT_AT_MOST == 5

"""Journals of the first version, which had words where there are codes now."""

from __future__ import annotations

from typing import Any

from sdwatch.policy.failure.earlier_records import renamed, renamed_envelope, with_codes
from sdwatch.policy.failure.recovery import Action, Ground
from sdwatch.policy.lane.knowledge import TRACED_AFTER
from sdwatch.policy.report.envelope import attempt_from, cancelled_envelope, with_attempts
from sdwatch.policy.report.why import About, Evidence, why_text
from tests.support.tables import table

# As version 0.1.0 wrote them.
FAILED: dict[str, Any] = {
    "at": "2026-11-23T14:21:37.000Z",
    "event": "call_failed",
    "call": "1.1",
    "diagnosis": "server error",
    "error": "WebUIServerError",
    "status": 500,
    "message": "the WebUI answered 500 to txt2img: KeyError: 'x'",
    "exit_code": None,
    "counted": True,
    "crashed": True,
    "generation": 3,
    "evidence": "HTTP 500",
    "decision": "restart and retry (a restart may cure it)",
    "seconds": 3.2,
}
ENDED = {
    **FAILED,
    "diagnosis": "crash",
    "status": None,
    "message": "the WebUI died during the call (exit code 1)",
    "exit_code": 1,
    "evidence": "exit code 1",
    "decision": "ask the canary (the same call has failed 2 times: the job, or the WebUI?)",
}
UNWELL = {
    "event": "call_proven",
    "call": "1.1",
    "well": False,
    "unwell": "the canary failed: refused",
    "excused": True,
    "decision": "hold (the WebUI fails its self-test: the canary failed: refused)",
}


@table(
    ("words", "action"),
    [
        ("fail", Action.FAIL),
        ("restart and retry", Action.RESTART),
        ("wait until it answers, then retry", Action.WAIT),
        ("retry", Action.RETRY),
        ("interrupt, then retry", Action.INTERRUPT),
        ("ask the canary", Action.SELF_TEST),
        ("restart, then test again", Action.TEST_AGAIN),
        ("hold", Action.HOLD),
        ("hold the door", None),
    ],
)
def test_each_action_is_read(words: str, action: Action | None) -> None:
    attempt = attempt_from({**FAILED, "decision": f"{words} (because (so it is))"})
    assert (attempt.action, attempt.why) == (action, "because (so it is)")


def test_a_failure_that_was_traced_to_two_jobs_is_read() -> None:
    proven = "two jobs were proven to bring the same failure on themselves"
    why = f"{proven}: no restart before this one's second attempt"
    attempt = attempt_from({**FAILED, "decision": f"retry ({why})"})
    assert attempt.ground is Ground.TRACED_BEFORE
    assert attempt_from(FAILED).ground is None
    assert TRACED_AFTER == 2, "these words say so"


def test_a_record_of_this_version_is_left_as_it_is() -> None:
    record = {**FAILED, "action": "fail", "ground": "recovery-off", "why": "x", "failure": "f"}
    assert with_codes(record) == record
    assert attempt_from(record).action is Action.FAIL
    assert attempt_from({**record, "action": "of a later version"}).action is None


def test_a_run_of_that_version_reports_all_that_had_been_tried() -> None:
    envelope = with_attempts(cancelled_envelope(), [FAILED, ENDED, renamed(UNWELL)])
    assert envelope.self_test_passed is False
    text = why_text(envelope, About("run-1", "castle.yaml"), Evidence())
    assert "error: the WebUI answered 500 to txt2img: KeyError: 'x'\n" in text
    assert "evidence: HTTP 500\n" in text
    assert "then: restart and retry (a restart may cure it)\n" in text
    assert "error: the WebUI died during the call (exit code 1)\n" in text
    assert "evidence: exit code 1" not in text
    assert (
        "then: check whether the WebUI can still generate a small test picture (the same call"
        in text
    )
    assert "it failed (the canary failed: refused)" in text


def test_two_failures_with_the_same_words_are_the_same_and_others_are_not() -> None:
    assert attempt_from(FAILED).failure == attempt_from(dict(FAILED)).failure != ""
    assert attempt_from(FAILED).failure != attempt_from(ENDED).failure


@table(
    ("written", "read"),
    [
        ({"diagnosis": "sdwatch broke", "blame": "sdwatch"}, "internal error"),
        ({"diagnosis": "nan"}, "nan"),
        ({"diagnosis": ["sdwatch broke"]}, ["sdwatch broke"]),
    ],
)
def test_a_diagnosis_of_an_earlier_error_json_has_its_new_name(
    written: dict[str, Any], read: object
) -> None:
    assert renamed_envelope(written) == written | {"diagnosis": read}


def test_an_error_json_that_has_no_fields_says_nothing() -> None:
    assert renamed_envelope(["sdwatch broke"]) == {}

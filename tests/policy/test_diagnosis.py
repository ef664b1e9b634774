"""What a failed call is taken for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sdwatch.errors import (
    WebUIBadRequestError,
    WebUIBusyError,
    WebUIError,
    WebUINotUsableError,
    WebUIReplyError,
    WebUIServerError,
    WebUIStuckError,
    WebUIUnreachableError,
)
from sdwatch.known_signatures import builtin_signatures
from sdwatch.policy.failure.check_levels import LEVELS
from sdwatch.policy.failure.diagnosis import (
    Diagnosis,
    FailureFacts,
    advice_for,
    diagnose,
    key_to_trace,
)
from sdwatch.policy.failure.exits import exit_in_words
from sdwatch.policy.failure.reply_checks import BadReply
from tests.support.tables import table

BUILTIN = builtin_signatures()


@table(
    ("error", "diagnosis"),
    [
        (WebUIBadRequestError("steps: too many", status=422), Diagnosis.BAD_REQUEST),
        (WebUINotUsableError("who are you", status=401), Diagnosis.NOT_USABLE),
        (WebUIBusyError("slow down", status=429), Diagnosis.BUSY),
        (WebUIStuckError("no progress for 300 s"), Diagnosis.STUCK),
        (WebUIServerError("RuntimeError", status=500), Diagnosis.SERVER_ERROR),
        (WebUIReplyError("the reply has no image", status=200), Diagnosis.SILENT),
        (WebUIUnreachableError("connection reset"), Diagnosis.CRASH),
        (WebUIError("the request itself broke"), Diagnosis.SERVER_ERROR),
    ],
    ids=lambda value: str(value),
)
def test_each_error_has_its_diagnosis(error: WebUIError, diagnosis: Diagnosis) -> None:
    explanation = diagnose(FailureFacts(error))
    assert explanation.diagnosis is diagnosis
    assert explanation.cause == str(error)
    if diagnosis is not Diagnosis.CRASH:
        assert explanation.advice == advice_for(diagnosis)


def test_where_no_process_was_seen_to_end_it_is_not_said_to_be_killed() -> None:
    error = WebUIUnreachableError("the WebUI's reply broke off in the middle")
    assert "killed" not in diagnose(FailureFacts(error)).advice
    assert "killed" not in diagnose(FailureFacts(error, process_gone=True, exit_code=1)).advice
    assert (
        "SIGKILL" in diagnose(FailureFacts(error, process_gone=True, exit_code=-9), BUILTIN).cause
    )


def test_an_end_by_sigkill_says_how_much_memory_was_left() -> None:
    error = WebUIUnreachableError("the WebUI's reply broke off in the middle")
    free = "5.2 of 16.0 GB of memory were free"
    facts = FailureFacts(error, process_gone=True, exit_code=-9, memory_low=False, memory=free)
    assert diagnose(facts, BUILTIN).cause.endswith(f"although memory was not low ({free})")
    low = diagnose(replace(facts, memory_low=True), BUILTIN)
    assert "ran out of memory" in low.cause


@table("kind", [*LEVELS, *BadReply])
def test_each_thing_that_is_wrong_with_a_reply_has_advice_of_its_own(kind: str) -> None:
    advice = diagnose(FailureFacts(WebUIReplyError("words", status=200, kind=kind))).advice
    assert (advice == advice_for(Diagnosis.SILENT)) is (kind == "interrupted")  # see INTERRUPTED
    assert advice.endswith(".")


def test_the_advice_for_a_black_picture_names_the_vae_and_the_check() -> None:
    error = WebUIReplyError("the picture is all of one colour", status=200, kind="one_colour")
    assert "--no-half-vae" in diagnose(FailureFacts(error)).advice
    assert "checks:" in diagnose(FailureFacts(error)).advice


@pytest.mark.parametrize(
    "error",
    [
        WebUIUnreachableError("connection reset"),
        WebUIReplyError("the reply is not complete JSON", status=200),
        WebUIServerError("RuntimeError", status=500),
    ],
)
def test_the_end_of_the_process_is_the_cause_whatever_it_shows_as(error: WebUIError) -> None:
    explanation = diagnose(FailureFacts(error, process_gone=True, exit_code=-9))
    assert explanation.diagnosis is Diagnosis.CRASH
    assert explanation.cause == "the WebUI died during the call (killed by signal 9, SIGKILL)"


@table(
    ("code", "words"),
    [
        (None, "exit code unknown: another process started it, or its end was not seen"),
        (-11, "killed by signal 11, SIGSEGV"),
        (-40, "killed by signal 40"),
        (0, "exit code 0"),
        (0x7FFFFFFF, "exit code 2147483647"),
        (0xC0000005, "exit code 0xC0000005, access violation"),
        (0xC0000017, "exit code 0xC0000017, out of memory"),
        (0xC000012D, "exit code 0xC000012D, out of memory: the commit limit was reached"),
        (0xC000013A, "exit code 0xC000013A, Ctrl+C"),
        (0xC0000409, "exit code 0xC0000409, abort, or stack buffer overrun"),
        (-1073741819, "exit code 0xC0000005, access violation"),
        (-1073740940, "exit code 0xC0000374, heap corruption"),
        (0x40010004, "exit code 0x40010004, ended from outside, for example by a logoff"),
        (0xC0000143, "exit code 0xC0000143"),
        (1, "exit code 1"),
        (128, "exit code 128"),
        (139, "exit code 139, a shell's for SIGSEGV"),
        (159, "exit code 159, a shell's for SIGSYS"),
        (160, "exit code 160"),
        (-7, "killed by signal 7, SIGBUS"),
    ],
)
def test_an_exit_code_is_said_in_words(code: int | None, words: str) -> None:
    assert exit_in_words(code) == words


@table("diagnosis", Diagnosis)
def test_there_is_advice_for_every_diagnosis(diagnosis: Diagnosis) -> None:
    assert advice_for(diagnosis).endswith(".")


def test_no_advice_points_to_a_file_that_may_not_have_it() -> None:
    """WHY.txt says what is in the log, where it has been looked at."""
    errors = [WebUIReplyError("words", status=200, kind=kind) for kind in (*LEVELS, *BadReply, "")]
    advice = [
        *(advice_for(diagnosis) for diagnosis in Diagnosis),
        *(diagnose(FailureFacts(error)).advice for error in errors),
        diagnose(FailureFacts(WebUIUnreachableError("broken off"))).advice,
        *(signature.advice for signature in builtin_signatures()),
    ]
    assert not [each for each in advice if "webui_tail" in each or "traceback in" in each]


RAISED = ("Traceback (most recent call last):", '  File "x.py", line 7, in f', "    assert a")


def test_an_exception_without_a_message_is_explained_by_its_last_frame() -> None:
    error = WebUIServerError("answered 500: AssertionError", status=500, kind="AssertionError")
    explanation = diagnose(FailureFacts(error, log=(*RAISED, "AssertionError")))
    assert (
        explanation.cause == "answered 500: AssertionError, raised in x.py, line 7, in f: assert a"
    )
    assert diagnose(FailureFacts(error, log=(*RAISED, "KeyError: 'x'"))).cause == str(error)
    assert diagnose(FailureFacts(error)).cause == str(error)


def test_what_only_a_frame_explains_is_never_taken_for_a_jobs_own() -> None:
    error = WebUIServerError("answered 500: AssertionError", status=500, kind="AssertionError")
    assert (
        key_to_trace(diagnose(FailureFacts(error, log=(*RAISED, "AssertionError"))), error) is None
    )


def test_a_reply_that_says_nothing_is_explained_by_the_exception_in_the_log() -> None:
    error = WebUIServerError("answered 500", status=500, said="Internal Server Error")
    cause = diagnose(FailureFacts(error, log=(*RAISED, "RuntimeError: odd"))).cause
    raised = "RuntimeError: odd, raised in x.py, line 7, in f: assert a"
    assert cause == f"answered 500; its log: {raised}"


def test_a_connection_that_breaks_names_the_last_node_of_a_workflow() -> None:
    """Of a ComfyUI that sdwatch did not start, the end of the process is not seen."""
    facts = FailureFacts(WebUIUnreachableError("refused"), node="3 (Polish) of class Blur")
    assert (
        diagnose(facts).cause == "refused; the last node that it reported: 3 (Polish) of class Blur"
    )

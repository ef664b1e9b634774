"""What a failed call is taken for."""

from __future__ import annotations

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
from sdwatch.policy.verdict import Diagnosis, Facts, advice_for, exit_in_words, judge


@pytest.mark.parametrize(
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
    verdict = judge(Facts(error))
    assert verdict.diagnosis is diagnosis
    assert verdict.cause == str(error)
    assert verdict.advice == advice_for(diagnosis)


@pytest.mark.parametrize(
    "error",
    [
        WebUIUnreachableError("connection reset"),
        WebUIReplyError("the reply is not whole JSON", status=200),
        WebUIServerError("RuntimeError", status=500),
    ],
)
def test_the_end_of_the_process_is_the_cause_whatever_it_shows_as(error: WebUIError) -> None:
    verdict = judge(Facts(error, process_gone=True, exit_code=-9))
    assert verdict.diagnosis is Diagnosis.CRASH
    assert verdict.cause == "the WebUI died during the call (killed by signal 9, SIGKILL)"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (None, "exit code unknown"),
        (-11, "killed by signal 11, SIGSEGV"),
        (-40, "killed by signal 40"),
        (0, "exit code 0"),
        (0x7FFFFFFF, "exit code 2147483647"),
        (0xC0000005, "exit code 0xC0000005, access violation"),
        (0xC0000017, "exit code 0xC0000017, out of memory"),
        (0xC000012D, "exit code 0xC000012D, out of memory: the commit limit was reached"),
        (0xC000013A, "exit code 0xC000013A, Ctrl+C"),
        (0xC0000409, "exit code 0xC0000409, stack buffer overrun"),
        (0xC0000142, "exit code 0xC0000142"),
    ],
)
def test_an_exit_code_is_said_in_words(code: int | None, words: str) -> None:
    assert exit_in_words(code) == words


@pytest.mark.parametrize("diagnosis", Diagnosis)
def test_there_is_advice_for_every_diagnosis(diagnosis: Diagnosis) -> None:
    assert advice_for(diagnosis).endswith(".")

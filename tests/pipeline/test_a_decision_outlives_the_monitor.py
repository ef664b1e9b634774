"""A monitor dies after it has decided that a call failed for good, before its run has ended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sdwatch.errors import WebUIBadRequestError, WebUIError
from sdwatch.policy.failure.diagnosis import Explanation
from sdwatch.policy.failure.facts import Diagnosis, FailureKey
from sdwatch.policy.failure.recovery import SENT_AT_MOST, Action, Decision, Ground
from sdwatch.spool.recorder import RunRecorder
from sdwatch.stages.run_end import RunEnd
from sdwatch.stages.runner import StageRunner
from tests.support.fakes import (
    FakeClient,
    FakeProcess,
    PlainClient,
    Workplace,
    envelope,
    events,
    picture,
    reply,
    server_error,
)

JOB = "prompt: a castle\nwidth: 64\nheight: 64\n"


class Death(BaseException):
    """Of the monitor: nothing of it runs after this."""


def die_after(record: str, runner: StageRunner, place: Workplace, times: int = 1) -> None:
    """Run until so many of these records are in the journal."""
    left = iter(range(times - 1, -1, -1))
    recorder = runner._recorder
    write: Callable[..., Any] = getattr(recorder, record)

    def and_die(*args: Any, **more: Any) -> None:
        write(*args, **more)
        if not next(left):
            raise Death

    setattr(recorder, record, and_die)
    with pytest.raises(Death):
        runner.run_to_end(place.spool)


def refused() -> WebUIBadRequestError:
    return WebUIBadRequestError("the WebUI answered 422: steps is too large", status=422)


@pytest.mark.parametrize(
    ("error", "times", "recovery", "record", "test", "blame"),
    [
        (refused, 1, True, "call_failed", None, "job"),
        (server_error, 1, False, "call_failed", None, "WebUI"),
        (server_error, 2, True, "self_tested", True, "job"),
    ],
)
def test_the_call_is_not_sent_again_and_the_run_fails_as_decided(
    tmp_path: Path,
    error: Callable[[], WebUIError],
    times: int,
    recovery: bool,
    record: str,
    test: bool | None,
    blame: str,
) -> None:
    place = Workplace(tmp_path)
    run = place.claimed(JOB)
    client = FakeClient(*(error() for _ in range(times)))
    die_after(record, place.recovering(run, client, FakeProcess(), recovery=recovery), place)
    run.close()
    place = Workplace(tmp_path)
    again = FakeClient(reply(picture(1)))
    resumed = place.recovering(place.resumed(), again, FakeProcess(), recovery=recovery)
    assert resumed.run_to_end(place.spool) is RunEnd.FAILED
    assert again.posts == []
    failed = envelope(place.failed())
    assert failed["blame"] == blame
    assert len(failed["attempts"]) == times
    assert failed["message"] == failed["attempts"][-1]["message"]
    assert failed["self_test_passed"] is test
    assert failed["advice"]
    assert events(place.failed()).count("call_started") == times


def test_a_plain_client_is_not_asked_again_either(tmp_path: Path) -> None:
    place = Workplace(tmp_path)
    run = place.claimed(JOB)
    die_after("call_failed", place.runner(run, PlainClient(server_error())), place)
    run.close()
    place = Workplace(tmp_path)
    again = PlainClient(reply(picture(1)))
    assert place.runner(place.resumed(), again).run_to_end(place.spool) is RunEnd.FAILED
    assert again.posts == []


def test_a_first_failure_that_may_be_cured_is_still_tried_again(tmp_path: Path) -> None:
    place = Workplace(tmp_path)
    run = place.claimed(JOB)
    first = place.recovering(run, FakeClient(server_error()), FakeProcess())
    die_after("call_failed", first, place)
    run.close()
    place = Workplace(tmp_path)
    again = FakeClient(reply(picture(1)))
    resumed = place.recovering(place.resumed(), again, FakeProcess())
    assert resumed.run_to_end(place.spool) is RunEnd.DONE
    assert len(again.posts) == 1


def attempt(recorder: RunRecorder, diagnosis: Diagnosis, action: Action, *, excused: bool) -> None:
    recorder.call_started(1)
    why = Explanation(diagnosis, f"it was {diagnosis}", "", FailureKey(diagnosis))
    decision = Decision(action, Ground.NOT_THE_JOB)
    recorder.call_failed(why, WebUIError("it failed"), decision, None)
    if excused:
        recorder.self_tested("it fails", Decision(Action.HOLD, Ground.UNHEALTHY, excuses=True))


BUSY, CRASH = Diagnosis.BUSY, Diagnosis.CRASH


@pytest.mark.parametrize(
    ("failures", "cut_offs", "last"),
    [
        ((BUSY, BUSY, BUSY, BUSY), 1, "it was busy"),
        ((BUSY, CRASH, CRASH), 2, "it was crash"),  # the second one is excused
    ],
)
def test_a_call_that_was_sent_five_times_by_then_is_not_sent_again(
    tmp_path: Path, failures: tuple[Diagnosis, ...], cut_offs: int, last: str
) -> None:
    place = Workplace(tmp_path)
    run = place.claimed(JOB)
    recorder = place.recorder(run)
    recorder.select_call("1.1", {})
    for number, diagnosis in enumerate(failures):
        action = Action.HOLD if diagnosis is BUSY else Action.RESTART
        attempt(recorder, diagnosis, action, excused=number == 2 and diagnosis is CRASH)
    for _ in range(cut_offs):
        recorder.call_started(1)
        run.close()  # it dies in the POST
        place = Workplace(tmp_path)
        run = place.resumed()
        recorder = place.recorder(run)
        recorder.select_call("1.1", {})
    assert recorder.sent == SENT_AT_MOST
    client = FakeClient(reply(picture(1)))
    assert place.recovering(run, client, FakeProcess()).run_to_end(place.spool) is RunEnd.FAILED
    assert client.posts == []
    assert events(place.failed()).count("call_started") == SENT_AT_MOST
    failed = envelope(place.failed())
    assert failed["message"].startswith("gave up after 5 attempts without a usable reply")
    assert failed["message"].endswith(last)
    assert (failed["call"], len(failed["attempts"])) == ("1.1", len(failures))


def test_what_failed_first_is_explained_by_its_own_evidence(tmp_path: Path) -> None:
    """Two points failed before the monitor died: WHY.txt is about the first of them."""
    place = Workplace(tmp_path)
    run = place.claimed("prompt: a castle\nheight: 64\nmatrix:\n  width: [64, 128]\n")
    runner = place.recovering(run, FakeClient(refused()), FakeProcess(tail={"stdout": "first"}))
    die_after("call_failed", runner, place, times=2)
    run.close()
    place = Workplace(tmp_path)
    resumed = place.recovering(place.resumed(), FakeClient(), FakeProcess())
    assert resumed.run_to_end(place.spool) is RunEnd.FAILED
    why = (place.failed() / "WHY.txt").read_text(encoding="utf-8")
    assert "What follows is about the first of them." in why
    assert "Asked for: 64x64" in why
    assert envelope(place.failed())["evidence"] == [
        "stage_failure_payload.json",
        "webui_tail.log",
        "stage_failure_payload.2.json",
        "webui_tail.2.log",
    ]

"""A monitor dies after it has decided that a call failed for good, before its run has ended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sdwatch.errors import WebUIBadRequestError, WebUIError
from sdwatch.stages.ending import Ending
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


def die_after(record: str, runner: StageRunner, place: Workplace) -> None:
    """Run until this record is in the journal."""
    recorder = runner._recorder
    write: Callable[..., Any] = getattr(recorder, record)

    def and_die(*args: Any, **more: Any) -> None:
        write(*args, **more)
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
    assert resumed.run_to_end(place.spool) is Ending.FAILED
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
    assert place.runner(place.resumed(), again).run_to_end(place.spool) is Ending.FAILED
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
    assert resumed.run_to_end(place.spool) is Ending.DONE
    assert len(again.posts) == 1

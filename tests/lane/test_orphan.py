"""What an earlier monitor had the WebUI generate ends before anything is sent."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from sdwatch.errors import WebUINotUsableError, WebUIStuckError
from sdwatch.lane.orphan import end_orphan
from tests.support.helpers import FakeClock

Answer = dict[str, Any] | Exception


def at(step: int, job: str = "txt2img") -> Answer:
    return {"progress": step / 20, "state": {"job": job, "sampling_step": step}}


IDLE: Answer = {"progress": 0.0, "state": {"job": ""}}
NO_ROUTE = WebUINotUsableError("404", status=404)
NO_ANSWER = WebUIStuckError("no answer within 5 s")


class WebUI:
    """Its /progress, as it is at each look, then the last one forever."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.interrupts = 0

    def progress(self, timeout: float) -> dict[str, Any]:
        assert timeout == 5.0
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def interrupt(self) -> bool:
        self.interrupts += 1
        return True


def ended(webui: Any, clock: FakeClock, give_up: threading.Event | None = None) -> bool:
    return end_orphan(
        webui, clock, give_up or threading.Event(), timeout=5.0, patience=10.0, limit=60.0
    )


@pytest.mark.parametrize("answer", [IDLE, NO_ROUTE])
def test_nothing_is_interrupted_where_nothing_is_generated(answer: Answer) -> None:
    webui, clock = WebUI(answer), FakeClock()
    assert ended(webui, clock)
    assert (webui.interrupts, clock.waited) == (0, [])


def test_its_end_is_waited_for_and_those_that_were_queued_end_too() -> None:
    webui, clock = WebUI(at(5), at(6), at(6), at(1, "Batch 2 out of 3"), IDLE), FakeClock()
    assert ended(webui, clock)
    assert webui.interrupts == 4, "one interrupt ends only the running one"
    assert clock.waited == [0.3, 2.0, 2.0, 2.0]


def test_one_that_does_not_advance_may_hang() -> None:
    webui, clock = WebUI(at(5)), FakeClock()
    assert not ended(webui, clock)
    assert 10.0 <= sum(clock.waited) <= 12.4


def test_one_that_gives_no_answer_is_not_taken_for_idle() -> None:
    assert not ended(WebUI(at(5), NO_ANSWER), FakeClock())
    assert ended(WebUI(at(5), NO_ANSWER, NO_ANSWER, IDLE), FakeClock())


def test_one_that_advances_forever_is_waited_for_until_the_ceiling_of_a_call() -> None:
    clock = FakeClock()
    assert not ended(WebUI(*(at(step) for step in range(100))), clock)
    assert 60.0 <= sum(clock.waited) <= 62.4


def test_a_stop_does_not_wait_for_it() -> None:
    give_up = threading.Event()
    give_up.set()
    webui, clock = WebUI(at(5)), FakeClock()
    assert ended(webui, clock, give_up)
    assert (webui.interrupts, clock.waited) == (1, [])

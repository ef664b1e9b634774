"""Stuck is not busy. Time is the test's own: it comes in with each sample."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import pytest

from sdwatch.policy.failure.progress import Limits, ProgressWatch, Sample

STALL = 60.0
LIMITS = Limits(stall=STALL, stepless=20 * STALL, call=100 * STALL)
EVERY = 2.0  # seconds between two samples


@dataclass
class Call:
    """A call as it is seen: `look` moves the time on and says whether it is stuck."""

    limits: Limits = LIMITS

    def __post_init__(self) -> None:
        self.watch = ProgressWatch(0.0, self.limits)
        self.sample = Sample(0.0, ("txt2img", 0, 0, 0.0), False, 0, 0.0, 0)

    def check(self, after: float = EVERY, **seen: object) -> str:
        self.sample = replace(self.sample, at=self.sample.at + after, **seen)  # type: ignore[arg-type]
        return self.watch.add(self.sample)

    def first_reason(self, seconds: float, **seen: object) -> str:
        """Nothing changes for so long; the first reason."""
        reasons = (self.check(**seen) for _ in range(int(seconds / EVERY)))
        return next(filter(None, reasons), "")


def step(number: int) -> tuple[object, ...]:
    return ("txt2img", 0, number, number / 20)


def test_loading_for_three_times_the_stall_is_busy_as_long_as_it_works() -> None:
    call = Call()
    for second in range(int(3 * STALL / EVERY)):
        assert call.check(stepless=True, cpu=second * 1.9) == ""


def test_reading_from_disk_is_work_too() -> None:
    call = Call()
    for second in range(int(3 * STALL / EVERY)):
        assert call.check(stepless=True, io=second * (2 << 20)) == ""


def test_loading_without_work_is_stuck_after_the_stall() -> None:
    call = Call()
    assert call.first_reason(STALL, stepless=True) == ""
    assert call.first_reason(STALL, stepless=True) == "the WebUI made no progress for 60 s"


def test_a_core_that_spins_forever_while_loading_reaches_the_limit_for_loading() -> None:
    call = Call()
    reasons = [call.check(stepless=True, cpu=n * 2.0) for n in range(int(30 * STALL / EVERY))]
    first = next(i for i, reason in enumerate(reasons) if reason)
    assert reasons[first] == "the WebUI made no step for 1200 s, the limit for loading"
    assert first * EVERY >= 20 * STALL - EVERY


def test_a_core_that_spins_while_steps_are_expected_is_stuck() -> None:
    call = Call()
    call.check(position=step(10))
    reasons = [call.check(cpu=n * 2.0, io=n << 24) for n in range(int(1.5 * STALL / EVERY))]
    assert "the WebUI made no progress for 60 s" in reasons


def test_a_crawl_of_one_step_in_half_a_stall_is_busy() -> None:
    call = Call()
    for number in range(1, 21):
        assert call.check(after=STALL / 2, position=step(number)) == ""


@pytest.mark.parametrize("at", [10, 20], ids=["at 50 %", "at 100 %"])
def test_frozen_steps_are_stuck_after_the_stall_and_not_before(at: int) -> None:
    call = Call()
    for number in range(at + 1):
        assert call.check(position=step(number)) == ""
    assert call.first_reason(STALL - EVERY) == ""
    assert call.check() == "the WebUI made no progress for 60 s"


def test_a_webui_that_answers_no_probe_is_stuck_after_the_stall() -> None:
    call = Call()
    call.check(position=step(3))
    assert call.first_reason(STALL - EVERY, position=None) == ""
    assert call.first_reason(STALL, position=None) == "the WebUI made no progress for 60 s"


def test_a_probe_that_went_unanswered_in_between_is_no_progress() -> None:
    call = Call()
    call.check(position=step(3))
    reasons = [call.check(position=step(3) if n % 2 else None) for n in range(int(STALL))]
    assert "the WebUI made no progress for 60 s" in reasons


def test_a_webui_that_answers_no_probe_but_writes_lines_is_busy() -> None:
    call = Call()
    for line in range(int(3 * STALL / EVERY)):
        assert call.check(position=None, log_activity=line) == ""


def test_a_bar_that_moves_in_the_log_is_progress_where_the_api_shows_none() -> None:
    call = Call()
    for frame in range(20):
        assert call.check(after=STALL / 2, log_activity=frame) == ""


def test_however_busy_a_call_ends_at_its_limit() -> None:
    call = Call(Limits(stall=STALL, stepless=STALL, call=3 * STALL))
    reasons = [call.check(position=step(n)) for n in range(int(4 * STALL / EVERY))]
    busy = int(3 * STALL / EVERY) - 1
    assert not any(reasons[:busy])
    assert reasons[busy] == "the call took longer than its limit of 180 s"


def test_each_loading_phase_has_its_own_limit() -> None:
    call = Call(Limits(stall=STALL, stepless=2 * STALL, call=99 * STALL))
    cpu = 0.0
    for round_ in range(3):
        for _ in range(int(1.5 * STALL / EVERY)):
            cpu += 1.0
            assert call.check(stepless=True, cpu=cpu) == ""
        assert call.check(stepless=False, position=step(round_ + 1)) == ""


def test_two_calls_with_the_same_samples_get_the_same_result() -> None:
    def story() -> Iterable[str]:
        call = Call()
        yield call.check(position=step(1))
        for _ in range(60):
            yield call.check()

    assert list(story()) == list(story())

"""The log of one call: how long its traceback is waited for, and what in it is another call's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sdwatch.errors import WebUIBadRequestError, WebUIError, WebUIServerError
from sdwatch.policy.lane.turn import TRACEBACK_WAIT
from sdwatch.webui.log.call_log import CallLog
from tests.support.helpers import FakeClock

TRACEBACK = 'Traceback (most recent call last):\n  File "x.py", line 1, in f\n    g()\n'
SERVER = f"ERROR:    Exception in ASGI application\n{TRACEBACK}"
BROKE = WebUIServerError("500", status=500, kind="RuntimeError", said="it broke")
OPAQUE = WebUIServerError("500", status=500, said="Internal Server Error")


class Written:
    """A log that is written to while the clock moves."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.touch()
        self.clock = FakeClock()
        self._later: list[tuple[float, str]] = []

    def write(self, text: str) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(text)

    def after(self, seconds: float, text: str) -> None:
        """`seconds` from now."""
        self._later.append((self.clock.now + seconds, text))

    def log(self, before: CallLog | None = None) -> CallLog:
        return CallLog((self.path,), self.clock, before)

    def passes(self, seconds: float) -> bool:
        self.clock.advance(seconds)
        for entry in [entry for entry in self._later if entry[0] <= self.clock.now]:
            self._later.remove(entry)
            self.write(entry[1])
        return False

    def heard(
        self,
        log: CallLog,
        error: WebUIError = BROKE,
        is_over: Callable[[float], bool] | None = None,
    ) -> float:
        """Hear it out: after how many seconds that was over."""
        began = self.clock.now
        log.wait_for_traceback(error, is_over or self.passes)
        return self.clock.now - began


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path / "webui.log")


@pytest.mark.parametrize("delay", [0.0, 0.001, 0.012, 0.3, 0.9])
def test_the_wait_ends_as_soon_as_the_traceback_is_whole(written: Written, delay: float) -> None:
    log = written.log()
    written.after(delay, f"{SERVER}RuntimeError: it broke\n")
    assert delay <= written.heard(log) <= delay + 0.02
    assert log.lines()[-1] == "RuntimeError: it broke"


def test_the_wait_for_a_traceback_ends_at_its_limit(written: Written) -> None:
    assert written.heard(written.log()) == pytest.approx(TRACEBACK_WAIT, abs=0.02)


def test_a_traceback_without_the_end_of_its_last_line_is_incomplete(written: Written) -> None:
    log = written.log()
    written.write(f"{SERVER}RuntimeError: it")
    written.after(0.4, " broke\n")
    assert written.heard(log) == pytest.approx(0.4, abs=0.02)
    assert log.lines()[-1] == "RuntimeError: it broke"


@pytest.mark.parametrize("error", [BROKE, OPAQUE], ids=["named", "opaque"])
def test_a_chain_of_tracebacks_in_several_writes_is_awaited_to_its_end(
    written: Written, error: WebUIError
) -> None:
    log = written.log()
    written.write(f"{SERVER}KeyError: 'x'\n")
    written.after(0.01, "\nDuring handling of the above exception, another exception occurred:\n")
    written.after(0.025, f"\n{TRACEBACK}")
    written.after(0.04, "RuntimeError: it broke\n")
    assert written.heard(log, error) < 0.2
    assert log.lines()[-1] == "RuntimeError: it broke"


def test_a_boxed_traceback_is_awaited_to_its_exception(written: Written) -> None:
    log = written.log()
    written.write("/webui/x.py:3 in f\n\n    2 │ try:\n  ❱ 3 │     g()\n")
    written.after(0.3, "    4 │ except E:\nRuntimeError: it broke\n")
    assert written.heard(log) == pytest.approx(0.3, abs=0.02)


def test_a_flood_after_the_traceback_does_not_push_it_out(written: Written) -> None:
    log = written.log()
    written.write(f"{SERVER}RuntimeError: it broke\n")
    log.poll()
    for _ in range(3):
        written.write("".join(f"moving tensor {n}\n" for n in range(4000)))
        log.poll()
    assert written.heard(log) < 0.1
    assert "RuntimeError: it broke" in log.lines()
    assert len(log.lines()) < 5000


def test_the_end_of_the_call_ends_the_wait(written: Written) -> None:
    log = written.log()
    asked: list[float] = []

    def is_over(seconds: float) -> bool:
        asked.append(seconds)
        return len(asked) == 3

    written.heard(log, is_over=is_over)
    assert len(asked) == 3


def test_there_is_nothing_to_wait_for_without_a_log_or_after_a_refusal(written: Written) -> None:
    def never(_: float) -> bool:
        raise AssertionError("waited")

    CallLog((), written.clock).wait_for_traceback(BROKE, never)
    written.log().wait_for_traceback(WebUIBadRequestError("422", status=422), never)


def test_a_late_traceback_is_not_the_next_calls_and_its_own_is(written: Written) -> None:
    first = written.log()
    written.heard(first)
    second = written.log(first)
    written.write(f"{SERVER}RuntimeError: it broke\n")
    written.after(0.1, f"{SERVER}ValueError: another\n")
    assert written.heard(second, OPAQUE) == pytest.approx(0.12, abs=0.03)
    assert second.lines()[-1] == "ValueError: another"
    assert "RuntimeError: it broke" not in second.lines()


def test_two_calls_that_fail_alike_have_a_traceback_each(written: Written) -> None:
    first = written.log()
    written.heard(first)
    second = written.log(first)
    written.write(f"{SERVER}RuntimeError: it broke\n")
    assert written.heard(second) == pytest.approx(TRACEBACK_WAIT, abs=0.02)
    assert not second.lines()
    third = written.log(second)
    written.write(f"{SERVER}RuntimeError: it broke\n")
    assert not third.lines()  # the second's, at last


def test_a_traceback_that_came_between_two_calls_is_no_longer_owed(written: Written) -> None:
    first = written.log()
    written.heard(first)
    written.write(f"{SERVER}RuntimeError: it broke\n")
    second = written.log(first)
    written.write(f"{SERVER}RuntimeError: it broke\n")
    assert written.heard(second) < 0.1
    assert second.lines()[-1] == "RuntimeError: it broke"


def test_a_traceback_is_no_longer_expected_after_a_minute(written: Written) -> None:
    first = written.log()
    written.heard(first)
    written.clock.advance(120)
    second = written.log(first)
    written.write(f"{SERVER}RuntimeError: it broke\n")
    assert written.heard(second) < 0.1


def test_the_log_of_a_call_that_was_left_starts_at_its_offset(written: Written) -> None:
    written.write("of an earlier call\n")
    offset = written.path.stat().st_size
    written.write("of this call\n")
    log = CallLog((written.path,), written.clock, offsets=(offset,))
    written.write("and its end\n")
    assert log.lines() == ("of this call", "and its end")


def test_of_a_log_that_was_cut_to_its_cap_since_what_is_left_is_read(written: Written) -> None:
    written.write("new\n")
    assert CallLog((written.path,), written.clock, offsets=(4096,)).lines() == ("new",)


def test_of_a_bar_that_moves_from_one_reading_to_the_next_the_last_frame_stays(
    written: Written,
) -> None:
    """Real steps take seconds, so each reading of the log finds another frame (ComfyUI 0.33.0 on a
    CPU: of a call's ten lines four were its bar)."""
    log = written.log()
    written.write("got prompt\n")
    for step in range(6):
        written.write(f"\r{step * 20:3}%|{'█' * step:5}| {step}/5 [00:0{step}<00:05,  1.00s/it]")
        log.poll()
    written.write("\nPrompt executed in 5.00 seconds\n")
    bar, frame = "█" * 5, "5/5 [00:05<00:05,  1.00s/it]"
    assert log.lines() == ("got prompt", f"100%|{bar}| {frame}", "Prompt executed in 5.00 seconds")

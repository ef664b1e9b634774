"""Stuck, not busy: how soon a call that stands still is noticed, and that a slow one is left alone.

On a clock of the test's own, which only the looks move: an answer takes no time, and one that does
not come takes as long as it was waited for.
"""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from sdwatch import system
from sdwatch.config import WebUIConfig
from sdwatch.errors import Probes, WebUINotUsableError, WebUIStuckError
from sdwatch.policy.failure.progress import Limits
from sdwatch.webui.http.call_watch import CallWatch, known, progress_shown
from sdwatch.webui.http.client import SDWebUIClient
from sdwatch.webui.log.call_log import CallLog
from sdwatch.webui.process.readiness import NotReady, ProbeResult, Readiness, SignsOfLife
from tests.support.helpers import FakeClock

STEPS = 20
Seen = Callable[[float], "State"]


@dataclass(frozen=True)
class State:
    """What a WebUI shows at one moment; `cpu`: seconds that it has worked so far."""

    step: int = 0
    steps: int = STEPS
    job_count: int = 1
    answers: bool = True
    cpu: float = 0.0


@dataclass
class WebUI:
    """Answers by `shows`, which is given the seconds since the call began."""

    shows: Seen
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        self.began = self.clock.now

    @property
    def now(self) -> float:
        return self.clock.now - self.began

    def progress(self, timeout: float) -> dict[str, Any]:
        state = self.shows(self.now)
        if not state.answers:
            self.clock.advance(timeout)
            raise WebUIStuckError("no answer")
        shown = {"job": "task", "job_no": 0, "job_count": state.job_count}
        shown |= {"sampling_step": state.step, "sampling_steps": state.steps}
        return {"progress": state.step / STEPS, "state": shown}

    def watched(self, limits: Limits, log: Path | None = None) -> CallWatch:
        return CallWatch(
            cast(SDWebUIClient, self),
            self.clock,
            limits,
            stage="txt2img",
            work=lambda: (self.shows(self.now).cpu, 0),
            log=CallLog((log,) if log else (), self.clock),
        )

    def stuck_after(self, limits: Limits, seconds: float, log: Path | None = None) -> float | None:
        """When the call is said to be stuck; None where it is not within so many seconds."""
        watch = self.watched(limits, log)
        while self.now < seconds:
            self.clock.advance(max(0.0, watch.next_sample - self.clock.now))
            if watch.sample():
                return self.now
        return None


def limits(stall: float) -> Limits:
    return Limits(stall=stall, stepless=20 * stall, call=200 * stall)


FROZEN: dict[str, Seen] = {
    "at 50 %": lambda _: State(step=STEPS // 2),
    "at 100 %": lambda _: State(step=STEPS),
    "whole, so that nothing answers": lambda _: State(answers=False),
    "in its sampling, while the API is up": lambda _: State(step=7),
    "spinning a core": lambda at: State(step=STEPS // 2, cpu=at),
}


@pytest.mark.parametrize("stall", [60.0, 300.0])
@pytest.mark.parametrize("how", FROZEN)
def test_a_stall_is_noticed_within_the_stall_time_and_a_tenth(how: str, stall: float) -> None:
    last_step = {"at 50 %": 10.0, "at 100 %": 20.0}.get(how, 7.0)

    def shows(now: float) -> State:
        return State(step=int(now)) if now < last_step else FROZEN[how](now)

    after = WebUI(shows).stuck_after(limits(stall), 3 * stall)
    assert after is not None
    assert stall <= after - last_step + 1.0
    assert after - last_step <= 1.1 * stall


def reason_of(webui: WebUI, stall: float) -> tuple[str, Probes]:
    """Why its call is said to be stuck, and whether it answered meanwhile."""
    watch = webui.watched(limits(stall))
    while not (reason := watch.sample()):
        webui.clock.advance(max(0.0, watch.next_sample - webui.clock.now))
    return reason, watch.probes


def test_a_stuck_call_says_that_the_webui_still_answered() -> None:
    reason, probes = reason_of(WebUI(lambda now: State(step=min(7, int(now)))), 60.0)
    assert reason.startswith("the WebUI made no progress for 60 s; it answered all ")
    assert (probes.unanswered, probes.answered > 20, 59 < probes.seconds < 62) == (0, True, True)


def test_a_stuck_call_says_that_the_webui_answered_no_more_and_how_it_failed() -> None:
    def shows(now: float) -> State:
        return State(step=int(now), answers=now < 7)

    reason, probes = reason_of(WebUI(shows), 60.0)
    assert "; it answered none of " in reason
    assert reason.endswith(", the last: no answer")
    assert (probes.answered, probes.unanswered > 5) == (0, True)


def test_a_stuck_call_says_that_the_webui_answered_now_and_then() -> None:
    reason, probes = reason_of(WebUI(lambda now: State(step=7, answers=now < 30)), 60.0)
    assert probes.answered > 10 < probes.unanswered + 10
    assert f"; it answered {probes.answered} of {probes.answered + probes.unanswered} " in reason


def test_a_server_without_progress_still_answers() -> None:
    class Without(WebUI):
        def progress(self, timeout: float) -> dict[str, Any]:
            del timeout
            raise WebUINotUsableError("no such route", status=404)

    _, probes = reason_of(Without(lambda _: State()), 10.0)
    assert probes.unanswered == 0


@pytest.mark.parametrize("stall", [10.0, 60.0, 300.0])
def test_a_crawl_of_one_step_in_half_the_stall_time_is_left_alone(stall: float) -> None:
    webui = WebUI(lambda now: State(step=int(now / (stall / 2))))
    assert webui.stuck_after(limits(stall), 10 * stall) is None


@pytest.mark.parametrize("stall", [10.0, 60.0, 300.0])
def test_a_model_that_loads_for_three_times_the_stall_time_is_left_alone(stall: float) -> None:
    webui = WebUI(lambda now: State(steps=0, job_count=-1, cpu=now / 2))
    assert webui.stuck_after(limits(stall), 3 * stall) is None


def test_a_core_that_spins_while_no_steps_are_expected_meets_the_limit_for_loading() -> None:
    webui = WebUI(lambda now: State(steps=0, job_count=-1, cpu=now))
    after = webui.stuck_after(Limits(stall=60, stepless=600, call=6000), 1000)
    assert after is not None
    assert 600 <= after <= 660


def test_a_call_that_advances_forever_meets_its_own_limit() -> None:
    webui = WebUI(lambda now: State(step=int(now)))
    after = webui.stuck_after(Limits(stall=60, stepless=600, call=3600), 9999)
    assert after is not None
    assert 3600 <= after <= 3602


def test_a_log_that_moves_is_progress(tmp_path: Path) -> None:
    log = tmp_path / "stderr.log"
    log.touch()

    def shows(now: float) -> State:
        with open(log, "a", encoding="utf-8") as file:
            file.write(f"\r{int(now)}%|###  | {int(now)}/999")
        return State(step=3)

    assert WebUI(shows).stuck_after(limits(60.0), 600, log) is None


REPEATS: dict[str, Callable[[int], str]] = {
    "a heartbeat": lambda at: f"2026-11-28 01:00:{at % 60:02} heartbeat {at}\n",
    "a bar that a timer redraws": lambda at: f"\r 50%|##   | 10/20 [00:{at % 60:02}<?, {at}s/it]",
    "requests of another client": lambda at: f'INFO: 10.0.0.7:{at} - "GET /f/{at} HTTP/1.1" 200\n',
    "requests of another client, as SD.Next prints them": (
        lambda at: f"01:00:00-1 INFO     API code=200 http/1.1 GET /f{chr(97 + at % 26)} 1.2.3.4\n"
    ),
}


@pytest.mark.parametrize("how", REPEATS)
def test_a_log_that_repeats_itself_is_no_progress(how: str, tmp_path: Path) -> None:
    log = tmp_path / "stderr.log"
    log.touch()

    def shows(now: float) -> State:
        with open(log, "a", encoding="utf-8") as file:
            file.write(REPEATS[how](int(now)))
        return State(step=3)

    assert WebUI(shows).stuck_after(limits(60.0), 600, log) is not None


def test_there_is_at_most_one_sample_in_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    webui = WebUI(lambda now: State(step=int(now)))
    asked: list[float] = []
    answer = webui.progress
    monkeypatch.setattr(
        webui, "progress", lambda timeout: (asked.append(webui.now), answer(timeout))[1]
    )
    assert webui.stuck_after(limits(60.0), 600) is None
    assert len(asked) <= 300


def hang_up_on_all(server: socket.socket) -> None:
    """Some thousands come, and none is to wait."""
    with suppress(OSError):
        while True:
            server.accept()[0].close()


def test_a_first_start_that_prints_for_half_an_hour_and_then_is_ready_is_left_alone(
    tmp_path: Path,
) -> None:
    clock, log = FakeClock(), tmp_path / "stdout.log"
    log.touch()
    config = WebUIConfig(name="sim", url="http://127.0.0.1:1", command=("webui",))
    ready_at = math.inf

    def work() -> tuple[float, int]:
        with open(log, "a", encoding="utf-8") as file:
            file.write(f"Downloading: {clock.now:.0f} MB\n")
        return 0.0, 0

    def start() -> NotReady | None:
        return Readiness(
            clock=clock,
            host="127.0.0.1",
            port=server.getsockname()[1],
            probe=lambda: ProbeResult(clock.now >= ready_at, "it downloads"),
            is_ours=lambda: True,
            ended=threading.Event(),
            signs=SignsOfLife(clock, [log], work),
            limit=config.start_limit,
            stall=config.stall,
        ).wait(threading.Event())

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=hang_up_on_all, args=(server,), daemon=True).start()
        began = clock.now
        ready_at = began + 31 * 60.0
        assert start() is None
        assert clock.now >= ready_at
        ready_at = math.inf
        assert "not ready within 3600 s: it downloads" in str(start())
        system.cut(server)


def test_only_the_known_fields_of_a_reply_are_kept_for_the_heartbeat() -> None:
    reply = {
        "progress": 0.5,
        "eta_relative": float("inf"),
        "current_image": "x" * 25_000_000,
        "state": {
            "job": "j" * 25_000_000,
            "job_no": True,
            "job_count": 1,
            "sampling_step": 10**400,
            "sampling_steps": 20,
            "extra": ["y"] * 1000,
        },
    }
    state = {"job": "j" * 100, "job_count": 1, "sampling_steps": 20}
    assert known(reply) == {"progress": 0.5, "state": state}
    assert known({"progress": "0.5", "state": [1]}) == {"state": {}}


def test_a_nan_is_no_progress() -> None:
    class Odd(WebUI):
        def progress(self, timeout: float) -> dict[str, Any]:
            return {**super().progress(timeout), "progress": float("nan")}

    assert Odd(lambda _: State(step=7)).stuck_after(limits(10.0), 30.0) is not None


def test_how_far_a_call_is_comes_from_what_the_webui_gives() -> None:
    state = {"sampling_step": 12, "sampling_steps": 20}
    reply = {"progress": 0.55, "eta_relative": 42.4, "state": state}
    assert progress_shown(reply) == {"step": 12, "steps": 20, "percent": 55, "eta": 42.4}
    assert progress_shown({"progress": 0.0, "state": state})["percent"] == 60
    assert progress_shown({"progress": 7.0, "state": {}}) == {"percent": 100}
    assert progress_shown({"state": {"sampling_step": 30, "sampling_steps": 20}})["step"] == 20
    assert progress_shown({}) == progress_shown({"state": None}) == {}

"""The threads of a lane: what they do never overlaps, spins, or keeps a stop from ending."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import urllib3.connection

from sdwatch.errors import LaneError, RunCancelledError
from sdwatch.lane import loop
from sdwatch.lane.context import LaneSettings
from sdwatch.lane.lane import Lane
from sdwatch.lane.webui_effects import WebUIEffects
from sdwatch.policy.lane import attempts
from sdwatch.policy.lane.events import DeadlinePassed, LaneEvent, PostStarted
from sdwatch.policy.lane.state import LaneState
from sdwatch.spool.recorder import RunRecorder
from sdwatch.webui.http import client
from sdwatch.webui.http.call import Outcome
from sdwatch.webui.http.call_watch import CallWatch
from sdwatch.webui.http.option_leaks import OptionLeaks
from sdwatch.webui.http.reply import Reply, read_reply
from sdwatch.webui.http.run_control import RunControl
from sdwatch.webui.process import process_tree
from sdwatch.webui.process.readiness import PROBE_INTERVAL_S
from tests.support.helpers import FakeClock, wait_until
from tests.support.lanes import lane_of, simulator
from tests.support.recorders import recorder_alone

PAYLOAD = {"prompt": "a castle", "steps": 4, "width": 64, "height": 64}
OVERRIDES = {**PAYLOAD, "override_settings": {"CLIP_stop_at_last_layers": 2}}


@contextmanager
def calling(lane: Lane, control: RunControl, payload: dict[str, Any]) -> Iterator[threading.Thread]:
    """A run that makes one call."""

    def call() -> None:
        api = lane.api(recorder_alone(), control)
        with suppress(RunCancelledError):
            api.generate_images_with_recovery("txt2img", payload)

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(60)


@contextmanager
def making(lane: Lane, made: list[Outcome], recorder: RunRecorder | None = None) -> Iterator[None]:
    """A run whose one call ends in `made`."""

    def call() -> None:
        api = lane.api(recorder or recorder_alone(), RunControl())
        made.append(api.generate_images_with_recovery("txt2img", PAYLOAD))

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield
    finally:
        thread.join(60)


def test_the_settings_around_calls_are_the_work_of_one_thread_also_after_a_cancel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undoing, may_end = threading.Event(), threading.Event()
    inside: list[int] = []
    at_once: list[int] = []
    undo = OptionLeaks.undo

    def slow(self: OptionLeaks, incarnation: int) -> tuple[list[str], list[str]]:
        inside.append(1)
        at_once.append(len(inside))
        if self._pending.incarnation == incarnation:  # after the call, not before it
            undoing.set()
            may_end.wait(60)
        try:
            return undo(self, incarnation)
        finally:
            inside.pop()

    monkeypatch.setattr(OptionLeaks, "undo", slow)
    first, second = RunControl(), RunControl()
    with lane_of(simulator(), tmp_path / "state", (0.1,)) as lane:
        with calling(lane, first, OVERRIDES), calling(lane, second, OVERRIDES):
            wait_until(undoing.is_set, why="the first call is cleaned up")
            first.cancel()
            handled = lane.loop.state.at
            lane.allow_calls(None, None)
            lane.loop.tell(DeadlinePassed())
            wait_until(lambda: lane.loop.state.at != handled or max(at_once) > 1)
            may_end.set()
        assert max(at_once) == 1


def test_a_sample_that_breaks_is_taken_again_at_the_usual_pace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples: list[float] = []

    def broken(_: CallWatch) -> str:
        samples.append(time.monotonic())
        raise ValueError("a bug")

    monkeypatch.setattr(CallWatch, "sample", broken)
    with lane_of(simulator("--step-time", "0.2"), tmp_path / "state", (0.1,)) as lane:
        began = time.monotonic()
        with calling(lane, RunControl(), {**PAYLOAD, "steps": 15}):
            pass
        assert 1 <= len(samples) <= 1 + (time.monotonic() - began) / PROBE_INTERVAL_S


@pytest.mark.parametrize("what", ["probe", "clean_up", "stop_tree"])
def test_a_helper_that_hangs_keeps_no_stop_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    may_hang, hangs, may_end = threading.Event(), threading.Event(), threading.Event()
    real: Callable[..., Any] = getattr(WebUIEffects, what)

    def hung(self: WebUIEffects, *args: Any) -> Any:
        if may_hang.is_set():
            hangs.set()
            may_end.wait(60)
        return real(self, *args)

    monkeypatch.setattr(WebUIEffects, what, hung)
    with lane_of(simulator(health={"interval": 0.1}), tmp_path / "state", (0.1,)) as lane:
        of_lane = lane.loop
        of_lane.state = replace(of_lane.state, setup=replace(of_lane.state.setup, stop_limit=0.2))
        may_hang.set()
        if what == "clean_up":
            with calling(lane, RunControl(), PAYLOAD):
                wait_until(hangs.is_set)
                lane.start_stop()
        elif what == "probe":
            wait_until(hangs.is_set)
        lane.start_stop()
        lane.finish_stop()
        assert hangs.is_set()
        assert not of_lane.thread.is_alive()
        assert not lane.process.is_process_alive()
        may_end.set()


@pytest.mark.parametrize(("limit", "most"), [({}, 1), ({"max_rss": 900 * 10**9}, 3)])
def test_the_memory_is_measured_after_each_call_only_where_it_has_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: dict[str, int], most: int
) -> None:
    clock = FakeClock()
    measured: list[int] = []
    lane = Lane(simulator(**limit), LaneSettings(tmp_path, (0.1,), clock))
    monkeypatch.setattr(process_tree, "rss", lambda _: measured.append(1) or 7)
    effects = lane.loop.effects
    found = [effects.clean_up().rss for _ in range(3)]
    assert len(measured) == most
    assert found[0] == 7
    clock.advance(60)
    assert effects.clean_up().rss == 7


def test_a_reply_that_was_complete_when_the_webui_died_is_kept_however_long_it_takes_to_decode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "EXIT_WAIT", 0.0)  # instead of a second
    arrived, may_decode = threading.Event(), threading.Event()

    def slow(stage: str, body: Any) -> Reply:
        arrived.set()
        may_decode.wait(60)
        return read_reply(stage, body)

    made: list[Outcome] = []
    with lane_of(simulator(), tmp_path / "state", (0.1,)) as lane:
        monkeypatch.setattr(client, "read_reply", slow)
        with making(lane, made):
            wait_until(arrived.is_set, why="the reply is here")
            kill_webui(lane)
            handled = lane.loop.state.at
            lane.loop.tell(DeadlinePassed())
            wait_until(lambda: lane.loop.state.at != handled)
            may_decode.set()
        assert made[0].ok
        assert lane.loop.state.history.crashes[-1].kind == "crash"


def test_a_call_that_was_not_sent_yet_when_the_webui_died_keeps_both_attempts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "EXIT_WAIT", 0.0)
    prepares, may_send = threading.Event(), threading.Event()

    def slow(*_: Any) -> None:
        prepares.set()
        may_send.wait(60)

    monkeypatch.setattr(WebUIEffects, "before_post", slow)
    made: list[Outcome] = []
    recorder = recorder_alone()
    with lane_of(simulator(), tmp_path / "state", (0.1,)) as lane:
        with making(lane, made, recorder):
            wait_until(prepares.is_set)
            kill_webui(lane)
            may_send.set()
        assert made[0].ok
        assert recorder.attempts == ()


def test_a_call_given_up_before_it_has_a_connection_keeps_both_attempts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of the process is heard before the POST is reported to go out, and nothing was
    sent."""
    made: list[Outcome] = []
    recorder = recorder_alone()
    with lane_of(simulator(), tmp_path / "state", (0.1,)) as lane:
        tell = lane.loop.tell

        def hears_the_exit_first(event: LaneEvent) -> None:
            if isinstance(event, PostStarted) and lane.loop.state.incarnation == 1:
                kill_webui(lane)
                handle = lane.loop._handles[event.call]
                wait_until(lambda: handle.sent is not None and handle.sent.given_up)
            tell(event)

        monkeypatch.setattr(lane.loop, "tell", hears_the_exit_first)
        with making(lane, made, recorder):
            pass
        assert made[0].ok
        assert recorder.attempts == ()


def test_a_call_that_still_connects_long_after_the_exit_of_the_webui_keeps_both_attempts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows takes two seconds to refuse a connection."""
    monkeypatch.setattr(attempts, "EXIT_WAIT", 0.0)
    connects, may_connect = threading.Event(), threading.Event()
    connect = urllib3.connection.HTTPConnection.connect

    def slow(self: urllib3.connection.HTTPConnection) -> None:
        if threading.current_thread().name.startswith("posts"):
            connects.set()
            may_connect.wait(60)
        connect(self)

    monkeypatch.setattr(urllib3.connection.HTTPConnection, "connect", slow)
    made: list[Outcome] = []
    recorder = recorder_alone()
    with lane_of(simulator(), tmp_path / "state", (0.1,)) as lane:
        with making(lane, made, recorder):
            wait_until(connects.is_set)
            kill_webui(lane)
            handled = lane.loop.state.at
            lane.loop.tell(DeadlinePassed())
            wait_until(lambda: lane.loop.state.at != handled)
            may_connect.set()
        assert made[0].ok
        assert recorder.attempts == ()


def test_a_post_that_cannot_be_prepared_is_not_sent_and_the_lane_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("a bug")

    with lane_of(simulator(), tmp_path / "state", (0.1,)) as lane:
        with monkeypatch.context() as patch:
            patch.setattr(WebUIEffects, "before_post", broken)
            api = lane.api(recorder_alone(), RunControl())
            with pytest.raises(LaneError, match="a bug"):
                api.generate_images_with_recovery("txt2img", PAYLOAD)
        assert lane.loop.state.history.crashes == ()
        assert lane.loop.state.incarnation == 1
        api = lane.api(recorder_alone(), RunControl())
        assert api.generate_images_with_recovery("txt2img", PAYLOAD).ok


def kill_webui(lane: Lane) -> None:
    """Kill the WebUI of a call, and wait until the lane has heard of that."""

    def has_seen_exit() -> bool:
        served = lane.loop.state.served
        return served is not None and served.exited is not None

    for process in lane.process.family():
        process.kill()
    wait_until(has_seen_exit, why="the lane has seen the exit")


def ends_of_one_call(lane: Lane) -> list[Outcome | Exception]:
    """How it ends; nothing, if it waits forever."""
    ends: list[Outcome | Exception] = []

    def call() -> None:
        api = lane.api(recorder_alone(), RunControl())
        try:
            ends.append(api.generate_images_with_recovery("txt2img", PAYLOAD))
        except Exception as error:  # noqa: BLE001 - the thread's outer edge
            ends.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(30)
    return ends


def once(real: Callable[..., Any], when: Callable[..., bool]) -> Callable[..., Any]:
    """Breaks the first time that this is so."""
    broken: list[int] = []

    def act(*args: Any) -> Any:
        if not broken and when(*args):
            broken.append(1)
            raise ValueError("a bug")
        return real(*args)

    return act


def test_a_run_that_was_answered_hears_so_whatever_breaks_beside_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drops(before: LaneState, after: LaneState) -> bool:
        return bool(before.calls) and not after.calls

    with lane_of(simulator(), tmp_path / "state", (0.1,)) as lane:
        monkeypatch.setattr(loop, "_may_act", once(loop._may_act, drops))
        assert [isinstance(end, Outcome) and end.ok for end in ends_of_one_call(lane)] == [True]
        monkeypatch.setattr(
            lane.loop.warnings, "add", once(lane.loop.warnings.add, lambda *_: True)
        )
        wait_until(lambda: lane.ready, why="it was probed")
        assert [isinstance(end, Outcome) and end.ok for end in ends_of_one_call(lane)] == [True]
        wait_until(lambda: lane.ready, why="it was probed")


def test_a_run_whose_request_breaks_does_not_wait_forever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requested = once(attempts.on_requested, lambda *_: True)
    with lane_of(simulator(), tmp_path / "state", (0.1,)) as lane:
        monkeypatch.setattr(attempts, "on_requested", requested)
        assert [type(end) for end in ends_of_one_call(lane)] == [LaneError]
        wait_until(lambda: lane.ready, why="it was probed")
        assert [type(end) for end in ends_of_one_call(lane)] == [Outcome]

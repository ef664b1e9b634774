"""A WebUI, its lane and a queue of jobs in no time: the real crash-aware call, the real self-test
and the real blame, around a WebUI that is a few fields."""

from __future__ import annotations

import queue
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

from sdwatch.errors import WebUIError, WebUIServerError, WebUIUnreachableError
from sdwatch.lane.self_test import SelfTest, SelfTestSettings
from sdwatch.policy.failure.lifecycle import State
from sdwatch.policy.lane.advance import next_deadline
from sdwatch.policy.lane.effects import Effect, RunSelfTest, RunSizeTest
from sdwatch.policy.lane.events import (
    DeadlinePassed,
    LaneEvent,
    ProcessExited,
    SelfTestAnswered,
    SelfTestEnd,
    SizeTestAnswered,
)
from sdwatch.policy.lane.state import LaneState
from sdwatch.policy.privacy.redaction import Redactor
from sdwatch.system.clock import Clock
from sdwatch.webui.http.api import WebUIAPI
from sdwatch.webui.http.call import CallHandle, Sent
from sdwatch.webui.http.call_watch import CallWatch
from sdwatch.webui.http.canary import PROMPT, Canary
from sdwatch.webui.http.client import SDWebUIClient
from sdwatch.webui.http.reply import Reply
from sdwatch.webui.log.call_log import CallLog
from tests.support.fakes import on_a_thread, picture, reply
from tests.support.helpers import FakeClock
from tests.support.recorders import recorder_alone
from tests.support.scripted_lane import ScriptedLane, ready_lane

TINY = 64 * 64
MOST_RESTARTS = 6
"""After so many restarts in a row that cure nothing, a lane is left on hold."""


def out_of_memory() -> WebUIServerError:
    said = "CUDA out of memory. Tried to allocate 2.00 GiB"
    return WebUIServerError(f"answered 500: {said}", status=500, kind="OutOfMemoryError", said=said)


def generic() -> WebUIServerError:
    said = "'NoneType' object is not iterable"
    return WebUIServerError(f"answered 500: TypeError: {said}", status=500, said=said)


def injected() -> WebUIServerError:
    said = "injected failure"
    return WebUIServerError(f"answered 500: {said}", status=500, kind="RuntimeError", said=said)


@cache
def _picture(width: int, height: int) -> bytes:
    return picture(1, size=(width, height))


@dataclass
class ModelWebUI:
    """Plays the client, too. `cured_at`: the incarnation from which on a fault of its own is gone,
    None for never; `fault`: what it is until then, '' for none: dead (fails everything) or
    tiny-only (all but tiny pictures fail)."""

    fault: str = ""
    cured_at: int | None = None
    incarnation: int = 1
    taken: bool = False
    poisoned: bool = False
    dead: bool = False
    posts: list[str] = field(default_factory=list)
    self_tests: int = 0
    left: dict[str, int] = field(default_factory=dict)
    died: Callable[[int], None] = lambda _: None

    def start(self) -> None:
        self.incarnation += 1
        self.taken = self.poisoned = self.dead = False

    def generate_images(self, stage: str, payload: Mapping[str, Any], *_: Any, **__: Any) -> Reply:
        del stage
        prompt = str(payload["prompt"])
        width, height = int(payload["width"]), int(payload["height"])
        pixels = width * height
        if prompt.startswith(PROMPT):
            self.self_tests += 1
            kind = name = ""
        else:
            self.posts.append(prompt)
            kind, _, name = prompt.partition(" ")
        if (error := self._own_fault(pixels) or self._of(kind, name)) is not None:
            raise error
        return reply(_picture(width, height))

    def _own_fault(self, pixels: int) -> WebUIError | None:
        assert not self.dead, "nothing is sent to a WebUI that is down"
        if self.poisoned:
            return injected()
        is_ill = self.fault and (self.cured_at is None or self.incarnation < self.cured_at)
        if is_ill and (self.fault == "dead" or pixels > TINY):
            return out_of_memory()
        return out_of_memory() if self.taken and pixels > TINY else None

    def _of(self, kind: str, name: str) -> WebUIError | None:
        if kind == "oom":
            return out_of_memory()
        if kind == "oom-leaks":
            self.taken = True
            return out_of_memory()
        if kind == "broken":
            return injected()
        if kind == "generic":
            return generic()
        if kind == "kills":
            self.dead = True
            self.died(self.incarnation)
            return WebUIUnreachableError("connection reset")
        if kind == "poisons":
            self.poisoned = True
            return injected()
        return self._once(kind, name)

    def _once(self, kind: str, name: str) -> WebUIError | None:
        if not kind.endswith("-once") or self.left.setdefault(name, 1) == 0:
            return None
        self.left[name] = 0
        return self._of(kind.removesuffix("-once"), name)

    def progress(self, timeout: float) -> dict[str, Any]:
        del timeout
        return {"state": {}}

    def listed(self, name: str, timeout: float) -> list[Any]:
        del name, timeout
        return []

    def interrupt(self) -> bool:
        return True

    def abandon(self) -> None:
        pass


class NeverDue:
    is_due = False

    def __init__(self) -> None:
        self.log = CallLog((), FakeClock())


class ModelLane(ScriptedLane):
    """The machine around a model of a WebUI, whose self-tests are real. `restarts`: starts of a
    WebUI that is ours; `holds`: how often the lane came to be on hold."""

    def __init__(self, webui: ModelWebUI, managed: bool) -> None:
        self.webui = webui
        self.holds = self.restarts = 0
        self.by_hand = False
        self._real_test = SelfTest(
            Canary(cast(SDWebUIClient, webui), may_interrupt=False, post=on_a_thread),
            lambda _: cast(CallWatch, NeverDue()),
            Redactor(),
            SelfTestSettings(managed=managed),
        )
        super().__init__(webui, self, cast(Clock, FakeClock()), managed=managed)
        self.state = ready_lane(self.settings.setup, webui.incarnation, fresh=managed)
        webui.died = self._died

    # -- its process

    @property
    def incarnation(self) -> int:
        return self.webui.incarnation if self._settings_managed else 0

    @property
    def _settings_managed(self) -> bool:
        return self._real_test._settings.managed

    def is_process_alive(self) -> bool:
        return not self.webui.dead

    def get_tail_logs(self, max_lines: int = 200) -> dict[str, str]:
        del max_lines
        return {}

    def restart_and_wait_ready(self, timeout_s: float) -> bool:
        del timeout_s
        if self._settings_managed:
            self.webui.start()
            self.restarts += 1
        elif self.by_hand and self.state.hold.reason is not None:
            self.webui.start()
        return True

    def _died(self, incarnation: int) -> None:
        if self._settings_managed:
            self.tell(ProcessExited(incarnation, -9))

    # -- no time, and no threads

    def comes_up(self) -> bool:
        """Continue until it is ready; False where it is on hold after too many restarts."""
        tests = self.webui.self_tests
        while self.state.life is not State.READY or self.state.served is not None:
            if self.webui.self_tests - tests > 2 * MOST_RESTARTS:
                return False
            self._take()
        return True

    def _take(self, longest: float | None = None) -> None:
        del longest
        try:
            event = self._events.get_nowait()
        except queue.Empty:
            now = self._now()
            wanted = next_deadline(self.state, now)
            cast(FakeClock, self._clock).advance(max(0.0, wanted - now.boot))
            event = DeadlinePassed()
        self._step(event)

    def _start_post(self, handle: CallHandle, sent: Sent) -> None:
        assert self.state.hold.reason is None, "nothing is sent while the lane is on hold"
        self._send(handle, sent)

    def _changed(self, before: LaneState) -> None:
        self.holds += self.state.hold.reason is not None and before.hold.reason is None

    # -- its self-tests

    def _self_test(self, effect: RunSelfTest) -> LaneEvent:
        failure, refused = self._real_test.why_it_failed(effect.good, lambda: "")
        if failure is None:
            return SelfTestAnswered(SelfTestEnd.PASSED, refused_checkpoint=refused)
        return SelfTestAnswered(SelfTestEnd.FAILED, failure.as_hold_reason, refused)

    def _size_test(self, effect: RunSizeTest) -> LaneEvent:
        call = self._handles[effect.call].call
        result = self._real_test.size_test(
            call.stage, call.payload, lambda: "", largest=effect.largest
        )
        return SizeTestAnswered(result)

    def _answers(self) -> dict[type[Effect], Callable[[Any], LaneEvent | None]]:
        return {**super()._answers(), RunSizeTest: self._size_test}


@dataclass
class Night:
    """How it ended: the jobs by name, in order; `posts` of each; and its lane."""

    lane: ModelLane
    done: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)

    def posts(self, job: str) -> int:
        return self.lane.webui.posts.count(job)


def night(
    jobs: list[str],
    webui: ModelWebUI | None = None,
    *,
    managed: bool = True,
    by_hand: bool = False,
    side: int = 512,
) -> Night:
    """Run `jobs` one after the other. A job is `KIND NAME`; its kind says what becomes of it: good,
    oom, oom-leaks, broken, generic, kills, poisons, and each but good with -once. `by_hand`: a
    WebUI on hold that is not ours is restarted by somebody. `side`: pixels of their pictures."""
    lane = ModelLane(webui or ModelWebUI(), managed)
    lane.by_hand = by_hand
    ended = Night(lane)
    for number, job in enumerate(jobs):
        recorder = recorder_alone()
        payload = {"prompt": job, "width": side, "height": side, "steps": 20}
        while True:
            if not lane.comes_up():
                ended.waiting = jobs[number:]
                return ended
            api = WebUIAPI(lane.webui, lane, recorder, settings=lane.settings, loop=lane)
            outcome = api.generate_images_with_recovery("txt2img", payload, None, job)
            if not outcome.later:
                (ended.done if outcome.ok else ended.failed).append(job)
                break
    return ended

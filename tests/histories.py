"""A WebUI, its lane and a queue of jobs in no time: the real crash-aware call, the real self-test
and the real blame, around a WebUI that is a few fields."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, cast

from sdwatch.errors import WebUIError, WebUIServerError, WebUIUnreachableError
from sdwatch.lane.self_test import SelfTest
from sdwatch.policy.failure.diagnosis import Diagnosis, Drawn
from sdwatch.policy.failure.failure_key import FailureKey
from sdwatch.policy.failure.hold_reason import HoldReason
from sdwatch.policy.failure.reply_checks import Finding
from sdwatch.policy.privacy.redaction import Redactor
from sdwatch.spool.recorder import EvidenceRecorder
from sdwatch.webui.http.api import WebUIAPI
from sdwatch.webui.http.call_watch import CallWatch
from sdwatch.webui.http.canary import PROMPT, Canary, SelfTestFailure
from sdwatch.webui.http.client import SDWebUIClient
from sdwatch.webui.http.mailbox import Exited, Mailbox
from sdwatch.webui.http.reply import Reply
from sdwatch.webui.log.call_log import CallLog
from tests.fakes import picture, reply
from tests.helpers import FakeClock

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


@dataclass
class ModelLane:
    """Its keeper and its process in one. `managed`: the WebUI is ours to restart."""

    webui: ModelWebUI
    managed: bool = True
    held: bool = False
    holds: int = 0
    restarts: int = 0
    down: bool = False
    doubted: bool = False
    fresh: bool = True
    has_log: bool = False
    failed_fresh: int = 0
    last: tuple[str, Mapping[str, Any]] = ("", {})

    def __post_init__(self) -> None:
        canary = Canary(cast(SDWebUIClient, self.webui), may_interrupt=False)
        self.self_test = SelfTest(
            canary, lambda _: cast(CallWatch, NeverDue()), Redactor(), managed=self.managed
        )

    # -- the process

    @property
    def incarnation(self) -> int:
        return self.webui.incarnation if self.managed else 0

    def is_process_alive(self) -> bool:
        return not self.webui.dead

    def get_tail_logs(self, max_lines: int = 200) -> dict[str, str]:
        del max_lines
        return {}

    def restart_and_wait_ready(self, timeout_s: float) -> bool:
        del timeout_s
        return self.bring_up() is None

    def bring_up(self) -> SelfTestFailure | None:
        if self.managed:
            self.webui.start()
            self.restarts += 1
            self.fresh = True
        self.down = False
        return self._test() if self.doubted else None

    def by_hand(self) -> None:
        """Somebody restarts a WebUI that is not ours."""
        self.webui.start()

    def _test(self) -> SelfTestFailure | None:
        self_test_failure = self.self_test.why_it_failed(lambda: "")
        if self_test_failure is None:
            self.doubted = self.held = False
            return None
        self.self_test.forget_blame()
        self.doubted = self.down = True
        again = self.managed and not self.fresh
        if self.managed and self.fresh:
            self.failed_fresh = self.incarnation
        self.holds += not again and not self.held
        self.held = self.held or not again
        return replace(self_test_failure, again=again)

    # -- the keeper

    def run_self_test(self, give_up: threading.Event) -> SelfTestFailure | None:
        del give_up
        if self.webui.dead:
            self.down = True
        if self.down:
            was_doubted = self.doubted
            self_test_failure = self.bring_up()
            if self_test_failure is not None or was_doubted:
                return self_test_failure
        return self._test()

    def failed_fresh_since(self, incarnation: int) -> bool:
        return self.failed_fresh > incarnation

    def can_generate(
        self, stage: str, payload: Mapping[str, Any], _: threading.Event, *, keeps_memory: bool
    ) -> Drawn:
        drawn = self.self_test.can_generate(stage, payload, lambda: "")
        if keeps_memory and drawn is not Drawn.CAN and self.managed:
            self.bring_up()
        return drawn

    def crashed(self, diagnosis: Diagnosis) -> None:
        del diagnosis
        self.down = True

    def before_call(self, payload: Mapping[str, Any]) -> None:
        self.last = ("", payload)

    def sending(self, stage: str) -> bool:
        assert not self.held, "nothing is sent while the lane is on hold"
        self.last = (stage, self.last[1])
        first, self.fresh = self.fresh and self.managed, False
        return first

    def succeeded(self, stage: str, payload: Mapping[str, Any]) -> None:
        self.self_test.succeeded(stage, payload)

    def is_a_jobs_own(self, failure: FailureKey | None) -> bool:
        return self.self_test.is_a_jobs_own(failure, *self.last)

    def blamed(
        self, job: str, run: str, failure: FailureKey | None, crashes: int, died: bool
    ) -> None:
        del crashes
        self.self_test.blamed(job, run, failure, died)

    def put_on_hold(self, hold_reason: HoldReason, *, until_idle: bool = False) -> None:
        raise AssertionError(f"no history has this: {hold_reason}, {until_idle}")

    def wait_until_idle(self, hold_reason: HoldReason) -> None:
        raise AssertionError(f"no history has this: {hold_reason}")

    def after_call(self) -> tuple[Finding, ...]:
        return ()

    def warn(self, job: str, warnings: tuple[Finding, ...]) -> None:
        del job, warnings

    def call_log(self) -> tuple[str, ...]:
        return ()

    def wait_for_traceback(self, error: WebUIError, is_over: Callable[[], bool]) -> None:
        del error, is_over


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
    ended = Night(lane)
    for number, job in enumerate(jobs):
        recorder = EvidenceRecorder()
        payload = {"prompt": job, "width": side, "height": side, "steps": 20}
        while True:
            if (lane.down or lane.held) and not _comes_back(lane, by_hand):
                ended.waiting = jobs[number:]
                return ended
            mailbox = Mailbox()
            lane.webui.died = _telling(mailbox)
            api = WebUIAPI(
                lane.webui, lane, recorder, observer=lane, managed=managed, mailbox=mailbox
            )
            outcome = api.generate_images_with_recovery("txt2img", payload, None, job)
            if not outcome.later:
                (ended.done if outcome.ok else ended.failed).append(job)
                break
    return ended


def _telling(mailbox: Mailbox) -> Callable[[int], None]:
    return lambda incarnation: mailbox.post(Exited(incarnation, -9))


def _comes_back(lane: ModelLane, by_hand: bool) -> bool:
    for _ in range(MOST_RESTARTS):
        if by_hand and not lane.managed:
            lane.by_hand()
        if lane.bring_up() is None and not lane.held:
            return True
    return False

"""A lane on the thread of its call: the real machine, with self-tests and starts from a script."""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sdwatch.policy.failure.diagnosis import SizeTest
from sdwatch.policy.failure.facts import FailureKey
from sdwatch.policy.failure.hold_reason import Cure, HoldCode, HoldKey, HoldReason
from sdwatch.policy.failure.lifecycle import State
from sdwatch.policy.lane.crash_history import CrashHistory
from sdwatch.policy.lane.effects import (
    Answer,
    AskForHold,
    CleanUp,
    CutShort,
    Effect,
    NoteCannot,
    Notify,
    Post,
    Probe,
    ReadLists,
    RecordFailure,
    RunSelfTest,
    RunSizeTest,
    SaveCrashHistory,
    Start,
    StopTree,
    Succeeded,
    ToRun,
)
from sdwatch.policy.lane.events import (
    CleanedUp,
    Health,
    HoldChecked,
    LaneEvent,
    ListsRead,
    ProbeAnswered,
    SelfTestAnswered,
    SelfTestEnd,
    SizeTestAnswered,
    Stalled,
    Started,
    StartFailed,
    TreeStopped,
)
from sdwatch.policy.lane.state import NONE_YET, IncarnationUse, LaneState, Setup
from sdwatch.system.clock import Clock, SystemClock
from sdwatch.webui.http.call import CallHandle, Sent
from sdwatch.webui.http.call_loop import CallLoop
from sdwatch.webui.http.roles import CallSettings
from tests.support.fakes import on_a_thread


def ready_lane(setup: Setup, incarnation: int, *, fresh: bool = False) -> LaneState:
    """The state of a lane whose WebUI is ready; its cool-down is over at once."""
    use = IncarnationUse(setup.managed, first_call=NONE_YET if fresh else None)
    return LaneState(
        setup,
        CrashHistory((0.0,)),
        life=State.READY,
        adopts=False,
        incarnation=incarnation if setup.managed else 0,
        nothing_left=not setup.managed,
        use=use,
    )


class ScriptedLane(CallLoop):
    """`self_tests`: why they fail, one after the other; they pass when there are no more. `heard`:
    what the machine wanted, in order."""

    def __init__(self, client: Any, process: Any, clock: Clock | None = None, **setup: Any) -> None:
        made = Setup(**setup)
        self.settings = CallSettings(setup=made)
        state = ready_lane(made, process.incarnation)
        super().__init__(client, process, self.settings, clock or SystemClock(), state)
        self.self_tests: list[str] = []
        self.heard: list[str] = []
        self.reasons: list[str] = []  # of holds
        self.size_test = SizeTest.NOT_RUN
        self._performers |= {
            kind: self._answered(answer) for kind, answer in self._answers().items()
        }

    def _answers(self) -> dict[type[Effect], Callable[[Any], LaneEvent | None]]:
        return {
            Start: self._start,
            StopTree: lambda effect: TreeStopped(
                held_by_person=False if effect.unless_held else None
            ),
            AskForHold: lambda _: HoldChecked(held_by_person=False),
            Probe: lambda _: ProbeAnswered(Health.READY),
            ReadLists: lambda _: ListsRead(),
            RunSelfTest: self._self_test,
            RunSizeTest: lambda _: SizeTestAnswered(self.size_test),
            CleanUp: lambda _: CleanedUp(),
            **dict.fromkeys((SaveCrashHistory, Notify, NoteCannot, CutShort), lambda _: None),
        }

    def _answered(self, answer: Callable[[Any], LaneEvent | None]) -> Callable[[Any], None]:
        def perform(effect: Effect) -> None:
            if (event := answer(effect)) is not None:
                self.tell(event)

        return perform

    # -- for tests

    def stall(self) -> None:
        """Say that the POST in flight makes no progress."""
        served = self.state.served
        assert served is not None
        self.tell(Stalled(served.id, served.number, "no progress for 300 s"))

    def knows(self, failure: FailureKey) -> None:
        """Let this failure have been traced to two jobs."""
        knowledge = self.state.knowledge
        for job in "ab":
            knowledge = knowledge.trace(job, f"run-{job}", failure, died=False)
        self.state = replace(self.state, knowledge=knowledge)

    # -- the loop

    def next_for(self, handle: CallHandle, seconds: float | None) -> ToRun | None:
        del seconds
        while True:
            try:
                return handle.inbox.get_nowait()
            except queue.Empty:
                self._take()

    def _changed(self, before: LaneState) -> None:
        reason = self.state.hold.reason
        if reason is not None and reason is not before.hold.reason:
            self.reasons.append(reason.cause)

    def _to_run(self, effect: ToRun) -> None:
        if isinstance(effect, RecordFailure) and effect.attempt.crashed:
            self.heard.append(f"crashed: {effect.failure.explanation.diagnosis}")
        if isinstance(effect, Answer) and isinstance(effect.end, Succeeded):
            self.heard.append("succeeded")
        super()._to_run(effect)

    def _start_post(self, handle: CallHandle, sent: Sent) -> None:
        on_a_thread(sent, lambda: self._send(handle, sent))

    def _post(self, effect: Post) -> None:
        self.heard.append(f"sending {self._handles[effect.call].call.stage}")
        super()._post(effect)

    def _start(self, effect: Start) -> LaneEvent:
        del effect
        if self._process.restart_and_wait_ready(60.0):
            return Started(self._process.incarnation)
        return StartFailed(failing("it did not start"), self._process.incarnation)

    def _self_test(self, effect: RunSelfTest) -> LaneEvent:
        del effect
        why = self.self_tests.pop(0) if self.self_tests else ""
        self.heard.append(f"self-test: {why}" if why else "self-test")
        end = SelfTestEnd.FAILED if why else SelfTestEnd.PASSED
        return SelfTestAnswered(end, failing(why))


def failing(cause: str) -> HoldReason:
    return HoldReason(cause, cure=Cure.RESTART, key=HoldKey(HoldCode.OTHER, (cause,)))

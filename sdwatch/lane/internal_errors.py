"""What follows an internal error of a lane: of a slow effect, which the loop hears of as an event,
and of the loop itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from sdwatch.errors import WebUIError
from sdwatch.policy.failure.diagnosis import FailureFacts, SizeTest, diagnose
from sdwatch.policy.failure.hold_reason import internal_error
from sdwatch.policy.failure.lifecycle import State
from sdwatch.policy.lane.effects import (
    Adopt,
    Answer,
    AskForHold,
    AwaitTraceback,
    BringBack,
    Broken,
    CallEnd,
    CleanUp,
    Effect,
    ExplainFailure,
    FreeGpu,
    GivenUp,
    Probe,
    ReadLists,
    RunSelfTest,
    RunSizeTest,
    Start,
    StopTree,
)
from sdwatch.policy.lane.events import (
    CheckpointBack,
    CleanedUp,
    FailureExplained,
    Freeing,
    GpuFreed,
    Health,
    HoldChecked,
    LaneEvent,
    ListsRead,
    ProbeAnswered,
    SelfTestAnswered,
    SelfTestEnd,
    SizeTestAnswered,
    StartFailed,
    TracebackComplete,
    TreeStopped,
)
from sdwatch.policy.lane.instant import Instant
from sdwatch.policy.lane.state import CallPhase, LaneCall, LaneState, Up
from sdwatch.webui.http.failure_evidence import FailureEvidence


def answer_after_error(effect: Effect, error: Exception, incarnation: int) -> LaneEvent:
    """Return what is known of a slow effect that ended with an internal error: not that it was
    done, nor that a person permits a start."""
    if isinstance(effect, AwaitTraceback):
        return TracebackComplete(effect.call)
    if isinstance(effect, ExplainFailure):
        facts = FailureFacts(WebUIError(f"{effect.error} (and an internal error: {error!r})"))
        evidence = FailureEvidence(facts, {}, {}, None)
        return FailureExplained(effect.call, effect.error, diagnose(facts), None, evidence)
    reason = internal_error(repr(error))
    answers: dict[type[Effect], LaneEvent] = {
        Adopt: StartFailed(reason, incarnation),
        Start: StartFailed(reason, incarnation),
        AskForHold: HoldChecked(held_by_person=True),
        StopTree: TreeStopped(reason),
        Probe: ProbeAnswered(Health.FAILED, reason, seen=repr(error)),
        ReadLists: ListsRead(),
        RunSelfTest: SelfTestAnswered(SelfTestEnd.INCONCLUSIVE, reason),
        RunSizeTest: SizeTestAnswered(SizeTest.NOT_RUN),
        FreeGpu: GpuFreed(Freeing.CANNOT),
        BringBack: CheckpointBack(failed=True),
        CleanUp: CleanedUp(),
    }
    return answers[type(effect)]


_LIFE_AFTER = {State.STARTING: State.DOWN, State.READY: State.NOT_USABLE}


def after_error(state: LaneState, why: str, now: Instant) -> LaneState:
    """Return the state without calls, and on hold until the WebUI is started again, or probed."""
    return replace(
        state,
        life=_LIFE_AFTER.get(state.life, state.life),
        up=Up.NO,
        busy=None,
        next_check=0.0,
        failed_checks=0,
        calls=(),
        unrecorded=frozenset(),
        hold=state.hold.update(internal_error(why), now),
    )


def answers_after_error(
    calls: Iterable[LaneCall], requested: Iterable[int], why: str
) -> list[Answer]:
    """Return what each run is answered. Those whose call waited resume; one under way may have
    caused the error, so its run must not resume forever. `requested`: the ids of all calls that
    were asked for and not answered: one that is not among `calls` broke while it was added."""
    ends: dict[int, CallEnd] = {
        call.id: call.end or (GivenUp() if call.phase is CallPhase.WAITING else Broken(why=why))
        for call in calls
    }
    ends |= {each: Broken(why=why) for each in requested if each not in ends}
    return [Answer(call, end) for call, end in ends.items()]

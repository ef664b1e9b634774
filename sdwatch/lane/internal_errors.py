"""What follows an internal error of a lane: of a slow effect, which the loop hears of as an event,
and of the loop itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from sdwatch.policy.failure.cooldown import Instant
from sdwatch.policy.failure.hold_reason import internal_error
from sdwatch.policy.failure.lifecycle import State
from sdwatch.policy.lane.effects import Answer, Broken, CallEnd, GivenUp
from sdwatch.policy.lane.events import (
    CheckpointBack,
    Freeing,
    GpuFreed,
    Health,
    HoldChecked,
    LaneEvent,
    ProbeAnswered,
    SelfTestAnswered,
    SelfTestEnd,
    TreeStopped,
)
from sdwatch.policy.lane.state import CallPhase, Checks, LaneCall, LaneState, Up


def not_freed(_: Exception) -> LaneEvent:
    """Return that the GPU cannot be freed."""
    return GpuFreed(Freeing.CANNOT)


def not_back(_: Exception) -> LaneEvent:
    """Return that the checkpoint did not come back."""
    return CheckpointBack(failed=True)


def assume_hold(_: Exception) -> LaneEvent:
    """Return that a person may hold the lane: nothing is started."""
    return HoldChecked(held_by_person=True)


def not_stopped(error: Exception) -> LaneEvent:
    """Return that what was to be stopped may still run."""
    return TreeStopped(internal_error(repr(error)))


def no_probe(error: Exception) -> LaneEvent:
    """Return that the probe failed."""
    return ProbeAnswered(Health.FAILED, internal_error(repr(error)), seen=repr(error))


def no_test(error: Exception) -> LaneEvent:
    """Return that the self-test did not come to an end."""
    return SelfTestAnswered(SelfTestEnd.INCONCLUSIVE, internal_error(repr(error)))


_LIFE_AFTER = {State.STARTING: State.DOWN, State.READY: State.NOT_USABLE}


def after_error(state: LaneState, why: str, now: Instant) -> LaneState:
    """Return the state without calls, and on hold until the WebUI is started again, or probed."""
    return replace(
        state,
        life=_LIFE_AFTER.get(state.life, state.life),
        up=Up.NO,
        busy=None,
        checks=Checks(),
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

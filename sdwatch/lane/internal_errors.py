"""What an internal error of a slow effect counts as: the loop hears of it as an event."""

from __future__ import annotations

from sdwatch.policy.failure.hold_reason import internal_error
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


def not_freed(_: Exception) -> LaneEvent:
    """Return that the GPU cannot be freed."""
    return GpuFreed(Freeing.CANNOT)


def not_back(_: Exception) -> LaneEvent:
    """Return that the checkpoint did not come back."""
    return CheckpointBack(failed=True)


def assume_hold(_: Exception) -> LaneEvent:
    """Return that a person may hold the lane: nothing is started."""
    return HoldChecked(paused=True)


def not_stopped(error: Exception) -> LaneEvent:
    """Return that what was to be stopped may still run."""
    return TreeStopped(internal_error(repr(error)))


def no_probe(error: Exception) -> LaneEvent:
    """Return that the probe failed."""
    return ProbeAnswered(Health.FAILED, internal_error(repr(error)), seen=repr(error))


def no_test(error: Exception) -> LaneEvent:
    """Return that the self-test did not come to an end."""
    return SelfTestAnswered(SelfTestEnd.NO_TIME, internal_error(repr(error)))

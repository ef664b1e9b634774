"""Histories of a GPU that is wanted for something else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sdwatch.policy.failure.lifecycle import State
from sdwatch.policy.lane.advance import next_deadline
from sdwatch.policy.lane.crash_history import CrashHistory
from sdwatch.policy.lane.effects import (
    BringBack,
    FreeGpu,
    GpuGiven,
    Notify,
    Probe,
    Start,
    StopTree,
)
from sdwatch.policy.lane.events import (
    CallsAllowed,
    CheckpointBack,
    DeadlinePassed,
    Freeing,
    GpuFreed,
    Health,
    ProbeAnswered,
    ProcessExited,
    TreeStopped,
)
from sdwatch.policy.lane.freeing import waits_for_gpu
from sdwatch.policy.lane.state import Freed, new_lane
from tests.lane.history_of import COOLDOWN, SETUP, Told, because, ready, spins

FREE = CallsAllowed(allowed=False, held_by_person=True, frees=True)
OVER = CallsAllowed(frees=True)  # the end of a window: other jobs may come
GO = CallsAllowed()


def news(history: Told) -> list[GpuGiven]:
    notes = [each.what for each in history.all if isinstance(each, Notify)]
    return [what for what in notes if isinstance(what, GpuGiven)]


@pytest.mark.parametrize("wish", [FREE, OVER])
def test_a_checkpoint_is_unloaded_and_brought_back(wish: CallsAllowed) -> None:
    history = ready().tell(wish)
    assert history.effects == (FreeGpu(),)
    history.tell(GpuFreed(Freeing.UNLOADED))
    assert history.state.freed is Freed.UNLOADED
    assert history.state.life is State.READY
    assert not history.state.is_sound(history.now)
    assert news(history) == [GpuGiven(stopped=False)]
    assert history.tell(wish).effects == ()

    history.tell(GO)
    assert history.effects == (BringBack(),)
    assert not history.state.is_sound(history.now)
    history.tell(CheckpointBack())
    assert history.state.is_sound(history.now)


def test_one_that_cannot_unload_is_stopped_without_a_crash_and_started_after_it() -> None:
    history = ready().tell(OVER).tell(GpuFreed(Freeing.CANNOT))
    assert history.effects[-1] == StopTree()
    assert news(history) == [GpuGiven(stopped=True)]
    history.tell(TreeStopped())
    assert history.state.life is State.DOWN
    assert history.state.history.in_a_row == 0
    assert history.tell(DeadlinePassed()).effects == ()
    assert next_deadline(history.state, history.now) > history.now.boot

    history.tell(GO)
    history.allowed()
    assert any(isinstance(effect, Start) for effect in history.effects)
    assert history.state.freed is Freed.NO


def test_an_external_one_that_cannot_unload_stays_and_serves_afterwards() -> None:
    external = new_lane(replace(SETUP, managed=False), CrashHistory(COOLDOWN))
    history = Told(external).ready()
    stops = history.count(StopTree)
    history.tell(FREE).tell(GpuFreed(Freeing.CANNOT))
    assert news(history) == [GpuGiven(stopped=None)]
    assert history.count(StopTree) == stops
    assert history.tell(GO).state.is_sound(history.now)


@pytest.mark.parametrize("managed", [True, False])
def test_a_wish_that_ends_while_it_is_fulfilled_costs_nothing(managed: bool) -> None:
    history = ready(managed=managed).tell(FREE)
    stops = history.count(StopTree)
    history.tell(GO, GpuFreed(Freeing.CANNOT))
    assert history.state.is_sound(history.now)
    assert history.count(StopTree) == stops


def test_one_that_works_for_somebody_is_asked_again_later() -> None:
    history = ready().tell(FREE).tell(GpuFreed(Freeing.BUSY))
    assert history.state.freed is Freed.NO
    assert FreeGpu() not in history.effects
    later = SETUP.health_interval
    assert next_deadline(history.state, history.now) <= history.now.boot + later
    history.tell(ProbeAnswered(Health.READY)) if Probe() in history.effects else None
    history.at += later + 1
    history.tell(DeadlinePassed())
    while FreeGpu() not in history.effects:
        assert Probe() in history.effects
        history.tell(ProbeAnswered(Health.READY))


def test_a_checkpoint_that_does_not_come_back_costs_a_restart_and_no_crash() -> None:
    history = ready().tell(OVER).tell(GpuFreed(Freeing.UNLOADED)).tell(GO)
    history.tell(CheckpointBack(failed=True))
    assert history.state.life is State.DOWN
    assert history.state.history.in_a_row == 0


def test_one_that_dies_meanwhile_is_started_when_the_gpu_is_ours_again() -> None:
    history = ready().tell(OVER).tell(GpuFreed(Freeing.UNLOADED))
    history.tell(ProcessExited(history.state.incarnation, 1)).tell(TreeStopped())
    assert history.state.freed is Freed.NO, "nothing is there whose checkpoint is unloaded"
    assert waits_for_gpu(history.state)
    history.at += 1000
    assert not any(isinstance(e, Start) for e in history.tell(DeadlinePassed()).effects)
    history.tell(GO)
    history.allowed()
    assert any(isinstance(effect, Start) for effect in history.effects)


def test_a_webui_on_hold_is_stopped_too() -> None:
    history = ready().tell(ProbeAnswered(Health.LACKS, because("no checkpoint")))
    assert history.state.life is State.NOT_USABLE
    history.tell(FREE)
    assert StopTree() in history.effects
    history.tell(TreeStopped())
    assert history.tell(DeadlinePassed()).effects == ()


def test_one_that_freezes_while_its_checkpoint_is_unloaded_is_stopped() -> None:
    history = ready().tell(OVER).tell(GpuFreed(Freeing.UNLOADED))
    for _ in range(SETUP.health_failures):
        history.at += 1000
        history.tell(DeadlinePassed()).tell(ProbeAnswered(Health.FAILED, because("no answer")))
    assert history.state.life is State.COOLING_DOWN
    assert StopTree() in history.effects
    history.tell(TreeStopped())
    assert history.state.freed is Freed.STOPPED


def test_a_busy_webui_that_became_unusable_is_not_asked_for_its_gpu_at_once_and_forever() -> None:
    history = ready(managed=False).tell(FREE, GpuFreed(Freeing.BUSY))
    tries_again = history.state.tries_again
    lacks = ProbeAnswered(Health.LACKS, because("no model"))
    history.later(2).tell(lacks)
    assert history.state.life is State.NOT_USABLE
    history.later(20).tell(lacks)
    history.later(tries_again - history.at)
    assert history.state.next_check > history.at
    assert not spins(history.state, history.now)

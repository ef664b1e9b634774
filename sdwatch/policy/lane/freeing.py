"""Free the GPU while it is wanted for something else, and take it back. Pure.

The checkpoint is unloaded where the WebUI can; else our WebUI is stopped, which is not a crash.
Nothing is started while the GPU is wanted, and nothing is freed under a call.
"""

from __future__ import annotations

from sdwatch.policy.failure.lifecycle import LifeEvent, State
from sdwatch.policy.lane.effects import BringBack, FreeGpu, GpuGiven, Notify, StopTree
from sdwatch.policy.lane.events import CheckpointBack, Freeing, GpuFreed
from sdwatch.policy.lane.state import Busy, CallPhase, Freed, LaneState
from sdwatch.policy.lane.turn import Turn


def frees_now(state: LaneState, now: float) -> bool:
    """Return whether something is to be done about the GPU now, on the boot clock."""
    if not state.frees:
        return state.freed is Freed.UNLOADED and state.life is State.READY
    call = state.served
    is_free = call is None or call.phase is CallPhase.WAITING
    may_try = state.freed is Freed.NO and is_free and state.tries_again <= now
    return may_try and (state.life is State.READY or _is_idle_tree(state))


def _is_idle_tree(state: LaneState) -> bool:
    """Return whether a process of ours is there that serves nobody, as on hold."""
    unused = state.life in (State.DOWN, State.COOLING_DOWN, State.NOT_USABLE)
    return state.setup.managed and unused and not state.nothing_left


def waits_for_gpu(state: LaneState) -> bool:
    """Return whether nothing is started because the GPU is wanted for something else."""
    crashed = state.life is State.COOLING_DOWN and state.setup.managed
    return state.frees and (crashed or state.life is State.DOWN) and state.busy is None


def free_or_take_back(turn: Turn) -> None:
    """Do what `frees_now` has found."""
    state = turn.state
    if not state.frees:
        turn.change(busy=Busy.BRINGING_BACK)
        turn.do(BringBack())
    elif state.life is State.READY:
        turn.change(busy=Busy.FREEING)
        turn.do(FreeGpu())
    else:
        turn.change(nothing_runs=state.life is State.NOT_USABLE or state.nothing_runs)
        _stop(turn)


def on_gpu_freed(turn: Turn, event: GpuFreed) -> None:
    """Note what the attempt has shown; a WebUI of ours that cannot unload is stopped. What cannot
    be freed need not be, where the GPU is no longer wanted for something else."""
    state = turn.state
    if event.how is Freeing.BUSY:
        turn.change(tries_again=turn.now.boot + state.setup.health_interval)
    elif event.how is Freeing.UNLOADED:
        turn.change(freed=Freed.UNLOADED)
        turn.do(Notify(GpuGiven(stopped=False)))
    elif not state.frees:
        return
    elif not state.setup.managed:
        turn.change(freed=Freed.CANNOT)
        turn.do(Notify(GpuGiven(stopped=None)))
    elif state.life is State.READY and state.ended is None:
        turn.change_life(LifeEvent.RECYCLED)
        _stop(turn)


def _stop(turn: Turn) -> None:
    turn.change(busy=Busy.STOPPING, freed=Freed.STOPPED)
    turn.do(Notify(GpuGiven(stopped=True)), StopTree())


def on_checkpoint_back(turn: Turn, event: CheckpointBack) -> None:
    """It may be sent calls again. One that could not load its checkpoint is started afresh."""
    turn.change(freed=Freed.NO)
    if event.failed:
        due = "its checkpoint could not be loaded again"
        turn.change(use=turn.state.use.make_due(due))


def note_wish(turn: Turn, frees: bool) -> None:
    """Note whether the GPU is wanted for something else. What was not freed need not be taken
    back, and a process that was stopped is started as any other."""
    state = turn.state
    turn.change(frees=frees, tries_again=state.tries_again if frees else 0.0)
    if not frees and state.freed in (Freed.CANNOT, Freed.STOPPED):
        turn.change(freed=Freed.NO, next_check=turn.now.boot)

"""What a lane does next when nothing is under way: serve, test, start, stop, probe. Pure.

It is asked after each event and looks at the whole state, so no event must think of all that may
follow.
"""

from __future__ import annotations

from dataclasses import replace

from sdwatch.policy.failure.lifecycle import LifeEvent, State
from sdwatch.policy.failure.recovery import COUNTED_ATTEMPTS, SENT_AT_MOST, BlameTest
from sdwatch.policy.lane.after_failure import decide_after_test, run_size_test_if_ready
from sdwatch.policy.lane.attempts import announce, leave
from sdwatch.policy.lane.crash_history import HistoryRecord
from sdwatch.policy.lane.effects import (
    Adopt,
    AskForHold,
    CleanUp,
    Failed,
    GivenUp,
    Later,
    LetGo,
    Notify,
    Probe,
    ReadLists,
    Ready,
    Recycled,
    RunSelfTest,
    Start,
    StopTree,
)
from sdwatch.policy.lane.freeing import free_or_take_back, frees_now
from sdwatch.policy.lane.instant import Instant
from sdwatch.policy.lane.not_ready import hold_if_crashed_repeatedly, wait_for_self_test
from sdwatch.policy.lane.state import (
    NEVER,
    Busy,
    CallPhase,
    Freed,
    LaneCall,
    LaneState,
    Next,
    Up,
)
from sdwatch.policy.lane.turn import AFTER_ANSWER, Turn
from sdwatch.policy.lane.webui import notice_end

ACTS_ALONE = (
    CallPhase.SENT,
    CallPhase.SETTLING,
    CallPhase.EXPLAINING,
    CallPhase.INTERRUPTING,
    CallPhase.TESTING,
    CallPhase.TESTING_SIZE,
)
"""While a call is there, nothing else is done with the WebUI."""


def advance(turn: Turn) -> None:
    """Have the next thing done, if there is one and nothing is in its way."""
    if turn.state.life is State.STOPPED:
        for each in turn.state.calls:
            turn.answer(each, GivenUp())
        return
    call = turn.state.served
    if call is not None and call.phase in ACTS_ALONE:
        return
    notice_end(turn)
    while _serve(turn):
        pass
    call = turn.state.served
    if turn.state.busy is not None or (call is not None and call.phase in ACTS_ALONE):
        return
    if turn.state.stopping:
        _stop(turn)
    elif turn.state.adopts:
        hold_if_crashed_repeatedly(turn)
        turn.change(adopts=False, busy=Busy.ADOPTING)
        turn.do(Adopt(reads=_reads(turn.state)))
    else:
        _supervise(turn)


# -- the call that is served


def _serve(turn: Turn) -> bool:
    """Take the served call one step further. Return whether another call may be served now."""
    call = turn.state.served
    if call is None:
        return False
    if call.phase is CallPhase.LEAVING:
        return _let_leave(turn, call)
    if turn.state.stopping:
        return _give_up(turn, call)
    if call.phase is CallPhase.DECIDED:
        _continue(turn, call)
        return turn.state.served is not call and _is_leaving(turn)
    if call.phase is CallPhase.WAITING and turn.state.may_send(turn.now):
        _begin(turn, call)
        return _is_leaving(turn)
    return False


def _is_leaving(turn: Turn) -> bool:
    call = turn.state.served
    return call is not None and call.phase is CallPhase.LEAVING


def _let_leave(turn: Turn, call: LaneCall) -> bool:
    """Answer a call, after what the WebUI kept of it was undone. Return whether it is answered."""
    state = turn.state
    can_clean = state.life is State.READY and state.ended is None and state.setup.supervised
    if state.dirty and can_clean:
        if state.busy is None:
            _clean(turn)
        return False
    assert call.end is not None
    turn.answer(call, call.end)
    return True


def _clean(turn: Turn) -> None:
    turn.change(busy=Busy.CLEANING)
    turn.do(CleanUp())


def _give_up(turn: Turn, call: LaneCall) -> bool:
    """End a call that waits for anything but a reply or a record."""
    if call.phase in (CallPhase.WAITING, CallPhase.ANNOUNCED, CallPhase.DECIDED):
        turn.answer(call, GivenUp() if call.end is None else call.end)
        return True
    return False


def _begin(turn: Turn, call: LaneCall) -> None:
    """Start with a call whose turn it is. Two counted attempts of an earlier monitor, and no
    self-test that could end: it is made up for. A call that reached the hard limit when an earlier
    monitor died in it is not sent again; only its result may still be asked for."""
    if turn.state.dirty:
        _clean(turn)
    elif call.ledger.counted < COUNTED_ATTEMPTS:
        if call.ledger.sent < SENT_AT_MOST or call.request.unseen:
            announce(turn, call)
        else:
            leave(turn, replace(call, end=Failed(sent_too_often=True)))
    elif turn.state.setup.supervised:
        _test_for(turn, call)
    else:
        decide_after_test(turn, call, BlameTest.PASSED)


def _continue(turn: Turn, call: LaneCall) -> None:
    """Continue with a call whose failure is recorded."""
    state = turn.state
    if call.next is Next.SELF_TEST and not state.setup.supervised:
        decide_after_test(turn, call, BlameTest.PASSED)
    elif call.next is Next.SIZE_TEST:
        run_size_test_if_ready(turn, call)
    elif _must_wait(state, call):
        leave(turn, replace(call, end=Later()))
    elif call.next is Next.RETRY and state.may_send(turn.now):
        announce(turn, call)
    elif call.next is Next.SELF_TEST and _may_test(turn):
        _test_for(turn, call)


def _must_wait(state: LaneState, call: LaneCall) -> bool:
    """Return whether the lane cannot say when it serves this call, so that its run waits again."""
    if state.life is State.NOT_USABLE:
        return True
    if call.next is Next.RETRY and state.no_call:
        return True
    return state.held_by_person and state.busy is None and state.up is Up.NO


def _may_test(turn: Turn) -> bool:
    state = turn.state
    is_up = state.life is State.READY and state.busy is None
    return is_up and state.history.remaining(turn.now) <= 0


def _test_for(turn: Turn, call: LaneCall) -> None:
    turn.move(call, CallPhase.TESTING)
    _test(turn)


def _test(turn: Turn) -> None:
    turn.change(busy=Busy.TESTING)
    turn.do(RunSelfTest(turn.state.knowledge.good))


# -- the WebUI


def _supervise(turn: Turn) -> None:
    state = turn.state
    if state.leftovers:
        # At once: they may hold memory of the GPU. What explains a failure was collected before: a
        # call whose evidence is still collected acts alone.
        turn.change(busy=Busy.STOPPING)
        turn.do(StopTree())
    elif state.up is not Up.NO:
        _come_up(turn)
    elif frees_now(state, turn.now.boot):
        free_or_take_back(turn)
    elif state.life in (State.DOWN, State.COOLING_DOWN):
        _bring_up(turn)
    elif state.nothing_runs:
        if state.next_check <= turn.now.boot:
            _bring_up(turn)
    elif state.use.due and state.life is State.READY and not (state.no_call or state.frees):
        _recycle(turn)
    elif state.setup.supervised and state.next_check <= turn.now.boot and not _is_announced(state):
        turn.change(busy=Busy.PROBING)
        turn.do(Probe(occupancy=state.life is State.NOT_USABLE))


def _is_announced(state: LaneState) -> bool:
    call = state.served
    return call is not None and call.phase is CallPhase.ANNOUNCED


def _bring_up(turn: Turn) -> None:
    """Wait out the cool-down, stop what is left, then start. On a person's hold nothing is stopped
    or started; whether there is one is asked just before."""
    state = turn.state
    if not (state.setup.supervised or _needs_start(state)):
        return
    if state.held_by_person or state.frees or state.history.remaining(turn.now) > 0:
        return
    if not state.nothing_left:
        turn.change(busy=Busy.STOPPING)
        turn.do(StopTree(unless_held=state.setup.supervised))
    elif turn.may_start or not state.setup.supervised:
        _start(turn)
    else:
        turn.change(busy=Busy.ASKING)
        turn.do(AskForHold())


def _reads(state: LaneState) -> bool:
    """Return whether a WebUI that has started is ready once what it has was read: no self-test is
    due before that."""
    return state.setup.supervised and not state.must_self_test


def _needs_start(state: LaneState) -> bool:
    call = state.served
    return call is not None and call.phase is CallPhase.DECIDED and call.next is Next.RETRY


def _start(turn: Turn) -> None:
    state = turn.state
    turn.change_life(LifeEvent.START)
    number = state.incarnation + 1 if state.setup.managed else 0
    turn.write((state.history, HistoryRecord("start", turn.now, {"incarnation": number})))
    turn.change(
        busy=Busy.STARTING,
        nothing_left=not state.setup.managed,
        nothing_runs=False,
        dirty=False,
        freed=Freed.NO,
        ended=None,
        use=state.use.new_incarnation(),
        failed_checks=0,
    )
    turn.do(Start(reads=_reads(turn.state)))


def _come_up(turn: Turn) -> None:
    """Make a WebUI that answers ready: first its self-test, if one is due. That is a call like any
    other, so it waits out the cool-down."""
    state = turn.state
    if state.must_self_test and state.up is Up.ANSWERS:
        if (state.no_call or state.held_by_person) and state.life is State.NOT_USABLE:
            turn.change(up=Up.NO)  # the next probe asks again
        elif state.held_by_person:
            wait_for_self_test(turn)
        elif state.history.remaining(turn.now) <= 0:
            _test(turn)
    elif state.setup.supervised and state.up is not Up.READ:
        turn.change(busy=Busy.READING)
        turn.do(ReadLists())
    else:
        _become_ready(turn)


def _become_ready(turn: Turn) -> None:
    state = turn.state
    turn.change_life(LifeEvent.READY)
    turn.change(up=Up.NO, adopted=False, unusable_starts=0, hold=state.hold.clear())
    turn.do(Notify(Ready(state.incarnation, state.adopted)))
    turn.check_in(AFTER_ANSWER)
    advance(turn)  # once more: a call may go out now


def _recycle(turn: Turn) -> None:
    """Stop the WebUI cleanly, to start it again. This is not a crash."""
    state = turn.state
    fields = {"incarnation": state.incarnation, "reason": state.use.due}
    turn.write((state.history, HistoryRecord("recycled", turn.now, fields)))
    turn.do(Notify(Recycled(state.use.due)))
    turn.change_life(LifeEvent.RECYCLED)
    advance(turn)  # once more: it is stopped now


def next_deadline(state: LaneState, now: Instant) -> float:
    """Return when the machine wants DeadlinePassed, on the boot clock, if no event comes before;
    NEVER for not at all."""
    call = state.served
    times = [NEVER if call is None else call.deadline]
    is_free = state.busy is None and (call is None or call.phase not in ACTS_ALONE)
    if is_free and state.life is not State.STOPPED and not state.stopping:
        # As of the last event: what has ended since then was not seen yet.
        seen = state.at or now
        if (wait := state.history.remaining(seen)) > 0:
            times.append(max(now.boot, seen.boot + wait))
        probes = state.life in (State.READY, State.NOT_USABLE) and state.up is Up.NO
        held = state.held_by_person or state.frees or wait > 0
        cannot = _is_announced(state) or (state.nothing_runs and held)
        if probes and not cannot:
            times.append(max(now.boot, state.next_check))
        if state.frees and state.tries_again and frees_now(state, NEVER):
            times.append(max(now.boot, state.tries_again))
    return min(*times, state.stop_by)


# -- the end


def bound_stop(turn: Turn, before: Busy | None) -> None:
    """Set until when a stop waits for the slow effect under way. `before`: the one before this
    turn."""
    state, limit = turn.state, turn.state.setup.stop_limit
    if not state.stopping or state.busy is None:
        turn.change(stop_by=NEVER)
    elif state.busy is not before or state.stop_by == NEVER:
        turn.change(stop_by=turn.now.boot + limit)


def let_go_if_it_hangs(turn: Turn) -> None:
    """In a stop, wait no longer for a slow effect that hangs, nor with it for its call. What a call
    left is undone by the next monitor."""
    state = turn.state
    if turn.now.boot < state.stop_by:
        return
    turn.do(LetGo())
    turn.change(busy=None, dirty=False)
    call = state.served
    if call is not None and call.phase in (CallPhase.TESTING, CallPhase.TESTING_SIZE):
        turn.answer(call, call.end or GivenUp())


def _stop(turn: Turn) -> None:
    """Stop the WebUI, or leave it to be adopted, once no run is served any more."""
    state = turn.state
    if state.calls:
        return
    if state.setup.managed and not state.setup.leaves_running and not state.stopped_tree:
        turn.change(busy=Busy.STOPPING, stopped_tree=True)
        turn.do(StopTree())
    else:
        turn.change_life(LifeEvent.STOP)

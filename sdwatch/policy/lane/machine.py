"""The machine of one lane: an event in, the next state and what is to be done out. Pure.

CALL_TRANSITIONS has one row for each event that means something to a call in a phase; the states of
the WebUI are a table of their own (WEBUI_TRANSITIONS in policy/failure/lifecycle.py). What is in
neither table is a message that is no longer waited for, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from sdwatch.errors import SdwatchError
from sdwatch.policy.lane import after_failure, attempts, freeing, webui
from sdwatch.policy.lane.advance import advance, bound_stop, let_go_if_it_hangs
from sdwatch.policy.lane.effects import Abandon, CutShort, Effect, Interrupt, Later, LetGo
from sdwatch.policy.lane.events import (
    CallRequested,
    CallsAllowed,
    Cancelled,
    CheckpointBack,
    CleanedUp,
    DeadlinePassed,
    FailureExplained,
    GpuFreed,
    HoldChecked,
    InterruptRefused,
    LaneEvent,
    ListsRead,
    NotNow,
    NotPosted,
    OfCall,
    PostStarted,
    ProbeAnswered,
    ProcessExited,
    Recorded,
    Released,
    Replied,
    ReplyArrived,
    RunGone,
    SelfTestAnswered,
    SelfTestEnd,
    SizeTestAnswered,
    SlowEnded,
    Stalled,
    Started,
    StartFailed,
    Stop,
    TracebackComplete,
    TreeStopped,
)
from sdwatch.policy.lane.instant import Instant
from sdwatch.policy.lane.state import Busy, CallPhase, LaneCall, LaneState, Next
from sdwatch.policy.lane.turn import Turn

P = CallPhase


class MachineError(SdwatchError):
    """A call moved to a phase that the table does not allow: an internal error."""


@dataclass(frozen=True)
class Row:
    """What an event means to a call. `act`: takes that event. `to`: the phases that the call may be
    in afterwards."""

    act: Callable[[Turn, LaneCall, Any], None]
    to: tuple[CallPhase, ...]


def _on_self_test(turn: Turn, call: LaneCall, event: SelfTestAnswered) -> None:
    """The self-test that a call waits for, be it its own or that of a start."""
    if call.phase is P.TESTING or call.next is Next.SELF_TEST:
        after_failure.on_tested(turn, call, event)
    elif event.end is not SelfTestEnd.PASSED:
        attempts.leave(turn, replace(call, end=call.end or Later()))


def _on_no_start(turn: Turn, call: LaneCall, event: LaneEvent) -> None:
    """The restart that a call waits for has failed: its run waits again."""
    if isinstance(event, StartFailed) or (isinstance(event, TreeStopped) and event.left):
        attempts.leave(turn, replace(call, end=call.end or Later()))


def _on_cut_short(turn: Turn, call: LaneCall, event: LaneEvent) -> None:
    """Nobody waits for the self-test or size test any longer."""
    attempts.on_given_up_later(turn, call, event)
    turn.do(CutShort())


def _on_cleaned(turn: Turn, call: LaneCall, event: CleanedUp) -> None:
    if call.end is not None:
        turn.put(replace(call, end=replace(call.end, findings=event.findings)))


_SETTLED = (P.EXPLAINING, P.WAITING)
_AFTER_REPLY = (P.LEAVING, P.SETTLING, P.EXPLAINING)
_RECORDED = (P.DECIDED, P.LEAVING, P.ANSWERED)
_TESTED = (P.RECORDING_TEST, P.LEAVING, P.ANSWERED)

CALL_TRANSITIONS: dict[tuple[CallPhase, type[LaneEvent]], Row] = {
    (P.WAITING, Recorded): Row(attempts.on_late_record, (P.WAITING,)),
    (P.WAITING, NotNow): Row(attempts.on_not_now, (P.WAITING,)),
    (P.WAITING, Cancelled): Row(attempts.on_given_up, (P.ANSWERED,)),
    (P.ANNOUNCED, Recorded): Row(attempts.on_start_recorded, (P.SENT, P.WAITING, P.ANNOUNCED)),
    (P.ANNOUNCED, NotNow): Row(attempts.on_not_now, (P.WAITING,)),
    (P.ANNOUNCED, DeadlinePassed): Row(attempts.on_overdue_start, (P.WAITING,)),
    (P.ANNOUNCED, Cancelled): Row(attempts.on_given_up, (P.ANSWERED,)),
    (P.SENT, PostStarted): Row(attempts.on_post_started, (P.SENT,)),
    (P.SENT, NotPosted): Row(attempts.on_not_posted, (P.WAITING, P.ANSWERED, P.SENT)),
    (P.SENT, ReplyArrived): Row(attempts.on_reply_arrived, (P.SENT,)),
    (P.SENT, Replied): Row(attempts.on_reply, (*_AFTER_REPLY, P.WAITING, P.SENT)),
    (P.SENT, ProcessExited): Row(attempts.on_exit_while_sent, (P.SENT,)),
    (P.SENT, DeadlinePassed): Row(attempts.on_no_reply_after_exit, (P.EXPLAINING, P.SENT)),
    (P.SENT, Stalled): Row(attempts.on_stall, (P.EXPLAINING, P.SENT)),
    (P.SENT, Cancelled): Row(attempts.on_given_up, (P.ANSWERED,)),
    (P.SETTLING, TracebackComplete): Row(attempts.on_settled, (P.EXPLAINING,)),
    (P.SETTLING, ProcessExited): Row(attempts.on_settled, (*_SETTLED, P.SETTLING)),
    (P.SETTLING, DeadlinePassed): Row(attempts.on_settled, _SETTLED),
    (P.SETTLING, Stop): Row(attempts.on_settled, _SETTLED),
    (P.SETTLING, Cancelled): Row(attempts.on_settled, (P.EXPLAINING, P.ANSWERED)),
    (P.EXPLAINING, FailureExplained): Row(
        after_failure.on_explained, (P.INTERRUPTING, P.RECORDING)
    ),
    (P.EXPLAINING, Replied): Row(attempts.on_reply_after_all, (P.EXPLAINING, P.LEAVING)),
    (P.EXPLAINING, Cancelled): Row(attempts.on_given_up_later, (P.EXPLAINING,)),
    (P.EXPLAINING, DeadlinePassed): Row(
        attempts.on_overdue_explanation, (P.EXPLAINING, P.ANSWERED)
    ),
    (P.INTERRUPTING, Replied): Row(after_failure.on_interrupt_over, (P.RECORDING, P.INTERRUPTING)),
    (P.INTERRUPTING, InterruptRefused): Row(after_failure.on_interrupt_over, (P.RECORDING,)),
    (P.INTERRUPTING, ProcessExited): Row(
        after_failure.on_interrupt_over, (P.RECORDING, P.INTERRUPTING)
    ),
    (P.INTERRUPTING, DeadlinePassed): Row(after_failure.on_interrupt_over, (P.RECORDING,)),
    (P.INTERRUPTING, Cancelled): Row(after_failure.on_interrupt_over, (P.RECORDING,)),
    (P.RECORDING, Recorded): Row(after_failure.on_recorded, (*_RECORDED, P.RECORDING)),
    (P.RECORDING, Cancelled): Row(attempts.on_given_up_later, (P.RECORDING,)),
    (P.DECIDED, SelfTestAnswered): Row(_on_self_test, (*_TESTED, P.DECIDED)),
    (P.DECIDED, StartFailed): Row(_on_no_start, (P.LEAVING,)),
    (P.DECIDED, TreeStopped): Row(_on_no_start, (P.DECIDED, P.LEAVING)),
    (P.DECIDED, Cancelled): Row(attempts.on_given_up, (P.ANSWERED,)),
    (P.TESTING, SelfTestAnswered): Row(_on_self_test, _TESTED),
    (P.TESTING, Cancelled): Row(_on_cut_short, (P.TESTING,)),
    (P.RECORDING_TEST, Recorded): Row(after_failure.on_recorded, (*_RECORDED, P.RECORDING_TEST)),
    (P.RECORDING_TEST, Cancelled): Row(attempts.on_given_up_later, (P.RECORDING_TEST,)),
    (P.TESTING_SIZE, SizeTestAnswered): Row(after_failure.on_size_test, (P.LEAVING,)),
    (P.TESTING_SIZE, Cancelled): Row(_on_cut_short, (P.TESTING_SIZE,)),
    (P.LEAVING, CleanedUp): Row(_on_cleaned, (P.LEAVING,)),
}
"""What moves a call. Beside these, `advance` moves one that waits (MOVES), and RunGone ends it in
any phase."""

MOVES: dict[CallPhase, dict[CallPhase, str]] = {
    P.WAITING: {
        P.ANNOUNCED: "its turn",
        P.TESTING: "failed twice before",
        P.RECORDING_TEST: "failed twice before, and nobody can test",
        P.LEAVING: "sent too often before",
        P.ANSWERED: "stopped",
    },
    P.ANNOUNCED: {P.ANSWERED: "stopped"},
    P.DECIDED: {
        P.ANNOUNCED: "the WebUI is ready",
        P.TESTING: "failed twice",
        P.TESTING_SIZE: "the advice depends on it",
        P.RECORDING_TEST: "nobody can test",
        P.LEAVING: "the lane is on hold",
        P.ANSWERED: "stopped",
    },
    P.TESTING: {P.ANSWERED: "it hangs in a stop"},
    P.TESTING_SIZE: {P.ANSWERED: "it hangs in a stop"},
    P.LEAVING: {P.ANSWERED: "clean"},
}
"""Where `advance` may move a call, and why."""


def step(state: LaneState, event: LaneEvent, now: Instant) -> tuple[LaneState, tuple[Effect, ...]]:
    """Return the state after `event`, and the effects to perform in order. Raises MachineError and
    LifecycleError for what the tables do not have: an internal error."""
    turn = Turn(state, now)
    if isinstance(event, SlowEnded):
        turn.change(busy=None)
    if isinstance(event, CallRequested):
        attempts.on_requested(turn, event)
    if type(event) in _OF_THE_LANE:
        _OF_THE_LANE[type(event)](turn, event)
    if not isinstance(event, DeadlinePassed):
        _tell_call(turn, event)
    _check_deadline(turn)
    turn.change(at=now)
    before = {call.id: call.phase for call in turn.state.calls}
    let_go_if_it_hangs(turn)
    advance(turn)
    bound_stop(turn, state.busy)
    for call_id, phase in before.items():
        _check_move(turn, call_id, phase)
    return turn.state, tuple(turn.effects)


def _tell_call(turn: Turn, event: LaneEvent) -> None:
    call = turn.state.call(event.call) if isinstance(event, OfCall) else turn.state.served
    if call is None:
        return
    if isinstance(event, RunGone):
        _on_run_gone(turn, call)
        return
    row = CALL_TRANSITIONS.get((call.phase, type(event)))
    if row is None:
        return
    row.act(turn, call, event)
    phase = _phase_of(turn, call.id)
    if phase not in row.to:
        raise MachineError(f"a call that is {call.phase} cannot be {phase} by {event}")


def _check_deadline(turn: Turn) -> None:
    call = turn.state.served
    if call is not None and call.deadline <= turn.now.boot:
        _tell_call(turn, DeadlinePassed())


def _check_move(turn: Turn, call_id: int, before: CallPhase) -> None:
    after = _phase_of(turn, call_id)
    if after is not before and after not in _reachable(before):
        raise MachineError(f"a call that is {before} cannot become {after} by itself")


def _reachable(phase: CallPhase) -> set[CallPhase]:
    """Return where `advance` may move a call in one turn."""
    found = set(MOVES.get(phase, ()))
    return found | {after for near in found for after in MOVES.get(near, ())}


def _phase_of(turn: Turn, call_id: int) -> CallPhase:
    call = turn.state.call(call_id)
    return P.ANSWERED if call is None else call.phase


def _on_run_gone(turn: Turn, call: LaneCall) -> None:
    """Free the lane: nobody waits for this call."""
    if call.phase is P.EXPLAINING:
        turn.do(LetGo())
    if call.in_flight:
        turn.do(Interrupt(call.id, only_queued=not turn.state.setup.managed))
        turn.do(Abandon(call.id))
    if call.phase in (P.TESTING, P.TESTING_SIZE):
        turn.do(CutShort())
    turn.drop(call)


def _on_stop(turn: Turn, _: LaneEvent) -> None:
    """Allow no new call. What is under way but a POST is cut short."""
    turn.change(stopping=True)
    if turn.state.busy in (Busy.ADOPTING, Busy.STARTING, Busy.TESTING, Busy.TESTING_SIZE):
        turn.do(CutShort())


def _on_cleaned_of_lane(turn: Turn, event: CleanedUp) -> None:
    """Note that what the WebUI kept of a call is undone, and what its calls have left so far."""
    use = turn.state.use.after_call(event.rss, event.left, turn.state.setup.recycling)
    turn.change(dirty=False, use=use)


_OF_THE_LANE: dict[type[LaneEvent], Callable[[Turn, Any], None]] = {
    Started: webui.on_started,
    StartFailed: webui.on_start_failed,
    TreeStopped: webui.on_tree_stopped,
    HoldChecked: webui.on_hold_checked,
    ProcessExited: webui.on_exited,
    ListsRead: webui.on_lists_read,
    ProbeAnswered: webui.on_probe,
    Released: webui.on_released,
    CallsAllowed: webui.on_calls_allowed,
    SelfTestAnswered: webui.on_self_test,
    CleanedUp: _on_cleaned_of_lane,
    GpuFreed: freeing.on_gpu_freed,
    CheckpointBack: freeing.on_checkpoint_back,
    Stop: _on_stop,
}


def diagram() -> str:
    """Return the phases of a call as a mermaid state diagram."""

    def name(phase: CallPhase) -> str:
        return phase.value.replace(" ", "_")

    edges: dict[tuple[CallPhase, CallPhase], list[str]] = {}
    for (phase, event), row in CALL_TRANSITIONS.items():
        for after in row.to:
            if after is not phase:
                edges.setdefault((phase, after), []).append(event.__name__)
    for phase, moves in MOVES.items():
        for after, why in moves.items():
            edges.setdefault((phase, after), []).append(why)
    lines = ["stateDiagram-v2", f"    [*] --> {name(P.WAITING)}: CallRequested"]
    for (phase, after), words in edges.items():
        end = "[*]" if after is P.ANSWERED else name(after)
        lines.append(f"    {name(phase)} --> {end}: {', '.join(words)}")
    return "\n".join(lines)

"""One attempt of a call: announced, recorded, sent, and what its end is. Pure."""

from __future__ import annotations

from dataclasses import replace

from sdwatch.errors import (
    WebUIBusyError,
    WebUINotSentError,
    WebUIStuckError,
    WebUIUnreachableError,
)
from sdwatch.policy.failure.facts import Diagnosis
from sdwatch.policy.failure.hold_reason import occupied
from sdwatch.policy.failure.lifecycle import State
from sdwatch.policy.failure.tracebacks import may_follow
from sdwatch.policy.lane.effects import (
    Abandon,
    AwaitTraceback,
    BeforePost,
    Broken,
    ExplainFailure,
    GivenUp,
    Interrupt,
    LetGo,
    NotSent,
    Post,
    Succeeded,
)
from sdwatch.policy.lane.events import (
    CallRequested,
    Cancelled,
    LaneEvent,
    NotNow,
    NotPosted,
    PostStarted,
    ProcessExited,
    Recorded,
    Replied,
    ReplyArrived,
    Stalled,
)
from sdwatch.policy.lane.lane_hold import UNTIL_IDLE
from sdwatch.policy.lane.not_ready import mark_crashed, put_on_hold
from sdwatch.policy.lane.state import CallPhase, LaneCall
from sdwatch.policy.lane.turn import (
    AFTER_ANSWER,
    CONNECT_WAIT,
    EXIT_WAIT,
    EXPLAIN_WAIT,
    READ_WAIT,
    TRACEBACK_WAIT,
    Turn,
)


def on_requested(turn: Turn, event: CallRequested) -> None:
    """Add a call to those that wait."""
    turn.change(
        calls=(
            *turn.state.calls,
            LaneCall(event, event.ledger, crash_count=event.ledger.crash_count),
        )
    )


def announce(turn: Turn, call: LaneCall) -> None:
    """Have the run record the next POST, before it goes out."""
    number, incarnation = call.ledger.sent + 1, turn.state.incarnation
    limit = turn.state.setup.record_limit
    turn.move(call, CallPhase.ANNOUNCED, limit, number=number, incarnation=incarnation)
    turn.do(BeforePost(call.id, number, incarnation))


def on_start_recorded(turn: Turn, call: LaneCall, event: LaneEvent) -> None:
    """Send the POST, if everything is still as it was announced."""
    assert isinstance(event, Recorded)
    if event.number != call.number:
        return
    _note_recorded(turn, call)
    state = turn.state
    if not state.may_send(turn.now) or call.incarnation != state.incarnation:
        turn.do(NotSent(call.id, call.number))
        turn.move(call, CallPhase.WAITING)
        return
    use, is_first = state.use.sending(call.id)
    turn.change(use=use, dirty=True)
    turn.move(
        call,
        CallPhase.SENT,
        first_call=is_first and state.setup.managed and state.setup.supervised,
        started=False,
        arrived=False,
        ledger=replace(call.ledger, sent=call.number),
        in_flight=True,
        exited=None,
        error=None,
        lost=False,
    )
    turn.do(Post(call.id, call.number))


def on_late_record(turn: Turn, call: LaneCall, event: LaneEvent) -> None:
    """A record that was no longer waited for: its POST is not sent."""
    assert isinstance(event, Recorded)
    if call.id in turn.state.unrecorded:
        _note_recorded(turn, call)
        turn.do(NotSent(call.id, event.number))


def on_overdue_start(turn: Turn, call: LaneCall, _: LaneEvent) -> None:
    """A record that takes so long holds the lane; the call waits for its turn again."""
    turn.change(unrecorded=turn.state.unrecorded | {call.id})
    turn.move(call, CallPhase.WAITING)


def on_not_now(turn: Turn, call: LaneCall, event: LaneEvent) -> None:
    """The run may not start a call; CallsAllowed reports when it may."""
    assert isinstance(event, NotNow)
    _note_recorded(turn, call)
    turn.change(no_call=True)
    turn.move(call, CallPhase.WAITING)


def _note_recorded(turn: Turn, call: LaneCall) -> None:
    """Note that no record of this call is overdue any more."""
    turn.change(unrecorded=turn.state.unrecorded - {call.id})


# -- under way


def on_post_started(turn: Turn, call: LaneCall, event: LaneEvent) -> None:
    """It went out, perhaps to a process whose end was seen a moment ago."""
    assert isinstance(event, PostStarted)
    if event.number == call.number:
        _await_reply(turn, replace(call, started=True))


def on_not_posted(turn: Turn, call: LaneCall, event: LaneEvent) -> None:
    """It never went out, so it counts nowhere, and its run waits for its turn again. A run whose
    POST an internal error kept back ends, since that would happen forever; so does a call without a
    lane, since nobody frees the WebUI for it."""
    assert isinstance(event, NotPosted)
    if event.number != call.number:
        return
    call = turn.put(replace(call, in_flight=False))
    if event.occupied and turn.state.setup.supervised:
        _free_webui(turn)
    elif event.occupied or event.why:
        turn.answer(call, Broken(why=event.why or _OCCUPIED))
        return
    _not_sent(turn, call)


def _not_sent(turn: Turn, call: LaneCall) -> None:
    turn.do(NotSent(call.id, call.number))
    turn.move(call, CallPhase.WAITING, ledger=replace(call.ledger, sent=call.number - 1))


def _free_webui(turn: Turn) -> None:
    """Free the WebUI from an earlier generation of our own that hangs. No job and no WebUI is to
    blame, so it does not count as a crash. One that sdwatch did not start is waited for."""
    if turn.state.setup.managed:
        turn.change(use=turn.state.use.make_due(_OCCUPIED))
    else:
        put_on_hold(turn, occupied(), still_counts_for=UNTIL_IDLE)


_OCCUPIED = "a prompt that nobody waits for still runs in it, and an interrupt did not end it"


def on_reply_arrived(turn: Turn, call: LaneCall, event: LaneEvent) -> None:
    """The end of the process no longer matters to this reply."""
    assert isinstance(event, ReplyArrived)
    if event.number == call.number:
        _await_reply(turn, replace(call, arrived=True))


def on_reply(turn: Turn, call: LaneCall, event: LaneEvent) -> None:
    """A success ends the call; of a failure, wait for what explains it."""
    assert isinstance(event, Replied)
    if event.number != call.number:
        return
    is_unchecked = not call.in_flight  # it was abandoned a moment ago
    call = turn.put(replace(call, in_flight=False))
    if call.exited is not None and (event.error is not None or is_unchecked):
        _ended(turn, replace(call, error=event.error))
    elif event.error is None:
        succeeded(turn, call, event)
    elif may_follow(event.error):
        turn.move(call, CallPhase.SETTLING, TRACEBACK_WAIT, error=event.error)
        turn.do(AwaitTraceback(call.id, event.error))
    elif isinstance(event.error, WebUIUnreachableError):
        turn.move(call, CallPhase.SETTLING, EXIT_WAIT, error=event.error)
    else:
        explain(turn, replace(call, error=event.error))


def succeeded(turn: Turn, call: LaneCall, event: Replied) -> None:
    """Note a success. It is answered once what the WebUI kept of it is undone."""
    state = turn.state
    knowledge = state.knowledge.succeeded(call.request.wanted)
    turn.change(knowledge=knowledge, hold=state.hold.succeeded())
    turn.write(state.history.passed_self_test(turn.now))
    turn.write(turn.state.history.succeeded(turn.now))
    leave(turn, replace(call, end=Succeeded(reply=event.reply)))


def leave(turn: Turn, call: LaneCall) -> None:
    """Have the call end with its `end`, as soon as the WebUI is clean."""
    if turn.state.life is State.READY:
        turn.check_in(AFTER_ANSWER)
    turn.move(call, CallPhase.LEAVING)


def on_exit_while_sent(turn: Turn, call: LaneCall, event: LaneEvent) -> None:
    """Its process ended: a reply that was complete before that may still come. A POST that has not
    gone out yet is kept from it; NotPosted or PostStarted says which was first."""
    assert isinstance(event, ProcessExited)
    if event.incarnation != call.incarnation:
        return
    if not call.started:
        turn.do(Abandon(call.id))
    _await_reply(turn, replace(call, exited=event))


def _await_reply(turn: Turn, call: LaneCall) -> None:
    """Wait for the reply; of a process that ended, for a moment."""
    if call.exited is None or not call.started:
        turn.move(call, CallPhase.SENT)
    else:
        turn.move(call, CallPhase.SENT, READ_WAIT if call.arrived else EXIT_WAIT)


def on_no_reply_after_exit(turn: Turn, call: LaneCall, _: LaneEvent) -> None:
    """Nothing came in time. Its thread is asked to end, and says whether the POST ever had a
    connection; of a reply that is still decoded, that is known."""
    if call.in_flight and not call.arrived:
        turn.move(abandoned(turn, call), CallPhase.SENT, CONNECT_WAIT)
    else:
        _ended(turn, abandoned(turn, call))


def _ended(turn: Turn, call: LaneCall) -> None:
    """The end of its process explains it, whatever the error is."""
    if isinstance(call.error, WebUINotSentError):
        _not_sent(turn, call)
        return
    error = WebUIUnreachableError("the WebUI's process ended", stage=call.request.stage)
    explain(turn, replace(call, error=error))


def on_stall(turn: Turn, call: LaneCall, event: LaneEvent) -> None:
    """The generation makes no progress. It may be somebody else's, with this one queued behind it:
    on an external WebUI unless it says that it runs ours, on a managed one if it says so. That its
    process ended says more, and a reply that is here is decoded, however long that takes."""
    assert isinstance(event, Stalled)
    if event.number != call.number or call.exited is not None or call.arrived:
        return
    stage = call.request.stage
    error: WebUIStuckError | WebUIBusyError
    managed = turn.state.setup.managed
    if is_ours := event.ours or (managed and not event.others):
        error = WebUIStuckError(event.reason, stage=stage)
    elif managed:
        error = WebUIBusyError(
            f"{event.reason}. It runs a prompt that sdwatch did not send: nothing is sent until it "
            "is idle",
            stage=stage,
        )
    else:
        error = WebUIBusyError(
            f"{event.reason}. sdwatch did not start this WebUI, so the generation may be "
            "somebody else's: nothing is sent until it is idle (if it hangs, restart it by "
            "hand)",
            stage=stage,
        )
    error.probes = event.probes
    explain(turn, replace(call, error=error, lost=not is_ours))


def on_reply_after_all(turn: Turn, call: LaneCall, event: LaneEvent) -> None:
    """The reply of a POST that seemed stuck. A success counts: nothing was interrupted yet."""
    assert isinstance(event, Replied)
    if event.number != call.number or not call.in_flight:
        return
    call = turn.put(replace(call, in_flight=False))
    if event.error is None:
        turn.do(LetGo())  # of the evidence
        succeeded(turn, call, event)
    else:
        turn.do(Abandon(call.id))  # only the interrupt is not needed


def on_settled(turn: Turn, call: LaneCall, event: LaneEvent) -> None:
    """Everything that explains the failure is there, or the time is over."""
    if isinstance(event, ProcessExited):
        if event.incarnation != call.incarnation:
            return
        call = replace(call, exited=event)
    if isinstance(event, Cancelled):
        call = replace(call, given_up=True)
    if isinstance(call.error, WebUINotSentError) and turn.state.setup.supervised:
        _never_connected(turn, call)
    else:
        explain(turn, call)


def _never_connected(turn: Turn, call: LaneCall) -> None:
    """Nobody was there, which is not a failure of the call: it waits until the WebUI is back."""
    if call.exited is None:
        mark_crashed(turn, Diagnosis.CRASH, str(call.error))
    if call.given_up:
        turn.answer(call, GivenUp())
    else:
        _not_sent(turn, call)


def explain(turn: Turn, call: LaneCall) -> None:
    """Have what the failed POST left behind collected and explained."""
    _explain(turn, replace(call, without_log=False))


def on_overdue_explanation(turn: Turn, call: LaneCall, event: LaneEvent) -> None:
    """Do without what the WebUI printed: its log may be on a share that hangs. A run that is given
    up does without the rest, too."""
    turn.do(LetGo())
    if call.without_log and call.given_up:
        on_given_up(turn, call, event)
    else:
        _explain(turn, replace(call, without_log=True))


def _explain(turn: Turn, call: LaneCall) -> None:
    assert call.error is not None
    exited = call.exited
    turn.do(
        ExplainFailure(
            call.id,
            call.error,
            exited is not None,
            exited.code if exited else None,
            call.lost,
            call.without_log,
        )
    )
    turn.move(call, CallPhase.EXPLAINING, EXPLAIN_WAIT)


# -- given up


def on_given_up(turn: Turn, call: LaneCall, _: LaneEvent) -> None:
    """End a call that nobody needs any more. Its generation is not waited for."""
    state, managed = turn.state, turn.state.setup.managed
    if call.in_flight:
        stays = state.stopping and (state.setup.leaves_running or not managed)
        turn.do(Interrupt(call.id, but_queued=stays, only_queued=not managed))
    abandoned(turn, call)
    turn.answer(call, GivenUp())


def on_given_up_later(turn: Turn, call: LaneCall, _: LaneEvent) -> None:
    """End it as soon as its failure is recorded."""
    turn.put(replace(call, given_up=True))


def abandoned(turn: Turn, call: LaneCall) -> LaneCall:
    """Wait no longer for a POST that is in flight."""
    if call.in_flight:
        turn.do(Abandon(call.id))
    return turn.put(replace(call, in_flight=False))

"""What the lane does about events of its WebUI. Pure."""

from __future__ import annotations

from dataclasses import replace

from sdwatch.policy.failure.exits import exit_in_words
from sdwatch.policy.failure.facts import Diagnosis
from sdwatch.policy.failure.hold_reason import Cure, start_failed
from sdwatch.policy.failure.lifecycle import LifeEvent, State
from sdwatch.policy.lane.events import (
    CallsAllowed,
    Health,
    HoldChecked,
    LaneEvent,
    ListsRead,
    ProbeAnswered,
    ProcessExited,
    SelfTestAnswered,
    SelfTestEnd,
    Started,
    StartFailed,
    TreeStopped,
)
from sdwatch.policy.lane.freeing import note_wish
from sdwatch.policy.lane.knowledge import Knowledge
from sdwatch.policy.lane.not_ready import (
    after_failed_start,
    died_while_idle,
    mark_crashed,
    put_on_hold,
    self_test_failed,
    start_found_unusable,
)
from sdwatch.policy.lane.state import Busy, CallPhase, Freed, Up
from sdwatch.policy.lane.turn import Turn


def on_started(turn: Turn, event: Started) -> None:
    """A WebUI that answers is on its way to ready."""
    state = turn.state
    ended = state.ended
    turn.change(
        up=Up.READ if event.read else Up.ANSWERS,
        hold=replace(state.hold, needs_self_test=state.hold.needs_self_test or event.in_doubt),
        adopted=event.adopted,
        freed=Freed.UNLOADED if event.unloaded else state.freed,
        incarnation=event.incarnation,
        ended=ended if ended and ended.incarnation == event.incarnation else None,
        nothing_left=not state.setup.managed,
        leftovers=False,
        unusable_starts=0,
    )
    if event.adopted:
        turn.change_life(LifeEvent.START)


def on_start_failed(turn: Turn, event: StartFailed) -> None:
    """A start did not lead to a ready WebUI. What the manager could not use, it has stopped."""
    turn.note_hold(event.held_by_person)
    nothing_left = not (event.answers and turn.state.setup.managed)
    turn.change(
        incarnation=event.incarnation, ended=None, nothing_left=nothing_left, leftovers=False
    )
    if turn.state.life is not State.STARTING:  # it was adopted
        if event.answers:
            turn.change_life(LifeEvent.START)
            start_found_unusable(turn, event.reason, answers=True)
    elif event.answers or event.reason.cure is Cure.PERSON:
        start_found_unusable(
            turn, event.reason, answers=event.answers, has_printed=event.has_printed
        )
    else:
        after_failed_start(turn, event.reason, has_printed=event.has_printed)


def on_tree_stopped(turn: Turn, event: TreeStopped) -> None:
    """Only now may the next process start. What cannot be stopped is a start that failed. On a
    person's hold nothing is started; CallsAllowed reports when it is gone."""
    turn.note_hold(event.held_by_person)
    if event.held_by_person:
        return
    turn.change(nothing_left=event.left is None, leftovers=False)
    a_start_follows = event.held_by_person is not None
    if event.left is not None and a_start_follows and not turn.state.stopping:
        turn.change_life(LifeEvent.START)
        after_failed_start(turn, event.left)


def on_hold_checked(turn: Turn, event: HoldChecked) -> None:
    """Only without a person's hold may a process start; CallsAllowed reports when it is gone."""
    turn.note_hold(event.held_by_person)


def on_exited(turn: Turn, event: ProcessExited) -> None:
    """Note the end of an incarnation; whoever is concerned acts on it."""
    if event.incarnation >= turn.state.incarnation:
        turn.change(ended=event, leftovers=turn.state.setup.supervised)


def on_lists_read(turn: Turn, _: ListsRead) -> None:
    """What the WebUI has is known as far as it answers."""
    turn.change(up=Up.NO if turn.state.up is Up.NO else Up.READ)


def on_probe(turn: Turn, event: ProbeAnswered) -> None:
    """Act on one health check."""
    state = turn.state
    turn.change(use=replace(state.use, rss=event.rss or state.use.rss))
    turn.check_in(state.setup.health_interval)
    if state.ended is not None:
        return  # that says more
    if state.life is State.READY:
        _check_ready(turn, event)
    elif state.life is State.NOT_USABLE:
        _check_unusable(turn, event)


def _check_ready(turn: Turn, event: ProbeAnswered) -> None:
    if event.health is Health.READY:
        turn.change(failed_checks=0)
    elif event.health is Health.LACKS:
        put_on_hold(turn, event.reason)
    elif _is_frozen(turn):
        mark_crashed(turn, Diagnosis.STUCK, event.seen)


def _check_unusable(turn: Turn, event: ProbeAnswered) -> None:
    """Check whether what made the WebUI unusable is gone."""
    state = turn.state
    if _is_busy(turn, event):
        turn.change(hold=state.hold.restore(turn.now))
    elif event.health is Health.READY:
        turn.change(up=Up.ANSWERS)
    elif event.health is Health.FAILED and state.setup.managed and _is_frozen(turn):
        mark_crashed(turn, Diagnosis.STUCK, event.seen)
    elif state.hold.reason is None or event.reason.key != state.hold.reason.key:
        turn.change(hold=state.hold.update(event.reason, turn.now))


def _is_frozen(turn: Turn) -> bool:
    """Count a failed check, and return whether so many failed in a row that the WebUI must be
    restarted."""
    failed = turn.state.failed_checks + 1
    is_frozen = failed >= turn.state.setup.health_failures
    turn.change(failed_checks=0 if is_frozen else failed)
    return is_frozen


def _is_busy(turn: Turn, event: ProbeAnswered) -> bool:
    """Return whether the WebUI generates for somebody. Only a generation that has advanced since
    the last check counts: a failed upscale leaves /progress set forever (measured)."""
    state, now = turn.state, turn.now.boot
    moved = event.position != state.position
    if moved:
        turn.change(position=event.position, moved_at=now)
    if event.position is None:
        return False
    return moved or now - turn.state.moved_at < state.hold.still_counts_for


def on_self_test(turn: Turn, event: SelfTestAnswered) -> None:
    """Act on the end of a self-test; one that was cut short shows nothing."""
    state, call = turn.state, turn.state.served
    cut = call is not None and call.phase is CallPhase.TESTING and call.given_up
    if cut or state.stopping:
        return
    if event.refused_checkpoint:
        turn.change(knowledge=state.knowledge.forget_refused())
    if event.end is SelfTestEnd.PASSED:
        turn.write(turn.state.history.passed_self_test(turn.now))
        if state.up is Up.ANSWERS:
            turn.change(up=Up.TESTED)
    elif event.end is not SelfTestEnd.NOT_RUN:
        self_test_failed(turn, event)


def on_released(turn: Turn, _: LaneEvent) -> None:
    """Release the hold because a person asks for it. A cool-down is still waited out,
    but for that of jobs whose blame was in doubt."""
    turn.write(turn.state.history.released(turn.now))
    turn.change(hold=turn.state.hold.release(), knowledge=Knowledge())
    turn.check_in(0.0)


def on_calls_allowed(turn: Turn, event: CallsAllowed) -> None:
    """Note whether calls may start on any lane."""
    turn.change(no_call=not event.allowed, held_by_person=event.held_by_person)
    note_wish(turn, event.frees)


def notice_end(turn: Turn) -> None:
    """Act on the end of the incarnation, if no call and no self-test does."""
    state = turn.state
    if state.busy is Busy.TESTING:
        return
    if state.ended is None or state.ended.incarnation != state.incarnation:
        return
    if state.life in (State.READY, State.NOT_USABLE) and not state.nothing_runs:
        turn.change(ended=None)
        died_while_idle(turn, state.ended)
    elif state.life is State.STARTING and state.busy is None:
        turn.change(ended=None)
        how = exit_in_words(state.ended.code)
        why = f"its process ended after it had answered ({how})"
        after_failed_start(turn, start_failed(why, None))

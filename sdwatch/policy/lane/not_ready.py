"""What makes a WebUI not ready: crashes, holds, failed starts and failed self-tests. Pure."""

from __future__ import annotations

from dataclasses import replace

from sdwatch.policy.failure.exits import exit_in_words
from sdwatch.policy.failure.facts import Diagnosis
from sdwatch.policy.failure.hold_reason import Cure, HoldReason, crashed_repeatedly, self_test_due
from sdwatch.policy.failure.lifecycle import LifeEvent, State
from sdwatch.policy.lane.crash_history import IdleFailure
from sdwatch.policy.lane.effects import Notify, SelfTestFailed
from sdwatch.policy.lane.events import ProcessExited, SelfTestAnswered, SelfTestEnd
from sdwatch.policy.lane.lane_hold import CrashSeen, asked_again_after, sent_again_after
from sdwatch.policy.lane.state import Busy, Freed, Up
from sdwatch.policy.lane.turn import Turn


def mark_crashed(
    turn: Turn, diagnosis: Diagnosis, why: str, ended: ProcessExited | None = None, run: str = ""
) -> None:
    """Mark the WebUI as crashed: it must be restarted, and its cool-down starts now. `why`: what
    was seen, for people. `ended`: its process, None if that was not seen. `run`: as in
    CrashSeen."""
    state = turn.state
    code = ended.code if ended else None
    turn.write(state.history.crashed(diagnosis, turn.now, exit_code=code))
    turn.change_life(LifeEvent.CRASHED)
    history = turn.state.history
    seen = CrashSeen(diagnosis, why, history.entry(history.in_a_row), run)
    # What starts in its place has a checkpoint of its own.
    freed = Freed.NO if state.freed is Freed.UNLOADED else state.freed
    turn.change(up=Up.NO, hold=state.hold.record(seen, turn.now), freed=freed)
    turn.do(Notify(seen))


def died_while_idle(turn: Turn, ended: ProcessExited) -> None:
    """Mark a WebUI whose process ended without a call as crashed; it may have changed."""
    turn.change(knowledge=turn.state.knowledge.forget_blame())
    why = f"its process ended while no call was under way ({exit_in_words(ended.code)})"
    mark_crashed(turn, Diagnosis.CRASH, why, ended)


def hold_for(turn: Turn, seconds: float) -> None:
    """Keep the lane on hold, and check the WebUI in so many seconds."""
    turn.check_in(seconds)
    turn.change_life(LifeEvent.NOT_USABLE)
    turn.change(up=Up.NO)


def put_on_hold(
    turn: Turn, reason: HoldReason, *, still_counts_for: float = 0.0, needs_self_test: bool = False
) -> None:
    """Send nothing to the WebUI for now. The wait grows with each consecutive hold: along the
    cool-down for what time cures, else at a pace at which a fix is soon noticed. Arguments as for
    HoldState."""
    state = turn.state
    hold = state.hold.start(
        reason, turn.now, still_counts_for=still_counts_for, needs_self_test=needs_self_test
    )
    turn.change(hold=hold)
    wait = state.history.entry if reason.cure is Cure.TIME else asked_again_after
    hold_for(turn, wait(hold.in_a_row))


def put_on_hold_by_call(turn: Turn, reason: HoldReason) -> None:
    """Send nothing to a WebUI that a call showed to be unusable, before a self-test passes. If one
    passed before, it does not see what the call saw (a full disk has room for its small picture),
    and each try is one of the few POSTs of a job: the waits are long. A person can end them."""
    if reason.cure is Cure.TIME:
        put_on_hold(turn, reason, needs_self_test=True)
        return
    hold = turn.state.hold.start(reason, turn.now, needs_self_test=True, by_call=True)
    turn.change(hold=hold)
    hold_for(turn, sent_again_after(hold.by_calls))


def wait_for_self_test(turn: Turn) -> None:
    """Hold a WebUI that answers while a person's hold forbids its self-test."""
    hold = replace(turn.state.hold, needs_self_test=True)
    if hold.reason is None:
        hold = hold.update(self_test_due(), turn.now)
    turn.change(hold=hold)
    hold_for(turn, 0.0)


def start_found_unusable(
    turn: Turn, reason: HoldReason, *, answers: bool, has_printed: bool = True
) -> None:
    """Put the lane on hold because a start found what only a person can fix; that is not a crash.
    A WebUI that answers keeps running and is probed again. Where nothing runs, the start is
    retried."""
    state = turn.state
    nothing_runs = state.setup.managed and not answers
    starts = state.unusable_starts + 1
    turn.change(nothing_runs=nothing_runs, unusable_starts=starts)
    if not state.stopping:
        hold = state.hold.update(reason, turn.now, retried=True, has_printed=has_printed)
        turn.change(hold=hold)
    again = asked_again_after(starts) if nothing_runs else state.setup.health_interval
    hold_for(turn, again)


def after_failed_start(turn: Turn, reason: HoldReason, *, has_printed: bool = True) -> None:
    """Start the cool-down after a start that a restart may cure."""
    turn.change_life(LifeEvent.START_FAILED)
    turn.change(up=Up.NO)
    _failed(turn, reason, IdleFailure.START_FAILED, has_printed=has_printed)


def self_test_failed(turn: Turn, answered: SelfTestAnswered) -> None:
    """Act on a failed self-test. A WebUI that is busy is waited for. Otherwise the cool-down
    starts, and the lane is on hold only if no restart can help."""
    state = turn.state
    if answered.end is SelfTestEnd.INCONCLUSIVE:
        put_on_hold(turn, answered.reason, needs_self_test=True)
        return
    if state.stopping:
        return
    turn.change_life(LifeEvent.START_FAILED if state.life is State.STARTING else LifeEvent.CRASHED)
    turn.change(up=Up.NO)
    failed_fresh = state.incarnation if state.use.is_fresh else 0
    kind = IdleFailure.FAILED_SELF_TEST
    holds = not state.may_test_again
    _failed(turn, answered.reason, kind, holds=holds, failed_fresh=failed_fresh)
    wait = turn.state.history.remaining(turn.now)
    turn.do(Notify(SelfTestFailed(answered.reason, wait)))


def crashed_by_jobs(turn: Turn, runs: tuple[str, ...]) -> None:
    """Doubt that these runs are to blame: they failed in a row, and the WebUI died each time. That
    is one crash of the WebUI, and the longest cool-down. Then it must pass a self-test, as after
    any failed one."""
    state = turn.state
    turn.write(state.history.crashed(IdleFailure.CRASHED_REPEATEDLY, turn.now, runs=runs))
    if state.busy is not Busy.STARTING and state.life in (State.STARTING, State.READY):
        turn.change_life(
            LifeEvent.START_FAILED if state.life is State.STARTING else LifeEvent.CRASHED
        )
        turn.change(up=Up.NO)
    hold_if_crashed_repeatedly(turn)


def hold_if_crashed_repeatedly(turn: Turn) -> None:
    """Show why nothing is sent, if too many jobs in a row crashed the WebUI."""
    if runs := turn.state.history.crashed_by(turn.now):
        hold = turn.state.hold.update(crashed_repeatedly(runs), turn.now, retried=True)
        turn.change(hold=hold)


def _failed(
    turn: Turn,
    reason: HoldReason,
    kind: IdleFailure,
    *,
    has_printed: bool = True,
    holds: bool = True,
    failed_fresh: int = 0,
) -> None:
    state = turn.state
    if state.stopping:
        return
    turn.change(knowledge=state.knowledge.forget_blame())
    turn.write(state.history.crashed(kind, turn.now, failed_fresh))
    if holds:
        hold = state.hold.update(reason, turn.now, retried=True, has_printed=has_printed)
    else:
        hold = state.hold.record(reason, turn.now)
    turn.change(hold=hold)

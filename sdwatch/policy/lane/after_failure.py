"""What follows a failed attempt: the gate, and the self-test after a second failure. Pure."""

from __future__ import annotations

from dataclasses import replace

from sdwatch.errors import WebUIInterruptedError, WebUINoResultError
from sdwatch.policy.failure.diagnosis import (
    Explanation,
    SizeTest,
    as_traced_before,
    by_time_limit,
    depends_on_size,
)
from sdwatch.policy.failure.facts import Blamed, Diagnosis, whose_fault
from sdwatch.policy.failure.hold_reason import found_by_call, hangs_elsewhere
from sdwatch.policy.failure.lifecycle import State
from sdwatch.policy.failure.recovery import (
    Action,
    Decision,
    Ground,
    SelfTestResult,
    after_self_test,
    bring_up,
    counts,
    decide,
    limit_in_words,
    may_still_generate,
    needs_restart,
    time_limit,
)
from sdwatch.policy.lane.attempts import abandoned, leave
from sdwatch.policy.lane.effects import (
    Failed,
    GivenUp,
    Interrupt,
    Later,
    NoteCannot,
    RecordFailure,
    RecordSelfTest,
    RunSizeTest,
)
from sdwatch.policy.lane.events import (
    Attempt,
    Cancelled,
    LaneEvent,
    ProcessExited,
    Recorded,
    Replied,
    SelfTestAnswered,
    SelfTestEnd,
    SizeTestAnswered,
    TailCaptured,
)
from sdwatch.policy.lane.lane_hold import UNTIL_IDLE
from sdwatch.policy.lane.not_ready import (
    crashed_by_jobs,
    mark_crashed,
    put_on_hold,
    put_on_hold_by_call,
)
from sdwatch.policy.lane.state import Busy, CallPhase, LaneCall, Next
from sdwatch.policy.lane.turn import Turn

# -- the gate


def on_captured(turn: Turn, call: LaneCall, event: TailCaptured) -> None:
    """Decide about a failed attempt. A stuck generation is interrupted first."""
    explanation, decision = _gate(turn, call, event)
    call = replace(call, tail=replace(event, explanation=explanation), decision=decision)
    if decision.action is not Action.INTERRUPT:
        _conclude(turn, call, decision)
    elif call.in_flight and not (call.lost or call.given_up):
        wait = turn.state.setup.interrupt_wait
        turn.move(call, CallPhase.INTERRUPTING, wait)
        turn.do(Interrupt(call.id, waits=True))
    else:
        _not_freed(turn, call)


def _gate(turn: Turn, call: LaneCall, tail: TailCaptured) -> tuple[Explanation, Decision]:
    """Return what the failure means, and what to do."""
    setup, ledger, error = turn.state.setup, call.ledger, tail.error
    explanation = tail.explanation
    known = (
        not explanation.poisons
        and setup.supervised
        and turn.state.knowledge.is_a_jobs_own(tail.key, call.request.wanted)
    )
    if known:
        explanation = as_traced_before(explanation)
    earlier = ((attempt.status, attempt.seconds) for attempt in ledger.attempts)
    limit = time_limit(error.status, error.after or 0.0, earlier)
    if limit is not None:
        explanation = by_time_limit(explanation, limit_in_words(limit))
    decision = decide(
        explanation.diagnosis,
        ledger.counted + counts(explanation.diagnosis),
        setup.recovery,
        ledger.sent,
        known,
        managed=setup.managed,
        time_limit=limit is not None,
    )
    if isinstance(error, WebUINoResultError):
        decision = Decision(Action.FAIL, Ground.SENT_TOO_OFTEN, times=ledger.sent - 1)
    return explanation, decision


def on_interrupt_over(turn: Turn, call: LaneCall, event: LaneEvent) -> None:
    """A reply, which is discarded, shows that the interrupt freed the WebUI; so does the end of a
    prompt by it."""
    if isinstance(event, ProcessExited) and event.incarnation != call.incarnation:
        return
    if isinstance(event, Replied):
        if event.number != call.number:
            return
        call = turn.put(replace(call, in_flight=False))
        if event.error is None or isinstance(event.error, WebUIInterruptedError):
            _conclude(turn, call, Decision(Action.RETRY, Ground.FREED))
            return
    if isinstance(event, Cancelled):
        call = replace(call, given_up=True)
    _not_freed(turn, call)


def _not_freed(turn: Turn, call: LaneCall) -> None:
    if turn.state.setup.managed or not call.in_flight:
        _conclude(turn, call, bring_up(Ground.NOT_FREED, turn.state.setup.managed))
    else:
        _conclude(turn, call, Decision(Action.HOLD, Ground.NOT_FREED))


def _conclude(turn: Turn, call: LaneCall, decision: Decision) -> None:
    """Act on the WebUI as decided, and have the run record the failure."""
    tail = call.tail
    assert tail is not None
    diagnosis, error = tail.explanation.diagnosis, tail.error
    freed = decision.ground is Ground.FREED
    hangs = call.in_flight and diagnosis is Diagnosis.STUCK and not turn.state.setup.managed
    call = abandoned(turn, replace(call, lost=call.lost or hangs))
    crashed = needs_restart(diagnosis, tail.explanation.poisons, decision)
    crashed = crashed and not (freed or hangs)  # what hangs on answers all probes, not a call
    if crashed:
        request = call.request
        where = request.run or request.job or "a call"
        mark_crashed(turn, diagnosis, tail.explanation.cause, call.exited, where)
    elif turn.state.setup.supervised:
        _hold_if_needed(turn, call, tail, decision)
    if decision.ground is Ground.TRACED_BEFORE:
        # The restart that is saved must not cost the job its second attempt: where this one did
        # harm the WebUI, the next is excused.
        turn.change(use=turn.state.use.doubt_attempt())
    seconds = error.after or 0.0
    attempt = Attempt(
        diagnosis, error.status, seconds, call.incarnation, call.first, crashed=crashed
    )
    ledger = replace(
        call.ledger,
        counted=call.ledger.counted + counts(diagnosis),
        attempts=(*call.ledger.attempts, attempt),
    )
    call = replace(call, ledger=ledger, decision=decision, crash_count=call.crash_count + crashed)
    turn.move(call, CallPhase.RECORDING)
    turn.do(RecordFailure(call.id, call.number, tail, decision, attempt))


def _hold_if_needed(turn: Turn, call: LaneCall, tail: TailCaptured, decision: Decision) -> None:
    """Hold the WebUI if it is unusable, or may still work on what was sent."""
    works_on = may_still_generate(tail.error.status, tail.error.after or 0.0)
    if not (call.lost or works_on or decision.action is Action.HOLD):
        return
    explanation, setup = tail.explanation, turn.state.setup
    reason = found_by_call(explanation.cause, explanation, managed=setup.managed)
    if call.lost and explanation.diagnosis is Diagnosis.STUCK:
        reason = hangs_elsewhere(reason)
    if works_on:
        put_on_hold(turn, reason, still_counts_for=setup.stall)
    elif call.lost and setup.managed:
        # Somebody else's prompt. What hangs in it for longer than any call may is not spared.
        put_on_hold(turn, reason, still_counts_for=setup.call_limit, needs_self_test=True)
    elif call.lost:
        put_on_hold(turn, reason, still_counts_for=UNTIL_IDLE)
    else:
        put_on_hold_by_call(turn, reason)


def on_recorded(turn: Turn, call: LaneCall, event: Recorded) -> None:
    """The failure, or the self-test after it, is on disk: continue with what was decided."""
    if event.number != call.number:
        return
    assert call.decision is not None
    action = call.decision.action
    if action is Action.FAIL:
        fail = _fail_at_once if call.phase is CallPhase.RECORDING else _fail_after_test
        fail(turn, call)
    elif call.given_up or turn.state.stopping:
        turn.answer(call, GivenUp())
    elif action is Action.HOLD:
        leave(turn, replace(call, end=Later()))
    else:
        tests = action in (Action.SELF_TEST, Action.TEST_AGAIN)
        turn.move(call, CallPhase.DECIDED, next=Next.SELF_TEST if tests else Next.RETRY)


def _fail_at_once(turn: Turn, call: LaneCall) -> None:
    assert call.tail is not None
    explanation = call.tail.explanation
    blame = whose_fault(explanation.diagnosis, explanation.blames)
    if blame is Blamed.JOB and call.ledger.attempts[-1].crashed:
        _forgive_webui(turn, call)
    if explanation.diagnosis is Diagnosis.BAD_REQUEST and blame is Blamed.WEBUI:
        turn.do(NoteCannot(call.request.stage, "", explanation))
    leave(turn, replace(call, end=Failed(), crash_count=0))


# -- the self-test after a second failure


def on_tested(turn: Turn, call: LaneCall, event: SelfTestAnswered) -> None:
    """Decide whose fault it is that the same call failed twice."""
    if call.given_up or turn.state.stopping:
        turn.answer(call, GivenUp())
    elif event.end is SelfTestEnd.PASSED:
        decide_after_test(turn, call, _passed(turn, call.ledger.attempts[-1]))
    elif event.end is SelfTestEnd.FAILED:
        again = turn.state.may_test_again
        result = SelfTestResult.FAILED if again else SelfTestResult.HELD
        decide_after_test(turn, call, result, event.reason.cause)
    else:
        leave(turn, replace(call, end=Later()))


def _passed(turn: Turn, last: Attempt) -> SelfTestResult:
    """Return what a self-test that is passed shows of the last attempt. Each outage of an external
    WebUI may have been the end of a life that nobody saw, or of the network alone."""
    if last.incarnation != turn.state.incarnation:
        return SelfTestResult.PASSED_AFTER_RESTART
    is_external = not turn.state.setup.managed
    return (
        SelfTestResult.PASSED_AFTER_OUTAGE
        if is_external and last.crashed
        else SelfTestResult.PASSED
    )


def decide_after_test(
    turn: Turn, call: LaneCall, result: SelfTestResult, unhealthy: str = ""
) -> None:
    """Decide whose fault it is by the result of a self-test. Without supervision nothing can be
    tested, and it counts as passed: the fault is the job's."""
    last = call.ledger.attempts[-1]
    # Only the call itself explains the failure of a fresh incarnation, unless a later fresh one
    # was unusable by itself.
    first = last.first_call and not turn.state.history.failed_fresh > last.incarnation
    decision = after_self_test(
        result, unhealthy, first_call=first, excused=call.ledger.excused, sent=call.ledger.sent
    )
    ledger, crash_count = call.ledger, call.crash_count + (decision.action is Action.TEST_AGAIN)
    if decision.excuses:
        ledger = replace(ledger, counted=ledger.counted - 1, excused=ledger.excused + 1)
        crash_count = 0
    call = replace(
        call,
        decision=decision,
        ledger=ledger,
        crash_count=crash_count,
        unhealthy=unhealthy,
        passed_after_restart=result is SelfTestResult.PASSED_AFTER_RESTART,
    )
    turn.move(call, CallPhase.RECORDING_TEST)
    turn.do(RecordSelfTest(call.id, call.number, unhealthy, decision))


def _fail_after_test(turn: Turn, call: LaneCall) -> None:
    """Fail a call after a self-test. Where memory or NaNs were the cause, a size test selects the
    advice; the fault is the job's by now, whatever that test shows."""
    assert call.decision is not None
    passed = not call.unhealthy
    end = Failed(blame=call.decision.blame, self_test_passed=passed, unhealthy=call.unhealthy)
    call = replace(call, end=end)
    if call.unhealthy:
        leave(turn, call)
        return
    last = call.ledger.attempts[-1]
    _forgive_webui(turn, call)
    if call.tail is not None and call.tail.unchanged and call.request.upscaler:
        turn.do(NoteCannot(call.request.stage, call.request.upscaler, call.tail.explanation))
    call = replace(call, crash_count=0)
    knows_size = turn.state.setup.supervised and call.request.wanted.made is not None
    if depends_on_size(last.diagnosis) and knows_size:
        turn.move(call, CallPhase.DECIDED, next=Next.SIZE_TEST)
    else:
        leave(turn, call)


def run_size_test_if_ready(turn: Turn, call: LaneCall) -> None:
    """Run the size test as soon as the WebUI is ready; do without it if it does not become ready
    now."""
    state = turn.state
    if state.held_by_person or state.life not in (State.READY, State.STARTING):
        leave(turn, call)
    elif state.life is State.READY and state.busy is None:
        turn.change(busy=Busy.TESTING_SIZE)
        turn.move(call, CallPhase.TESTING_SIZE)
        turn.do(RunSizeTest(call.id, state.knowledge.largest))


def on_size_test(turn: Turn, call: LaneCall, event: SizeTestAnswered) -> None:
    """Select the advice. A failure of that size has made the WebUI unusable before, so it is
    recycled after another one."""
    assert isinstance(call.end, Failed)
    if call.passed_after_restart and event.result is not SizeTest.PASSED:
        why = "a test picture of the failed size may have left it unusable"
        turn.change(use=turn.state.use.make_due(why))
    leave(turn, replace(call, end=replace(call.end, size_test=event.result)))


def _forgive_webui(turn: Turn, call: LaneCall) -> None:
    """Note that a failure was the job's own: its crashes do not lengthen the cool-down."""
    state = turn.state
    turn.write(state.history.forgive(call.crash_count, turn.now))
    died = any(attempt.diagnosis is Diagnosis.CRASH for attempt in call.ledger.attempts)
    key = call.tail.key if call.tail else None
    traced = state.knowledge.trace(call.request.job, call.request.run, key, died)
    knowledge, runs = traced.take_repeated()
    turn.change(knowledge=knowledge)
    if runs:
        crashed_by_jobs(turn, runs)

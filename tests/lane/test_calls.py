"""Histories of a call: attempts, evidence before the retry, and whose fault it was."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sdwatch.errors import WebUIBusyError, WebUINotSentError, WebUIUnreachableError
from sdwatch.policy.failure.diagnosis import SizeTest
from sdwatch.policy.failure.facts import Blamed, Diagnosis
from sdwatch.policy.failure.hold_reason import Cure
from sdwatch.policy.failure.lifecycle import State
from sdwatch.policy.failure.recovery import Action, Ground
from sdwatch.policy.lane.crash_history import CrashHistory
from sdwatch.policy.lane.effects import (
    Abandon,
    Answer,
    AskForHold,
    AwaitTraceback,
    BeforePost,
    Broken,
    CleanUp,
    CutShort,
    ExplainFailure,
    Failed,
    GivenUp,
    Interrupt,
    Later,
    LetGo,
    NoteCannot,
    Notify,
    NotSent,
    Post,
    RecordFailure,
    RecordSelfTest,
    Recycled,
    RunSelfTest,
    RunSizeTest,
    SaveCrashHistory,
    Start,
    StopTree,
    Succeeded,
)
from sdwatch.policy.lane.events import (
    Attempt,
    CallLedgerView,
    CallsAllowed,
    Cancelled,
    FailureExplained,
    Health,
    InterruptRefused,
    LaneEvent,
    NotNow,
    NotPosted,
    PostStarted,
    ProbeAnswered,
    ProcessExited,
    Recorded,
    Replied,
    ReplyArrived,
    RunGone,
    SelfTestAnswered,
    SelfTestEnd,
    SizeTestAnswered,
    Stalled,
    Started,
    StartFailed,
    Stop,
    TracebackComplete,
    TreeStopped,
)
from sdwatch.policy.lane.lane_hold import UNTIL_IDLE
from sdwatch.policy.lane.state import new_lane
from sdwatch.policy.lane.turn import CONNECT_WAIT, EXIT_WAIT, EXPLAIN_WAIT, READ_WAIT
from tests.lane.history_of import (
    COOLDOWN,
    SETUP,
    Told,
    alone,
    because,
    explained,
    plain_error,
    ready,
    server_error,
)

PASSED = SelfTestAnswered(SelfTestEnd.PASSED)
FAILED = SelfTestAnswered(SelfTestEnd.FAILED, because("the canary failed"))


def calling(**setup: object) -> Told:
    """A lane whose first call is under way."""
    return ready(**setup).request().sent()


def crashed_once(**setup: object) -> Told:
    """Its first attempt ended in a crash, and its second is under way on a fresh WebUI."""
    history = calling(**setup).fails(Diagnosis.CRASH)
    return history.recorded().later(5).started().sent()


# -- success


def test_a_call_is_recorded_before_it_is_sent() -> None:
    history = ready().request()
    assert history.effects == (BeforePost(1, 1, 1),)
    history.tell(Recorded(1, 1))
    assert history.effects == (Post(1, 1),)


def test_a_success_is_answered_once_the_webui_is_clean() -> None:
    history = calling().replied()
    assert history.effects == (CleanUp(),)
    history.cleaned(findings=("left",))
    assert history.end == Succeeded(("left",), "reply")


def test_two_runs_take_turns_and_the_retry_goes_first() -> None:
    history = calling().request(2)
    assert history.effects == ()
    history.fails(Diagnosis.INTERRUPTED).recorded()
    assert history.one(BeforePost).call == 1, "its second attempt"
    history.sent().replied().cleaned()
    assert history.one(BeforePost).call == 2


# -- evidence order


def test_the_crash_is_saved_before_the_failure_is_recorded_and_that_before_the_retry() -> None:
    history = calling().fails(Diagnosis.CRASH)
    order = [type(effect) for effect in history.effects]
    assert order.index(SaveCrashHistory) < order.index(RecordFailure)
    history.later(5).allowed()
    assert history.has(Start), "stop and start overlap with the record"
    history.started()
    assert not history.has(BeforePost), "the failure is not recorded yet"
    history.recorded()
    assert history.one(BeforePost).number == 2


def test_the_retry_waits_for_its_restart_and_that_for_the_cool_down() -> None:
    history = calling().fails(Diagnosis.CRASH)
    history.recorded().later(4.9)
    assert history.effects == ()
    history.later(0.1).started()
    assert history.one(BeforePost).incarnation == 2


def test_nothing_starts_before_the_old_process_is_reaped() -> None:
    history = calling().fails(Diagnosis.CRASH).recorded().later(5)
    assert history.effects == (StopTree(unless_held=True),)
    assert not history.later(3600).has(Start)
    assert history.tell(TreeStopped(held_by_person=False)).has(Start)


def test_what_a_process_left_behind_is_stopped_once_the_evidence_is_collected() -> None:
    history = calling().tell(ProcessExited(1, -9)).replied(plain_error())
    assert history.has(ExplainFailure)
    assert not history.has(StopTree)
    history.explained_as(Diagnosis.CRASH)
    order = [type(effect) for effect in history.effects]
    assert order.index(RecordFailure) < order.index(StopTree)
    assert history.one(StopTree) == StopTree()
    assert history.tell(TreeStopped()).recorded().effects == ()
    assert history.later(5).effects == (AskForHold(),)


@pytest.mark.parametrize("cooldown", [(0.0,), COOLDOWN], ids=["no cool-down", "cool-down"])
def test_a_record_that_takes_long_spares_no_leftovers(cooldown: tuple[float, ...]) -> None:
    history = Told(new_lane(SETUP, CrashHistory(cooldown))).ready().request().sent()
    history.tell(ProcessExited(1, -9)).replied(plain_error()).explained_as(Diagnosis.CRASH)
    assert history.one(StopTree) == StopTree()
    assert not history.has(Start)
    history.tell(TreeStopped())
    if not history.has(AskForHold):
        history.later(5)
    assert history.allowed().has(Start), "while the run still records"
    history.started()
    assert not history.has(BeforePost)
    assert history.recorded().one(BeforePost).number == 2


def test_a_500_waits_a_second_for_its_traceback() -> None:
    history = calling().replied(server_error())
    assert isinstance(history.effects[0], AwaitTraceback)
    history.later(0.9)
    assert history.effects == ()
    history.later(0.1)
    assert history.has(ExplainFailure)


@pytest.mark.parametrize(
    "early", [TracebackComplete(1), ProcessExited(1, -9), Cancelled(1), Stop()], ids=repr
)
def test_the_wait_for_a_traceback_ends_early(early: object) -> None:
    history = calling().replied(server_error())
    history.tell(early)  # type: ignore[arg-type]
    assert history.has(ExplainFailure)


def test_an_exit_that_follows_a_500_is_part_of_the_failure() -> None:
    history = calling().replied(server_error()).tell(ProcessExited(1, 1))
    explain = history.one(ExplainFailure)
    assert (explain.exited, explain.code) == (True, 1)


def test_the_exit_of_an_earlier_incarnation_is_no_part_of_it() -> None:
    history = calling().replied(server_error()).tell(ProcessExited(0, 1))
    assert history.effects == ()


def test_a_broken_connection_waits_for_the_exit_that_explains_it() -> None:
    history = calling().replied(WebUIUnreachableError("reset"))
    assert history.effects == ()
    history.tell(ProcessExited(1, -9))
    assert history.one(ExplainFailure).code == -9


def test_a_reply_that_was_complete_before_the_exit_counts() -> None:
    history = calling().tell(ProcessExited(1, -9))
    assert history.effects == ()
    history.replied()
    assert isinstance(history.end, Succeeded)
    assert history.state.life is State.COOLING_DOWN, "and the WebUI is restarted"


def test_an_exit_without_a_reply_is_a_crash_after_a_second() -> None:
    history = calling().tell(ProcessExited(1, -9)).later(1)
    assert history.effects == (Abandon(1),)
    explain = history.replied(plain_error()).one(ExplainFailure)
    assert isinstance(explain.error, WebUIUnreachableError)
    assert explain.exited


def test_an_error_after_the_exit_is_the_exit() -> None:
    history = calling().tell(ProcessExited(1, -9)).replied(WebUIUnreachableError("reset"))
    assert history.one(ExplainFailure).exited


# -- the recovery gate


def test_a_bad_request_fails_at_once() -> None:
    history = calling().fails(Diagnosis.BAD_REQUEST)
    assert history.one(RecordFailure).decision.action is Action.FAIL
    history.recorded().cleaned()
    assert history.end == Failed()
    assert history.state.life is State.READY


def test_a_bad_request_that_is_the_webuis_limit_is_noted() -> None:
    history = calling().fails(Diagnosis.BAD_REQUEST, blames=Blamed.WEBUI).recorded()
    assert history.one(NoteCannot).stage == "txt2img"


def test_with_recovery_off_it_fails_at_once_and_the_webui_comes_back_alone() -> None:
    history = calling(recovery=False).fails(Diagnosis.CRASH).recorded()
    assert history.end == Failed()
    assert history.later(5).allowed().has(Start)


def test_somebody_who_interrupts_costs_no_restart() -> None:
    history = calling().fails(Diagnosis.INTERRUPTED).recorded()
    assert history.one(BeforePost).number == 2
    history.sent().fails(Diagnosis.INTERRUPTED).recorded().cleaned()
    assert isinstance(history.end, Failed)
    assert history.state.history.in_a_row == 0


def test_a_busy_webui_holds_the_lane_and_costs_no_attempt() -> None:
    history = calling()
    history.fails(Diagnosis.BUSY)
    assert history.state.life is State.NOT_USABLE
    assert not history.one(RecordFailure).attempt.crashed
    history.recorded()
    assert isinstance(history.end, Later)
    served = history.state.served
    assert served is None


def test_two_504_after_the_same_time_fail_the_run_and_hold_the_lane_until_it_is_idle() -> None:
    error = WebUIBusyError("gateway", status=504)
    error.after = 60.0
    before = Attempt(Diagnosis.BUSY, 504, 60.2)
    history = ready().request(ledger=CallLedgerView(sent=1, attempts=(before,))).sent()
    history.replied(error).explained_as(Diagnosis.BUSY)
    assert history.one(RecordFailure).decision.ground is Ground.TIME_LIMIT
    assert history.state.hold.still_counts_for == history.state.setup.stall
    history.recorded()
    assert isinstance(history.end, Failed)


def test_a_failure_that_leaves_the_webui_unusable_costs_its_restart() -> None:
    history = calling().fails(Diagnosis.SERVER_ERROR, poisons=True)
    assert history.state.life is State.COOLING_DOWN


# -- stuck


def stuck(history: Told) -> Told:
    served = history.state.served
    assert served is not None
    return history.tell(Stalled(1, served.number, "no progress")).explained_as(Diagnosis.STUCK)


def test_a_stuck_call_that_an_interrupt_frees_is_retried_without_a_restart() -> None:
    history = stuck(calling())
    assert history.effects == (Interrupt(1, waits=True),)
    history.replied()
    assert history.one(RecordFailure).decision.ground is Ground.FREED
    assert history.state.history.in_a_row == 0
    assert history.recorded().has(BeforePost)


@pytest.mark.parametrize("why", ["refused", "time", "error", "exit"])
def test_a_stuck_call_that_an_interrupt_does_not_free_is_restarted(why: str) -> None:
    history = stuck(calling())
    if why == "refused":
        history.tell(InterruptRefused(1))
    elif why == "time":
        history.later(10)
    elif why == "error":
        history.replied(plain_error())
    else:
        history.tell(ProcessExited(1, -9))
    assert history.one(RecordFailure).decision.ground is Ground.NOT_FREED
    assert history.state.life is State.COOLING_DOWN
    assert history.has(Abandon) is (why != "error")


def test_the_second_time_it_is_not_interrupted_but_restarted_and_tested() -> None:
    history = stuck(calling())
    history.tell(InterruptRefused(1)).recorded()
    history.later(5).started().sent()
    stuck(history)
    assert not history.has(Interrupt)
    assert history.one(RecordFailure).decision.action is Action.SELF_TEST
    history.recorded().later(10).started()
    assert history.has(RunSelfTest)


def test_an_external_webui_is_never_interrupted_and_waited_for_until_idle() -> None:
    history = calling(managed=False)
    history.tell(Stalled(1, 1, "no progress"))
    explain = history.one(ExplainFailure)
    assert explain.lost
    history.explained_as(Diagnosis.BUSY)
    assert not history.count(Interrupt)
    assert history.state.hold.still_counts_for == UNTIL_IDLE
    assert history.state.calls[0].lost


def test_an_external_webui_that_hangs_in_our_own_prompt_is_interrupted_and_then_held() -> None:
    """Nobody else's generation is hit, and an attempt that hangs counts."""
    history = calling(managed=False)
    history.tell(Stalled(1, 1, "no progress", ours=True)).explained_as(Diagnosis.STUCK)
    assert history.has(Interrupt)
    history.later(1000)
    assert history.state.hold.still_counts_for == UNTIL_IDLE
    decision = history.one(RecordFailure).decision
    assert (decision.action, decision.ground) == (Action.HOLD, Ground.NOT_FREED)
    assert history.state.history.in_a_row == 0, "a probe would find it well, and it is not"


def test_a_managed_webui_that_runs_somebodys_prompt_is_busy_and_not_restarted() -> None:
    history = calling().tell(Stalled(1, 1, "no progress", others=True))
    assert isinstance(history.one(ExplainFailure).error, WebUIBusyError)
    history.explained_as(Diagnosis.BUSY).recorded()
    assert isinstance(history.finish().end, Later)
    assert not history.count(Interrupt)
    assert not history.count(StopTree)
    hold = history.state.hold
    assert (hold.still_counts_for, hold.needs_self_test) == (SETUP.call_limit, True)


def test_a_generation_that_nobody_waits_for_and_that_hangs_is_ended_by_a_restart() -> None:
    history = ready().request().posted().tell(PostStarted(1, 1), NotPosted(1, 1, occupied=True))
    assert [e.what for e in history.all if isinstance(e, Notify)][-1] == Recycled(
        history.state.use.due
    )
    history.tell(TreeStopped()).started()
    assert history.state.history.in_a_row == 0, "nobody is to blame"
    assert history.one(BeforePost).number == 1, "it was not sent"


def test_an_external_webui_with_such_a_generation_is_waited_for() -> None:
    history = ready(managed=False).request().posted()
    history.tell(PostStarted(1, 1), NotPosted(1, 1, occupied=True))
    assert history.state.life is State.NOT_USABLE
    assert history.state.hold.still_counts_for == UNTIL_IDLE
    assert not history.has(Answer), "its run waits"


def test_a_call_without_a_lane_ends_there() -> None:
    history = alone().request().posted().tell(PostStarted(1, 1), NotPosted(1, 1, occupied=True))
    assert isinstance(history.end, Broken)


def test_a_stall_of_an_earlier_post_or_of_a_reply_that_is_here_changes_nothing() -> None:
    history = calling().tell(Stalled(1, 7, "no progress"))
    assert history.effects == ()
    history.tell(ReplyArrived(1, 1)).tell(Stalled(1, 1, "it is decoded"))
    assert not history.count(ExplainFailure)


# -- whose fault it was


def test_after_a_second_failure_a_healthy_webui_shows_that_it_is_the_job() -> None:
    history = crashed_once().fails(Diagnosis.SERVER_ERROR).recorded()
    assert history.has(RunSelfTest)
    history.tell(PASSED)
    decision = history.one(RecordSelfTest).decision
    assert (decision.action, decision.ground) == (Action.FAIL, Ground.HEALTHY)
    history.recorded().cleaned()
    assert history.end == Failed(blame=Blamed.JOB, self_test_passed=True)
    assert history.state.history.in_a_row == 0, "its crash is forgiven"


def test_a_fresh_webui_that_is_healthy_blames_the_job_if_it_was_its_first_call() -> None:
    history = crashed_once().fails(Diagnosis.CRASH).recorded().later(10).started()
    history.tell(PASSED)
    assert history.one(RecordSelfTest).decision.ground is Ground.HEALTHY_WHEN_FRESH


def second_on_a_used_webui() -> Told:
    """Its second attempt failed on an incarnation that had served another call."""
    history = ready().request(2).sent().replied().cleaned()
    history.request().sent().fails(Diagnosis.INTERRUPTED).recorded()
    return history.sent().fails(Diagnosis.SERVER_ERROR).recorded()


def test_a_webui_that_fails_the_self_test_is_restarted_and_after_a_restart() -> None:
    history = second_on_a_used_webui().tell(FAILED)
    assert history.one(RecordSelfTest).decision.action is Action.TEST_AGAIN
    history.recorded().later(5).allowed()
    history.one(Start)
    assert history.state.hold.reason is None, "a restart may cure it"


def after_a_restart() -> Told:
    history = second_on_a_used_webui().tell(FAILED).recorded().later(5).allowed()
    history.tell(Started(2))
    history.one(RunSelfTest)
    return history


def test_if_it_passes_then_the_attempt_is_excused_and_the_call_gets_one_last() -> None:
    history = after_a_restart().tell(PASSED)
    decision = history.one(RecordSelfTest).decision
    assert (decision.action, decision.ground) == (Action.RETRY, Ground.WAS_UNUSABLE)
    history.recorded()
    assert not history.has(BeforePost), "its lists are not read yet"
    history.read()
    assert history.one(BeforePost).number == 3


def test_if_it_fails_on_the_fresh_one_the_lane_is_on_hold_and_the_run_waits() -> None:
    history = after_a_restart().tell(FAILED)
    decision = history.one(RecordSelfTest).decision
    assert decision.action is Action.HOLD
    assert history.state.hold.reason is not None
    assert history.state.history.failed_fresh == 2
    history.recorded()
    assert isinstance(history.end, Later)


def test_the_last_attempt_is_the_last() -> None:
    history = after_a_restart().tell(PASSED).recorded().read().sent()
    history.fails(Diagnosis.SERVER_ERROR).recorded().tell(FAILED)
    assert history.one(RecordSelfTest).decision.ground is Ground.LAST_AND_UNHEALTHY
    history.recorded()
    assert isinstance(history.end, Failed)
    assert history.end.self_test_passed is False


def test_an_external_webui_that_fails_the_self_test_is_on_hold_at_once() -> None:
    history = ready(managed=False).request().sent().fails(Diagnosis.INTERRUPTED).recorded()
    history.sent().fails(Diagnosis.SERVER_ERROR).recorded().tell(FAILED)
    assert history.one(RecordSelfTest).decision.action is Action.HOLD
    assert history.state.hold.reason is not None


def cut_twice() -> Told:
    """Both attempts at an external WebUI ended without a reply, and it answers again."""
    history = calling(managed=False).fails(Diagnosis.CRASH).recorded().later(5).started()
    history.sent().fails(Diagnosis.CRASH).recorded().later(10).started()
    history.one(RunSelfTest)
    return history


def test_an_external_webui_that_was_gone_twice_and_is_healthy_again_blames_nobody_yet() -> None:
    """It may have been its network, or another of its lives: a restart that sdwatch does not
    see."""
    decision = cut_twice().tell(PASSED).one(RecordSelfTest).decision
    assert (decision.action, decision.ground) == (Action.RETRY, Ground.WAS_GONE)
    assert decision.excuses


def test_a_third_outage_between_two_self_tests_that_it_passes_is_the_jobs() -> None:
    history = cut_twice().tell(PASSED).recorded().sent().fails(Diagnosis.CRASH).recorded()
    history.later(20).started().tell(PASSED)
    decision = history.one(RecordSelfTest).decision
    assert (decision.action, decision.blame) == (Action.FAIL, Blamed.JOB)


@pytest.mark.parametrize("end", [SelfTestEnd.INCONCLUSIVE, SelfTestEnd.NOT_RUN])
def test_an_inconclusive_self_test_costs_nothing(end: SelfTestEnd) -> None:
    history = second_on_a_used_webui().tell(SelfTestAnswered(end, because("busy", Cure.TIME)))
    history.finish()
    assert isinstance(history.end, Later)
    assert history.state.history.in_a_row == 0
    on_hold = history.state.life is State.NOT_USABLE
    assert on_hold is (end is SelfTestEnd.INCONCLUSIVE)


def test_two_attempts_of_an_earlier_monitor_are_tested_and_not_sent_again() -> None:
    twice = (Attempt(Diagnosis.CRASH, incarnation=1), Attempt(Diagnosis.CRASH, incarnation=1))
    history = ready().request(ledger=CallLedgerView(counted=2, sent=2, attempts=twice))
    assert history.has(RunSelfTest)
    history.tell(PASSED)
    assert history.one(RecordSelfTest).decision.action is Action.FAIL


BUSY_AND_CUT_OFF = CallLedgerView(sent=5, attempts=(Attempt(Diagnosis.BUSY),) * 4)
"""Four busy replies; then sdwatch died in the fifth POST."""

OF_ALL_KINDS = CallLedgerView(
    counted=1,
    sent=6,
    excused=1,
    attempts=(Attempt(Diagnosis.BUSY), *(Attempt(Diagnosis.CRASH, incarnation=1),) * 2),
)
"""One busy reply, two failures, one of them excused, and two deaths of sdwatch; and one more POST,
as versions sent it that did not ask before."""


@pytest.mark.parametrize("ledger", [BUSY_AND_CUT_OFF, replace(OF_ALL_KINDS, sent=5), OF_ALL_KINDS])
def test_a_call_that_was_sent_five_times_is_not_sent_again(ledger: CallLedgerView) -> None:
    history = ready().request(ledger=ledger)
    assert not history.has(BeforePost)
    assert history.end == Failed(sent_too_often=True)


def test_a_call_that_was_sent_four_times_is_sent_once_more() -> None:
    history = ready().request(ledger=replace(BUSY_AND_CUT_OFF, sent=4))
    assert history.one(BeforePost).number == 5


def test_the_result_of_an_earlier_attempt_is_asked_for_however_often_it_was_sent() -> None:
    history = ready().request(ledger=BUSY_AND_CUT_OFF, unseen=True)
    assert history.has(BeforePost)


def test_two_counted_attempts_of_five_are_tested() -> None:
    ledger = replace(OF_ALL_KINDS, counted=2, excused=0, sent=5)
    assert ready().request(ledger=ledger).has(RunSelfTest)


def test_the_advice_for_memory_comes_from_a_plain_picture() -> None:
    history = crashed_once().fails(Diagnosis.OUT_OF_MEMORY).recorded().tell(PASSED).recorded()
    history.one(RunSizeTest)
    history.tell(SizeTestAnswered(SizeTest.FAILED)).cleaned()
    assert isinstance(history.end, Failed)
    assert history.end.size_test is SizeTest.FAILED


def test_a_webui_that_was_unusable_is_recycled_after_a_picture_that_fails() -> None:
    history = crashed_once().fails(Diagnosis.OUT_OF_MEMORY, poisons=True)
    history.recorded().later(10).started().tell(PASSED).recorded()
    history.tell(SizeTestAnswered(SizeTest.FAILED))
    assert history.state.use.due


def test_a_failure_traced_to_two_jobs_saves_the_restart_and_not_the_second_attempt() -> None:
    history = ready()
    for call in (1, 2):
        history.request(call).sent().fails(Diagnosis.SERVER_ERROR)
        history.recorded().later(20).started().sent()
        history.fails(Diagnosis.SERVER_ERROR).recorded().tell(PASSED).recorded()
        history.cleaned()
    history.request(3).sent().fails(Diagnosis.SERVER_ERROR)
    assert history.one(RecordFailure).decision.ground is Ground.TRACED_BEFORE
    assert history.recorded().one(BeforePost).number == 2


def test_an_attempt_after_a_saved_restart_is_excused_if_the_first_one_may_have_harmed_it() -> None:
    history = ready()
    for call in (1, 2):
        history.request(call).sent().fails(Diagnosis.SERVER_ERROR)
        history.recorded().later(20).started().sent()
        history.fails(Diagnosis.SERVER_ERROR, poisons=True).recorded().later(60).started()
        history.tell(PASSED).recorded().finish()
    assert history.state.use.is_fresh
    history.request(3).sent().fails(Diagnosis.SERVER_ERROR).recorded().sent()
    history.fails(Diagnosis.SERVER_ERROR).recorded().tell(FAILED).recorded().later(60).allowed()
    history.tell(Started(history.state.incarnation + 1), PASSED)
    decision = history.one(RecordSelfTest).decision
    assert decision.action is Action.RETRY, "it was harmed by the attempt that saved a restart"
    assert decision.excuses


def test_crashes_of_an_earlier_request_are_forgiven_once_the_job_is_to_blame() -> None:
    """The monitor died in between, or the lane was on hold."""
    first = Attempt(Diagnosis.CRASH, incarnation=1, crashed=True)
    ledger = CallLedgerView(counted=1, sent=1, crash_count=1, attempts=(first,))
    history = ready().died().later(5).started()
    assert history.state.history.in_a_row == 1, "the crash of its first attempt"
    history.request(ledger=ledger).sent().fails(Diagnosis.CRASH).recorded()
    assert history.state.history.in_a_row == 2
    history.later(10).started().tell(PASSED).recorded()
    assert history.state.history.in_a_row == 0


def test_three_jobs_in_a_row_that_kill_it_are_taken_for_a_crash_of_it() -> None:
    history = ready()
    for call in (1, 2, 3):
        history.request(call).sent().fails(Diagnosis.CRASH).recorded()
        history.later(60).started().sent().fails(Diagnosis.CRASH).recorded()
        history.later(60).started().tell(PASSED).recorded()
        history.finish()
    assert history.state.life is State.COOLING_DOWN
    assert history.state.history.remaining(history.now) == COOLDOWN[-1]
    assert history.state.hold.reason is not None
    assert len(history.state.hold.reason.failed_runs) == 3


# -- records that do not come


def test_a_failure_that_the_disk_refuses_to_record_holds_the_lane_until_it_is_there() -> None:
    history = calling().request(2).fails(Diagnosis.INTERRUPTED).later(1)
    assert history.effects == ()
    assert history.recorded().has(BeforePost)


def test_a_start_that_cannot_be_recorded_frees_the_lane_when_its_run_is_gone() -> None:
    history = ready().request().request(2)
    assert not history.has(BeforePost)
    history.tell(RunGone(1))
    assert history.one(BeforePost).call == 2


def test_an_overdue_record_is_a_hold_and_a_late_one_is_not_sent() -> None:
    history = ready().request().later(60)
    assert history.state.unrecorded == {1}
    history.tell(ProbeAnswered(Health.READY))
    assert history.effects == ()
    history.tell(Recorded(1, 1))
    assert NotSent(1, 1) in history.effects
    assert history.one(BeforePost).number == 1, "it counts nowhere"


@pytest.mark.parametrize("what", ["exit", "hold", "stop", "another incarnation"])
def test_a_record_that_comes_too_late_for_the_webui_is_not_sent(what: str) -> None:
    history = ready().request()
    if what == "exit":
        history.tell(ProcessExited(1, -9))
    elif what == "hold":
        history.tell(CallsAllowed(allowed=False, held_by_person=True))
    elif what == "stop":
        history.tell(Stop())
        assert isinstance(history.end, GivenUp)
    else:
        history.died().later(5).started()
    history.tell(Recorded(1, 1))
    assert history.count(Post) == 0
    assert history.has(NotSent) is (what != "stop")


def test_a_run_that_may_not_start_waits_until_calls_are_allowed() -> None:
    history = ready().request().tell(NotNow(1))
    assert not history.has(BeforePost)
    assert history.tell(CallsAllowed()).has(BeforePost)


# -- given up


def test_a_cancelled_call_is_interrupted_and_not_waited_for() -> None:
    history = calling().tell(Cancelled(1))
    assert history.effects[:2] == (Interrupt(1), Abandon(1))
    assert history.end == GivenUp()
    assert history.tell(Replied(1, 1)).effects == (), "a late reply"


def test_in_nobody_elses_webui_more_is_ended_than_a_prompt_of_our_own() -> None:
    history = calling(managed=False).tell(Cancelled(1))
    assert history.one(Interrupt) == Interrupt(1, only_queued=True)
    assert calling(managed=False).tell(RunGone(1)).one(Interrupt).only_queued
    stopped = calling(managed=False).tell(Stop(), Cancelled(1))
    assert stopped.one(Interrupt).but_queued, "its result is taken at the next start"


def test_the_next_call_waits_until_a_call_that_was_given_up_is_cleaned_up() -> None:
    history = calling().request(2).tell(Cancelled(1))
    assert not history.has(BeforePost)
    assert history.cleaned().one(BeforePost).call == 2


def test_a_call_that_waits_out_a_cool_down_can_be_cancelled() -> None:
    history = calling().fails(Diagnosis.CRASH).recorded().tell(Cancelled(1))
    assert history.end == GivenUp()


def test_a_cancel_before_the_failure_is_recorded_waits_for_that() -> None:
    history = calling().fails(Diagnosis.CRASH).tell(Cancelled(1))
    assert not history.has(Answer)
    assert history.recorded().end == GivenUp()


def test_a_cancel_cuts_the_self_test_short_and_it_shows_nothing() -> None:
    history = second_on_a_used_webui().tell(Cancelled(1))
    assert history.effects == (CutShort(),)
    history.tell(FAILED)
    assert history.end == GivenUp()
    assert history.state.history.in_a_row == 0


def test_a_run_that_is_gone_frees_the_lane() -> None:
    history = calling().request(2).tell(RunGone(1))
    assert history.has(Interrupt)
    assert history.cleaned().one(BeforePost).call == 2


def test_a_restart_that_fails_makes_its_run_wait() -> None:
    history = calling().fails(Diagnosis.CRASH).recorded().later(5).allowed()
    history.one(Start)
    history.tell(StartFailed(because("exit code 1"), 2))
    assert isinstance(history.end, Later)
    assert history.state.hold.reason is not None
    assert history.state.history.in_a_row == 2


def test_on_a_persons_hold_a_retry_waits_like_a_new_call() -> None:
    history = calling().fails(Diagnosis.CRASH)
    history.tell(CallsAllowed(allowed=False, held_by_person=True)).recorded()
    assert isinstance(history.end, Later)
    assert not history.later(3600).has(Start), "only health checks are allowed"


# -- without a lane


def test_without_supervision_the_fault_of_a_second_failure_is_the_jobs() -> None:
    history = alone().request().sent().fails(Diagnosis.SERVER_ERROR).recorded()
    history.tell(TreeStopped(), Started(2)).sent().fails(Diagnosis.SERVER_ERROR).recorded()
    history.recorded()
    assert history.end == Failed(blame=Blamed.JOB, self_test_passed=True)
    assert history.count(Start) == 1


def test_the_picture_for_advice_waits_until_a_restarted_webui_is_ready() -> None:
    history = ready().request(2).sent().replied().cleaned().request()
    history.sent().fails(Diagnosis.INTERRUPTED).recorded().sent()
    history.fails(Diagnosis.OUT_OF_MEMORY).recorded().tell(FAILED).recorded().later(5).allowed()
    history.tell(Started(2), PASSED)
    assert history.one(RecordSelfTest).decision.action is Action.RETRY
    history.recorded().read().sent().fails(Diagnosis.OUT_OF_MEMORY).recorded().tell(
        FAILED
    ).recorded()
    assert isinstance(history.end, Failed), "its last attempt, on a WebUI that is unhealthy"
    history = crashed_once().fails(Diagnosis.OUT_OF_MEMORY).recorded().tell(FAILED).recorded()
    history.later(10).allowed().tell(Started(3), PASSED)
    assert history.one(RecordSelfTest).decision.ground is Ground.HEALTHY_WHEN_FRESH
    history.recorded()
    assert not history.has(RunSizeTest), "its lists are not read yet"
    assert history.read().has(RunSizeTest)


def test_a_reply_that_comes_after_a_stall_counts_while_nothing_was_interrupted() -> None:
    history = calling().tell(Stalled(1, 1, "no progress"))
    stalled = history.one(ExplainFailure)
    history.replied().cleaned()
    assert isinstance(history.end, Succeeded)
    history.tell(FailureExplained(1, stalled.error, explained(Diagnosis.STUCK)))
    assert history.effects == ()
    assert history.state.history.in_a_row == 0


def test_an_error_that_comes_after_a_stall_leaves_nothing_to_interrupt() -> None:
    history = calling().tell(Stalled(1, 1, "no progress"))
    explain = history.one(ExplainFailure)
    history.replied(plain_error())
    history.tell(FailureExplained(1, explain.error, explained(Diagnosis.STUCK)))
    assert not history.has(Interrupt)
    assert history.one(RecordFailure).decision.action is Action.RESTART


def test_evidence_that_takes_too_long_is_written_without_the_log() -> None:
    history = calling().fails_slowly().later(EXPLAIN_WAIT - 1)
    assert history.effects == ()
    history.later(1)
    assert history.effects[0] == LetGo()
    assert history.one(ExplainFailure).without_log
    history.explained_as(Diagnosis.CRASH).recorded().restarted(5).sent().fails_slowly()
    assert not history.one(ExplainFailure).without_log, "of the next attempt it is read again"


def test_a_run_that_is_given_up_does_not_wait_for_evidence_forever() -> None:
    history = calling().fails_slowly().tell(Cancelled(1)).later(EXPLAIN_WAIT)
    assert history.one(ExplainFailure).without_log
    history.later(EXPLAIN_WAIT)
    assert history.effects[0] == LetGo()
    assert history.end == GivenUp()


def test_what_nobody_needs_any_more_keeps_the_helper_from_nothing() -> None:
    history = calling().fails_slowly().tell(RunGone(1))
    assert history.effects[0] == LetGo()
    history = calling().tell(Stalled(1, 1, "no progress")).tell(RunGone(1))
    assert history.effects[:2] == (LetGo(), Interrupt(1)), "which another helper does"
    assert calling().tell(Stalled(1, 1, "no progress")).replied().has(LetGo)


@pytest.mark.parametrize("stop_first", [True, False], ids=["stopped", "cancelled"])
def test_a_stop_ends_although_the_evidence_never_comes(stop_first: bool) -> None:
    history = calling().fails_slowly()
    history.tell(*((Stop(), Cancelled(1)) if stop_first else (Cancelled(1), Stop())))
    history.later(EXPLAIN_WAIT).later(EXPLAIN_WAIT)
    assert GivenUp() in [effect.end for effect in history.effects if isinstance(effect, Answer)]
    history.tell(TreeStopped())
    assert history.state.life is State.STOPPED


# -- the end of the process around a reply and a POST


def test_a_reply_that_was_complete_when_its_process_ended_gets_time_to_be_decoded() -> None:
    history = calling().tell(ReplyArrived(1, 1), ProcessExited(1, -9))
    assert history.later(READ_WAIT - 1).effects == ()
    history.replied()
    assert isinstance(history.end, Succeeded)
    assert history.has(StopTree), "what the process left behind"


def test_a_reply_may_be_complete_a_moment_after_its_process_ended() -> None:
    history = calling().tell(ProcessExited(1, -9)).later(EXIT_WAIT / 2)
    history.tell(ReplyArrived(1, 1)).later(READ_WAIT - 1)
    assert history.effects == ()
    assert isinstance(history.replied().end, Succeeded)


def test_a_reply_that_is_never_decoded_is_not_waited_for_forever() -> None:
    history = calling().tell(ReplyArrived(1, 1), ProcessExited(1, -9)).later(READ_WAIT)
    explain = history.one(ExplainFailure)
    assert (explain.exited, explain.code) == (True, -9)


@pytest.mark.parametrize("reported", [False, True])
def test_a_call_whose_post_had_not_gone_out_when_the_process_ended_is_not_counted(
    reported: bool,
) -> None:
    history = ready().request().posted().tell(ProcessExited(1, -9))
    assert history.effects == (Abandon(1),)
    assert history.later(EXIT_WAIT).effects == (), "its thread says whether it went out"
    if reported:  # and was given up before it had a connection
        history.tell(PostStarted(1, 1))
    history.tell(NotPosted(1, 1))
    assert history.one(NotSent).number == 1
    assert not history.has(ExplainFailure)
    assert history.state.life is State.COOLING_DOWN
    history.tell(TreeStopped()).later(5).started()
    assert history.one(BeforePost).number == 1, "it was sent for the first time"
    assert history.sent().state.served.ledger.counted == 0  # type: ignore[union-attr]


def connecting_to_the_dead() -> Told:
    """Its process ended more than a moment ago, and nothing shows whether its POST went out."""
    history = ready().request().posted().tell(ProcessExited(1, -9), PostStarted(1, 1))
    assert history.later(EXIT_WAIT).effects == (Abandon(1),), "its thread says it"
    return history


def test_a_post_that_went_out_in_that_moment_is_part_of_the_crash() -> None:
    assert connecting_to_the_dead().replied(plain_error()).one(ExplainFailure).exited


def test_a_reply_that_comes_when_it_is_given_up_is_too_late() -> None:
    """Nobody has checked it."""
    assert connecting_to_the_dead().replied().one(ExplainFailure).exited


def test_a_post_that_says_nothing_is_not_waited_for_forever() -> None:
    history = connecting_to_the_dead().later(CONNECT_WAIT - 1)
    assert history.effects == ()
    assert history.later(1).one(ExplainFailure).exited


def assert_not_counted(history: Told) -> None:
    assert history.count(NotSent) == 1
    assert not history.count(ExplainFailure)
    assert history.state.life is State.COOLING_DOWN
    assert history.state.history.in_a_row == 1
    if history.has(StopTree):
        history.tell(TreeStopped())
    history.later(5).started()
    assert history.one(BeforePost).number == 1, "it was sent for the first time"
    assert history.sent().state.served.ledger.counted == 0  # type: ignore[union-attr]


@pytest.mark.parametrize("says", [NotPosted(1, 1), Replied(1, 1, WebUINotSentError("refused"))])
def test_a_post_that_never_had_a_connection_to_a_process_that_ended_costs_no_attempt(
    says: LaneEvent,
) -> None:
    assert_not_counted(connecting_to_the_dead().tell(says))


@pytest.mark.parametrize("managed", [True, False])
def test_a_post_without_a_connection_is_a_crash_of_the_webui_that_costs_no_attempt(
    managed: bool,
) -> None:
    history = calling(managed=managed).replied(WebUINotSentError("refused"))
    assert history.effects == (), "the end of its process may follow"
    assert_not_counted(history.later(EXIT_WAIT))


def test_the_exit_that_explains_why_there_was_no_connection_is_in_the_history() -> None:
    history = calling().replied(WebUINotSentError("refused")).tell(ProcessExited(1, 139))
    (crash,) = [e.record for e in history.effects if isinstance(e, SaveCrashHistory)]
    assert crash.fields["exit_code"] == 139
    assert_not_counted(history)


def test_a_run_that_is_given_up_while_its_post_has_no_connection_ends() -> None:
    history = calling().replied(WebUINotSentError("refused")).tell(Cancelled(1))
    assert history.end == GivenUp()
    assert history.state.life is State.COOLING_DOWN


def test_without_a_lane_a_post_without_a_connection_counts() -> None:
    """Else it would be sent forever: nothing waits for the WebUI."""
    history = alone().request().sent().replied(WebUINotSentError("refused")).later(EXIT_WAIT)
    assert history.one(ExplainFailure)


def test_a_post_that_an_internal_error_keeps_back_ends_its_run_and_harms_nobody() -> None:
    history = ready().request().posted().tell(NotPosted(1, 1, "ValueError('a bug')"))
    assert history.end == Broken(why="ValueError('a bug')")
    assert history.state.life is State.READY


def test_an_old_message_about_a_post_changes_nothing() -> None:
    history = crashed_once()
    before = history.state
    for event in (PostStarted(1, 1), NotPosted(1, 1), ReplyArrived(1, 1)):
        assert replace(history.tell(event).state, at=None) == replace(before, at=None)

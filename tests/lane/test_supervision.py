"""Histories of a WebUI: starts, cool-downs, holds, self-tests, recycling, adoption and the stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sdwatch.config_file import parse_config
from sdwatch.monitor.stop_request import longest_stop
from sdwatch.policy.failure.facts import Diagnosis
from sdwatch.policy.failure.hold_reason import Cure
from sdwatch.policy.failure.lifecycle import State
from sdwatch.policy.failure.recovery import SENT_AT_MOST
from sdwatch.policy.lane.advance import next_deadline
from sdwatch.policy.lane.crash_history import Crash, CrashHistory, IdleFailure
from sdwatch.policy.lane.effects import (
    Adopt,
    AskForHold,
    BeforePost,
    CutShort,
    GivenUp,
    LetGo,
    Notify,
    Probe,
    ReadLists,
    Ready,
    Recycled,
    RunSelfTest,
    SaveCrashHistory,
    Start,
    StopTree,
    Succeeded,
)
from sdwatch.policy.lane.events import (
    CallsAllowed,
    Cancelled,
    CleanedUp,
    DeadlinePassed,
    Health,
    HoldChecked,
    ProbeAnswered,
    ProcessExited,
    Released,
    SelfTestAnswered,
    SelfTestEnd,
    Started,
    StartFailed,
    Stop,
    TreeStopped,
)
from sdwatch.policy.lane.instant import Instant
from sdwatch.policy.lane.lane_hold import CrashSeen
from sdwatch.policy.lane.state import NEVER, RecycleLimits, Setup, new_lane
from sdwatch.policy.lane.turn import stop_limit
from tests.lane.history_of import COOLDOWN, SETUP, Told, because, plain_error, ready, spins

HEALTHY = ProbeAnswered(Health.READY)
FROZEN = ProbeAnswered(Health.FAILED, because("no answer", Cure.TIME), seen="timed out")
LACKS = ProbeAnswered(Health.LACKS, because("no checkpoint", Cure.PERSON))
PAUSED = CallsAllowed(allowed=False, held_by_person=True)
PASSED = SelfTestAnswered(SelfTestEnd.PASSED)
FAILED = SelfTestAnswered(SelfTestEnd.FAILED, because("the canary failed"))
INCONCLUSIVE = SelfTestAnswered(SelfTestEnd.INCONCLUSIVE, because("busy", Cure.TIME))


def events_of(history: Told) -> list[str]:
    """What the crash history was history, in order."""
    return [effect.record.event for effect in history.all if isinstance(effect, SaveCrashHistory)]


def new(setup: Setup = SETUP, history: CrashHistory | None = None) -> Told:
    """A lane after its first event."""
    return Told(new_lane(setup, history or CrashHistory(COOLDOWN))).tell(DeadlinePassed())


def starting() -> Told:
    """A lane whose first start is under way."""
    history = new()
    return history.tell(StartFailed(because("nothing"), 0)).allowed()


# -- starts


def test_a_lane_adopts_first_and_starts_what_is_not_there() -> None:
    history = new()
    assert history.effects == (Adopt(),)
    history.tell(StartFailed(because("nothing"), 0))
    assert history.effects == (AskForHold(),)
    assert history.allowed().has(Start)
    assert events_of(history) == ["start"]
    history.tell(Started(1, read=True))
    assert history.effects == (Notify(Ready(1)),)
    assert history.state.life is State.READY


def test_a_lane_that_was_told_of_a_persons_hold_while_it_adopts_does_not_ask_again() -> None:
    nothing = because("nothing")
    assert new().tell(StartFailed(nothing, 0, held_by_person=False)).has(Start)
    held = new().tell(StartFailed(nothing, 0, held_by_person=True))
    assert held.effects == ()
    assert held.tell(CallsAllowed()).allowed().has(Start)


def test_what_was_known_of_a_hold_before_the_cool_down_is_asked_again_after_it() -> None:
    history = new(history=crashed_by_jobs())
    history.tell(StartFailed(because("nothing"), 0, held_by_person=False))
    assert not history.has(Start)
    history.later(COOLDOWN[-1])
    assert history.effects == (AskForHold(),)


def test_a_healthy_process_of_an_earlier_monitor_is_adopted() -> None:
    history = new().tell(Started(7, adopted=True)).read()
    assert history.one(Notify).what == Ready(7, adopted=True)
    assert history.count(Start) == 0
    assert not history.state.use.is_fresh, "nobody knows what it was sent"


def test_an_adopted_webui_is_sent_nothing_before_the_cool_down_of_its_crash_is_over() -> None:
    crash = Crash("crash", Instant(0.0, 997.0, "boot"))
    history = new(history=CrashHistory(COOLDOWN, (crash,)))
    history.tell(Started(7, adopted=True)).read().request()
    assert not history.has(BeforePost)
    assert history.later(2).has(BeforePost)


def test_an_adopted_webui_that_may_still_hang_is_tested_before_a_job_is_sent() -> None:
    history = new().tell(Started(7, adopted=True, in_doubt=True))
    history.one(RunSelfTest)
    history.request().tell(PASSED).read()
    assert history.one(BeforePost).incarnation == 7
    assert not history.state.must_self_test


def test_an_adopted_webui_that_hangs_is_restarted_and_costs_no_attempt() -> None:
    history = new().tell(Started(7, adopted=True, in_doubt=True), FAILED)
    history.restarted(5).tell(PASSED).read().request()
    assert history.one(BeforePost).incarnation == 8


def test_an_adopted_webui_that_lacks_something_keeps_running() -> None:
    history = new().tell(StartFailed(because("no model", Cure.PERSON), 7, answers=True))
    assert history.state.life is State.NOT_USABLE
    assert history.later(30).effects == (Probe(occupancy=True),)


def test_a_failed_start_waits_out_its_cool_down_and_holds_the_lane_meanwhile() -> None:
    history = starting().tell(StartFailed(because("exit code 1"), 1))
    assert (history.state.life, history.state.history.in_a_row) == (State.COOLING_DOWN, 1)
    assert history.state.hold.reason is not None
    assert not history.later(4).has(StopTree)
    assert history.later(1).allowed().has(Start)
    history.tell(Started(2)).read()
    assert history.state.hold.reason is None


def test_what_only_a_person_can_fix_is_no_crash_and_is_started_again_soon() -> None:
    history = starting().tell(StartFailed(because("port taken", Cure.PERSON), 1))
    assert history.state.life is State.NOT_USABLE
    assert history.state.history.in_a_row == 0
    assert history.later(2).allowed().has(Start)
    history.tell(StartFailed(because("port taken", Cure.PERSON), 1))
    assert not history.later(4).has(StopTree)
    assert history.later(1).allowed().has(Start)


def test_a_process_that_ends_before_it_is_ready_is_a_failed_start() -> None:
    history = starting().tell(Started(1), ProcessExited(1, 1))
    assert history.state.life is State.STARTING, "its lists are being read"
    history.read()
    assert history.state.life is State.COOLING_DOWN
    assert history.state.hold.reason is not None


def test_an_exit_that_is_seen_before_the_start_is_reported_counts() -> None:
    history = starting().tell(ProcessExited(1, 1), Started(1))
    assert history.state.life is State.COOLING_DOWN


def test_what_cannot_be_stopped_is_a_failed_start() -> None:
    history = ready().tell(ProcessExited(1, -9), TreeStopped(because("pid 7 cannot be killed")))
    assert history.later(5).one(StopTree) == StopTree(unless_held=True)
    history.tell(TreeStopped(because("pid 7 cannot be killed"), held_by_person=False))
    assert history.state.history.in_a_row == 2
    assert history.later(10).has(StopTree)
    assert history.count(Start) == 1, "nothing new beside it"


# -- idle


def test_a_webui_that_dies_with_nothing_queued_is_restarted_after_its_cool_down() -> None:
    history = ready().died()
    assert history.state.life is State.COOLING_DOWN
    assert history.later(5).allowed().has(Start)
    assert events_of(history) == ["start", "crash", "start"]


def test_a_frozen_webui_is_restarted_after_so_many_checks() -> None:
    history = ready().later(2)
    for _ in range(SETUP.health_failures - 1):
        history.tell(FROZEN)
        assert history.state.life is State.READY
        assert history.later(30).has(Probe)
    history.tell(FROZEN)
    assert history.state.life is State.COOLING_DOWN


def test_failed_checks_count_in_a_row() -> None:
    history = ready()
    for answer in (FROZEN, FROZEN, HEALTHY, FROZEN, FROZEN):
        history.later(30)
        history.one(Probe)
        history.tell(answer)
    assert history.state.life is State.READY


def test_the_exit_of_an_earlier_incarnation_changes_nothing() -> None:
    history = ready().tell(ProcessExited(0, -9))
    assert history.state.life is State.READY


def test_a_cool_down_that_ends_between_two_looks_at_the_clock_is_not_missed() -> None:
    history = ready().died()
    history.at += 4.999
    history.tell(CallsAllowed())  # a moment too early
    history.at += 0.002
    assert next_deadline(history.state, history.now) == history.at


def test_an_idle_machine_asks_for_its_next_health_check_only() -> None:
    history = ready()
    assert next_deadline(history.state, history.now) == history.at + 2
    history.later(2).tell(HEALTHY)
    assert next_deadline(history.state, history.now) == history.at + 30


# -- holds


def test_a_webui_that_lacks_something_is_held_and_resumes_by_itself() -> None:
    history = ready().later(2).tell(LACKS)
    assert history.state.life is State.NOT_USABLE
    assert history.state.hold.reason == LACKS.reason
    history.later(2).tell(HEALTHY).read()
    assert history.state.life is State.READY
    assert history.state.hold.reason is None
    assert history.state.history.in_a_row == 0


def held_by_call() -> Told:
    """On hold because a call found what no probe sees."""
    history = ready().request().sent().fails(Diagnosis.NOT_USABLE).recorded()
    return history.later(5)


def test_what_a_call_has_found_only_a_self_test_can_clear() -> None:
    history = held_by_call()
    history.one(Probe)
    history.tell(HEALTHY)
    assert history.has(RunSelfTest)
    history.tell(PASSED).read()
    assert history.state.life is State.READY


def test_what_only_calls_find_does_not_use_up_a_jobs_attempts() -> None:
    """A full disk has room for the picture of a self-test, and none for that of a job."""
    history = ready()
    tries = 0
    for _ in range(8 * 360):  # eight hours, a look each ten seconds
        if history.state.life is State.READY:
            history.request().finish().sent().fails(Diagnosis.STORAGE).recorded()
            tries += 1
        history.later(10)
        if history.has(Probe):
            history.tell(HEALTHY)
        if history.has(RunSelfTest):
            history.tell(PASSED).read()
    assert 2 < tries < SENT_AT_MOST
    assert history.state.life is State.NOT_USABLE
    history.tell(Released(), HEALTHY).read()
    assert history.state.life is State.READY, "a person says that it is fixed"


def test_a_self_test_that_fails_on_hold_is_a_crash_and_the_webui_is_restarted() -> None:
    history = held_by_call().tell(HEALTHY, FAILED)
    assert history.state.life is State.COOLING_DOWN
    history.later(5).allowed()
    history.tell(Started(2))
    assert history.has(RunSelfTest), "it must pass one before it is ready"


def test_a_busy_webui_is_waited_for_and_its_hold_continues() -> None:
    history = held_by_call().tell(HEALTHY, INCONCLUSIVE)
    assert history.state.life is State.NOT_USABLE
    assert history.state.history.in_a_row == 0
    assert history.state.hold.in_a_row == 2


def test_a_generation_that_advances_keeps_the_hold() -> None:
    history = held_by_call().tell(replace(HEALTHY, position=("a", 1)))
    assert not history.has(RunSelfTest)
    history.later(30).tell(replace(HEALTHY, position=("a", 2)))
    assert not history.has(RunSelfTest)
    history.later(30).tell(replace(HEALTHY, position=("a", 2)))
    assert history.has(RunSelfTest), "a failed upscale leaves it set forever"


def test_a_persons_hold_delays_the_self_test() -> None:
    history = held_by_call().tell(PAUSED, HEALTHY)
    assert not history.has(RunSelfTest)
    assert history.state.life is State.NOT_USABLE
    history.tell(CallsAllowed()).later(30).tell(HEALTHY)
    assert history.has(RunSelfTest)


def test_nothing_is_started_on_a_persons_hold_and_health_is_still_checked() -> None:
    history = ready().tell(PAUSED)
    assert history.later(2).has(Probe)
    history.tell(ProcessExited(1, -9), HEALTHY, TreeStopped())
    assert history.later(3600).effects == ()
    assert history.tell(CallsAllowed()).allowed().has(Start)


def test_a_persons_hold_that_came_just_now_forbids_a_start_too() -> None:
    history = ready().died().later(5)
    assert history.effects == (AskForHold(),)
    assert history.tell(HoldChecked(held_by_person=True)).effects == ()
    assert history.later(3600).effects == ()
    history.tell(PAUSED)
    assert history.tell(CallsAllowed()).allowed().has(Start)


def test_a_start_on_a_persons_hold_waits_with_its_self_test() -> None:
    history = replace(CrashHistory(COOLDOWN), needs_self_test=True)
    history = new(history=history)
    history.tell(StartFailed(because("nothing"), 0)).allowed()
    history.tell(PAUSED, Started(1))
    assert history.state.life is State.NOT_USABLE
    assert history.state.hold.reason is not None
    assert history.later(0).has(Probe)
    assert history.tell(HEALTHY).effects == ()
    history.tell(CallsAllowed())
    assert history.later(30).has(Probe)
    assert history.tell(HEALTHY).has(RunSelfTest)


def test_a_person_who_releases_the_hold_needs_a_probe_and_no_self_test() -> None:
    history = held_by_call().tell(FROZEN)
    history.tell(Released())
    assert history.has(Probe)
    history.tell(HEALTHY)
    assert not history.has(RunSelfTest)
    history.read()
    assert history.state.life is State.READY


def test_a_release_does_not_shorten_a_cool_down() -> None:
    history = ready().died().tell(Released())
    assert history.effects == ()


def test_a_webui_that_freezes_on_hold_is_restarted() -> None:
    history = held_by_call()
    for _ in range(SETUP.health_failures):
        history.tell(FROZEN).later(30)
    assert history.state.life is State.COOLING_DOWN


def test_a_webui_that_failed_its_self_test_is_tested_before_it_is_ready_again() -> None:
    history = new(history=replace(CrashHistory(COOLDOWN), needs_self_test=True))
    history.tell(StartFailed(because("nothing"), 0)).allowed()
    history.tell(Started(1))
    assert history.has(RunSelfTest)
    history.tell(FAILED)
    assert history.state.hold.reason is not None, "it is fresh, so no restart helps"
    assert history.state.history.failed_fresh == 1


def test_an_external_webui_is_waited_for_and_never_stopped() -> None:
    history = ready(managed=False).later(2)
    for _ in range(SETUP.health_failures):
        history.tell(FROZEN).later(30)
    assert not history.count(StopTree)
    assert history.allowed().state.life is State.STARTING
    history.tell(StartFailed(because("no answer", Cure.PERSON), 0))
    assert history.state.life is State.NOT_USABLE


# -- recycling


def test_it_is_recycled_after_so_many_calls_before_the_next() -> None:
    history = ready(recycling=RecycleLimits(max_calls=1)).request().sent().replied().cleaned()
    assert history.one(Notify).what == Recycled("it made 1 call, and max_calls is 1")
    history.allowed().request(2)
    assert not history.has(BeforePost)
    history.tell(Started(2, read=True))
    assert history.one(BeforePost).incarnation == 2
    assert history.state.history.in_a_row == 0


def test_it_is_recycled_where_it_holds_too_much_memory_or_keeps_a_setting() -> None:
    for cleaned in (CleanedUp(rss=9_000_000), CleanedUp(left=("CLIP",))):
        history = ready(recycling=RecycleLimits(max_rss=5_000_000)).request().sent().replied()
        assert history.tell(cleaned).has(StopTree)


def test_memory_that_was_not_measured_stays_as_it_was() -> None:
    history = ready().request().sent().replied().cleaned(rss=5_000_000)
    history.request(2).sent().replied().cleaned()
    assert history.state.use.rss == 5_000_000


def test_it_is_not_recycled_while_no_call_may_start() -> None:
    history = ready(recycling=RecycleLimits(max_calls=1)).request().sent().tell(PAUSED)
    history.replied().cleaned()
    assert not history.has(StopTree)
    assert history.tell(CallsAllowed()).has(StopTree)


# -- stop


def test_a_stop_ends_the_tree_and_nothing_else_follows() -> None:
    history = ready().tell(Stop())
    assert history.effects == (StopTree(),)
    history.tell(TreeStopped())
    assert history.state.life is State.STOPPED
    assert history.request().end == GivenUp()
    assert next_deadline(history.state, history.now) == NEVER


def test_a_webui_that_is_left_running_is_not_stopped() -> None:
    history = ready(leaves_running=True).tell(Stop())
    assert history.effects == ()
    assert history.state.life is State.STOPPED


def test_a_stop_waits_for_the_call_under_way_and_gives_up_the_others() -> None:
    history = ready().request().sent().request(2).tell(Stop())
    assert history.effects == ()
    history.replied().cleaned()
    assert history.has(StopTree)
    ends = [effect.end for effect in history.effects if hasattr(effect, "end")]
    assert ends == [Succeeded((), "reply"), GivenUp()]


def test_a_failure_during_a_stop_is_recorded_and_the_run_resumes_later() -> None:
    history = ready().request().sent().tell(Stop()).fails(Diagnosis.CRASH).recorded()
    assert history.end == GivenUp()
    assert history.count(Start) == 1, "nothing is started any more"


@pytest.mark.parametrize("what", ["start", "self-test", "adoption"])
def test_a_stop_cuts_short_what_takes_long(what: str) -> None:
    history = {
        "start": starting,
        "self-test": lambda: held_by_call().tell(HEALTHY),
        "adoption": new,
    }[what]()
    history.tell(Stop())
    assert history.effects == (CutShort(),)
    answer = FAILED if what == "self-test" else StartFailed(because("given up"), 1)
    history.tell(answer)
    assert history.effects == (StopTree(),)
    history.tell(TreeStopped())
    assert history.state.life is State.STOPPED
    assert "crash" not in events_of(history)


def hung(what: str) -> Told:
    """A lane with a slow effect that never ends, asked to stop."""
    if what == "start":
        return starting().tell(Stop())
    if what == "probe":
        return ready().later(30).tell(Stop())
    if what == "self-test":
        return held_by_call().tell(HEALTHY, Stop())
    if what == "clean-up":
        return ready().request().sent().replied().tell(Stop())
    history = ready().request().sent().fails().recorded().restarted(5)
    history.sent().fails().recorded().restarted(10)
    history.one(RunSelfTest)
    return history.tell(Stop())


@pytest.mark.parametrize("what", ["start", "probe", "self-test", "clean-up", "test of a call"])
def test_a_stop_waits_only_so_long_for_what_hangs(what: str) -> None:
    history = hung(what)
    wanted = next_deadline(history.state, history.now)
    assert wanted == history.at + SETUP.stop_limit
    assert not history.later(SETUP.stop_limit - 0.1).effects
    history.later(0.1)
    assert history.has(LetGo)
    assert history.has(StopTree)
    assert not history.state.calls, "its run is answered"
    history.tell(TreeStopped())
    assert history.state.life is State.STOPPED


def test_a_stop_ends_although_the_tree_cannot_be_stopped() -> None:
    history = ready().tell(Stop())
    history.one(StopTree)
    history.later(SETUP.stop_limit)
    assert history.effects == (LetGo(),)
    assert history.state.life is State.STOPPED


def hung_in_evidence() -> Told:
    """A call fails in the last moment of its time to end, and its evidence does not come."""
    history = ready().request().sent().tell(Stop()).fails_slowly()
    return history.tell(Cancelled(1))


def hung_in_its_clean_up() -> Told:
    """A call succeeds in that moment."""
    return ready().request().sent().tell(Stop()).replied()


@pytest.mark.parametrize("hung", [hung_in_evidence, hung_in_its_clean_up])
def test_whatever_hangs_a_stop_is_over_before_a_service_manager_kills(
    hung: Callable[[], Told], tmp_path: Path
) -> None:
    webuis = b"webuis: {sim: {command: [sim], url: 'http://127.0.0.1:7860'}}"
    config = parse_config(b"spool: s\nstate: t\n" + webuis, "it", tmp_path)
    (webui,) = config.webuis
    assert SETUP.stop_limit == stop_limit(webui.stop_grace)
    history = hung()
    began = history.at
    while history.state.life is not State.STOPPED:
        wait = next_deadline(history.state, history.now) - history.at
        assert wait < NEVER
        history.later(wait)
    takes = config.stop_grace + (history.at - began) + webui.stop_grace
    assert takes <= longest_stop(config)


def test_a_call_under_way_in_a_stop_has_its_own_time() -> None:
    history = ready().request().sent().tell(Stop()).later(3600)
    assert history.effects == ()
    history.replied()
    assert next_deadline(history.state, history.now) == history.at + SETUP.stop_limit
    assert history.cleaned().has(StopTree)


def test_the_same_history_has_the_same_cool_down() -> None:
    def waits() -> list[float]:
        history = ready()
        found = []
        for _ in range(4):
            history.died()
            found.append(history.state.history.remaining(history.now))
            history.later(found[-1]).started()
        return found

    assert waits() == waits() == [5.0, 10.0, 20.0, 20.0]


def test_its_lists_are_read_before_it_is_ready() -> None:
    history = starting().tell(Started(1))
    assert history.effects == (ReadLists(),)
    assert history.state.life is State.STARTING


def crashed_by_jobs() -> CrashHistory:
    """Three jobs in a row crashed it just now."""
    kind = IdleFailure.CRASHED_REPEATEDLY
    return CrashHistory(COOLDOWN).crashed(kind, Told().now, runs=("a", "b", "c"))[0]


def test_a_webui_that_jobs_crashed_in_a_row_is_sent_nothing_for_the_longest_cool_down() -> None:
    history = new(history=crashed_by_jobs())
    assert history.state.hold.reason is not None
    assert history.state.hold.reason.failed_runs == ("a", "b", "c")
    history.tell(StartFailed(because("nothing"), 0)).request()
    history.later(COOLDOWN[-1] - 1)
    assert not history.count(Start)
    history.later(1).started()
    assert history.has(RunSelfTest), "the cool-down is over"
    assert history.state.hold.reason is not None
    history.tell(PASSED).read()
    assert history.state.hold.reason is None
    assert history.has(BeforePost)


def test_a_webui_that_is_adopted_after_jobs_crashed_it_waits_for_its_self_test() -> None:
    history = new(history=crashed_by_jobs()).tell(Started(1, adopted=True))
    assert not history.count(RunSelfTest)
    assert history.state.hold.reason is not None
    history.later(COOLDOWN[-1])
    assert history.has(RunSelfTest)


def test_a_person_who_fixed_it_ends_the_cool_down_after_jobs_and_no_other() -> None:
    history = new(history=crashed_by_jobs())
    history.tell(StartFailed(because("nothing"), 0), Released())
    assert history.has(AskForHold)
    crashed = ready().died().tell(Released())
    assert not crashed.has(AskForHold)


# -- a lane at rest


def test_a_stop_that_waits_for_a_record_does_not_spin() -> None:
    history = ready().request().sent().fails(Diagnosis.INTERRUPTED)
    history.tell(Stop())
    history.at = history.state.next_check + 1
    assert not spins(history.state, history.now)


def test_nothing_that_waits_for_a_start_spins_in_a_cool_down() -> None:
    crash = Crash("crash", Instant(0.0, 999.0, "boot"))
    history = new(history=CrashHistory((60.0,), (crash,)))
    history.tell(StartFailed(LACKS.reason, 1, answers=True))
    assert history.state.life is State.NOT_USABLE
    history.tell(CallsAllowed(frees=True)).one(StopTree)
    history.tell(TreeStopped(), CallsAllowed())
    assert history.state.nothing_runs
    assert not spins(history.state, history.now)
    assert next_deadline(history.state, history.now) == 1059.0
    assert history.later(59).allowed().has(Start)


# -- the exit code


def exit_code_saved(history: Told) -> object:
    return history.one(SaveCrashHistory).record.fields.get("exit_code")


def test_the_exit_code_of_an_idle_crash_is_saved_and_said() -> None:
    history = ready().tell(ProcessExited(1, -11))
    assert exit_code_saved(history) == -11
    seen = history.one(Notify).what
    assert isinstance(seen, CrashSeen)
    assert "(killed by signal 11, SIGSEGV)" in seen.why
    assert seen in [each.what for each in history.state.hold.tried], "a hold that follows says it"


def test_the_exit_code_of_a_crash_under_a_call_is_saved() -> None:
    history = ready().request().sent().tell(ProcessExited(1, 139)).replied(plain_error())
    assert exit_code_saved(history.explained_as(Diagnosis.CRASH)) == 139


def test_a_crash_whose_exit_nobody_saw_has_no_exit_code() -> None:
    history = ready(managed=False).request().sent().fails(Diagnosis.CRASH)
    assert exit_code_saved(history) is None


def test_the_exit_code_of_a_start_that_answered_and_ended_is_in_its_hold() -> None:
    history = starting().tell(Started(1), ProcessExited(1, 3))
    if history.state.hold.reason is None:
        history.read()
    assert history.state.hold.reason is not None
    assert "(exit code 3)" in history.state.hold.reason.cause

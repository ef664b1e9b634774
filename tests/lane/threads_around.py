"""A lane with threads around it, each in its own time: one queue of events, a helper, runs with a
disk, a process that lives or not, and a monitor that may be killed.

What comes late is late, but nothing comes that cannot: an old process answers nothing once it is
reaped. The promises are asserted where an effect is performed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sdwatch.errors import (
    WebUIBusyError,
    WebUIError,
    WebUINotSentError,
    WebUIServerError,
    WebUIUnreachableError,
)
from sdwatch.lane.crash_history_file import _fields_of
from sdwatch.policy.failure.diagnosis import SizeTest
from sdwatch.policy.failure.facts import Blamed, Diagnosis
from sdwatch.policy.failure.hold_reason import Cure
from sdwatch.policy.failure.lifecycle import State
from sdwatch.policy.failure.recovery import CUT_OFFS, SENT_AT_MOST, Action, counts
from sdwatch.policy.lane.advance import next_deadline
from sdwatch.policy.lane.crash_history import CrashHistory
from sdwatch.policy.lane.effects import (
    Abandon,
    Adopt,
    Answer,
    AskForHold,
    AwaitTraceback,
    BeforePost,
    BringBack,
    CleanUp,
    CutShort,
    Effect,
    ExplainFailure,
    Failed,
    FreeGpu,
    GivenUp,
    Interrupt,
    Later,
    LetGo,
    NotSent,
    Post,
    Probe,
    ReadLists,
    RecordFailure,
    RecordSelfTest,
    RunSelfTest,
    RunSizeTest,
    SaveCrashHistory,
    Start,
    StopTree,
    Succeeded,
    ToRun,
)  # fmt: skip
from sdwatch.policy.lane.events import (
    Attempt,
    CallLedgerView,
    CallRequested,
    CallsAllowed,
    Cancelled,
    CheckpointBack,
    CleanedUp,
    DeadlinePassed,
    FailureExplained,
    Freeing,
    GpuFreed,
    Health,
    HoldChecked,
    InterruptRefused,
    LaneEvent,
    ListsRead,
    NotNow,
    NotPosted,
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
    Stalled,
    Started,
    StartFailed,
    Stop,
    TracebackComplete,
    TreeStopped,
)  # fmt: skip
from sdwatch.policy.lane.instant import Instant
from sdwatch.policy.lane.machine import step
from sdwatch.policy.lane.state import NEVER, Freed, LaneState, Setup, new_lane
from sdwatch.policy.lane.turn import CONNECT_WAIT, READ_WAIT
from tests.lane.history_of import COOLDOWN, WANTED, because, explained, spins

SLOW = (
    Adopt, Start, AskForHold, StopTree, Probe, ReadLists, RunSelfTest, RunSizeTest, CleanUp,
    FreeGpu, BringBack,
)  # fmt: skip


@dataclass(eq=False)
class Run:
    """A run with one call. `id`: of its request; 0 without a thread."""

    name: str
    id: int = 0
    counted: int = 0
    sent: int = 0  # without attempts given up
    excused: int = 0
    crash_count: int = 0
    cut_offs: int = 0
    attempts: tuple[Attempt, ...] = ()
    open: bool = False
    over: bool = False
    inbox: list[ToRun] = field(default_factory=list)
    given_up: str = ""
    waiting: bool = False
    end: str = ""
    posts: int = 0  # that really went out
    posts_given_up: int = 0
    went_out: bool = False

    def died(self) -> None:
        """Its journal is read again."""
        self.id, self.inbox, self.given_up, self.waiting = 0, [], "", False
        if self.open:
            self.open, self.cut_offs = False, self.cut_offs + 1
        if self.over or self.cut_offs > CUT_OFFS:
            self.end = self.end or "failed"

    def give_up(self) -> None:
        if self.open:
            self.open, self.sent = False, self.sent - 1
            self.posts_given_up += self.went_out


@dataclass(eq=False)
class Posted:
    call: int
    number: int
    incarnation: int
    started: bool = False
    connected: bool = False
    arrived: bool = False
    abandoned: bool = False
    stalled: bool = False
    interrupted: bool = False


class World:
    """`draw`: chooses a number below the given one."""

    def __init__(self, draw: Callable[[int], int], setup: Setup) -> None:
        self.draw, self.setup = draw, setup
        self.at = 1000.0
        self.records: list[dict[str, Any]] = []
        self.runs: list[Run] = []
        self.ids = 0
        self.hold_file = False
        self.disk_closed = False
        self.gpu_wanted = False  # for something else
        self.incarnation = 0
        self.alive = False
        self.kind = False  # everything goes well from now on
        self.rough = draw(2) == 0  # most calls and self-tests fail
        self.trace: list[str] = []
        self.start_monitor()

    @property
    def now(self) -> Instant:
        return Instant(1_790_000_000.0 + self.at, self.at, "boot")

    # -- the monitor

    def start_monitor(self) -> None:
        history = CrashHistory(COOLDOWN)
        for record in self.records:
            history = history.replayed(record)
        self.state: LaneState = new_lane(self.setup, history)
        self.queue: list[LaneEvent] = [DeadlinePassed()]
        self.helper: list[Effect] = []
        self.spawned: Start | None = None
        self.posts: list[Posted] = []
        self.unnoticed: list[ProcessExited] = []
        self.replied: set[tuple[int, int]] = set()  # that the machine has seen
        self.cut = self.stopping = False
        self.allowed = CallsAllowed()
        self.delivered_exits: dict[int, float] = {}  # and when

    def kill_monitor(self) -> None:
        self.trace.append("KILL -9 of the monitor")
        for run in self.runs:
            if not run.end:
                run.died()
        self.start_monitor()

    def put(self, event: LaneEvent) -> None:
        self.trace.append(f"  put {event}")
        self.queue.append(event)

    def loop_works(self) -> None:
        event = self.queue.pop(0) if self.queue else DeadlinePassed()
        self.tell(event)

    def tell(self, event: LaneEvent) -> None:
        if isinstance(event, Replied):
            self.replied.add((event.call, event.number))
        if isinstance(event, ProcessExited):
            self.delivered_exits[event.incarnation] = self.at
        self.state, effects = step(self.state, event, self.now)
        self.trace.append(f"{self.at:.1f} {event} -> {effects} | {self.brief()}")
        assert not spins(self.state, self.now), f"it spins: {self.brief()}"
        for number, effect in enumerate(effects):
            if not self.kind and self.draw(400) == 0:
                self.trace.append(f"(only {number} of the effects)")
                self.kill_monitor()
                return
            self.perform(effect)

    def brief(self) -> str:
        s = self.state
        calls = [(c.id, str(c.phase)) for c in s.calls]
        may_not = f"no_call={s.no_call} held_by_person={s.held_by_person}"
        return f"{s.life} busy={s.busy} up={s.up.name} {calls} {may_not}"

    # -- effects

    def perform(self, effect: Effect) -> None:
        if isinstance(effect, SaveCrashHistory):
            self.records.append(_fields_of(effect.record))
        elif isinstance(effect, (*SLOW, AwaitTraceback, ExplainFailure, Interrupt)):
            self.perform_slow(effect)
            if isinstance(effect, ExplainFailure) and effect.exited:
                self.check_lost(self.post_of(effect.call))
        elif isinstance(effect, Post):
            self.perform_post(effect)
        elif isinstance(effect, Abandon):
            for post in self.posts:
                if post.call == effect.call:
                    post.abandoned = True
        elif isinstance(effect, CutShort):
            self.cut = True
        elif isinstance(effect, LetGo):
            hangs = [each for each in self.helper if isinstance(each, SLOW)]
            assert self.stopping or not hangs
            self.helper.clear()  # it hangs, and its answer is dropped
        elif isinstance(effect, ToRun):
            run = self.run_of(effect.call)
            if run is not None:
                run.inbox.append(effect)

    def perform_slow(self, effect: Effect) -> None:
        if isinstance(effect, SLOW):
            waiting = [each for each in self.helper if isinstance(each, SLOW)]
            assert not waiting, f"{effect} beside {waiting}"
        if isinstance(effect, Start | Adopt):
            assert not self.state.stopping, "started while it stops"
        if isinstance(effect, Start):
            assert self.state.history.remaining(self.now) == 0, "started in a cool-down"
            assert not self.state.held_by_person, "started on a person's hold"
            assert not self.state.frees, "started while the GPU is wanted"
        if isinstance(effect, FreeGpu | BringBack):
            assert all(post.abandoned for post in self.posts), "under a call"
            assert self.state.frees is isinstance(effect, FreeGpu)
        if isinstance(effect, RunSelfTest):
            assert not self.state.stopping
        if isinstance(effect, Interrupt) and effect.waits:
            seen = any(
                call == effect.call
                for call, number in self.replied
                if (post := self.post_of(effect.call)) is None or number == post.number
            )
            assert not seen, "an interrupt of a POST whose reply was seen"
        if not isinstance(effect, Interrupt) and not self.stopping:
            self.cut = False
        self.helper.append(effect)

    def post_of(self, call: int) -> Posted | None:
        return next((post for post in self.posts if post.call == call), None)

    def check_lost(self, post: Posted | None) -> None:
        """The end of a process costs no reply that was complete before, and no attempt that never
        went out."""
        if post is None:
            return
        waited = self.at - self.delivered_exits[post.incarnation]
        assert post.connected or waited >= CONNECT_WAIT, (
            "a call that was not sent counts as a crash"
        )
        if post.arrived:
            assert waited >= READ_WAIT, "a complete reply is thrown away"

    def perform_post(self, effect: Post) -> None:
        state, run = self.state, self.run_of(effect.call)
        assert state.life is State.READY, "sent while it is down"
        assert state.history.remaining(self.now) == 0
        assert not state.no_call
        assert not state.frees
        assert state.freed is Freed.NO, "its checkpoint is not back"
        beside = [each for each in self.helper if not isinstance(each, Interrupt)]
        assert not beside, f"sent beside {beside}"
        assert not any(not post.abandoned for post in self.posts), "two at once"
        if run is not None:  # else its thread broke a moment ago
            assert run.open, "its start is not on disk"
            assert run.counted < 2
        if self.setup.managed:
            assert state.incarnation == self.incarnation, "to another incarnation"
            assert self.alive or self.incarnation not in self.delivered_exits, "sent to the dead"
        self.posts.append(Posted(effect.call, effect.number, self.incarnation))

    # -- the helper

    def helper_works(self) -> None:
        effect = self.helper[0]
        choice = 0 if self.kind else self.draw(8)
        if isinstance(effect, Start) and self.setup.managed and self.spawned is not effect:
            if choice == 7:  # port taken, no such command
                self.end_slow(
                    StartFailed(because("port", Cure.PERSON), self.incarnation, has_printed=False)
                )
                return
            assert not self.alive, "two processes"
            self.incarnation += 1
            self.alive, self.spawned = True, effect
            self.trace.append(f"  spawned {self.incarnation}")
            return
        self.end_slow(self.result_of(effect, choice))

    def end_slow(self, event: LaneEvent | None) -> None:
        self.helper.pop(0)
        if event is not None:
            self.put(event)

    def result_of(self, effect: Effect, choice: int) -> LaneEvent | None:
        managed = self.setup.managed
        if isinstance(effect, Adopt):
            return self.adopted(effect, choice)
        if isinstance(effect, Start):
            return self.start_result(effect, choice)
        if isinstance(effect, AskForHold):
            return HoldChecked(self.hold_file)
        if isinstance(effect, StopTree):
            held_by_person = self.hold_file if effect.unless_held else None
            if held_by_person:
                return TreeStopped(held_by_person=True)
            if choice == 6 and self.alive:
                return TreeStopped(because("cannot be killed"), held_by_person)
            self.alive = False  # expected: nobody reports it
            return TreeStopped(None, held_by_person)
        if isinstance(effect, Probe):
            if managed and not self.alive:
                return ProbeAnswered(Health.FAILED, because("refused"))
            health = (Health.READY,) * 5 + (Health.LACKS, Health.FAILED, Health.READY)
            position = ("job", self.at) if effect.occupancy and choice == 7 else None
            return ProbeAnswered(health[choice], because(str(health[choice])), position)
        if isinstance(effect, ReadLists):
            return ListsRead()
        if isinstance(effect, RunSelfTest):
            if self.cut:
                return SelfTestAnswered(SelfTestEnd.NOT_RUN)
            if managed and not self.alive:
                return SelfTestAnswered(SelfTestEnd.FAILED, because("its process ended"))
            passed, failed = SelfTestEnd.PASSED, SelfTestEnd.FAILED
            ends = (*[passed] * 4, *[failed] * 3, SelfTestEnd.INCONCLUSIVE)
            choice = choice + 1 if self.rough and choice < 7 else choice
            return SelfTestAnswered(ends[choice], because(str(ends[choice])), choice == 3)
        if isinstance(effect, RunSizeTest):
            return SizeTestAnswered(list(SizeTest)[choice % 4])
        if isinstance(effect, FreeGpu):
            return GpuFreed(list(Freeing)[choice % 3])
        if isinstance(effect, BringBack):
            return CheckpointBack(failed=choice == 7)
        if isinstance(effect, CleanUp):
            return CleanedUp(("a",) if choice == 7 else (), rss=choice * 1_000_000)
        if isinstance(effect, AwaitTraceback):
            return TracebackComplete(effect.call)
        if isinstance(effect, ExplainFailure):
            return self.failure_explained(effect)
        assert isinstance(effect, Interrupt)
        if (managed and not self.alive) or choice > 5:
            return InterruptRefused(effect.call) if effect.waits else None
        if (post := self.post_of(effect.call)) is not None:
            post.interrupted = True
        return None

    def adopted(self, effect: Adopt, choice: int) -> LaneEvent:
        if not self.setup.managed:
            if choice < 6:
                return Started(0, True, effect.reads)
            return StartFailed(because("no answer"), 0, answers=choice == 7)
        if not self.alive or self.cut:
            held = self.hold_file if choice < 4 else None
            return StartFailed(because("nothing"), self.incarnation, held_by_person=held)
        if choice < 6:
            return Started(self.incarnation, True, effect.reads, in_doubt=choice == 5)
        if choice == 7:
            return StartFailed(because("no model", Cure.PERSON), self.incarnation, answers=True)
        self.alive = False
        return StartFailed(because("hung"), self.incarnation)

    def start_result(self, effect: Start, choice: int) -> LaneEvent:
        self.spawned = None
        if not self.setup.managed:
            if self.cut or choice > 5:
                return StartFailed(because("no answer"), 0, answers=choice == 7)
            return Started(0, False, effect.reads)
        if self.alive and choice < 6 and not self.cut:
            return Started(self.incarnation, False, effect.reads)
        if self.alive and choice == 7 and not self.cut:
            return StartFailed(because("no model", Cure.PERSON), self.incarnation, answers=True)
        self.alive = False
        cure = Cure.PERSON if choice == 6 else Cure.RESTART
        return StartFailed(because("x", cure), self.incarnation)

    def failure_explained(self, effect: ExplainFailure) -> LaneEvent:
        if effect.exited or isinstance(effect.error, WebUIUnreachableError):
            diagnosis = Diagnosis.CRASH
        elif isinstance(effect.error, WebUIBusyError):
            diagnosis = Diagnosis.BUSY
        else:
            diagnosis = list(Diagnosis)[self.draw(len(Diagnosis))]
        blames = [None, Blamed.JOB, Blamed.WEBUI][self.draw(3)]
        explanation = explained(diagnosis, poisons=diagnosis is Diagnosis.POISONED, blames=blames)
        key = explanation.key if self.draw(2) else None
        return FailureExplained(effect.call, effect.error, explanation, key)

    # -- the WebUI

    def dies(self) -> None:
        self.alive = False
        self.trace.append(f"  the process {self.incarnation} dies")
        self.unnoticed.append(ProcessExited(self.incarnation, -9))

    def exit_is_noticed(self) -> None:
        self.put(self.unnoticed.pop(0))

    def goes_out(self, post: Posted) -> None:
        """Its thread sends it, unless it was abandoned before."""
        if post.abandoned:
            self.posts.remove(post)
            self.put(NotPosted(post.call, post.number))
            return
        post.started = True
        post.connected = self.kind or self.draw(6) > 0
        if post.connected and (run := self.run_of(post.call)) is not None:
            run.posts, run.went_out = run.posts + 1, True
            assert run.posts - run.posts_given_up <= SENT_AT_MOST, "sent too often"
        self.put(PostStarted(post.call, post.number))

    def arrives(self, post: Posted) -> None:
        """Its whole reply is here, to be decoded."""
        post.arrived = True
        self.put(ReplyArrived(post.call, post.number))

    def replies(self, post: Posted) -> None:
        self.posts.remove(post)
        if not post.connected:
            refused = Replied(post.call, post.number, WebUINotSentError("refused"))
            self.put(NotPosted(post.call, post.number) if post.abandoned else refused)
            return
        gone = self.setup.managed and not (self.alive and self.incarnation == post.incarnation)
        error: WebUIError | None
        if post.arrived:
            error = None if self.kind or self.draw(3) else WebUIError("not what was asked for")
        elif gone:
            error = WebUIUnreachableError("reset")
        elif post.abandoned:
            error = WebUIUnreachableError("given up")
        elif self.kind or post.interrupted:
            error = None
        else:
            busy = WebUIBusyError("x", status=504)
            busy.after = 60.0
            errors = [None, WebUIServerError("500", status=500), WebUIError("x"),
                      WebUIUnreachableError("x"), busy]  # fmt: skip
            errors += [] if self.rough else [None, None]
            error = errors[self.draw(len(errors))]
        self.put(Replied(post.call, post.number, error, "reply"))

    def stalls(self, post: Posted) -> None:
        post.stalled = True
        self.put(Stalled(post.call, post.number, "no progress"))

    # -- the runs

    def run_of(self, call: int) -> Run | None:
        return next((run for run in self.runs if run.id == call), None)

    def starts(self, run: Run) -> None:
        """Its thread starts, or asks again."""
        if run.over or run.cut_offs > CUT_OFFS:
            run.end = "failed"
            return
        self.ids += 1
        run.id, run.waiting, run.inbox = self.ids, True, []
        ledger = CallLedgerView(run.counted, run.sent, run.excused, run.crash_count, run.attempts)
        self.put(CallRequested(run.id, ledger, "txt2img", WANTED, run.name, run.name))
        if run.given_up:
            self.put(Cancelled(run.id))

    def ends(self, run: Run, end: str = "") -> None:
        run.id, run.inbox, run.waiting = 0, [], False
        run.end = end or ("cancelled" if run.given_up == "cancel" and not end else "")
        run.given_up = ""

    def run_works(self, run: Run) -> None:
        message = run.inbox.pop(0)
        self.trace.append(f"  {run.name} takes {message}")
        choice = 0 if self.kind else self.draw(12)
        run.waiting = False
        if choice == 10 and not isinstance(message, NotSent | Answer):
            run.inbox.insert(0, message)  # the disk refuses it, and it tries again
        elif isinstance(message, BeforePost):
            self.run_starts(run, message, choice)
        elif isinstance(message, NotSent):
            run.waiting = True
            run.went_out = False
            run.give_up()
        elif isinstance(message, RecordFailure):
            run.open, run.went_out = False, False
            run.attempts += (message.attempt,)
            run.counted += counts(message.failure.explanation.diagnosis)
            run.crash_count += message.attempt.crashed
            run.over = message.decision.action is Action.FAIL
            assert run.counted <= 2, "a third counted attempt"
            self.put(Recorded(run.id, message.number))
        elif isinstance(message, RecordSelfTest):
            if message.decision.excuses:
                run.counted, run.excused, run.crash_count = run.counted - 1, run.excused + 1, 0
            elif message.decision.action is Action.TEST_AGAIN:
                run.crash_count += 1
            run.over = message.decision.action is Action.FAIL
            assert run.excused <= 1
            self.put(Recorded(run.id, message.number))
        else:
            assert isinstance(message, Answer)
            self.run_is_answered(run, message)

    def run_starts(self, run: Run, message: BeforePost, choice: int) -> None:
        if self.hold_file or self.disk_closed:
            run.waiting = True
            self.put(NotNow(run.id))
        elif choice == 11:
            self.put(RunGone(run.id))  # the disk refuses it
            self.ends(run)
        else:
            assert not run.open
            run.open, run.sent = True, run.sent + 1
            assert message.number == run.sent, "the lane and the journal count differently"
            self.put(Recorded(run.id, message.number))

    def run_is_answered(self, run: Run, message: Answer) -> None:
        end = message.end
        assert not run.inbox, "something follows the answer"
        if isinstance(end, GivenUp):
            run.give_up()
            run.went_out = False
            assert run.given_up or self.stopping, "given up, but nobody asked for it"
            self.ends(run)
        elif isinstance(end, Later):
            assert run.attempts
            if run.given_up:
                self.ends(run)
            else:
                self.starts(run)
        else:
            assert isinstance(end, Succeeded | Failed)
            assert isinstance(end, Succeeded) or run.over or run.sent >= SENT_AT_MOST
            run.open = False
            self.ends(run, "done" if isinstance(end, Succeeded) else "failed")

    # -- the monitor's main thread, and people

    def tick(self) -> None:
        closed = self.hold_file or self.disk_closed
        allowed = CallsAllowed(not closed, self.hold_file, self.gpu_wanted)
        if self.must_say(allowed):
            self.allowed = allowed
            self.put(allowed)
        if self.state.hold.reason is not None:
            for run in self.runs:
                if run.id and run.waiting:
                    self.give_up(run, "stop")
        if not allowed.allowed or self.stopping:
            return
        for run in self.runs:
            active = sum(run.id > 0 for run in self.runs)
            if active < 2 and not run.id and not run.end and self.state.is_sound(self.now):
                self.starts(run)

    def must_say(self, allowed: CallsAllowed) -> bool:
        state = self.state
        differs = state.no_call is allowed.allowed or state.frees is not allowed.frees
        differs = differs or state.held_by_person is not allowed.held_by_person
        return allowed != self.allowed or differs

    def give_up(self, run: Run, why: str) -> None:
        run.given_up = "cancel" if "cancel" in (why, run.given_up) else why
        self.put(Cancelled(run.id))

    def stop(self) -> None:
        self.trace.append("STOP")
        self.stopping = True
        self.put(Stop())

    # -- what happens

    def continues(self, steps: int) -> None:
        """So many things happen."""
        for _ in range(steps):
            self.happens()

    def happens(self) -> None:
        actions: list[Callable[[], None]] = [self.loop_works] * min(5, len(self.queue))
        actions += [self.tick, self.time_passes]
        if self.helper:
            actions += [self.helper_works] * 3
        for post in self.posts:
            if not post.started:
                actions += [lambda post=post: self.goes_out(post)] * 3
                continue
            if not post.arrived or self.draw(3) == 0:  # decoding takes a while
                actions.append(lambda post=post: self.replies(post))
            lives = not self.setup.managed or (self.alive and self.incarnation == post.incarnation)
            lives = lives and post.connected
            if lives and not post.arrived and not post.abandoned and self.draw(2):
                actions.append(lambda post=post: self.arrives(post))
            if not post.stalled and not post.abandoned and self.draw(4) == 0:
                actions.append(lambda post=post: self.stalls(post))
        if self.unnoticed:
            actions += [self.exit_is_noticed] * 2
        for run in self.runs:
            if run.inbox:
                actions += [lambda run=run: self.run_works(run)] * 2
        if self.draw(6) == 0:
            actions += self.rare()
        actions[self.draw(len(actions))]()

    def rare(self) -> list[Callable[[], None]]:
        actions: list[Callable[[], None]] = []
        if self.setup.managed and self.alive:
            actions += [self.dies] * (3 if self.posts else 1)
        active = [run for run in self.runs if run.id]
        if active:
            run = active[self.draw(len(active))]
            why = "cancel" if self.draw(2) else "stop"
            actions.append(lambda: self.give_up(run, why))
            if self.draw(3) == 0:
                actions.append(lambda: self.breaks(run))
        if len(self.runs) < 12:
            actions += [self.drop] * 4
        if self.draw(3) == 0:
            actions.append(lambda: self.put(Released()))
            actions.append(self.turn_hold)
            actions.append(self.turn_disk)
            actions.append(self.turn_gpu)
        if self.draw(8) == 0:
            actions.append(self.kill_monitor)
        return actions or [self.tick]

    def drop(self) -> None:
        self.runs.append(Run(f"run-{len(self.runs)}"))

    def turn_hold(self) -> None:
        self.hold_file = not self.hold_file
        self.trace.append(f"  hold file: {self.hold_file}")

    def turn_gpu(self) -> None:
        self.gpu_wanted = not self.gpu_wanted

    def breaks(self, run: Run) -> None:
        """Its thread ends by an internal error, and its journal is read again."""
        self.put(RunGone(run.id))
        run.died()

    def turn_disk(self) -> None:
        self.disk_closed = not self.disk_closed

    def time_passes(self) -> None:
        wanted = next_deadline(self.state, self.now)
        pauses = [0.0, 0.3, 1.0, 5.0, 70.0]
        if wanted < NEVER:
            pauses += [max(0.0, wanted - self.at)] * 3
        self.at += pauses[self.draw(len(pauses))]
        if not self.queue:
            self.tell(DeadlinePassed())

    # -- the end

    def comes_to_rest(self, most: int = 3000) -> None:
        """From now on the world answers everything, and nothing fails."""
        self.kind, self.hold_file, self.disk_closed, self.gpu_wanted = True, False, False, False
        for _ in range(most):
            if self.unnoticed:
                self.exit_is_noticed()
            elif self.queue:
                self.loop_works()
            elif any(run.inbox for run in self.runs):
                self.run_works(next(run for run in self.runs if run.inbox))
            elif self.posts:
                answers = self.replies if self.posts[0].started else self.goes_out
                answers(self.posts[0])
            elif self.helper:
                self.helper_works()
            elif self.is_at_rest:
                return
            else:
                self.wait_for_time()
        raise AssertionError(f"no rest: {self.brief()}")

    @property
    def is_at_rest(self) -> bool:
        if self.stopping:
            return self.state.life is State.STOPPED and not any(run.id for run in self.runs)
        return all(run.end for run in self.runs) and self.state.life is State.READY

    def wait_for_time(self) -> None:
        self.tick()
        if self.queue:
            return
        wanted = next_deadline(self.state, self.now)
        assert wanted < NEVER, f"it waits forever: {self.brief()}"
        self.at = max(wanted, self.at) + 0.001  # the wall clock's numbers are that coarse
        self.tell(DeadlinePassed())

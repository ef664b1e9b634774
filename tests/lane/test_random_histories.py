"""Random histories of a lane, its runs, its WebUI and its people: whatever happens in whatever
order, the machine stays in its tables and keeps its promises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdwatch.errors import WebUIBusyError, WebUIError, WebUIUnreachableError
from sdwatch.policy.failure.diagnosis import SizeTest
from sdwatch.policy.failure.facts import Blamed, Diagnosis
from sdwatch.policy.failure.hold_reason import Cure
from sdwatch.policy.failure.lifecycle import State
from sdwatch.policy.failure.recovery import SENT_AT_MOST, counts
from sdwatch.policy.lane.advance import next_deadline
from sdwatch.policy.lane.effects import (
    Abandon,
    Adopt,
    Answer,
    AskForHold,
    AwaitTraceback,
    BeforePost,
    BringBack,
    CaptureTail,
    CleanUp,
    CutShort,
    DrawForAdvice,
    Effect,
    Failed,
    FreeGpu,
    GivenUp,
    Interrupt,
    Later,
    LetGo,
    NoteCannot,
    Notify,
    NotSent,
    Post,
    Probe,
    ReadLists,
    RecordFailure,
    RecordSelfTest,
    RunSelfTest,
    SaveCrashHistory,
    Start,
    StopTree,
    Succeeded,
)
from sdwatch.policy.lane.events import (
    Attempt,
    CallLedgerView,
    CallRequested,
    CallsAllowed,
    Cancelled,
    CheckpointBack,
    CleanedUp,
    DeadlinePassed,
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
    RecordRefused,
    Released,
    Replied,
    RunGone,
    SelfTestAnswered,
    SelfTestEnd,
    SizeTested,
    Stalled,
    Started,
    StartFailed,
    Stop,
    TailCaptured,
    TracebackComplete,
    TreeStopped,
)
from sdwatch.policy.lane.history import History
from sdwatch.policy.lane.state import NEVER, Freed, RecycleLimits, Setup, new_lane
from tests.examples import examples
from tests.lane.history_of import COOLDOWN, SETUP, WANTED, Told, because, explained, spins

SLOW = (
    Adopt, Start, AskForHold, StopTree, Probe, ReadLists, RunSelfTest, DrawForAdvice, CleanUp,
    FreeGpu, BringBack,
)  # fmt: skip
"""At most one of these is under way."""


@dataclass
class Run:
    """One run's call, as its journal has it."""

    id: int
    ledger: CallLedgerView = field(default_factory=CallLedgerView)
    waits: bool = False  # for the lane
    owes: Effect | None = None  # what it must record
    number: int = 0  # of a POST whose start is recorded, and which has not ended
    posts: int = 0
    done: bool = False
    refused: bool = False


@dataclass
class World:
    """The lane, and everything around it. `draw`: chooses a number below the given one."""

    draw: Callable[[int], int]
    setup: Setup
    history: Told = field(init=False)
    runs: dict[int, Run] = field(default_factory=dict)
    slow: list[Effect] = field(default_factory=list)
    post: Post | None = None
    started: bool = False  # it went out
    withdrawn: list[Post] = field(default_factory=list)  # abandoned before that
    tracebacks: list[int] = field(default_factory=list)
    captures: list[CaptureTail] = field(default_factory=list)
    interrupts: list[Interrupt] = field(default_factory=list)
    alive: bool = False
    incarnation: int = 0
    unreaped: bool = False
    calls: int = 0
    stopped: bool = False

    def __post_init__(self) -> None:
        self.history = Told(new_lane(self.setup, History(COOLDOWN)))
        self.tell(DeadlinePassed())

    # -- what the machine asks for, with the promises that must hold then

    def tell(self, event: LaneEvent) -> None:
        self.history.tell(event)
        assert not spins(self.history.state, self.history.now), f"it spins: {self.history.state}"
        for effect in self.history.effects:
            self.take(effect)

    def take(self, effect: Effect) -> None:
        if isinstance(effect, SLOW):
            assert not self.slow, f"{effect} beside {self.slow}"
            self.slow.append(effect)
        if isinstance(effect, Start):
            assert not self.stopped
            if self.setup.managed:
                assert not self.unreaped, "the old process is not reaped"
                self.unreaped = True
            assert self.history.state.history.remaining(self.history.now) == 0
            assert not self.history.state.paused
            assert not self.history.state.frees
        elif isinstance(effect, FreeGpu | BringBack):
            assert self.post is None, "under a call"
            assert self.history.state.frees is isinstance(effect, FreeGpu)
        elif isinstance(effect, Post):
            self.take_post(effect)
        elif isinstance(effect, Abandon):
            if self.post is not None and not self.started:
                self.withdrawn.append(self.post)
            self.post = None
        elif isinstance(effect, AwaitTraceback):
            self.tracebacks.append(effect.call)
        elif isinstance(effect, CaptureTail):
            self.captures.append(effect)
        elif isinstance(effect, Interrupt):
            assert self.setup.managed
            self.interrupts.append(effect)
        elif isinstance(effect, BeforePost | RecordFailure | RecordSelfTest):
            run = self.runs[effect.call]
            if isinstance(effect, BeforePost) and run.owes is not None:
                assert run.refused or isinstance(run.owes, BeforePost)
            run.owes = effect
        elif isinstance(effect, NotSent):
            self.runs[effect.call].number = 0
        elif isinstance(effect, Answer):
            self.take_answer(effect)
        else:
            known = (*SLOW, SaveCrashHistory, NoteCannot, Notify, CutShort, LetGo)
            assert isinstance(effect, known), effect
            if isinstance(effect, LetGo):
                assert self.stopped or not self.slow
                self.slow.clear()
                self.captures.clear()

    def take_post(self, effect: Post) -> None:
        state, run = self.history.state, self.runs[effect.call]
        assert state.life is State.READY, "the WebUI is down"
        assert state.history.remaining(self.history.now) == 0
        assert not self.stopped
        assert not state.no_call
        assert not state.frees
        assert state.freed is Freed.NO, "its checkpoint is not back"
        assert self.post is None, "two at once"
        assert not any(isinstance(each, RunSelfTest | DrawForAdvice) for each in self.slow)
        if self.setup.managed:
            assert state.incarnation == self.incarnation
            assert self.alive or state.ended is None, "nobody has history it yet"
        assert run.number == effect.number, "its start is on disk"
        assert run.owes is None, "the last failure is on disk"
        assert run.ledger.counted < 2, "a third counted attempt"
        run.posts += 1
        assert run.posts <= SENT_AT_MOST + 1
        self.post, self.started = effect, False

    def take_answer(self, effect: Answer) -> None:
        run, end = self.runs[effect.call], effect.outcome
        assert run.waits
        run.waits, run.number = False, 0
        run.owes = None
        assert isinstance(end, Succeeded | Failed | Later | GivenUp)
        run.done = not isinstance(end, Later)

    # -- what happens

    def happens(self) -> None:
        actions: list[Callable[[], None]] = [self.time_passes, self.people]
        if any(run.owes for run in self.runs.values()):
            actions += [self.record] * 3
        if self.slow:
            actions += [self.finish_slow] * 3
        if self.post:
            actions += [self.reply] * 2
        if self.withdrawn:
            actions += [self.not_posted] * 2
        if self.tracebacks:
            actions.append(lambda: self.tell(TracebackComplete(self.tracebacks.pop())))
        if self.captures:
            actions += [self.explain] * 3
        if self.interrupts:
            actions.append(lambda: self.tell(InterruptRefused(self.interrupts.pop().call)))
        if self.alive and self.setup.managed:
            actions.append(self.dies)
        actions += [self.requests] * 2
        actions[self.draw(len(actions))]()

    def time_passes(self) -> None:
        wanted = next_deadline(self.history.state, self.history.now)
        pauses = [0.0, 0.5, 5.0, 70.0]
        if wanted < NEVER:
            pauses.append(max(0.0, wanted - self.history.at))
        self.history.at += pauses[self.draw(len(pauses))]
        self.tell(DeadlinePassed())

    def people(self) -> None:
        some = [run.id for run in self.runs.values() if run.waits]
        events: list[LaneEvent] = [
            Released(),
            CallsAllowed(),
            CallsAllowed(allowed=False),
            CallsAllowed(allowed=False, paused=True),
            CallsAllowed(allowed=False, paused=True, frees=True),
            CallsAllowed(frees=True),
        ]
        events += [Cancelled(each) for each in some]
        if some and self.draw(3) == 0:
            gone = some[self.draw(len(some))]
            self.runs[gone].waits, self.runs[gone].done = False, True
            self.runs[gone].owes = None
            if self.post is not None and self.post.call == gone:
                self.post = None
            self.tell(RunGone(gone))
            return
        self.tell(events[self.draw(len(events))])

    def requests(self) -> None:
        waiting = [run for run in self.runs.values() if not run.waits and not run.done]
        if sum(run.waits for run in self.runs.values()) >= 2:
            return
        if waiting and self.draw(2):
            run = waiting[0]
        else:
            self.calls += 1
            run = self.runs.setdefault(self.calls, Run(self.calls))
        self.request(run)

    def request(self, run: Run) -> None:
        """Each request has an id of its own; the ledger is that of the run."""
        del self.runs[run.id]
        self.calls += 1
        run.id, run.waits, run.refused = self.calls, True, False
        self.runs[run.id] = run
        self.tell(CallRequested(run.id, run.ledger, "txt2img", WANTED, f"job-{self.draw(4)}"))

    def record(self) -> None:
        run = next(run for run in self.runs.values() if run.owes)
        owed, choice = run.owes, self.draw(8)
        if choice == 0:
            run.refused = True
            self.tell(RecordRefused(run.id))
            return
        if isinstance(owed, BeforePost) and choice == 1:
            run.owes = None
            self.tell(NotNow(run.id))
            return
        run.owes = None
        self.note(run, owed)

    def note(self, run: Run, owed: Effect | None) -> None:
        ledger = run.ledger
        if isinstance(owed, BeforePost):
            run.number = owed.number
            self.tell(Recorded(run.id, owed.number))
            if run.id in self.runs and run.number:
                run.ledger = replace(ledger, sent=owed.number)
            return
        if isinstance(owed, RecordFailure):
            diagnosis = owed.explanation.diagnosis
            attempt = Attempt(diagnosis, owed.error.status, 0.0, owed.incarnation, owed.first_call)
            counted = ledger.counted + counts(diagnosis)
            assert counted <= 2, "a third counted attempt"
            run.number = 0
            attempts = (*ledger.attempts, attempt)
            run.ledger = replace(ledger, counted=counted, attempts=attempts)
        elif isinstance(owed, RecordSelfTest) and owed.decision.excuses:
            run.ledger = replace(ledger, counted=ledger.counted - 1, excused=ledger.excused + 1)
            assert run.ledger.excused <= 1
        assert isinstance(owed, RecordFailure | RecordSelfTest)
        self.tell(Recorded(run.id, owed.number))

    def not_posted(self) -> None:
        post = self.withdrawn.pop()
        self.tell(NotPosted(post.call, post.number))

    def reply(self) -> None:
        post, choice = self.post, self.draw(6)
        assert post is not None
        if not self.started:
            self.started = True
            self.tell(PostStarted(post.call, post.number))
            return
        if choice == 0:
            self.tell(Stalled(post.call, post.number, "no progress"))
            return
        errors: list[WebUIError | None] = [
            None, WebUIError("x"), WebUIUnreachableError("x"), WebUIBusyError("x", status=504),
            None,
        ]  # fmt: skip
        error = errors[choice - 1]
        if isinstance(error, WebUIBusyError):
            error.after = 60.0
        self.post = None
        self.tell(Replied(post.call, post.number, error))

    def explain(self) -> None:
        capture = self.captures.pop()
        diagnosis = list(Diagnosis)[self.draw(len(Diagnosis))]
        if isinstance(capture.error, WebUIBusyError):
            diagnosis = Diagnosis.BUSY
        poisons = diagnosis is Diagnosis.POISONED
        blames = [None, Blamed.JOB, Blamed.WEBUI][self.draw(3)]
        explanation = explained(diagnosis, poisons=poisons, blames=blames)
        key = explanation.key if self.draw(2) else None
        self.tell(TailCaptured(capture.call, capture.error, explanation, key))

    def dies(self) -> None:
        self.alive = False
        self.tell(ProcessExited(self.incarnation, -9))

    def finish_slow(self, *, well: bool = False) -> None:
        effect = self.slow.pop()
        choice = 0 if well else self.draw(5)
        if isinstance(effect, Adopt | Start):
            self.finish_start(effect, choice)
        elif isinstance(effect, AskForHold):
            self.tell(HoldChecked(paused=choice == 4))
        elif isinstance(effect, StopTree) and effect.unless_held and choice == 4:
            self.tell(TreeStopped(paused=True))
        elif isinstance(effect, StopTree):
            self.alive = self.unreaped = False
            if choice == 1:
                self.unreaped = True
            left = because("cannot be killed") if choice == 1 else None
            self.tell(TreeStopped(left, False if effect.unless_held else None))
        elif isinstance(effect, Probe):
            health = (Health.READY, Health.LACKS, Health.FAILED)[choice % 3]
            position = ("job", choice) if choice > 3 else None
            self.tell(ProbeAnswered(health, because(f"{health}"), position))
        elif isinstance(effect, ReadLists):
            self.tell(ListsRead())
        elif isinstance(effect, RunSelfTest):
            end = list(SelfTestEnd)[choice % 4]
            self.tell(SelfTestAnswered(end, because(f"{end}"), choice == 4))
        elif isinstance(effect, DrawForAdvice):
            self.tell(SizeTested(list(SizeTest)[choice % 4]))
        elif isinstance(effect, FreeGpu):
            self.tell(GpuFreed(list(Freeing)[choice % 3]))
        elif isinstance(effect, BringBack):
            self.tell(CheckpointBack(failed=choice == 1))
        else:
            self.tell(CleanedUp(("a",) if choice == 3 else (), rss=choice * 2_000_000))

    def finish_start(self, effect: Effect, choice: int) -> None:
        managed, adopts = self.setup.managed, isinstance(effect, Adopt)
        if adopts and choice < 3:
            self.tell(StartFailed(because("nothing"), 0))
        elif choice in (0, 1, 4):
            self.incarnation += managed
            self.alive, self.unreaped = True, managed
            assert isinstance(effect, Adopt | Start)
            self.tell(Started(self.incarnation, adopts, effect.reads, adopts and choice == 4))
        else:
            cure = Cure.PERSON if choice == 2 else Cure.RESTART
            answers = choice == 3
            self.incarnation += managed and answers
            self.alive, self.unreaped = answers, answers and managed
            self.tell(StartFailed(because("x", cure), self.incarnation, answers=answers))

    # -- the end

    def comes_to_rest(self) -> None:
        """From now on everything goes well: every call gets its answer."""
        self.tell(CallsAllowed())
        for _ in range(500):
            owing = [run for run in self.runs.values() if run.owes]
            if owing:
                owed, owing[0].owes = owing[0].owes, None
                self.note(owing[0], owed)
            elif self.captures:
                capture = self.captures.pop()
                explanation = explained(Diagnosis.CRASH)
                self.tell(TailCaptured(capture.call, capture.error, explanation))
            elif self.withdrawn:
                self.not_posted()
            elif self.post:
                post, self.post = self.post, None
                self.tell(Replied(post.call, post.number))
            elif self.slow:
                self.finish_slow(well=True)
            elif self.history.state.paused or self.history.state.frees:
                self.tell(CallsAllowed())
            elif not any(run.waits for run in self.runs.values()):
                return
            else:
                wanted = next_deadline(self.history.state, self.history.now)
                assert wanted < NEVER, f"it waits for ever: {self.history.state}"
                self.history.at = max(wanted, self.history.at)
                self.tell(DeadlinePassed())
        raise AssertionError(f"no rest: {self.history.state}")


SETUPS = (
    SETUP,
    replace(SETUP, managed=False),
    replace(SETUP, recovery=False),
    replace(SETUP, recycling=RecycleLimits(max_calls=2, max_rss=5_000_000)),
)


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.sampled_from(SETUPS), st.randoms(use_true_random=False), st.integers(10, 150))
def test_no_history_leaves_the_tables_or_breaks_a_promise(setup, random, length) -> None:  # type: ignore[no-untyped-def]
    world = World(lambda below: random.randrange(below), setup)
    for _ in range(length):
        world.happens()
    world.comes_to_rest()
    assert all(run.done or not run.waits for run in world.runs.values())


@examples(30)
@given(st.sampled_from(SETUPS), st.randoms(use_true_random=False), st.integers(0, 120))
def test_every_history_ends_with_a_stop(setup, random, length) -> None:  # type: ignore[no-untyped-def]
    world = World(lambda below: random.randrange(below), setup)
    for _ in range(length):
        world.happens()
    world.tell(Stop())
    world.stopped = True
    world.comes_to_rest()
    while world.slow:
        world.finish_slow(well=True)
    assert world.history.state.life is State.STOPPED
    assert not world.alive or not setup.managed

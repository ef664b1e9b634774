"""A lane's machine that hears one event after the other, on a clock that stands still."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from sdwatch.errors import WebUIError, WebUIServerError
from sdwatch.policy.failure.diagnosis import Explanation
from sdwatch.policy.failure.facts import Blamed, Diagnosis, FailureKey
from sdwatch.policy.failure.hold_reason import Cure, HoldCode, HoldKey, HoldReason
from sdwatch.policy.lane.advance import next_deadline
from sdwatch.policy.lane.crash_history import CrashHistory
from sdwatch.policy.lane.effects import (
    Adopt,
    Answer,
    AskForHold,
    BeforePost,
    CallEnd,
    CleanUp,
    Effect,
    ExplainFailure,
    Post,
    ReadLists,
    RecordFailure,
    RecordSelfTest,
    Start,
    StopTree,
)
from sdwatch.policy.lane.events import (
    CallLedgerView,
    CallRequested,
    CleanedUp,
    DeadlinePassed,
    FailureExplained,
    HoldChecked,
    LaneEvent,
    ListsRead,
    PostStarted,
    ProcessExited,
    Recorded,
    Replied,
    Started,
    StartFailed,
    TreeStopped,
)
from sdwatch.policy.lane.instant import Instant
from sdwatch.policy.lane.knowledge import Plain, Size, Wanted
from sdwatch.policy.lane.machine import step
from sdwatch.policy.lane.state import LaneState, Setup, new_call_alone, new_lane

E = TypeVar("E", bound=Effect)

COOLDOWN = (5.0, 10.0, 20.0)
SETUP = Setup(health_interval=30.0, health_failures=3, stall=300.0, interrupt_wait=10.0)
WANTED = Wanted(Size(), Plain())


def explained(
    diagnosis: Diagnosis, *, poisons: bool = False, blames: Blamed | None = None
) -> Explanation:
    return Explanation(
        diagnosis, f"it was {diagnosis}", "", FailureKey(diagnosis), poisons=poisons, blames=blames
    )


def because(cause: str, cure: Cure = Cure.RESTART) -> HoldReason:
    return HoldReason(cause, cure=cure, key=HoldKey(HoldCode.OTHER, (cause,)))


@dataclass
class Told:
    """`state` after the events so far; `effects`: of the last one; `all`: of all."""

    state: LaneState = field(default_factory=lambda: new_lane(SETUP, CrashHistory(COOLDOWN)))
    at: float = 1000.0
    effects: tuple[Effect, ...] = ()
    all: list[Effect] = field(default_factory=list)
    lists_read: int = 0

    @property
    def now(self) -> Instant:
        return Instant(1_790_000_000.0 + self.at, self.at, "boot")

    def tell(self, *events: LaneEvent) -> Told:
        for event in events:
            self.state, self.effects = step(self.state, event, self.now)
            self.all += self.effects
        return self

    def later(self, seconds: float) -> Told:
        self.at += seconds
        return self.tell(DeadlinePassed())

    # -- what was asked for

    def one(self, kind: type[E]) -> E:
        """The one effect of this kind that the last event had."""
        found = [effect for effect in self.effects if isinstance(effect, kind)]
        assert len(found) == 1, f"{kind.__name__} in {self.effects}"
        return found[0]

    def has(self, kind: type[Effect]) -> bool:
        return any(isinstance(effect, kind) for effect in self.effects)

    def count(self, kind: type[Effect]) -> int:
        return sum(isinstance(effect, kind) for effect in self.all)

    @property
    def end(self) -> CallEnd:
        return self.one(Answer).end

    # -- usual parts of histories

    def ready(self) -> Told:
        """From the first event to a WebUI that is ready."""
        self.tell(DeadlinePassed())
        self.one(Adopt)
        self.tell(StartFailed(because("nothing"), 0))
        return self.started()

    def died(self) -> Told:
        """The process ends by itself with no call under way, and what it left is stopped."""
        self.tell(ProcessExited(self.state.incarnation, -9))
        self.one(StopTree)
        return self.tell(TreeStopped())

    def allowed(self) -> Told:
        """There is no person's hold; what is left of the last process is stopped."""
        if self.has(AskForHold):
            return self.tell(HoldChecked(held_by_person=False))
        self.one(StopTree)
        return self.tell(TreeStopped(held_by_person=False))

    def restarted(self, seconds: float = 0.0) -> Told:
        """After so many seconds it is stopped, and starts again."""
        return self.later(seconds).started()

    def started(self) -> Told:
        """A start that was asked for succeeds."""
        if self.has(StopTree) or self.has(AskForHold):
            self.allowed()
        start = self.one(Start)
        managed = self.state.setup.managed
        return self.tell(Started(self.state.incarnation + managed, read=start.reads))

    def read(self) -> Told:
        """What the WebUI has is read."""
        assert self.count(ReadLists) == self.lists_read + 1
        self.lists_read += 1
        return self.tell(ListsRead())

    def request(self, call: int = 1, ledger: CallLedgerView | None = None, **more: Any) -> Told:
        known = ledger or CallLedgerView()
        return self.tell(CallRequested(call, known, "txt2img", WANTED, f"job-{call}", **more))

    def sent(self) -> Told:
        """A call that was announced is recorded and goes out."""
        self.posted()
        served = self.state.served
        assert served is not None
        return self.tell(PostStarted(served.id, served.number))

    def posted(self) -> Told:
        """A call that was announced is recorded, and is about to go out."""
        before = self.one(BeforePost)
        self.tell(Recorded(before.call, before.number))
        self.one(Post)
        return self

    def replied(self, error: WebUIError | None = None) -> Told:
        served = self.state.served
        assert served is not None
        return self.tell(Replied(served.id, served.number, error, "reply"))

    def explained_as(self, diagnosis: Diagnosis, **more: Any) -> Told:
        explain = self.one(ExplainFailure)
        explanation = explained(diagnosis, **more)
        key = FailureKey(diagnosis)
        return self.tell(FailureExplained(explain.call, explain.error, explanation, key))

    def fails(self, diagnosis: Diagnosis = Diagnosis.CRASH, **more: Any) -> Told:
        """The POST in flight fails at once, with this diagnosis."""
        self.replied(plain_error())
        return self.explained_as(diagnosis, **more)

    def fails_slowly(self) -> Told:
        """The POST in flight fails, and its evidence does not come."""
        self.replied(plain_error()).one(ExplainFailure)
        return self

    def recorded(self) -> Told:
        """The run records what it was last told to."""
        told = [e for e in self.all if isinstance(e, RecordFailure | RecordSelfTest)][-1]
        return self.tell(Recorded(told.call, told.number))

    def finish(self) -> Told:
        """A call that leaves is answered, after what it left is undone."""
        return self.tell(CleanedUp()) if self.has(CleanUp) else self

    def cleaned(self, **more: Any) -> Told:
        self.one(CleanUp)
        return self.tell(CleanedUp(**more))


def spins(state: LaneState, now: Instant) -> bool:
    """Whether a lane to which nothing happens would wake up at once again and again, and do
    nothing."""
    for _ in range(3):
        if next_deadline(state, now) > now.boot:
            return False
        before = state
        state, effects = step(state, DeadlinePassed(), now)
        if effects or replace(state, at=None) != replace(before, at=None):
            return False
        now = replace(now, boot=now.boot + 0.001, wall=now.wall + 0.001)  # clocks are that coarse
    return True


def plain_error() -> WebUIError:
    """Nothing more is waited for after it."""
    return WebUIError("it failed")


def server_error() -> WebUIServerError:
    return WebUIServerError("it was answered 500", status=500)


def alone() -> Told:
    """A WebUI without a lane."""
    setup = replace(SETUP, supervised=False)
    return Told(new_call_alone(setup, 1))


def ready(**setup: Any) -> Told:
    """A lane whose WebUI is ready."""
    cooldown = setup.pop("cooldown", COOLDOWN)
    return Told(new_lane(replace(SETUP, **setup), CrashHistory(cooldown))).ready()

"""What one lane knows: the state of its WebUI, and the calls that its runs want. Pure values.

What calls have left in an incarnation may make it due for recycling: it is stopped cleanly before
the next call, and started again. This is not a crash.

Three questions stand before what is sent or started:

1. May a call start on any lane? CallGate.why_no_call says why not: the monitor asks it each round
   (CallsAllowed), and each run just before its POST is recorded (`may_call`, then NotNow). Here it
   is `no_call`.
2. May a process start? Not on a person's hold: CallGate.persons_hold. The monitor asks it each
   round, too (`held_by_person`), and the lane once more just before a start (AskForHold, StopTree,
   or Adopt where there is nothing to adopt): `Turn.may_start`.
3. Can this WebUI be sent a call? `is_sound`; Lane.ready has it for the monitor, which then gives
   the lane a run. `may_send` is all of it: sound, not busy, no `no_call`, nothing `unrecorded`.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum

from sdwatch.errors import WebUIError
from sdwatch.policy.failure.lifecycle import State
from sdwatch.policy.failure.recovery import Decision
from sdwatch.policy.lane.crash_history import CrashHistory
from sdwatch.policy.lane.effects import CallEnd
from sdwatch.policy.lane.events import (
    CallLedgerView,
    CallRequested,
    FailureExplained,
    ProcessExited,
)
from sdwatch.policy.lane.instant import Instant
from sdwatch.policy.lane.knowledge import Knowledge
from sdwatch.policy.lane.lane_hold import HoldState
from sdwatch.policy.privacy.printable import counted


@dataclass(frozen=True)
class RecycleLimits:
    """From the config, None for no limit. `max_rss`: bytes."""

    max_calls: int | None = None
    max_rss: int | None = None


NONE_YET = 0
"""For `first_call`; the ids of calls count from 1."""


@dataclass(frozen=True)
class IncarnationUse:
    """`due`: why it must be recycled, or ''; always '' for an external WebUI. `rss`: bytes, at the
    last sample. `first_call`: the id of the first call of a job that was sent to it, NONE_YET
    before that; None where another call may have harmed it: one was sent, or sdwatch did not start
    it. `calls`: POSTs of jobs."""

    managed: bool = True
    due: str = ""
    rss: int = 0
    first_call: int | None = None
    calls: int = 0

    def new_incarnation(self) -> IncarnationUse:
        """Forget the calls of the last incarnation."""
        return IncarnationUse(self.managed, "", self.rss, NONE_YET if self.managed else None)

    @property
    def is_fresh(self) -> bool:
        """Return whether its first call is still to come."""
        return self.first_call == NONE_YET

    def sending(self, call: int) -> tuple[IncarnationUse, bool]:
        """Count a POST. Return also whether its call is the first one of the incarnation. All
        attempts of that are, until another call is sent."""
        is_first = self.first_call in (NONE_YET, call)
        first_call = call if is_first else None
        return replace(self, first_call=first_call, calls=self.calls + 1), is_first

    def doubt_attempt(self) -> IncarnationUse:
        """Note that an attempt may have harmed the WebUI, which is sent the next one all the
        same."""
        return replace(self, first_call=None)

    def after_call(self, rss: int, left: tuple[str, ...], limits: RecycleLimits) -> IncarnationUse:
        """Note the memory after a call (0 if unknown), and the settings that the WebUI keeps of it;
        recycling is due if a limit is reached."""
        use = replace(self, rss=rss or self.rss)
        if left:
            use = use.make_due(f"it kept {', '.join(left)} after a job's call")
        if limits.max_calls is not None and use.calls >= limits.max_calls:
            most = limits.max_calls
            made = counted(use.calls, "call")
            use = use.make_due(f"it made {made}, and max_calls is {most}")
        if limits.max_rss is not None and rss > limits.max_rss:
            had, may = rss // 10**6, limits.max_rss // 10**6
            use = use.make_due(f"it uses {had} MB of memory, and max_rss is {may} MB")
        return use

    def make_due(self, reason: str) -> IncarnationUse:
        """Make recycling due, for this reason: no call goes out before it."""
        return replace(self, due=self.due or reason) if self.managed else self


NEVER = math.inf


@dataclass(frozen=True)
class Setup:
    """What never changes. Times are in seconds.

    `managed`: sdwatch starts and stops the WebUI. `recovery`: False fails at the first error.
    `supervised`: False for a call without a lane, where nobody probes, tests or cleans up, and a
    restart comes only with a retry. `health_interval`, `health_failures`: of probes. `stall`: how
    long a generation without progress may last; `call_limit`: any one. `record_limit`: until a
    record is overdue. `stop_limit`: until a slow effect that hangs is not waited for any longer, in
    a stop.
    """

    managed: bool = True
    recovery: bool = True
    supervised: bool = True
    leaves_running: bool = False
    health_interval: float = 30.0
    health_failures: int = 3
    stall: float = 300.0
    call_limit: float = 3600.0
    interrupt_wait: float = 10.0
    record_limit: float = 60.0
    stop_limit: float = 30.0
    recycling: RecycleLimits = RecycleLimits()


class Busy(Enum):
    """The slow effect under way."""

    ADOPTING = "adopting"
    STARTING = "starting"
    STOPPING = "stopping"
    ASKING = "asking for a person's hold"
    PROBING = "probing"
    READING = "reading lists"
    TESTING = "self-test"
    TESTING_SIZE = "size test"
    CLEANING = "undoing what a call left"
    FREEING = "freeing the GPU"
    BRINGING_BACK = "bringing its checkpoint back"


class Freed(Enum):
    """What was done about the GPU. The values are shown by `status`."""

    NO = ""
    UNLOADED = "its checkpoint is unloaded"
    STOPPED = "the WebUI is stopped"
    CANNOT = "its GPU cannot be freed: this WebUI cannot unload, and sdwatch did not start it"


class Up(Enum):
    """How far a WebUI is on its way to ready."""

    NO = "it is not known to answer"
    ANSWERS = "it answers"
    TESTED = "it answers, and has passed its self-test"
    READ = "the same, and what it has was read"


class CallPhase(StrEnum):
    """How far a call is."""

    WAITING = "waiting"
    ANNOUNCED = "announced"
    SENT = "sent"
    SETTLING = "settling"
    EXPLAINING = "explaining"
    INTERRUPTING = "interrupting"
    RECORDING = "recording"
    DECIDED = "decided"
    TESTING = "testing"
    RECORDING_TEST = "recording test"
    TESTING_SIZE = "testing_size"
    LEAVING = "leaving"
    ANSWERED = "answered"


class Next(Enum):
    """What follows once a failure is recorded."""

    RETRY = "one more attempt"
    SELF_TEST = "the self-test decides whose fault it was"
    SIZE_TEST = "a size test for the advice, once the WebUI is ready"


@dataclass(frozen=True)
class LaneCall:
    """A call that a run waits for.

    `number`: of its POST, counted from 1 over the life of its ledger; `incarnation`: to which it
    went; `first_call`: it is the first one of that. `started`: the POST went out;
    `arrived`: its whole reply is here. `deadline`: of the phase, on the boot clock. `exited`: its
    process ended. `lost`: the WebUI may still generate it. `in_flight`: the POST has no
    reply yet, and is waited for. `without_log`: what the WebUI printed of its failure could not be
    read in time. `failure`: the last one, None before. `crash_count`: of the WebUI, by this call
    and not excused. `given_up`: it ends at the next point where that is safe.
    """

    request: CallRequested
    ledger: CallLedgerView
    phase: CallPhase = CallPhase.WAITING
    number: int = 0
    incarnation: int = 0
    first_call: bool = False
    started: bool = False
    arrived: bool = False
    deadline: float = NEVER
    error: WebUIError | None = None
    exited: ProcessExited | None = None
    lost: bool = False
    in_flight: bool = False
    without_log: bool = False
    failure: FailureExplained | None = None
    decision: Decision | None = None
    next: Next = Next.RETRY
    end: CallEnd | None = None
    crash_count: int = 0
    given_up: bool = False
    passed_after_restart: bool = False
    unhealthy: str = ""

    @property
    def id(self) -> int:
        """Return the id that its run gave it."""
        return self.request.call


@dataclass(frozen=True)
class LaneState:
    """Everything that decides what a lane does.

    `life`: the state of its WebUI; `up`: on its way to ready; `adopted`: from an earlier monitor;
    `adopts`: that is to be tried first. `busy`: the slow effect under way. `incarnation`: the
    current one; `ended`: its end, if sdwatch did not stop it. `nothing_left`: no process of ours
    is there, so a start needs no StopTree before it; `leftovers`: its process ended by itself and
    may have left others, so a StopTree follows at once, also on a person's hold.
    `dirty`: the settings of a call may be left in the WebUI. `nothing_runs`: on hold, and only a
    new start can help. `unusable_starts`: in a row. `next_check`: when the next health check is
    due, on the boot clock; `failed_checks`: in a row. `position` and `moved_at`: of somebody's
    generation, and since when it has not advanced. `calls`: the one that is served first, then
    those that wait. `no_call`: no call may start on any lane; `held_by_person`: a person's hold.
    `frees`: the GPU is wanted for something else; `freed`: what was done about it; `tries_again`:
    when, on the boot clock, if the WebUI was busy.
    `unrecorded`: calls whose record the disk refuses or delays. `stopped_tree`: for a stop.
    `stop_by`: until when a stop waits for the slow effect under way, on the boot clock. `at`: the
    time of the last event.
    """

    setup: Setup
    history: CrashHistory
    life: State = State.DOWN
    up: Up = Up.NO
    adopted: bool = False
    adopts: bool = True
    busy: Busy | None = None
    incarnation: int = 0
    ended: ProcessExited | None = None
    nothing_left: bool = True
    leftovers: bool = False
    dirty: bool = False
    hold: HoldState = HoldState()  # noqa: RUF009 - it is frozen
    next_check: float = 0.0
    failed_checks: int = 0
    use: IncarnationUse = IncarnationUse()
    knowledge: Knowledge = field(default_factory=Knowledge)
    nothing_runs: bool = False
    unusable_starts: int = 0
    position: Hashable = None
    moved_at: float = 0.0
    calls: tuple[LaneCall, ...] = ()
    no_call: bool = False
    held_by_person: bool = False
    frees: bool = False
    freed: Freed = Freed.NO
    tries_again: float = 0.0
    unrecorded: frozenset[int] = frozenset()
    stopping: bool = False
    stopped_tree: bool = False
    stop_by: float = NEVER
    at: Instant | None = None

    @property
    def served(self) -> LaneCall | None:
        """Return the call that is served now or next, or None."""
        return self.calls[0] if self.calls else None

    @property
    def must_self_test(self) -> bool:
        """Return whether the WebUI is ready only after it has passed a self-test."""
        return self.hold.needs_self_test or self.history.needs_self_test

    @property
    def may_test_again(self) -> bool:
        """Return whether a WebUI that failed its self-test is restarted and tested again: not an
        external one, nor one that failed before any job's call."""
        return self.setup.managed and not self.use.is_fresh

    def call(self, call_id: int) -> LaneCall | None:
        """Return the call with this id, or None."""
        return next((call for call in self.calls if call.id == call_id), None)

    def is_sound(self, now: Instant) -> bool:
        """Return whether the WebUI may be sent a call, as far as it is concerned."""
        healthy = self.life is State.READY and self.ended is None and not self.use.due
        healthy = healthy and not self.frees and self.freed is Freed.NO
        return healthy and self.history.remaining(now) <= 0 and not self.stopping

    def may_send(self, now: Instant) -> bool:
        """Return whether a POST may go out now."""
        free = self.busy is None and not self.no_call and not self.unrecorded
        return free and self.is_sound(now)


def new_lane(setup: Setup, history: CrashHistory) -> LaneState:
    """Return the state of a lane before its first event."""
    return LaneState(setup, history, use=IncarnationUse(setup.managed))


def new_call_alone(setup: Setup, incarnation: int) -> LaneState:
    """Return the state of a WebUI that is ready and has no lane."""
    return LaneState(
        setup,
        CrashHistory((0.0,)),
        life=State.READY,
        adopts=False,
        incarnation=incarnation,
        nothing_left=not setup.managed,
        use=IncarnationUse(setup.managed),
    )

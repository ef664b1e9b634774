"""What happens to a lane. Pure values.

Runs, helper threads and people send them; nothing else changes a lane.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from enum import Enum

from sdwatch.errors import Probes, WebUIError
from sdwatch.policy.failure.diagnosis import Explanation, SizeTest
from sdwatch.policy.failure.facts import Diagnosis, FailureKey
from sdwatch.policy.failure.hold_reason import HoldReason
from sdwatch.policy.lane.knowledge import Wanted


@dataclass(frozen=True)
class LaneEvent:
    """Base class of all events."""


@dataclass(frozen=True)
class SlowEnded(LaneEvent):
    """Base class of the ends of slow effects that nothing else is done beside (Busy)."""


@dataclass(frozen=True)
class OfCall(LaneEvent):
    """Base class of what concerns one call. `call`: the id that its run gave it."""

    call: int


# -- from a run


ELSEWHERE = -1
"""The incarnation of an attempt on another lane: none of this one."""


@dataclass(frozen=True)
class Attempt:
    """One failed attempt of a call, as the run's ledger has it. `seconds`: until its reply."""

    diagnosis: Diagnosis
    status: int | None = None
    seconds: float = 0.0
    incarnation: int = 0
    first_call: bool = False
    crashed: bool = False


@dataclass(frozen=True)
class CallLedgerView:
    """The ledger of one call: counted attempts, how often it was sent, how many attempts the
    self-test blamed on the WebUI, how often it crashed the WebUI without these, and the failed
    attempts."""

    counted: int = 0
    sent: int = 0
    excused: int = 0
    crash_count: int = 0
    attempts: tuple[Attempt, ...] = ()


@dataclass(frozen=True)
class CallRequested(OfCall):
    """A run wants a call made. `job` and `run`: named where a failure is the job's own. `upscaler`:
    '' for none. `unseen`: earlier attempts may have a result, which is asked for first."""

    ledger: CallLedgerView = CallLedgerView()
    stage: str = ""
    wanted: Wanted = Wanted()  # noqa: RUF009 - it is frozen
    job: str = ""
    run: str = ""
    upscaler: str = ""
    unseen: bool = False


@dataclass(frozen=True)
class Recorded(OfCall):
    """The run has synced what it was given: the start of POST `number`, its failure, or a
    self-test."""

    number: int


@dataclass(frozen=True)
class NotNow(OfCall):
    """The run must not start a call: a person's hold, or a disk without room."""


@dataclass(frozen=True)
class Cancelled(OfCall):
    """The run is given up: it was cancelled, or a stop has no more grace for it."""


@dataclass(frozen=True)
class RunGone(OfCall):
    """The run's thread has ended, whatever it waited for."""


# -- of a POST


@dataclass(frozen=True)
class CleanedUp(SlowEnded):
    """What the WebUI kept of the last call was undone. `left`: settings that it still keeps. `rss`:
    bytes of memory of its processes, 0 if unknown. `findings`: for the run."""

    left: tuple[str, ...] = ()
    rss: int = 0
    findings: object = ()


@dataclass(frozen=True)
class PostStarted(OfCall):
    """POST `number` goes out now: its log is followed, and what it overrides is noted."""

    number: int


@dataclass(frozen=True)
class NotPosted(OfCall):
    """POST `number` did not go out: it was abandoned before that, perhaps a moment after
    PostStarted, or an internal error kept it from going out (`why`). `occupied`: or an earlier
    generation of sdwatch's own still runs, which nobody waits for and no interrupt has ended."""

    number: int
    why: str = ""
    occupied: bool = False


@dataclass(frozen=True)
class ReplyArrived(OfCall):
    """The reply of POST `number` is here, whole. Its pictures are still decoded and checked."""

    number: int


@dataclass(frozen=True)
class Replied(OfCall):
    """POST `number` has ended: `error` is None for a success, with all reply checks done.
    `reply`: for the run."""

    number: int
    error: WebUIError | None = None
    reply: object = None


@dataclass(frozen=True)
class Stalled(OfCall):
    """POST `number` makes no progress. `reason`: in words. `ours`: the WebUI named this call's own
    prompt as the one that runs, so it is nobody else's; `others`: it named another, which runs
    before it."""

    number: int
    reason: str = ""
    probes: Probes | None = None
    ours: bool = False
    others: bool = False


@dataclass(frozen=True)
class InterruptRefused(OfCall):
    """The WebUI did not take the interrupt."""


@dataclass(frozen=True)
class TracebackComplete(OfCall):
    """The WebUI has printed all that it prints of the failed POST."""


@dataclass(frozen=True)
class FailureExplained(OfCall):
    """A failed POST, explained by what it left behind. `key_to_trace`: identifies the failure, None
    where it must not be traced to a job. `unchanged`: an upscale that enlarged nothing. `evidence`:
    for the run."""

    error: WebUIError
    explanation: Explanation
    key_to_trace: FailureKey | None = None
    evidence: object = None
    unchanged: bool = False


# -- of the WebUI


@dataclass(frozen=True)
class Started(SlowEnded):
    """The WebUI answers, and its listener is ours. `adopted`: an earlier monitor started it.
    `read`: what it has was read, as far as it answers. `in_doubt`: the generation that an earlier
    monitor left did not end, or its log shows that nothing works any more: a self-test must show
    whether it does anything. `unloaded`:
    that monitor had unloaded its checkpoint."""

    incarnation: int
    adopted: bool = False
    read: bool = False
    in_doubt: bool = False
    unloaded: bool = False


@dataclass(frozen=True)
class StartFailed(SlowEnded):
    """It is not ready. `answers`: it runs, but lacks something. `has_printed`: perhaps also why.
    `held_by_person`: whether there is a person's hold, where a start is next; None where nobody
    asked."""

    reason: HoldReason
    incarnation: int
    answers: bool = False
    has_printed: bool = True
    held_by_person: bool | None = None


@dataclass(frozen=True)
class TreeStopped(SlowEnded):
    """The whole process tree was stopped. `left`: why not, None if nothing is left.
    `held_by_person`: it was left as it is, because of a person's hold; None where nobody asked for
    one."""

    left: HoldReason | None = None
    held_by_person: bool | None = None


@dataclass(frozen=True)
class HoldChecked(SlowEnded):
    """Whether there is a person's hold, as asked just before a start."""

    held_by_person: bool


@dataclass(frozen=True)
class ProcessExited(LaneEvent):
    """The process of this incarnation ended although sdwatch did not stop it."""

    incarnation: int
    code: int | None = None


@dataclass(frozen=True)
class ListsRead(SlowEnded):
    """What the WebUI has was read, or does not answer in time."""


class Health(Enum):
    """What one probe shows."""

    READY = "it answers"
    LACKS = "it answers that it is unusable"
    FAILED = "it does not answer as it should"


@dataclass(frozen=True)
class ProbeAnswered(SlowEnded):
    """One health check. `reason`: why it is not ready. `position`: of a running generation, None
    where none runs or nobody asked. `seen`: in words."""

    health: Health
    reason: HoldReason = HoldReason("")  # noqa: RUF009 - it is frozen
    position: Hashable = None
    seen: str = ""
    rss: int = 0


class Freeing(Enum):
    """What an attempt to free the GPU has shown."""

    UNLOADED = "its checkpoint is unloaded"
    CANNOT = "this WebUI cannot unload its checkpoint"
    BUSY = "it generates for somebody"


@dataclass(frozen=True)
class GpuFreed(SlowEnded):
    """An attempt to free the GPU without ending the process has ended."""

    how: Freeing


@dataclass(frozen=True)
class CheckpointBack(SlowEnded):
    """An unloaded checkpoint is back, or comes back with the next call; `failed`: neither."""

    failed: bool = False


class SelfTestEnd(Enum):
    """What a self-test, or one picture of it, shows. A whole one is never REFUSED."""

    PASSED = "the WebUI is healthy"
    FAILED = "the WebUI is unhealthy"
    INCONCLUSIVE = "nothing: it is busy, or its setup is unusable"
    REFUSED = "nothing: it refuses this particular call"
    NOT_RUN = "nothing: it was not run to its end"


@dataclass(frozen=True)
class SelfTestAnswered(SlowEnded):
    """A self-test has ended. `reason`: why it failed. `refused_checkpoint`: the WebUI refuses the
    checkpoint, or the workflow, of the last good call."""

    end: SelfTestEnd
    reason: HoldReason = HoldReason("")  # noqa: RUF009 - it is frozen
    refused_checkpoint: bool = False


@dataclass(frozen=True)
class SizeTestAnswered(SlowEnded):
    """A size test has ended."""

    result: SizeTest


# -- from people and the monitor


@dataclass(frozen=True)
class Released(LaneEvent):
    """A person says that the cause of the hold is gone."""


@dataclass(frozen=True)
class CallsAllowed(LaneEvent):
    """Whether calls may start on any lane. `held_by_person`: a person's hold, so that only health
    checks are allowed. `frees`: the GPU is wanted for something else meanwhile."""

    allowed: bool = True
    held_by_person: bool = False
    frees: bool = False


@dataclass(frozen=True)
class Stop(LaneEvent):
    """sdwatch stops."""


@dataclass(frozen=True)
class DeadlinePassed(LaneEvent):
    """Nothing happened: time has passed."""

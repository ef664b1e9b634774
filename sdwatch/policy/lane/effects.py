"""What a lane wants done. Pure values.

Those marked slow run on another thread, and their result comes back as an event: Post and CleanUp
on the lane's poster, the others on its helper, one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass

from sdwatch.errors import WebUIError
from sdwatch.policy.failure.diagnosis import Explanation, SizeTest
from sdwatch.policy.failure.facts import Blamed
from sdwatch.policy.failure.hold_reason import HoldReason
from sdwatch.policy.failure.recovery import Decision
from sdwatch.policy.lane.crash_history import HistoryRecord
from sdwatch.policy.lane.events import Attempt, FailureExplained
from sdwatch.policy.lane.knowledge import Plain
from sdwatch.policy.lane.lane_hold import CrashSeen


@dataclass(frozen=True)
class Effect:
    """Base class of all effects."""


@dataclass(frozen=True)
class ToRun(Effect):
    """Base class of messages to a run. `call`: the id that its run gave it."""

    call: int


# -- to a run


@dataclass(frozen=True)
class BeforePost(ToRun):
    """POST `number` is about to go to this incarnation: record it first. Answered by Recorded or
    NotNow. `log_offset`: the bytes in each file of the WebUI's output so far, as
    the lane's loop adds them; () where that is not a local file of ours."""

    number: int
    incarnation: int
    log_offset: tuple[int, ...] = ()


@dataclass(frozen=True)
class NotSent(ToRun):
    """POST `number` was recorded but is not sent now. It counts nowhere."""

    number: int


@dataclass(frozen=True)
class RecordFailure(ToRun):
    """POST `number` failed: write evidence and record it. Answered by Recorded. `failure`: what
    explains it; `attempt`: the same for the ledger."""

    number: int
    failure: FailureExplained
    decision: Decision
    attempt: Attempt


@dataclass(frozen=True)
class RecordSelfTest(ToRun):
    """A self-test ended: record it. Answered by Recorded. `unhealthy`: why it failed, or ''."""

    number: int
    unhealthy: str
    decision: Decision


@dataclass(frozen=True)
class CallEnd:
    """Base class of how a call ends. `findings`: about the settings that it left behind."""

    findings: object = ()


@dataclass(frozen=True)
class Succeeded(CallEnd):
    """There is a reply."""

    reply: object = None


@dataclass(frozen=True)
class Failed(CallEnd):
    """It failed for good. `blame`: None for what the explanation says. `self_test_passed`: None
    without a self-test; `unhealthy`: why it failed. `size_test`: its result, None without one.
    `sent_too_often`: it was not sent this time, because it was sent so often before."""

    blame: Blamed | None = None
    self_test_passed: bool | None = None
    unhealthy: str = ""
    size_test: SizeTest | None = None
    sent_too_often: bool = False


@dataclass(frozen=True)
class Later(CallEnd):
    """It is not final: the same call may be requested again with the same ledger."""


@dataclass(frozen=True)
class GivenUp(CallEnd):
    """It was cancelled or stopped."""


@dataclass(frozen=True)
class Broken(CallEnd):
    """An internal error of the lane ended it. `why`: that error."""

    why: str = ""


@dataclass(frozen=True)
class Answer(ToRun):
    """The end of the call. Nothing more follows."""

    end: CallEnd


# -- of a POST


@dataclass(frozen=True)
class Post(Effect):
    """Send POST `number`, and watch its progress. Slow: PostStarted, then ReplyArrived where it is
    a success, Stalled, and Replied at last; or NotPosted, where it was abandoned in time."""

    call: int
    number: int


@dataclass(frozen=True)
class Abandon(Effect):
    """Wait no longer for the POST in flight."""

    call: int


@dataclass(frozen=True)
class Interrupt(Effect):
    """End the generation of the POST in flight. Slow: InterruptRefused where that fails. `waits`:
    its reply is still waited for. `but_queued`: a prompt in the queue of a ComfyUI stays there, and
    the next start takes its result. `only_queued`: nothing but such a prompt is ended, which has an
    id: what another WebUI generates may be somebody else's."""

    call: int
    waits: bool = False
    but_queued: bool = False
    only_queued: bool = False


@dataclass(frozen=True)
class AwaitTraceback(Effect):
    """Follow the log of the failed POST. Slow: TracebackComplete."""

    call: int
    error: WebUIError


@dataclass(frozen=True)
class ExplainFailure(Effect):
    """Collect and explain what the failed POST left behind. Slow: FailureExplained. `exited`: its
    process was seen to end, with `code`. `lost`: an external WebUI may still generate it, so its
    log says nothing about this call. `without_log`: what the WebUI printed could not be read in
    time, so nothing is read."""

    call: int
    error: WebUIError
    exited: bool = False
    code: int | None = None
    lost: bool = False
    without_log: bool = False


@dataclass(frozen=True)
class CleanUp(Effect):
    """Undo what the WebUI kept of the last call. Slow: CleanedUp."""


@dataclass(frozen=True)
class NoteCannot(Effect):
    """This incarnation cannot do `stage`, with this upscaler or ('') at all, as a call has shown.
    `explanation`: why."""

    stage: str
    upscaler: str
    explanation: Explanation


# -- of the WebUI


@dataclass(frozen=True)
class Adopt(Effect):
    """Take over a process of an earlier monitor. Slow: Started, StartFailed. `reads`: then also
    read what the WebUI has."""

    reads: bool = True


@dataclass(frozen=True)
class Start(Effect):
    """Start the WebUI, or wait for an external one. Slow: Started, StartFailed. `reads`: then also
    read what the WebUI has."""

    reads: bool = True


@dataclass(frozen=True)
class AskForHold(Effect):
    """Ask whether a person's hold forbids a start: it would be next. Slow: HoldChecked."""


@dataclass(frozen=True)
class StopTree(Effect):
    """Stop the whole process tree. Slow: TreeStopped. `unless_held`: a start is to follow,
    so nothing is stopped on a person's hold."""

    unless_held: bool = False


@dataclass(frozen=True)
class FreeGpu(Effect):
    """Unload the checkpoint, if this kind can and nobody uses it. Slow: GpuFreed."""


@dataclass(frozen=True)
class BringBack(Effect):
    """Bring an unloaded checkpoint back, if this kind needs to be asked. Slow: CheckpointBack."""


@dataclass(frozen=True)
class Probe(Effect):
    """Check the health. Slow: ProbeAnswered. `occupancy`: also whether a generation runs."""

    occupancy: bool = False


@dataclass(frozen=True)
class ReadLists(Effect):
    """Read what the WebUI has. Slow: ListsRead."""


@dataclass(frozen=True)
class RunSelfTest(Effect):
    """Canary, then a plain picture. Slow: SelfTestAnswered."""

    good: Plain


@dataclass(frozen=True)
class RunSizeTest(Effect):
    """A plain picture of the failed call's size, for advice only. Slow: SizeTestAnswered.
    `largest`: pixels of the largest call that succeeded."""

    call: int
    largest: int


@dataclass(frozen=True)
class CutShort(Effect):
    """End the self-test or size test under way: nobody waits for it. Its answer still comes."""


@dataclass(frozen=True)
class LetGo(Effect):
    """Wait no longer for what the helper does, which takes too long or is not needed any more: its
    answer is dropped. What follows runs on another helper."""


# -- of the lane itself


@dataclass(frozen=True)
class SaveCrashHistory(Effect):
    """Sync this record before anything that follows."""

    record: HistoryRecord


@dataclass(frozen=True)
class Ready:
    """The WebUI became ready. `adopted`: an earlier monitor started it."""

    incarnation: int
    adopted: bool = False


@dataclass(frozen=True)
class Recycled:
    """The WebUI is stopped cleanly and started again. `due`: why."""

    due: str


@dataclass(frozen=True)
class SelfTestFailed:
    """A self-test failed; nothing is sent for `wait` seconds."""

    reason: HoldReason
    wait: float


@dataclass(frozen=True)
class GpuGiven:
    """The GPU is free for something else; `stopped`: because the WebUI was stopped. None: it cannot
    be freed."""

    stopped: bool | None


@dataclass(frozen=True)
class Notify(Effect):
    """Something that people should know."""

    what: CrashSeen | Ready | Recycled | SelfTestFailed | GpuGiven

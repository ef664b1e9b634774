"""The wait for a WebUI that starts, until its API answers or there is a reason why not.

Why not is explained from its log, its exit code and the memory that was left.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from sdwatch import system
from sdwatch.policy.failure.exits import exit_in_words
from sdwatch.policy.failure.facts import Blamed
from sdwatch.policy.failure.hold_reason import (
    HoldCode,
    HoldKey,
    HoldReason,
    Lack,
    StartFailure,
    no_answer,
    seen_by_probe,
    start_failed,
)
from sdwatch.policy.failure.matching import FailedStart, why_not_started
from sdwatch.policy.failure.signatures import Signature
from sdwatch.policy.failure.tracebacks import last_words
from sdwatch.policy.kinds.kind import Kind
from sdwatch.policy.kinds.unknown import UNKNOWN
from sdwatch.system import disk
from sdwatch.system.clock import Clock
from sdwatch.webui.log.follower import LogFollower
from sdwatch.webui.log.log_lines import split_lines
from sdwatch.webui.process import process_tree
from sdwatch.webui.process.host_snapshot import Snapshot, memory_in_words, memory_low

PROBE_INTERVAL_S = 2.0
"""Seconds between two probes at the least; only the second one comes sooner."""

_SECOND_PROBE_AFTER_S = 0.3
_CHECK_INTERVAL_S = 0.1


class Seen(Enum):
    """What a probe of an API that is not ready finds. The value is for people."""

    LOADING = "it is loading its model"
    STILL_ADDING = "its API is incomplete: routes are still being added"
    NO_ROUTES_YET = "the page is up, but the API's routes are not there yet"
    NO_PAGE_YET = "the API's routes are not there yet"
    SERVER_DIED = (
        "the page is up, but the API's routes do not come although `command` asks for "
        "them: its server has died while its process is still running"
    )
    """Measured with Forge dfdcbab6 whose thread webui_worker died after the port had opened."""
    NO_API = "it was started without --api: add that flag"
    NO_CHECKPOINT = "it has no checkpoint: put one into its models folder"
    PASSWORD = "it refuses the user name and password: set `username` and `password` in the config"
    FAILED = "the probe failed"


@dataclass(frozen=True)
class ProbeResult:
    """One probe of the API.

    `reason`: what was seen, for people. `lacks`: it is up but lacks this, and waiting will not
    help. `no_routes`: something answers, and the API's routes are not there (yet). `dead`: they
    will not come, because the server has ended in a process that lives on; only a restart helps.
    `seen` and `facts`: identify a result, without its text.
    """

    ready: bool
    reason: str
    lacks: Lack | None = None
    no_routes: bool = False
    dead: bool = False
    seen: Seen | None = None
    facts: tuple[Hashable, ...] = ()

    @property
    def key(self) -> tuple[Hashable, ...]:
        """Return what identifies the result; see HoldKey."""
        return (self.seen, *self.facts)

    @property
    def unusable(self) -> bool:
        """Return whether it is up, and waiting will not help."""
        return self.lacks is not None

    def hold_reason(self, *, managed: bool, kind: Kind = UNKNOWN) -> HoldReason:
        """Return why nothing can be sent to a WebUI that is not ready."""
        if self.lacks is None:
            return no_answer(self.reason, managed=managed, facts=self.key)
        return seen_by_probe(self.reason, self.lacks, managed=managed, kind=kind, facts=self.key)


@dataclass(frozen=True)
class NotReady:
    """Why a start is not waited for any longer. `text` and `advice`: for people."""

    failure: StartFailure
    text: str
    advice: str = ""

    def __str__(self) -> str:
        return self.text


class SignsOfLife:
    """How long a start has been without new output and without work. Sampled once a second.

    `ends_start`: returns whether a line shows that the start has failed. `failed`: such a line was
    seen.
    """

    def __init__(
        self,
        clock: Clock,
        logs: Sequence[Path],
        work: Callable[[], tuple[float, int]],
        ends_start: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._clock = clock
        self._followers = [LogFollower(path) for path in logs]
        self._work = work
        self._ends_start = ends_start
        self.failed = False
        self._seen: tuple[int, float, int] = (0, 0.0, 0)
        self._last_sign = self._last_sample = clock.monotonic()

    def quiet_for(self) -> float:
        """Return the seconds since the last sign of life."""
        now = self._clock.monotonic()
        if now - self._last_sample >= 1.0:
            self._last_sample = now
            self._sample(now)
        return now - self._last_sign

    def _sample(self, now: float) -> None:
        for follower in self._followers:
            lines = [*follower.poll(), follower.unfinished]
            self.failed = self.failed or any(map(self._ends_start, lines))
        output = sum(follower.activity() for follower in self._followers)
        cpu, io = self._work()
        seen_output, seen_cpu, seen_io = self._seen
        # An idle python wakes up sometimes; 2 % of a core or a megabyte is work.
        busy = abs(cpu - seen_cpu) > 0.02 * (now - self._last_sign)
        if output != seen_output or busy or abs(io - seen_io) > 1_000_000:
            self._seen = (output, cpu, io)
            self._last_sign = now


@dataclass
class Readiness:
    """One wait for one incarnation. Times are in seconds.

    `is_ours`: returns whether the listener on the port is in our process tree. `ended`: set when
    the incarnation has ended.
    """

    clock: Clock
    host: str
    port: int
    probe: Callable[[], ProbeResult]
    is_ours: Callable[[], bool]
    ended: threading.Event
    signs: SignsOfLife
    limit: float
    stall: float
    last_probe: ProbeResult | None = None

    def wait(self, give_up: threading.Event) -> NotReady | None:
        """Wait until it is ready, and return None; or return why it is not waited for any
        longer."""
        deadline = self.clock.monotonic() + self.limit
        next_probe, pause = 0.0, _SECOND_PROBE_AFTER_S
        while not give_up.is_set():
            if self.ended.is_set():
                return NotReady(StartFailure.ENDED, "it ended before it was ready")
            now = self.clock.monotonic()
            if now > deadline:
                text = f"not ready within {self.limit:g} s: {self._state()}"
                return NotReady(StartFailure.TOO_LATE, text)
            if self.signs.quiet_for() > self.stall:
                text = f"no output and no work for {self.stall:g} s: {self._state()}"
                return NotReady(StartFailure.NO_SIGN_OF_LIFE, text)
            if now >= next_probe and system.somebody_listens(self.host, self.port):
                if self.is_ours():
                    next_probe, pause = now + pause, PROBE_INTERVAL_S
                    self.last_probe = result = self.probe()
                    if result.unusable:
                        return NotReady(StartFailure.UNUSABLE, result.reason)
                    if result.dead:
                        return NotReady(StartFailure.SERVER_DIED, result.reason)
                    if result.ready and not self.ended.is_set():
                        return None
                elif (owner := process_tree.owner_of(self.host, self.port)) and not self.is_ours():
                    # Asked twice: ours may have started to listen after the first check.
                    return NotReady(
                        StartFailure.PORT_TAKEN, port_taken(self.port, owner), FREE_THE_PORT
                    )
            # An API of ours that answers disproves such a line: it is about an extension's port.
            if self.signs.failed and (self.last_probe is None or self.last_probe.no_routes):
                text = "its log shows that the start failed"
                return NotReady(StartFailure.BY_ITS_LOG, text)
            # Nobody announces a listener, a line or work; only the end of the process.
            self.clock.wait(self.ended, _CHECK_INTERVAL_S)
        return NotReady(StartFailure.GIVEN_UP, f"sdwatch stopped waiting: {self._state()}")

    def _state(self) -> str:
        if self.last_probe is None:
            return f"nothing listens on port {self.port} yet"
        return self.last_probe.reason


def port_taken(port: int, owner: str) -> str:
    """Return the message for a port that another process uses. FREE_THE_PORT follows it."""
    return f"port {port} is taken by {owner}, which sdwatch did not start and leaves alone"


FREE_THE_PORT = "End it, or give this WebUI another port."


def explain_start_failure(
    failed: NotReady,
    *,
    probe: ProbeResult | None,
    given_up: bool,
    tails: Mapping[str, str],
    ended: bool,
    exit_code: int | None,
    memory: Snapshot | None,
    signatures: tuple[Signature, ...],
    kind: Kind,
) -> tuple[str, HoldReason]:
    """Return the reason for the log, and the reason for the lane's hold.

    `probe`: the last one. `tails`: the last lines of each output. `ended`: the process has ended,
    with `exit_code` where that was seen. `memory`: what was left just before. `kind`: of an earlier
    incarnation.
    """
    how = f"{failed.text}: {exit_in_words(exit_code)}" if ended else failed.text
    if probe is not None and probe.lacks is not None:  # the WebUI itself has said why
        return how, replace(probe, reason=how).hold_reason(managed=True, kind=kind)
    known = None
    if not given_up:
        known = _signature_of(tails, exit_code, memory, signatures)
    why = f": {known.cause}. {kind.fitted(known.advice)}" if known else ""
    if failed.advice:
        why = f". {failed.advice}"
    # What was raised may quote a prompt: a hold reason is redacted before it is shown, the log
    # is not.
    raised = how if given_up else how + _last_error(tails)
    return how + why, start_failed(raised, known, failed.failure, failed.advice, kind)


def not_writable(state_dir: Path, error: OSError) -> tuple[str, HoldReason]:
    """Return the reason for the log and for the hold: the state folder cannot be written."""
    reason = f"{state_dir} cannot be written: {disk.in_words(error)}. Nothing was started."
    advice = "Free space on its disk, or permit sdwatch to write there."
    key = HoldKey(HoldCode.STATE_UNWRITABLE)
    return reason, HoldReason(reason, advice, Blamed.MACHINE, key=key)


def cannot_kill(pids: Iterable[int]) -> tuple[str, HoldReason]:
    """Return the reason for the log and for the hold: these processes survive SIGKILL."""
    named = ", ".join(map(str, pids))
    reason = f"pid {named} cannot be killed: it hangs in the kernel or a driver"
    key = HoldKey(HoldCode.CANNOT_KILL)
    return reason, HoldReason(reason, "Restart the machine.", Blamed.MACHINE, key=key)


def operation_hangs() -> tuple[str, HoldReason]:
    """Return the reason for the log and for the hold: an earlier start or stop does not end."""
    reason = "it cannot be stopped: an earlier start or stop of it hangs in the system or a driver"
    key = HoldKey(HoldCode.OPERATION_HANGS)
    return reason, HoldReason(reason, "Restart the machine.", Blamed.MACHINE, key=key)


def _signature_of(
    tails: Mapping[str, str],
    exit_code: int | None,
    memory: Snapshot | None,
    signatures: tuple[Signature, ...],
) -> Signature | None:
    outputs = tuple(text.splitlines() for text in tails.values())
    known = why_not_started(FailedStart(outputs, exit_code, memory_low(memory)), signatures)
    if known is not None and known.asks_for_memory:
        return known.model_copy(update={"cause": f"{known.cause} ({memory_in_words(memory)})"})
    return known


def _last_error(tails: Mapping[str, str]) -> str:
    outputs = [split_lines(text) for text in tails.values()]
    raised = last_words([line.text for line in lines] for lines in outputs)
    return f"; its last error: {raised}" if raised else ""

"""The interfaces around the crash-aware call: its client, process, recorder and lane.

webui and spool do not import each other, so the recorder is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from sdwatch.errors import WebUIError
from sdwatch.policy.failure.check_levels import LEVELS, Level
from sdwatch.policy.failure.diagnosis import Explanation
from sdwatch.policy.failure.facts import FailureKey
from sdwatch.policy.failure.prompts_sent import PromptToSend, SentPrompt
from sdwatch.policy.failure.recovery import Decision
from sdwatch.policy.failure.signatures import Signature
from sdwatch.policy.job.calls.catalogue import Catalogue
from sdwatch.policy.lane.effects import ToRun
from sdwatch.policy.lane.events import LaneEvent
from sdwatch.policy.lane.state import Setup
from sdwatch.policy.report.envelope import FailedAttempt
from sdwatch.webui.http.call import CallHandle
from sdwatch.webui.http.reply import Reply
from sdwatch.webui.process.host_snapshot import HostSnapshots


class Client(Protocol):
    """Sends one generation. See SDWebUIClient."""

    def generate_images(
        self, stage: str, payload: Mapping[str, Any], given_up: Callable[[], bool] = ...
    ) -> Reply: ...
    def progress(self, timeout: float) -> dict[str, Any]: ...
    def listed(self, name: str, timeout: float) -> list[Any]: ...
    def interrupt(self) -> bool: ...
    def abandon(self) -> None: ...


@runtime_checkable
class QueueingClient(Protocol):
    """Sends one generation into a queue that outlives the connection. See ComfyUIClient."""

    def generate_queued(
        self,
        stage: str,
        payload: Mapping[str, Any],
        given_up: Callable[[], bool],
        prompt: PromptToSend,
        arrived: Callable[[], None] = ...,
    ) -> Reply: ...
    @property
    def running_node(self) -> str: ...


class SupervisedProcess(Protocol):
    """The WebUI's process. See WebUIProcessManager."""

    @property
    def incarnation(self) -> int: ...
    def is_process_alive(self) -> bool: ...
    def get_tail_logs(self, max_lines: int = 200) -> dict[str, str]: ...
    def restart_and_wait_ready(self, timeout_s: float) -> bool: ...


class Recorder(Protocol):
    """Writes one call's ledger and evidence. The spool has the real one."""

    @property
    def counted(self) -> int:
        """Return the counted attempts so far, including those before a restart of the monitor."""

    @property
    def sent(self) -> int:
        """Return how often the call was sent so far, counted or not; without what a stop gave
        up."""

    @property
    def excused(self) -> int:
        """Return how many attempts the self-test blamed on the WebUI: they are `sent`, and not
        `counted`."""

    @property
    def crash_count(self) -> int:
        """Return how often this call crashed the WebUI, without what the self-test excused."""

    @property
    def attempts(self) -> tuple[FailedAttempt, ...]:
        """Return the failed attempts so far, oldest first."""

    def place_of(self, lane: str) -> str:
        """Return the name under which attempts of this lane are recorded: its own name; on a box,
        where other machines may have a lane of that name, also the number of the hand-over. A
        failed attempt with another name was made elsewhere."""

    @property
    def may_send(self) -> bool:
        """Return whether the call may be sent once more (promise 3)."""

    def unseen_prompts(self) -> tuple[SentPrompt, ...]:
        """Return the prompts of earlier attempts whose result nobody has seen, the newest
        first."""

    def call_started(
        self,
        incarnation: int,
        prompt_id: str = "",
        *,
        lane: str = "",
        log_offset: tuple[int, ...] = (),
        unseen: bool = False,
    ) -> None:
        """Record that a POST goes out, to this incarnation of the WebUI of `lane`. `prompt_id`: of
        what it queues, '' for nothing. `log_offset`: the bytes of its output so far, () where they
        are not known. `unseen`: earlier prompts may have a result, so that it may not go out.
        Raises OSError."""

    def call_failed(
        self,
        explanation: Explanation,
        error: WebUIError,
        decision: Decision,
        exit_code: int | None,
        *,
        crashed: bool = False,
        printed: Sequence[str] | None = None,
        first_call: bool = False,
    ) -> None:
        """Record a failure and what the recovery gate decided. `crashed`: the WebUI must be
        restarted. `printed`: its lines during the call, where they are known. `first_call`: of its
        incarnation."""

    def shared(self, failure: FailureKey, payload: Mapping[str, Any]) -> FailureKey:
        """Return what identifies a failure, without what the payload says in it."""

    def self_tested(self, self_test_failure: str, decision: Decision) -> None:
        """Record a self-test. `self_test_failure`: why it failed, or ''."""

    def call_not_sent(self, why: str) -> None:
        """Record that the POST whose start was recorded does not go out."""

    def call_given_up(self, why: str) -> None:
        """Record that the call in flight, if there is one, was given up. Never raises OSError."""

    def evidence(
        self,
        run_dir: Path | None,
        payload: Mapping[str, Any],
        tail: Mapping[str, str],
        *,
        host_snapshot: Mapping[str, Any] = ...,
        fault: str = "",
    ) -> tuple[str, ...]:
        """Write the evidence of the last failure. Return all evidence files of the run so far,
        relative to `run_dir`.

        Without a `run_dir` nothing is written. `host_snapshot`: as in machine.json. `fault`: digest
        of a fault that a run on hold meets again; its evidence is written once while it lasts.
        """


class CallDecider(Protocol):
    """Who decides about a call: the loop of its lane (lane/loop.py), or, without a lane, a loop on
    the thread of the call itself (call_alone.py)."""

    def register(self, handle: CallHandle) -> None:
        """Make the call known, before it is requested."""

    def tell(self, event: LaneEvent) -> None:
        """Tell what happened; never waits."""

    def next_for(self, handle: CallHandle, seconds: float | None) -> ToRun | None:
        """Wait for the next message to its run, at most so many seconds, or without a limit for
        None. Return None where none came."""


@dataclass(frozen=True)
class CallSettings:
    """What calls need to know of their WebUI.

    `signatures`: of known failures; None for the built-in ones. `host_snapshots`: they go
    into the evidence. `checks`: the level of each finding in a reply. `catalogue`: returns what
    this WebUI has; None while that is unknown. `about`: returns which WebUI this is. `may_call`:
    returns whether a call may start now.
    """

    setup: Setup = Setup(supervised=False)  # noqa: RUF009 - it is frozen
    signatures: tuple[Signature, ...] | None = None
    host_snapshots: HostSnapshots | None = None
    checks: Mapping[str, Level] = field(default_factory=lambda: LEVELS)
    catalogue: Callable[[], Catalogue | None] = lambda: None
    about: Callable[[], dict[str, Any]] = dict
    may_call: Callable[[], bool] = lambda: True

"""The interfaces around the crash-aware call: its client, process, recorder and observer.

webui and spool do not import each other, so the recorder is passed in.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from sdwatch.errors import WebUIError
from sdwatch.policy.failure.diagnosis import Diagnosis, Drawn, Explanation
from sdwatch.policy.failure.failure_key import FailureKey
from sdwatch.policy.failure.hold_reason import HoldReason
from sdwatch.policy.failure.recovery import Decision
from sdwatch.policy.failure.reply_checks import Finding
from sdwatch.policy.report.envelope import FailedAttempt
from sdwatch.webui.http.canary import SelfTestFailure
from sdwatch.webui.http.reply import Reply


class Client(Protocol):
    """Sends one generation. See SDWebUIClient."""

    def generate_images(
        self, stage: str, payload: Mapping[str, Any], given_up: Callable[[], bool] = ...
    ) -> Reply: ...
    def progress(self, timeout: float) -> dict[str, Any]: ...
    def listed(self, name: str, timeout: float) -> list[Any]: ...
    def interrupt(self) -> bool: ...
    def abandon(self) -> None: ...


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
        """Return how many of these the canary blamed on the WebUI; they are not counted."""

    @property
    def attempts(self) -> tuple[FailedAttempt, ...]:
        """Return the failed attempts so far, oldest first."""

    def call_started(self, incarnation: int) -> None: ...
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
        """Record a failure and what the gate decided. `crashed`: the WebUI must be restarted.
        `printed`: its lines during the call, where they are known. `first_call`: of its
        incarnation."""

    def shared(self, failure: FailureKey, payload: Mapping[str, Any]) -> FailureKey:
        """Return what identifies a failure, without what the payload says in it."""

    def proven(self, self_test_failure: str, decision: Decision) -> None:
        """Record a self-test. `self_test_failure`: why it failed, or ''."""

    def call_given_up(self, why: str) -> None:
        """Record that the call in flight, if there is one, was given up."""

    def evidence(
        self,
        run_dir: Path | None,
        payload: Mapping[str, Any],
        tail: Mapping[str, str],
        *,
        machine: Mapping[str, Any] = ...,
        fault: str = "",
    ) -> tuple[str, ...]:
        """Write the evidence of the last failure. Return all evidence files of the run so far,
        relative to `run_dir`.

        Without a `run_dir` nothing is written. `machine`: its snapshots. `fault`: digest of a fault
        that a run on hold meets again; its evidence is written once while the fault lasts.
        """


class CallObserver(Protocol):
    """Hears what a call shows about the WebUI. The real one is in sdwatch/lane/supervisor.py."""

    def before_call(self, payload: Mapping[str, Any]) -> None:
        """Prepare for a POST: note what it overrides, see option_leaks.py."""

    def after_call(self) -> tuple[Finding, ...]:
        """Undo what the WebUI kept of the call, and return the findings."""

    def warn(self, job: str, warnings: tuple[Finding, ...]) -> None:
        """Warn of findings of a finished call that a person should know."""

    def sending(self, stage: str) -> bool:
        """Watch the progress of the POST that goes out now. Return whether it is the first call of
        its incarnation."""

    @property
    def has_log(self) -> bool:
        """Return whether the WebUI's output can be read at all."""

    def call_log(self) -> tuple[str, ...]:
        """Return the WebUI's lines since then, oldest first."""

    def wait_for_traceback(self, error: WebUIError, is_over: Callable[[], bool]) -> None:
        """Wait for what the WebUI prints of a failed call after its reply: until its traceback is
        complete, `is_over`, or a second has passed. `call_log` has it then."""

    def first_lines_with(self, patterns: Sequence[re.Pattern[str]]) -> tuple[str, ...]:
        """Return the first line since the WebUI's start that matches each pattern."""

    def succeeded(self, stage: str, payload: Mapping[str, Any]) -> None:
        """Note that a call succeeded."""

    def crashed(self, diagnosis: Diagnosis) -> None:
        """Mark the WebUI as crashed: it must be restarted, and its cool-down starts now."""

    def put_on_hold(self, hold_reason: HoldReason, *, until_idle: bool = False) -> None:
        """Send nothing to the WebUI for now. `until_idle`: nor while /progress shows a generation
        there, whether or not it advances."""

    def wait_until_idle(self, hold_reason: HoldReason) -> None:
        """Send nothing while the WebUI still generates a call that a proxy gave up."""

    def run_self_test(self, give_up: threading.Event) -> SelfTestFailure | None:
        """Have the WebUI make its self-test, restarted first if it crashed. Return None if it
        passes, else why not. Where a restart may help (`again`), the next call of this method
        restarts and tests it; else the lane is on hold, and the self-test is repeated."""

    def failed_fresh_since(self, incarnation: int) -> bool:
        """Return whether a later incarnation failed its self-test before any job's call, so that
        the WebUI was unusable by itself."""

    def can_generate(
        self,
        stage: str,
        payload: Mapping[str, Any],
        give_up: threading.Event,
        *,
        keeps_memory: bool,
    ) -> Drawn:
        """Return whether the WebUI, which has passed its self-test, generates a plain picture as
        large as this call's. `keeps_memory`: it was unusable after the call, and is recycled after
        the picture."""

    def is_a_jobs_own(self, failure: FailureKey | None) -> bool:
        """Return whether this failure was shown twice to be a job's own, and a self-test shows
        whether the WebUI is healthy enough for a call of this size."""

    def blamed(
        self, job: str, run: str, failure: FailureKey | None, crashes: int, died: bool
    ) -> None:
        """Note that a failure was a job's own. `crashes`: how many crashes of the WebUI it caused.
        `died`: its process died of it."""

    def cannot(self, stage: str, upscaler: str, why: str) -> None:
        """Note that this incarnation cannot do `stage`, with this upscaler or ('') at all, as a
        call has shown."""

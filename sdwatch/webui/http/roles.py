"""Who plays which part around the crash-aware call: its client, process, recorder and keeper.

webui and spool do not import each other: the recorder is handed in.
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
    """Writes one call's ledger and evidence; the spool has the real one."""

    @property
    def counted(self) -> int:
        """Counted attempts so far, from before a restart of the monitor too."""

    @property
    def sent(self) -> int:
        """How often the call was sent so far, counted or not; without what a stop gave up."""

    @property
    def excused(self) -> int:
        """How many of them the canary blamed on the WebUI; these are not counted."""

    @property
    def attempts(self) -> tuple[FailedAttempt, ...]:
        """The failed attempts so far, oldest first."""

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
        """It failed, and this is what the gate returned. `crashed`: the WebUI must be restarted;
        `printed`: its lines during the call, where they are known; `first_call`: of its
        incarnation."""

    def shared(self, failure: FailureKey, payload: Mapping[str, Any]) -> FailureKey:
        """By what a failure is told from others, without what the payload says in it."""

    def proven(self, self_test_failure: str, decision: Decision) -> None:
        """The WebUI made its self-test; `self_test_failure` is why it failed, or ''."""

    def call_given_up(self, why: str) -> None:
        """The call in flight, if there is one, was given up."""

    def evidence(
        self,
        run_dir: Path | None,
        payload: Mapping[str, Any],
        tail: Mapping[str, str],
        *,
        machine: Mapping[str, Any] = ...,
        fault: str = "",
    ) -> tuple[str, ...]:
        """Write the evidence of the last failure; all evidence files of the run so far, relative
        to `run_dir`. Without a `run_dir` nothing is written. `machine`: what it looked like.
        `fault`: what is wrong where the run only waits for its end; told once while it goes on."""


class CallObserver(Protocol):
    """Hears what a call says about the WebUI; the real one is in sdwatch/lane/supervisor.py."""

    def before_call(self, payload: Mapping[str, Any]) -> None:
        """A POST is about to go out: what it overrides is looked up, see webui/leaks.py."""

    def after_call(self) -> tuple[Finding, ...]:
        """The call is settled; what the WebUI kept of it, now undone."""

    def warn(self, job: str, warnings: tuple[Finding, ...]) -> None:
        """Something that a person should know, of a call that is settled."""

    def sending(self, stage: str) -> bool:
        """A POST goes out: its progress is watched from now on. Whether it is the first call of its
        incarnation."""

    @property
    def has_log(self) -> bool:
        """Whether the WebUI's lines can be seen at all."""

    def call_log(self) -> tuple[str, ...]:
        """The WebUI's lines since then, oldest first."""

    def wait_for_traceback(self, error: WebUIError, is_over: Callable[[], bool]) -> None:
        """Wait for what the WebUI prints of a failed call after its reply: until its traceback is
        whole, `is_over`, or a second is over. `call_log` has it then."""

    def first_lines_with(self, patterns: Sequence[re.Pattern[str]]) -> tuple[str, ...]:
        """The first line that the WebUI printed since its start of each."""

    def succeeded(self, stage: str, payload: Mapping[str, Any]) -> None:
        """A call succeeded."""

    def crashed(self, diagnosis: Diagnosis) -> None:
        """The WebUI must be restarted; its cool-down begins now."""

    def put_on_hold(self, hold_reason: HoldReason, *, until_idle: bool = False) -> None:
        """Nothing can be sent to it for now. `until_idle`: nor while a generation is to be seen
        there, whether it moves or not."""

    def wait_until_idle(self, hold_reason: HoldReason) -> None:
        """A proxy gave the call up: nothing is sent while the WebUI still generates it."""

    def run_self_test(self, give_up: threading.Event) -> SelfTestFailure | None:
        """Have the WebUI make its self-test, restarted first where it crashed: None where it
        passes, else why it does not. Where a restart may help, the next call of this restarts and
        tests it (`again`); else the lane is on hold, and the self-test is repeated."""

    def failed_fresh_since(self, incarnation: int) -> bool:
        """Whether an incarnation after this one failed its self-test before any job's call, so that
        the WebUI was unusable by itself."""

    def can_generate(
        self,
        stage: str,
        payload: Mapping[str, Any],
        give_up: threading.Event,
        *,
        keeps_memory: bool,
    ) -> Drawn:
        """Whether the WebUI, which has passed its self-test, makes a plain picture as large as this
        call's. `keeps_memory`: it was unusable after the call, and is recycled after the picture.
        """

    def is_a_jobs_own(self, failure: FailureKey | None) -> bool:
        """Whether this very failure was proven twice to be a job's own, and a self-test shows
        whether the WebUI is healthy enough for a call of this size."""

    def blamed(
        self, job: str, run: str, failure: FailureKey | None, crashes: int, died: bool
    ) -> None:
        """A failure was proven to be a job's own; it cost the WebUI so many lives, by its own end
        if it `died`."""

    def cannot(self, stage: str, upscaler: str, why: str) -> None:
        """A call has shown that this life of the WebUI cannot do `stage`, with this upscaler or,
        '', at all."""

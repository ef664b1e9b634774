"""The crash-aware call: one generation, and on failure evidence, restart, one retry.

The POST runs on a helper thread; the run's thread waits on one mailbox for whatever comes first:
the reply, the process's exit, a stall, a cancel, the monitor's stop.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdwatch.errors import (
    RunCancelledError,
    RunStoppedError,
    WebUIError,
    WebUIStuckError,
    WebUIUnreachableError,
)
from sdwatch.policy.envelope import ErrorEnvelope
from sdwatch.policy.recovery import Action, Decision, counts, decide
from sdwatch.policy.verdict import Diagnosis, Verdict, judge
from sdwatch.webui.mailbox import Exited, Mailbox, Message, Replied, Stalled
from sdwatch.webui.reply import Reply
from sdwatch.webui.roles import Client, Keeper, Process, Recorder

log = logging.getLogger("sdwatch.webui")

INTERRUPT_WAIT = 10.0
"""Seconds that an interrupt gets to free a stuck call."""

EXIT_WAIT = 1.0
"""Seconds that the end of a process may come after the connection broke."""

RESTART_LIMIT = 1800.0


@dataclass(frozen=True)
class Outcome:
    """Of one call. `reply` where it succeeded, else `envelope`. `later`: not failed for good; the
    same call may be made again with the same ledger once the WebUI is ready."""

    reply: Reply | None = None
    envelope: ErrorEnvelope | None = None
    later: bool = False

    @property
    def ok(self) -> bool:
        """Whether there are images."""
        return self.reply is not None


class WebUIAPI:
    """Calls one WebUI through the recovery gate. One object serves one call of one run at a time.

    `keeper`: told of crashes and holds before anything waits. `recovery`: False is fail-fast.
    `managed`: the WebUI is ours, so its generations may be interrupted.
    """

    def __init__(
        self,
        client: Client,
        process: Process,
        recorder: Recorder,
        *,
        keeper: Keeper | None = None,
        mailbox: Mailbox | None = None,
        recovery: bool = True,
        managed: bool = True,
        restart_limit: float = RESTART_LIMIT,
    ) -> None:
        self._client = client
        self._process = process
        self._recorder = recorder
        self._keeper = keeper
        self._mailbox = mailbox or Mailbox()
        self._recovery = recovery
        self._managed = managed
        self._restart_limit = restart_limit

    def generate_images_with_recovery(
        self,
        stage: str,
        payload: Mapping[str, Any],
        run_dir: Path | None = None,
        job_id: str | None = None,
    ) -> Outcome:
        """Make one call, and settle its failure before anything else is sent to the WebUI.

        `stage`: txt2img, img2img or extra-single-image. `run_dir`: where the evidence goes; None
        for none. `job_id`: named in the log. Raises RunCancelledError and RunStoppedError, after
        the generation was given up.
        """
        try:
            return self._until_settled(stage, payload, run_dir, job_id)
        except (RunCancelledError, RunStoppedError) as why:
            self._give_up(str(why))
            raise

    def _until_settled(
        self, stage: str, payload: Mapping[str, Any], run_dir: Path | None, job_id: str | None
    ) -> Outcome:
        while True:
            post, generation = object(), self._process.generation
            try:
                reply = self._attempt(post, generation, stage, payload)
            except WebUIError as error:
                failed = self._settle(error, post, generation, stage, payload, run_dir, job_id)
                if failed is not None:
                    return failed
            else:
                if self._keeper is not None:
                    self._keeper.succeeded()
                return Outcome(reply=reply)

    # -- one attempt

    def _attempt(
        self, post: object, generation: int, stage: str, payload: Mapping[str, Any]
    ) -> Reply:
        """Send once and wait for what comes first."""
        self._mailbox.raise_if_given_up()
        self._mailbox.forget_stalls()
        self._recorder.call_started(generation)
        if self._keeper is not None:
            self._keeper.sending(stage)
        threading.Thread(
            target=self._send, args=(post, stage, payload), name=f"post-{stage}", daemon=True
        ).start()

        def wanted(message: Message) -> bool:
            if isinstance(message, Replied):
                return message.post is post
            return not isinstance(message, Exited) or message.generation == generation

        message = self._mailbox.wait(wanted)
        if isinstance(message, Stalled):
            raise WebUIStuckError(message.reason, stage=stage)
        if isinstance(message, Exited):
            return self._last_words(post, message, stage)
        assert isinstance(message, Replied)
        if isinstance(message.result, Reply):
            return message.result
        raise message.result

    def _send(self, post: object, stage: str, payload: Mapping[str, Any]) -> None:
        result: Reply | WebUIError
        try:
            result = self._client.generate_images(stage, payload)
        except WebUIError as error:
            result = error
        except Exception as error:  # noqa: BLE001 - a thread's outer edge: the run must hear of it
            result = WebUIError(f"the request itself broke: {error!r}", stage=stage)
        self._mailbox.post(Replied(post, result))

    def _last_words(self, post: object, exited: Exited, stage: str) -> Reply:
        """The process ended; its reply may have been whole just before."""
        message = self._mailbox.wait(lambda m: isinstance(m, Replied) and m.post is post, EXIT_WAIT)
        if isinstance(message, Replied) and isinstance(message.result, Reply):
            return message.result
        self._client.abandon()
        # What the settling looks for, as if it came only now.
        self._mailbox.post(exited)
        raise WebUIUnreachableError("the WebUI's process ended", stage=stage)

    def _give_up(self, why: str) -> None:
        """The generation is of no use any more: end it where it is ours, and do not wait."""
        if self._managed:
            self._client.interrupt()
        self._client.abandon()
        self._recorder.call_given_up(why)

    # -- what follows a failure

    def _settle(
        self,
        error: WebUIError,
        post: object,
        generation: int,
        stage: str,
        payload: Mapping[str, Any],
        run_dir: Path | None,
        job_id: str | None,
    ) -> Outcome | None:
        """Gate, evidence, restart. None: try again; else how the call ended."""
        gone, code = self._exit_of(generation, error)
        verdict = judge(error, code, gone)
        attempts = self._recorder.counted + counts(verdict.diagnosis)
        decision = decide(verdict.diagnosis, attempts, self._recovery)
        freed = decision.action is Action.INTERRUPT and self._interrupt_frees(post)
        if self._keeper is not None and _is_crash(verdict.diagnosis, decision) and not freed:
            self._keeper.crashed(verdict.diagnosis)
        # The evidence comes first: it teaches the recorder what no message may echo.
        evidence = self._recorder.evidence(run_dir, payload, self._process.get_tail_logs())
        self._recorder.call_failed(verdict, error, decision, code)
        log.warning(
            "%s: %s: %s; %s (%s)",
            job_id or "a call",
            stage,
            verdict.diagnosis,
            decision.action,
            decision.why,
        )
        envelope = self._envelope(verdict, error, stage, generation, code, evidence)
        if freed:
            return None
        return self._carry_out(decision, envelope)

    def _carry_out(self, decision: Decision, envelope: ErrorEnvelope) -> Outcome | None:
        self._client.abandon()  # a stuck POST must not outlive the attempt that it belongs to
        if decision.action is Action.FAIL:
            return Outcome(envelope=envelope)
        if decision.action is Action.HOLD:
            if self._keeper is not None:
                self._keeper.hold(envelope.message)
            return Outcome(envelope=envelope, later=True)
        if self._process.restart_and_wait_ready(self._restart_limit):
            return None
        self._mailbox.raise_if_given_up()
        return Outcome(envelope=envelope, later=True)

    def _exit_of(self, generation: int, error: WebUIError) -> tuple[bool, int | None]:
        """Whether the process of this generation ended, and with which code. A connection breaks
        a moment before the end of its process is seen."""
        if not isinstance(error, WebUIUnreachableError):
            return False, None
        exited = self._mailbox.wait(
            lambda m: isinstance(m, Exited) and m.generation == generation, EXIT_WAIT
        )
        if isinstance(exited, Exited):
            return True, exited.code
        return not self._process.is_process_alive(), None

    def _interrupt_frees(self, post: object) -> bool:
        """Interrupt a stuck generation; whether its reply then came. It is thrown away."""
        if not self._managed or not self._client.interrupt():
            return False
        reply = self._mailbox.wait(
            lambda m: isinstance(m, Replied) and m.post is post, INTERRUPT_WAIT
        )
        return isinstance(reply, Replied) and isinstance(reply.result, Reply)

    def _envelope(
        self,
        verdict: Verdict,
        error: WebUIError,
        stage: str,
        generation: int,
        code: int | None,
        evidence: tuple[str, ...],
    ) -> ErrorEnvelope:
        return ErrorEnvelope(
            error=type(error).__name__,
            diagnosis=verdict.diagnosis,
            blame=_blame(verdict.diagnosis),
            message=self._recorder.attempts[-1].message,  # free of prompts, which a reply may echo
            advice=verdict.advice,
            stage=stage,
            attempts=self._recorder.attempts,
            generation=generation,
            exit_code=code,
            evidence=evidence,
        )


def _is_crash(diagnosis: Diagnosis, decision: Decision) -> bool:
    """Whether the WebUI must be restarted after this failure. A second server error from a WebUI
    that still answers is taken for the job's own fault: it costs no restart and no cool-down."""
    if diagnosis in (Diagnosis.CRASH, Diagnosis.STUCK):
        return True
    return decision.action is Action.RESTART


def _blame(diagnosis: Diagnosis) -> str:
    if diagnosis in (Diagnosis.NOT_USABLE, Diagnosis.BUSY):
        return "WebUI"
    return "machine" if diagnosis is Diagnosis.STORAGE else "job"

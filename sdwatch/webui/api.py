"""The crash-aware call: one generation, and on failure evidence, restart, one retry.

The POST runs on a helper thread; the run's thread waits on one mailbox for whatever comes first:
the reply, the process's exit, a stall, a cancel, the monitor's stop.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdwatch.effects import announce
from sdwatch.errors import (
    RunCancelledError,
    RunStoppedError,
    WebUIError,
    WebUIStuckError,
    WebUIUnreachableError,
)
from sdwatch.policy.envelope import ErrorEnvelope
from sdwatch.policy.recovery import COUNTED_ATTEMPTS, Action, Decision, counts, decide
from sdwatch.policy.verdict import Diagnosis, judge
from sdwatch.webui.mailbox import Exited, Mailbox, Message, Replied, Stalled
from sdwatch.webui.reply import Reply
from sdwatch.webui.roles import Client, Keeper, Process, Recorder

log = logging.getLogger("sdwatch.webui")

INTERRUPT_WAIT = 10.0

EXIT_WAIT = 1.0
"""Seconds that the end of a process may come after the connection broke."""

RESTART_LIMIT = 1800.0


@dataclass(frozen=True)
class _Call:
    """What generate_images_with_recovery was asked for."""

    stage: str
    payload: Mapping[str, Any]
    run_dir: Path | None
    job_id: str | None


@dataclass(eq=False)
class _Sent:
    """One POST of it, and to which life of the WebUI it went. Told apart by identity."""

    generation: int
    given_up: bool = False


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
    `managed`: the WebUI is ours, so its generations may be interrupted. Seconds: `restart_limit`,
    and `interrupt_wait`, which an interrupt gets to free a stuck call. `may_call` gives the reason
    why no call may begin now, or ''.
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
        interrupt_wait: float = INTERRUPT_WAIT,
        may_call: Callable[[], str] = lambda: "",
    ) -> None:
        self._client = client
        self._process = process
        self._recorder = recorder
        self._keeper = keeper
        self._mailbox = mailbox or Mailbox()
        self._recovery = recovery
        self._managed = managed
        self._restart_limit = restart_limit
        self._interrupt_wait = interrupt_wait
        self._may_call = may_call
        self._in_flight: _Sent | None = None

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
        call = _Call(stage, payload, run_dir, job_id)
        try:
            while (outcome := self._try_once(call)) is None:
                log.info("%s: %s: tried once more", job_id or "a call", stage)
            return outcome
        except (RunCancelledError, RunStoppedError) as why:
            self._give_up(str(why))
            raise

    def _try_once(self, call: _Call) -> Outcome | None:
        """One attempt and the settling of its failure. None: try again."""
        sent = _Sent(self._process.generation)
        try:
            reply = self._attempt(call, sent)
        except WebUIError as error:
            return self._settle(call, sent, error)
        if self._keeper is not None:
            self._keeper.succeeded()
        return Outcome(reply=reply)

    # -- one attempt

    def _attempt(self, call: _Call, sent: _Sent) -> Reply:
        """Send once and wait for what comes first."""
        self._mailbox.raise_if_given_up()
        self._mailbox.forget_stalls()
        self._recorder.call_started(sent.generation)
        if self._keeper is not None:
            self._keeper.sending(call.stage)
        self._in_flight = sent
        threading.Thread(
            target=self._send, args=(call, sent), name=f"post-{call.stage}", daemon=True
        ).start()

        def wanted(message: Message) -> bool:
            if isinstance(message, Replied):
                return message.post is sent
            return not isinstance(message, Exited) or message.generation == sent.generation

        message = self._mailbox.wait(wanted)
        if isinstance(message, Stalled):
            raise WebUIStuckError(message.reason, stage=call.stage)
        if isinstance(message, Exited):
            return self._last_words(call, sent, message)
        assert isinstance(message, Replied)
        self._in_flight = None
        if isinstance(message.result, Reply):
            return message.result
        raise message.result

    def _send(self, call: _Call, sent: _Sent) -> None:
        result: Reply | WebUIError
        try:
            announce("post begins", Path(call.stage))
            result = self._client.generate_images(call.stage, call.payload, lambda: sent.given_up)
        except WebUIError as error:
            result = error
        except Exception as error:  # noqa: BLE001 - a thread's outer edge: the run must hear of it
            result = WebUIError(f"the request itself broke: {error!r}", stage=call.stage)
        announce("post ends", Path(call.stage))
        self._mailbox.post(Replied(sent, result))

    def _reply_of(self, sent: _Sent, seconds: float) -> Reply | None:
        """The reply that may still come for a POST that was given up."""
        message = self._mailbox.wait(lambda m: isinstance(m, Replied) and m.post is sent, seconds)
        if isinstance(message, Replied) and isinstance(message.result, Reply):
            return message.result
        return None

    def _last_words(self, call: _Call, sent: _Sent, exited: Exited) -> Reply:
        """The process ended; its reply may have been whole just before."""
        if (reply := self._reply_of(sent, EXIT_WAIT)) is not None:
            return reply
        self._abandon()
        self._mailbox.post(exited)  # what the settling looks for, as if it came only now
        raise WebUIUnreachableError("the WebUI's process ended", stage=call.stage)

    def _give_up(self, why: str) -> None:
        """The generation is of no use any more: end it where it is ours, and do not wait."""
        if self._in_flight is not None and self._managed:
            self._client.interrupt()
        self._abandon()
        self._recorder.call_given_up(why)

    def _abandon(self) -> None:
        """Nobody waits for the POST in flight any more."""
        if self._in_flight is not None:
            self._in_flight.given_up = True
            self._in_flight = None
        self._client.abandon()

    # -- what follows a failure

    def _settle(self, call: _Call, sent: _Sent, error: WebUIError) -> Outcome | None:
        """Gate, evidence, restart. None: try again; else how the call ended."""
        gone, code = self._exit_of(sent, error)
        verdict = judge(error, code, gone)
        attempts = self._recorder.counted + counts(verdict.diagnosis)
        decision = decide(verdict.diagnosis, attempts, self._recovery, self._recorder.sent)
        freed = decision.action is Action.INTERRUPT and self._interrupt_frees(sent)
        if decision.action is Action.INTERRUPT and not freed:
            decision = Decision(Action.RESTART, "no progress, and an interrupt did not free it")
        if self._keeper is not None and _is_crash(verdict.diagnosis, decision) and not freed:
            self._keeper.crashed(verdict.diagnosis)
        # The evidence comes first: it teaches the recorder what no message may echo.
        tail = self._process.get_tail_logs()
        evidence = self._recorder.evidence(call.run_dir, call.payload, tail)
        self._recorder.call_failed(verdict, error, decision, code)
        what = (call.job_id or "a call", call.stage, verdict.diagnosis)
        log.info("%s: %s: %s; %s (%s)", *what, decision.action, decision.why)
        failed = self._recorder.attempts[-1]
        envelope = ErrorEnvelope(
            error=type(error).__name__,
            diagnosis=verdict.diagnosis,
            blame=_blame(verdict.diagnosis, attempts),
            message=failed.message,  # free of prompts, which a reply may echo
            advice=verdict.advice,
            stage=call.stage,
            attempts=self._recorder.attempts,
            generation=sent.generation,
            exit_code=code,
            evidence=evidence,
        )
        if freed:
            return self._retry(envelope)
        return self._carry_out(decision, envelope)

    def _retry(self, envelope: ErrorEnvelope) -> Outcome | None:
        """None: try again now. On a person's hold the retry is a new call, and waits for it."""
        return Outcome(envelope=envelope, later=True) if self._may_call() else None

    def _carry_out(self, decision: Decision, envelope: ErrorEnvelope) -> Outcome | None:
        self._abandon()  # a stuck POST must not outlive the attempt that it belongs to
        if decision.action is Action.FAIL:
            return Outcome(envelope=envelope)
        if decision.action is Action.HOLD:
            if self._keeper is not None:
                self._keeper.hold(envelope.message)
            return Outcome(envelope=envelope, later=True)
        if self._process.restart_and_wait_ready(self._restart_limit):
            return self._retry(envelope)
        self._mailbox.raise_if_given_up()
        return Outcome(envelope=envelope, later=True)

    def _exit_of(self, sent: _Sent, error: WebUIError) -> tuple[bool, int | None]:
        """Whether the process of this generation ended, and with which code. A connection breaks
        a moment before the end of its process is seen."""
        if not isinstance(error, WebUIUnreachableError):
            return False, None
        exited = self._mailbox.wait(
            lambda m: isinstance(m, Exited) and m.generation == sent.generation, EXIT_WAIT
        )
        if isinstance(exited, Exited):
            return True, exited.code
        return not self._process.is_process_alive(), None

    def _interrupt_frees(self, sent: _Sent) -> bool:
        """Interrupt a stuck generation; whether its reply then came. It is thrown away."""
        if not self._managed or not self._client.interrupt():
            return False
        return self._reply_of(sent, self._interrupt_wait) is not None


def _is_crash(diagnosis: Diagnosis, decision: Decision) -> bool:
    """Whether the WebUI must be restarted after this failure. A second server error from a WebUI
    that still answers is taken for the job's own fault: it costs no restart and no cool-down."""
    if diagnosis in (Diagnosis.CRASH, Diagnosis.STUCK):
        return True
    return decision.action is Action.RESTART


def _blame(diagnosis: Diagnosis, attempts: int) -> str:
    """Whose fault it is, as far as can be told: a job whose call fails again after a restart."""
    if diagnosis is Diagnosis.STORAGE:
        return "machine"
    if diagnosis is Diagnosis.BAD_REQUEST:
        return "job"
    return "job" if attempts >= COUNTED_ATTEMPTS and counts(diagnosis) else "WebUI"

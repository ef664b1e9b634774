"""The crash-aware call: one generation, and on failure evidence, restart, one retry.

The POST runs on a helper thread; the run's thread waits on one mailbox for whatever comes first:
the reply, the process's exit, a stall, a cancel, the monitor's stop.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sdwatch.config import builtin_signatures
from sdwatch.errors import (
    RunCancelledError,
    RunStoppedError,
    WebUIBusyError,
    WebUIError,
    WebUIReplyError,
    WebUIStuckError,
    WebUIUnreachableError,
)
from sdwatch.policy.failure.diagnosis import (
    Diagnosis,
    Explanation,
    FailureFacts,
    advice_for,
    as_proven,
    blame_for,
    by_time_limit,
    depends_on_size,
    drawn_advice,
    judge,
    what_failed,
)
from sdwatch.policy.failure.facts import Blamed, checkpoint_named, names_checkpoint
from sdwatch.policy.failure.failure_key import FailureKey
from sdwatch.policy.failure.hold_reason import NoCall, found_by_call
from sdwatch.policy.failure.matching import printed_once
from sdwatch.policy.failure.proxy import in_words, may_still_generate, time_limit
from sdwatch.policy.failure.recovery import (
    COUNTED_ATTEMPTS,
    Action,
    Decision,
    Ground,
    SelfTestResult,
    after_self_test,
    bring_up,
    counts,
    decide,
    is_crash,
)
from sdwatch.policy.failure.reply_checks import LEVELS, Finding, Level
from sdwatch.policy.failure.signatures import Signature
from sdwatch.policy.failure.tracebacks import may_follow
from sdwatch.policy.job.catalogue import Catalogue, Kind
from sdwatch.policy.job.completion import completed
from sdwatch.policy.report.envelope import CANARY_WELL, ErrorEnvelope
from sdwatch.webui.http.canary import By, SelfTestFailure
from sdwatch.webui.http.mailbox import Exited, Mailbox, Message, Replied, Stalled
from sdwatch.webui.http.post import result_of
from sdwatch.webui.http.reply import Reply
from sdwatch.webui.http.reply_checks import ReplyChecks
from sdwatch.webui.http.roles import CallObserver, Client, Recorder, SupervisedProcess
from sdwatch.webui.log.log_lines import split_lines, without_probes
from sdwatch.webui.process.host_snapshot import Machine, memory_in_words, memory_low

log = logging.getLogger("sdwatch.webui")

INTERRUPT_WAIT = 10.0

EXIT_WAIT = 1.0
"""Seconds that the end of a process may come after the connection broke."""

RESTART_LIMIT = 3600.0


@dataclass(frozen=True)
class _Call:
    """What generate_images_with_recovery was asked for. `payload`: with what was `added` to it, as
    this kind of WebUI needs it (see policy/completion.py)."""

    stage: str
    payload: Mapping[str, Any]
    run_dir: Path | None
    job_id: str | None
    added: Mapping[str, Any]


@dataclass(eq=False)
class _Sent:
    """One POST of it, and to which life of the WebUI it went; `first`: as its first call. Told
    apart by identity. `lost`: it was abandoned, and a WebUI that is not ours may draw it yet."""

    incarnation: int
    first: bool = False
    given_up: bool = False
    lost: bool = False


@dataclass(frozen=True)
class Outcome:
    """Of one call. `reply` where it succeeded, else `envelope`. `later`: not failed for good; the
    same call may be made again with the same ledger once the WebUI is ready. `warnings`: what is
    to be known of a success, and of the settings that the call left behind. `added`: fields that
    the job left out and this kind of WebUI needs."""

    reply: Reply | None = None
    envelope: ErrorEnvelope | None = None
    later: bool = False
    warnings: tuple[Finding, ...] = ()
    added: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether there are images."""
        return self.reply is not None


class WebUIAPI:
    """Calls one WebUI through the recovery gate. One object serves one call of one run at a time.

    `observer`: told of crashes and holds before anything waits. `recovery`: False is fail-fast.
    `managed`: the WebUI is ours, so its generations may be interrupted. Seconds: `restart_limit`,
    and `interrupt_wait`, which an interrupt gets to free a stuck call. `may_call` gives the reason
    why no call may begin now, or None. `signatures`: what known failures look like; None for those
    that sdwatch knows by itself. `machine`: what it looked like goes into the evidence. `checks`:
    what each finding in a reply is. `catalogue`: what this WebUI has; None while nobody knows.
    """

    def __init__(
        self,
        client: Client,
        process: SupervisedProcess,
        recorder: Recorder,
        *,
        observer: CallObserver | None = None,
        mailbox: Mailbox | None = None,
        recovery: bool = True,
        managed: bool = True,
        restart_limit: float = RESTART_LIMIT,
        interrupt_wait: float = INTERRUPT_WAIT,
        may_call: Callable[[], NoCall | None] = lambda: None,
        signatures: tuple[Signature, ...] | None = None,
        machine: Machine | None = None,
        checks: Mapping[str, Level] = LEVELS,
        catalogue: Callable[[], Catalogue | None] = lambda: None,
    ) -> None:
        self._client = client
        self._process = process
        self._recorder = recorder
        self._observer = observer
        self._mailbox = mailbox or Mailbox()
        self._recovery = recovery
        self._managed = managed
        self._machine = machine
        self._restart_limit = restart_limit
        self._interrupt_wait = interrupt_wait
        self._may_call = may_call
        self._signatures = builtin_signatures() if signatures is None else signatures
        self._catalogue = catalogue
        self._reply_checks = ReplyChecks(checks, client, self._call_log)
        self._in_flight: _Sent | None = None
        self._evidence: tuple[str, ...] = ()  # files of the run so far
        self._failure: FailureKey | None = None  # of the last attempt, as two jobs may share it
        self._is_unchanged = False  # the last attempt was an upscale that enlarged nothing
        self._crashes = 0  # of this lane's WebUI, by this call, and not excused

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
        added = completed(stage, payload, self._catalogue())
        call = _Call(stage, {**payload, **added}, run_dir, job_id, added)
        try:
            outcome = None
            if self._recorder.counted >= COUNTED_ATTEMPTS:  # no self-test could end before
                outcome = self._judge_by_self_test(call, self._last_failure(call))
            while outcome is None and (outcome := self._try_once(call)) is None:
                log.info("%s: %s: tried once more", job_id or "a call", stage)
            return self._with_warnings(call, outcome)
        except (RunCancelledError, RunStoppedError) as why:
            self._give_up(str(why))
            raise

    def _try_once(self, call: _Call) -> Outcome | None:
        """One attempt and the settling of its failure. None: try again."""
        sent = _Sent(self._process.incarnation)
        try:
            reply = self._attempt(call, sent)
            warnings = self._reply_checks.look(
                call.stage, call.payload, reply
            )  # a 200 is not a success
        except WebUIError as error:
            self._hear_out(sent, error)
            if isinstance(error, WebUIReplyError):
                return self._settle(call, sent, self._reply_checks.explain(error))
            return self._settle(call, sent, error)
        if self._observer is not None:
            self._observer.succeeded(call.stage, call.payload)
        return Outcome(reply=reply, warnings=warnings, added=call.added)

    def _with_warnings(self, call: _Call, outcome: Outcome) -> Outcome:
        """The call is settled: what the WebUI kept of it is undone, and what a person should know
        is told."""
        if self._observer is None:
            return outcome
        warnings = (*outcome.warnings, *self._observer.after_call())
        self._observer.warn(call.job_id or "a call", warnings)
        return replace(outcome, warnings=warnings)

    # -- one attempt

    def _attempt(self, call: _Call, sent: _Sent) -> Reply:
        """Send once and wait for what comes first."""
        self._mailbox.raise_if_given_up()
        self._mailbox.forget_stalls()
        if self._observer is not None:
            self._observer.before_call(call.payload)
        self._recorder.call_started(sent.incarnation)
        if self._observer is not None:
            sent.first = self._observer.sending(call.stage)
        self._in_flight = sent
        threading.Thread(
            target=self._send, args=(call, sent), name=f"post-{call.stage}", daemon=True
        ).start()

        def wanted(message: Message) -> bool:
            if isinstance(message, Replied):
                return message.post is sent
            return not isinstance(message, Exited) or message.incarnation == sent.incarnation

        message = self._mailbox.wait(wanted)
        if isinstance(message, Stalled):
            raise self._stuck_or_busy(call, sent, message)
        if isinstance(message, Exited):
            return self._last_words(call, sent, message)
        assert isinstance(message, Replied)
        self._in_flight = None
        if isinstance(message.result, Reply):
            return message.result
        raise message.result

    def _stuck_or_busy(self, call: _Call, sent: _Sent, stalled: Stalled) -> WebUIError:
        """What a stall means. On a WebUI that is not ours nothing proves that the generation that
        does not move is this one: somebody's own may hold it, and this one is queued behind."""
        error: WebUIError
        if self._managed:
            error = WebUIStuckError(stalled.reason, stage=call.stage)
        else:
            sent.lost = True
            error = WebUIBusyError(
                f"{stalled.reason}, and this WebUI is not ours: another generation holds it; it "
                "may still draw ours, so nothing is resent until it is idle (if it hangs, restart "
                "it by hand)",
                stage=call.stage,
            )
        error.probes = stalled.probes
        return error

    def _send(self, call: _Call, sent: _Sent) -> None:
        def generate() -> Reply:
            return self._client.generate_images(call.stage, call.payload, lambda: sent.given_up)

        self._mailbox.post(Replied(sent, result_of(generate, call.stage)))

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

    def _hear_out(self, sent: _Sent, error: WebUIError) -> None:
        """A WebUI may print why only after it has answered: what it means waits for that. A stop or
        cancel ends the wait, and the failure is written down as it is known by then."""
        if self._observer is None or not may_follow(error):
            return

        def is_over() -> bool:
            return self._mailbox.given_up.is_set() or self._ended(sent) is not None

        self._observer.hear_out(error, is_over)

    def _ended(self, sent: _Sent) -> Exited | None:
        """The end of the process that this was sent to, as far as it was seen; never waits."""
        seen = self._mailbox.seen(_end_of(sent))
        return seen if isinstance(seen, Exited) else None

    def _settle(self, call: _Call, sent: _Sent, error: WebUIError) -> Outcome | None:
        """Gate, evidence, restart. None: try again; else how the call ended."""
        facts = self._facts(call, sent, error)
        self._is_unchanged = error.kind == "upscale_unchanged"
        explanation, decision = self._gate(call, sent, facts)
        freed = decision.action is Action.INTERRUPT
        crashed = is_crash(explanation.diagnosis, explanation.poisons, decision) and not freed
        if self._observer is not None and crashed:
            self._crashes += 1
            self._observer.crashed(explanation.diagnosis)
        self._keep_evidence(call, explanation, decision)
        printed = self._printed(facts, sent)
        self._recorder.call_failed(
            explanation,
            error,
            decision,
            facts.exit_code,
            crashed=crashed,
            printed=printed,
            first_call=sent.first,
        )
        what = (call.job_id or "a call", call.stage, explanation.diagnosis)
        log.info("%s: %s: %s; %s (%s)", *what, decision.action, decision.why)
        envelope = self._last_failure(call, type(error).__name__, explanation)
        if freed:
            return self._retry(envelope)
        self._hold_if_needed(sent, error, explanation, decision, envelope.message)
        return self._carry_out(call, decision, envelope)

    def _hold_if_needed(
        self,
        sent: _Sent,
        error: WebUIError,
        explanation: Explanation,
        decision: Decision,
        message: str,
    ) -> None:
        """Nothing is sent to it for now: it is unusable, or it may still work on what was sent."""
        works_on = may_still_generate(error.status, error.after or 0.0)
        holds = sent.lost or works_on or decision.action is Action.HOLD
        if self._observer is None or not holds:
            return
        self._abandon()  # before anybody else may send
        hold_reason = found_by_call(message, explanation, managed=self._managed)
        if works_on:
            self._observer.wait_until_idle(hold_reason)
        else:
            self._observer.put_on_hold(hold_reason, until_idle=sent.lost)

    def _facts(self, call: _Call, sent: _Sent, error: WebUIError) -> FailureFacts:
        gone, code = self._exit_of(sent, error)
        before = self._machine.memory_before() if self._machine is not None else None
        facts = FailureFacts(
            error,
            gone,
            code,
            self._call_log(),
            memory_low(before),
            names_checkpoint=names_checkpoint(call.payload),
            memory=memory_in_words(before),
            kind=self._kind,
        )
        wanted = printed_once(facts, self._signatures)
        if not wanted or self._observer is None:
            return facts
        return replace(facts, printed=self._observer.first_lines_with(wanted))

    @property
    def _kind(self) -> Kind:
        catalogue = self._catalogue()
        return catalogue.kind if catalogue is not None else Kind.UNKNOWN

    def _gate(self, call: _Call, sent: _Sent, facts: FailureFacts) -> tuple[Explanation, Decision]:
        """What the failure means, and what to do; an interrupt that was tried and did not free the
        call is a restart by then."""
        # What somebody else's generation writes to the log says nothing of a call that is queued.
        explanation = judge(facts, () if sent.lost else self._signatures)
        if known := self._is_known(call, explanation, facts.error):
            explanation = as_proven(explanation)
        if (limit := self._time_limit(facts.error)) is not None:
            explanation = by_time_limit(explanation, in_words(limit))
        attempts = self._recorder.counted + counts(explanation.diagnosis)
        decision = decide(
            explanation.diagnosis,
            attempts,
            self._recovery,
            self._recorder.sent,
            known,
            managed=self._managed,
            time_limit=limit is not None,
        )
        if decision.action is not Action.INTERRUPT:
            return explanation, decision
        if self._interrupt_frees(sent):
            return explanation, Decision(Action.INTERRUPT, Ground.FREED)
        return explanation, bring_up(Ground.NOT_FREED, self._managed)

    def _time_limit(self, error: WebUIError) -> float | None:
        """The seconds after which a proxy gives calls up, where two attempts of this prove it."""
        earlier = (
            (failed.status, failed.seconds if failed.after is None else failed.after)
            for failed in self._recorder.attempts
        )
        return time_limit(error.status, error.after or 0.0, earlier)

    def _keep_evidence(self, call: _Call, explanation: Explanation, decision: Decision) -> None:
        """The evidence, before the failure: it teaches the recorder what no message may echo. A
        run on hold will meet the same fault again."""
        self._evidence = self._recorder.evidence(
            call.run_dir,
            call.payload,
            self._process.get_tail_logs(),
            machine=self._machine.at_failure() if self._machine is not None else {},
            fault=explanation.key.digest if decision.action is Action.HOLD else "",
        )

    def _is_known(self, call: _Call, explanation: Explanation, error: WebUIError) -> bool:
        """Whether this failure was proven twice to be a job's own, of other jobs: the restart
        before its second attempt is saved, never the attempt; also not where it leaves the WebUI
        unusable."""
        failure = what_failed(explanation, error, checkpoint_named(call.payload))
        self._failure = failure and self._recorder.shared(failure, call.payload)
        if self._observer is None or explanation.poisons:
            return False
        return self._observer.is_a_jobs_own(self._failure)

    def _printed(self, facts: FailureFacts, sent: _Sent) -> tuple[str, ...] | None:
        """What the WebUI printed for this call, but for the access lines of probes; None where that
        cannot be told from what it printed for others."""
        if self._observer is None or sent.lost or not self._observer.has_log:
            return None
        lines, _ = without_probes(split_lines("\n".join(facts.log)))
        return tuple(line.text for line in lines)

    def _call_log(self) -> tuple[str, ...]:
        return self._observer.call_log() if self._observer is not None else ()

    def _last_failure(
        self, call: _Call, error: str = "", explanation: Explanation | None = None
    ) -> ErrorEnvelope:
        """What is known of the last attempt, as far as it is written down."""
        failed = self._recorder.attempts[-1]
        diagnosis = Diagnosis(failed.diagnosis)
        return ErrorEnvelope(
            error=error,
            diagnosis=diagnosis,
            blame=(explanation.blames if explanation else None) or blame_for(diagnosis),
            message=failed.message,  # free of prompts, which a reply may echo
            advice=explanation.advice if explanation else advice_for(diagnosis, self._kind),
            stage=call.stage,
            attempts=self._recorder.attempts,
            incarnation=failed.incarnation,
            exit_code=failed.exit_code,
            evidence=self._evidence,
            failure=failed.failure,
        )

    def _retry(self, envelope: ErrorEnvelope) -> Outcome | None:
        """None: try again now. On a person's hold the retry is a new call, and waits for it."""
        return Outcome(envelope=envelope, later=True) if self._may_call() else None

    def _carry_out(
        self, call: _Call, decision: Decision, envelope: ErrorEnvelope
    ) -> Outcome | None:
        self._abandon()  # a stuck POST must not outlive the attempt that it belongs to
        if decision.action is Action.FAIL:
            if envelope.blame is Blamed.JOB and envelope.attempts[-1].crashed:
                self._tell_blamed(call)
            if envelope.diagnosis is Diagnosis.BAD_REQUEST and envelope.blame is Blamed.WEBUI:
                self._tell_cannot(call, envelope)
            return Outcome(envelope=envelope)
        if decision.action is Action.RETRY:
            return self._retry(envelope)
        if decision.action is Action.SELF_TEST:
            return self._judge_by_self_test(call, envelope)
        if decision.action is Action.HOLD:
            return Outcome(envelope=envelope, later=True)
        if self._process.restart_and_wait_ready(self._restart_limit):
            return self._retry(envelope)
        self._mailbox.raise_if_given_up()
        return Outcome(envelope=envelope, later=True)

    def _judge_by_self_test(self, call: _Call, envelope: ErrorEnvelope) -> Outcome | None:
        """The same call has failed twice: whose fault is it? None: it gets its one last attempt.
        Without a keeper nothing can be tested, and it is taken for the job's."""
        while True:
            self_test = (
                self._observer.run_self_test(self._mailbox.given_up)
                if self._observer is not None
                else None
            )
            self._mailbox.raise_if_given_up()
            if self_test is not None and self_test.by is not By.FAILED:  # nothing is proven yet
                return Outcome(envelope=envelope, later=True)
            self_test_failure = self_test.reason if self_test else ""
            result = self._result_of(self_test)
            decision = after_self_test(
                result,
                self_test_failure,
                first_call=self._was_first_call(),
                excused=self._recorder.excused,
                sent=self._recorder.sent,
            )
            self._recorder.proven(self_test_failure, decision)
            log.info("%s: %s: %s (%s)", call.job_id, call.stage, decision.action, decision.why)
            if decision.action is not Action.TEST_AGAIN:
                break
            self._crashes += 1
        if decision.excuses:
            self._crashes = 0
            later = Outcome(envelope=envelope, later=True)
            return later if decision.action is Action.HOLD else self._retry(envelope)
        if not self_test_failure:
            self._tell_blamed(call)
            if self._is_unchanged and (upscaler := str(call.payload.get("upscaler_1") or "")):
                self._tell_cannot(call, envelope, upscaler)
            envelope = self._with_size_in_mind(call, envelope, result)
        blame = decision.blame or envelope.blame
        canary = self_test_failure or CANARY_WELL
        envelope = replace(
            envelope, blame=blame, canary=canary, self_test_passed=not self_test_failure
        )
        return Outcome(envelope=envelope)

    def _result_of(self, self_test: SelfTestFailure | None) -> SelfTestResult:
        """What the self-test showed; by the ledger, so that a monitor that was killed meanwhile
        knows it, too."""
        if self._observer is None:
            return SelfTestResult.PASSED
        if self_test is not None:
            return SelfTestResult.FAILED if self_test.again else SelfTestResult.HELD
        same = self._recorder.attempts[-1].incarnation == self._process.incarnation
        return SelfTestResult.PASSED if same else SelfTestResult.PASSED_AFTER_RESTART

    def _was_first_call(self) -> bool:
        """Whether nothing but the call itself explains that its last attempt failed: it was the
        first of its incarnation, and no fresh one has failed its self-test since."""
        last = self._recorder.attempts[-1]
        if self._observer is None or not last.first_call:
            return last.first_call
        return not self._observer.failed_fresh_since(last.incarnation)

    def _with_size_in_mind(
        self, call: _Call, envelope: ErrorEnvelope, result: SelfTestResult
    ) -> ErrorEnvelope:
        """Of a job that ran out of memory, or into NaNs: with advice that a plain picture of its
        size has selected. It is the job's fault by now, whatever that shows."""
        if self._observer is None or not depends_on_size(envelope.diagnosis):
            return envelope
        drawn = self._observer.draws(
            call.stage,
            call.payload,
            self._mailbox.given_up,
            keeps_memory=result is SelfTestResult.PASSED_AFTER_RESTART,
        )
        return replace(envelope, advice=drawn_advice(drawn, envelope.advice))

    def _tell_cannot(self, call: _Call, envelope: ErrorEnvelope, upscaler: str = "") -> None:
        if self._observer is not None:
            self._observer.cannot(call.stage, upscaler, envelope.message)

    def _tell_blamed(self, call: _Call) -> None:
        if self._observer is not None:
            self._observer.blamed(
                call.job_id or "",
                call.run_dir.name if call.run_dir else "",
                self._failure,
                self._crashes,
                any(attempt.diagnosis == Diagnosis.CRASH for attempt in self._recorder.attempts),
            )
            self._crashes = 0

    def _exit_of(self, sent: _Sent, error: WebUIError) -> tuple[bool, int | None]:
        """Whether the process of this generation ended, and with which code. A connection breaks
        a moment before the end of its process is seen; after a reply it may end meanwhile."""
        if may_follow(error) and (ended := self._ended(sent)) is not None:
            return True, ended.code
        if not isinstance(error, WebUIUnreachableError):
            return False, None
        exited = self._mailbox.wait(_end_of(sent), EXIT_WAIT)
        if isinstance(exited, Exited):
            return True, exited.code
        return not self._process.is_process_alive(), None

    def _interrupt_frees(self, sent: _Sent) -> bool:
        """Interrupt a stuck generation; whether its reply then came. It is thrown away."""
        if not self._managed or not self._client.interrupt():
            return False
        return self._reply_of(sent, self._interrupt_wait) is not None


def _end_of(sent: _Sent) -> Callable[[Message], bool]:
    return lambda message: isinstance(message, Exited) and message.incarnation == sent.incarnation

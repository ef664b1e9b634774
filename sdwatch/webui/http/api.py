"""The crash-aware call: one generation, and on failure evidence, a restart and one retry."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sdwatch.config import builtin_signatures
from sdwatch.errors import (
    RunCancelledError,
    RunStoppedError,
    WebUIError,
    WebUIReplyError,
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
from sdwatch.policy.failure.reply_checks import LEVELS, Level
from sdwatch.policy.failure.signatures import Signature
from sdwatch.policy.job.catalogue import Catalogue, Kind
from sdwatch.policy.job.completion import completed
from sdwatch.policy.report.envelope import CANARY_WELL, ErrorEnvelope
from sdwatch.webui.http.attempt import INTERRUPT_WAIT, Attempts
from sdwatch.webui.http.call import Outcome, PreparedCall, Sent
from sdwatch.webui.http.canary import By, SelfTestFailure
from sdwatch.webui.http.mailbox import Mailbox
from sdwatch.webui.http.reply_checks import ReplyChecks
from sdwatch.webui.http.roles import CallObserver, Client, Recorder, SupervisedProcess
from sdwatch.webui.process.host_snapshot import Machine, memory_in_words, memory_low

log = logging.getLogger("sdwatch.webui")


RESTART_LIMIT = 3600.0


class WebUIAPI:
    """Calls one WebUI through the recovery gate. One object serves one call of one run at a time.

    `observer`: hears of crashes and holds before anything waits. `recovery`: False fails at the
    first error. `managed`: sdwatch starts and stops the WebUI, so its generations may be
    interrupted. `restart_limit`: seconds. `interrupt_wait`: seconds that an interrupt gets to free
    a stuck call. `may_call`: returns why no call may start now, or None. `signatures`: of known
    failures; None for the built-in ones. `machine`: its snapshots go into the evidence. `checks`:
    the level of each finding in a reply. `catalogue`: returns what this WebUI has; None while that
    is unknown.
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
        self._process = process
        self._recorder = recorder
        self._observer = observer
        self._mailbox = mailbox or Mailbox()
        self._attempts = Attempts(
            client,
            process,
            recorder,
            observer,
            self._mailbox,
            managed=managed,
            interrupt_wait=interrupt_wait,
        )
        self._recovery = recovery
        self._managed = managed
        self._machine = machine
        self._restart_limit = restart_limit
        self._may_call = may_call
        self._signatures = builtin_signatures() if signatures is None else signatures
        self._catalogue = catalogue
        self._reply_checks = ReplyChecks(checks, client, self._call_log)
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
        """Make one call, and handle its failure before anything else is sent to the WebUI.

        `stage`: txt2img, img2img or extra-single-image. `run_dir`: where the evidence goes; None
        for none. `job_id`: named in the log. Raises RunCancelledError and RunStoppedError, after
        the generation was given up.
        """
        added = completed(stage, payload, self._catalogue())
        call = PreparedCall(stage, {**payload, **added}, run_dir, job_id, added)
        try:
            outcome = None
            if self._recorder.counted >= COUNTED_ATTEMPTS:  # no self-test could end before
                outcome = self._judge_by_self_test(call, self._last_failure(call))
            while outcome is None and (outcome := self._try_once(call)) is None:
                log.info("%s: %s: one more attempt", job_id or "a call", stage)
            return self._with_warnings(call, outcome)
        except (RunCancelledError, RunStoppedError) as why:
            self._attempts.give_up(str(why))
            raise

    def _try_once(self, call: PreparedCall) -> Outcome | None:
        """Make one attempt and handle its failure. Return None to try again."""
        sent = Sent(self._process.incarnation)
        try:
            reply = self._attempts.send(call, sent)
            warnings = self._reply_checks.check(
                call.stage, call.payload, reply
            )  # a 200 alone is no success
        except WebUIError as error:
            self._attempts.wait_for_traceback(sent, error)
            if isinstance(error, WebUIReplyError):
                return self._handle_failure(call, sent, self._reply_checks.explain(error))
            return self._handle_failure(call, sent, error)
        if self._observer is not None:
            self._observer.succeeded(call.stage, call.payload)
        return Outcome(reply=reply, warnings=warnings, added=call.added)

    def _with_warnings(self, call: PreparedCall, outcome: Outcome) -> Outcome:
        """Finish the call: undo what the WebUI kept of it, and report the warnings."""
        if self._observer is None:
            return outcome
        warnings = (*outcome.warnings, *self._observer.after_call())
        self._observer.warn(call.job_id or "a call", warnings)
        return replace(outcome, warnings=warnings)

    # -- one attempt

    # -- what follows a failure

    def _handle_failure(self, call: PreparedCall, sent: Sent, error: WebUIError) -> Outcome | None:
        """Decide, keep the evidence, and restart if needed. Return None to try again, else the
        outcome."""
        facts = self._facts(call, sent, error)
        self._is_unchanged = error.kind == "upscale_unchanged"
        explanation, decision = self._gate(call, sent, facts)
        freed = decision.action is Action.INTERRUPT
        crashed = is_crash(explanation.diagnosis, explanation.poisons, decision) and not freed
        if self._observer is not None and crashed:
            self._crashes += 1
            self._observer.crashed(explanation.diagnosis)
        self._keep_evidence(call, explanation, decision)
        printed = self._attempts.printed(facts.log, sent)
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
        return self._apply(call, decision, envelope)

    def _hold_if_needed(
        self,
        sent: Sent,
        error: WebUIError,
        explanation: Explanation,
        decision: Decision,
        message: str,
    ) -> None:
        """Hold the WebUI if it is unusable, or may still work on what was sent."""
        works_on = may_still_generate(error.status, error.after or 0.0)
        holds = sent.lost or works_on or decision.action is Action.HOLD
        if self._observer is None or not holds:
            return
        self._attempts.abandon()  # before others may send
        hold_reason = found_by_call(message, explanation, managed=self._managed)
        if works_on:
            self._observer.wait_until_idle(hold_reason)
        else:
            self._observer.put_on_hold(hold_reason, until_idle=sent.lost)

    def _facts(self, call: PreparedCall, sent: Sent, error: WebUIError) -> FailureFacts:
        gone, code = self._attempts.exit_of(sent, error)
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

    def _gate(
        self, call: PreparedCall, sent: Sent, facts: FailureFacts
    ) -> tuple[Explanation, Decision]:
        """Return what the failure means, and what to do. An interrupt that did not free the call
        becomes a restart."""
        # The log of somebody else's generation does not explain a call that is queued behind it.
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
        if self._attempts.interrupt_frees(sent):
            return explanation, Decision(Action.INTERRUPT, Ground.FREED)
        return explanation, bring_up(Ground.NOT_FREED, self._managed)

    def _time_limit(self, error: WebUIError) -> float | None:
        """Return the seconds after which a proxy gives calls up, if two attempts of this call show
        that."""
        earlier = (
            (failed.status, failed.seconds if failed.after is None else failed.after)
            for failed in self._recorder.attempts
        )
        return time_limit(error.status, error.after or 0.0, earlier)

    def _keep_evidence(
        self, call: PreparedCall, explanation: Explanation, decision: Decision
    ) -> None:
        """Write the evidence, before the failure is recorded: it teaches the recorder what no
        message may echo. A run on hold will meet the same fault again."""
        self._evidence = self._recorder.evidence(
            call.run_dir,
            call.payload,
            self._process.get_tail_logs(),
            machine=self._machine.at_failure() if self._machine is not None else {},
            fault=explanation.key.digest if decision.action is Action.HOLD else "",
        )

    def _is_known(self, call: PreparedCall, explanation: Explanation, error: WebUIError) -> bool:
        """Return whether this failure was shown twice to be a job's own, by other jobs. That saves
        the restart before the second attempt, never the attempt; not where the failure leaves the
        WebUI unusable."""
        failure = what_failed(explanation, error, checkpoint_named(call.payload))
        self._failure = failure and self._recorder.shared(failure, call.payload)
        if self._observer is None or explanation.poisons:
            return False
        return self._observer.is_a_jobs_own(self._failure)

    def _call_log(self) -> tuple[str, ...]:
        return self._observer.call_log() if self._observer is not None else ()

    def _last_failure(
        self, call: PreparedCall, error: str = "", explanation: Explanation | None = None
    ) -> ErrorEnvelope:
        """Return what is known of the last attempt, as far as it is recorded."""
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
        """Return None to try again now. On a person's hold the retry is a new call, and waits for
        it."""
        return Outcome(envelope=envelope, later=True) if self._may_call() else None

    def _apply(
        self, call: PreparedCall, decision: Decision, envelope: ErrorEnvelope
    ) -> Outcome | None:
        self._attempts.abandon()  # a stuck POST must not outlive its attempt
        if decision.action is Action.FAIL:
            if envelope.blame is Blamed.JOB and envelope.attempts[-1].crashed:
                self._report_blamed(call)
            if envelope.diagnosis is Diagnosis.BAD_REQUEST and envelope.blame is Blamed.WEBUI:
                self._report_cannot(call, envelope)
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

    def _judge_by_self_test(self, call: PreparedCall, envelope: ErrorEnvelope) -> Outcome | None:
        """Decide whose fault it is that the same call failed twice. Return None for one last
        attempt. Without a supervisor nothing can be tested, and the fault counts as the job's."""
        while True:
            self_test = (
                self._observer.run_self_test(self._mailbox.given_up)
                if self._observer is not None
                else None
            )
            self._mailbox.raise_if_given_up()
            if self_test is not None and self_test.by is not By.FAILED:  # inconclusive
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
        if self_test is None:
            self._report_blamed(call)
            if self._is_unchanged and (upscaler := str(call.payload.get("upscaler_1") or "")):
                self._report_cannot(call, envelope, upscaler)
            envelope = self._with_size_advice(call, envelope, result)
        blame = decision.blame or envelope.blame
        canary = CANARY_WELL if self_test is None else self_test_failure
        envelope = replace(envelope, blame=blame, canary=canary, self_test_passed=self_test is None)
        return Outcome(envelope=envelope)

    def _result_of(self, self_test: SelfTestFailure | None) -> SelfTestResult:
        """Return what the self-test showed. It uses the ledger, so it is also right after a monitor
        crash."""
        if self._observer is None:
            return SelfTestResult.PASSED
        if self_test is not None:
            return SelfTestResult.FAILED if self_test.again else SelfTestResult.HELD
        same = self._recorder.attempts[-1].incarnation == self._process.incarnation
        return SelfTestResult.PASSED if same else SelfTestResult.PASSED_AFTER_RESTART

    def _was_first_call(self) -> bool:
        """Return whether only the call itself explains that its last attempt failed: it was the
        first of its incarnation, and no fresh incarnation has failed its self-test since."""
        last = self._recorder.attempts[-1]
        if self._observer is None or not last.first_call:
            return last.first_call
        return not self._observer.failed_fresh_since(last.incarnation)

    def _with_size_advice(
        self, call: PreparedCall, envelope: ErrorEnvelope, result: SelfTestResult
    ) -> ErrorEnvelope:
        """Return the failure of a job that ran out of memory, or into NaNs, with advice that a
        plain picture of its size has selected. The fault is the job's by now, whatever that picture
        shows."""
        if self._observer is None or not depends_on_size(envelope.diagnosis):
            return envelope
        drawn = self._observer.can_generate(
            call.stage,
            call.payload,
            self._mailbox.given_up,
            keeps_memory=result is SelfTestResult.PASSED_AFTER_RESTART,
        )
        return replace(envelope, advice=drawn_advice(drawn, envelope.advice))

    def _report_cannot(
        self, call: PreparedCall, envelope: ErrorEnvelope, upscaler: str = ""
    ) -> None:
        if self._observer is not None:
            self._observer.cannot(call.stage, upscaler, envelope.message)

    def _report_blamed(self, call: PreparedCall) -> None:
        if self._observer is not None:
            self._observer.blamed(
                call.job_id or "",
                call.run_dir.name if call.run_dir else "",
                self._failure,
                self._crashes,
                any(attempt.diagnosis == Diagnosis.CRASH for attempt in self._recorder.attempts),
            )
            self._crashes = 0

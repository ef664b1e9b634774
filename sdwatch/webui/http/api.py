"""The call API of a run: one generation, and on failure evidence, a restart and one retry.

Nothing here talks HTTP (client.py does) or decides (policy/lane does). On the run's thread it asks
the lane for a call (WebUIAPI), and until that is answered it does what the lane asks of the run
(_RunsCall): record the start of a POST, a failure with its evidence, a self-test.

The monitor always gives it a lane. A program that uses WebUIAPI by itself, without one, gets
CallAlone (call_alone.py): the same machine then decides, on the caller's thread.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sdwatch.errors import LaneError, RunCancelledError, RunStoppedError
from sdwatch.policy.failure.diagnosis import (
    Diagnosis,
    advice_for,
    depends_on_size,
    size_advice,
)
from sdwatch.policy.failure.facts import Blamed, whose_fault
from sdwatch.policy.failure.prompts_sent import PromptToSend
from sdwatch.policy.failure.recovery import Action
from sdwatch.policy.job.calls.catalogue import Catalogue
from sdwatch.policy.job.calls.payload import completed
from sdwatch.policy.kinds.kind import Dialect
from sdwatch.policy.lane.effects import (
    Answer,
    BeforePost,
    Broken,
    Failed,
    GivenUp,
    Later,
    NotSent,
    RecordFailure,
    RecordSelfTest,
    Succeeded,
    ToRun,
)
from sdwatch.policy.lane.events import (
    ELSEWHERE,
    Attempt,
    CallLedgerView,
    CallRequested,
    Cancelled,
    NotNow,
    OfCall,
    Recorded,
    RunGone,
)
from sdwatch.policy.report.decisions import sent_too_often
from sdwatch.policy.report.envelope import CANARY_HEALTHY, ErrorEnvelope, FailedAttempt
from sdwatch.system.failpoints import failpoint
from sdwatch.system.log_events import LogEvent, about, bound_facts
from sdwatch.webui.http.call import CallHandle, Outcome, PreparedCall, wanted_of
from sdwatch.webui.http.failure_evidence import FailureEvidence
from sdwatch.webui.http.roles import CallDecider, CallSettings, Client, Recorder, SupervisedProcess
from sdwatch.webui.http.run_control import RunControl

log = logging.getLogger("sdwatch.webui")


class WebUIAPI:
    """Calls one WebUI through the recovery gate. One object serves one call of one run at a time.

    `control`: through it the run is given up. `settings`: what its calls need to know. `loop`: the
    loop of the lane that decides; None outside the monitor, where there is no lane.
    """

    def __init__(
        self,
        client: Client,
        process: SupervisedProcess,
        recorder: Recorder,
        *,
        control: RunControl | None = None,
        settings: CallSettings = CallSettings(),  # noqa: B008 - it is frozen
        loop: CallDecider | None = None,
    ) -> None:
        self.loop: CallDecider = loop or _alone(client, process, settings)
        self._recorder = recorder
        self._control = control or RunControl()
        self._settings = settings

    def about(self) -> dict[str, Any]:
        """Return which WebUI this is, for a run's manifest; {} where that is unknown."""
        return self._settings.about()

    @property
    def catalogue(self) -> Catalogue | None:
        """Return what this WebUI has; None while that is unknown."""
        return self._settings.catalogue()

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
        the generation was given up, OSError where the disk refuses to record its start, and
        LaneError for an internal error.
        """
        added = completed(stage, payload, self._settings.catalogue())
        call = PreparedCall(stage, {**payload, **added}, run_dir, job_id, added)
        return _RunsCall(call, self.loop, self._recorder, self._control, self._settings).make()


def _alone(client: Client, process: SupervisedProcess, settings: CallSettings) -> CallDecider:
    from sdwatch.webui.http.call_alone import CallAlone  # the monitor never needs it

    return CallAlone(client, process, settings)


class _RunsCall:
    """One call, as its run sees it: it records what the lane reports, and waits for the outcome."""

    def __init__(
        self,
        call: PreparedCall,
        loop: CallDecider,
        recorder: Recorder,
        control: RunControl,
        settings: CallSettings,
    ) -> None:
        self._call = call
        self._loop = loop
        self._recorder = recorder
        self._control = control
        self._settings = settings
        self._handle = CallHandle(call, recorder.shared)
        self._evidence: tuple[str, ...] = ()  # files of the run so far
        self._last: RecordFailure | None = None

    def make(self) -> Outcome:
        """Make the call. Raises RunCancelledError, RunStoppedError, OSError."""
        self._control.raise_if_given_up()
        handle, tell = self._handle, self._loop.tell
        self._control.waiting = True
        self._loop.register(handle)
        tell(self._request())
        answer = None
        try:
            with self._control.while_calling(lambda: tell(Cancelled(handle.id))):
                while not isinstance(message := self._next(), Answer):
                    self._act(message)
                answer = message
        finally:
            if answer is None:
                tell(RunGone(handle.id))
        return self._outcome(answer)

    def _next(self) -> ToRun:
        """Wait for the next message from the lane, and give the run up once its time is over."""
        while (message := self._loop.next_for(self._handle, self._control.time_left())) is None:
            if self._control.time_left() == 0:
                self._control.time_out()
        return message

    def _request(self) -> CallRequested:
        recorder, call = self._recorder, self._call
        lane = recorder.place_of(self._lane)
        was_here = all(failed.lane in ("", lane) for failed in recorder.attempts)
        ledger = CallLedgerView(
            recorder.counted,
            recorder.sent,
            recorder.excused,
            recorder.crash_count if was_here else 0,
            tuple(_attempt(failed, lane) for failed in recorder.attempts),
        )
        return CallRequested(
            self._handle.id,
            ledger,
            call.stage,
            wanted_of(call.stage, call.payload),
            call.job_id or "",
            call.run_dir.name if call.run_dir else "",
            str(call.payload.get("upscaler_1") or ""),
            unseen=bool(recorder.unseen_prompts()),
        )

    @property
    def _lane(self) -> str:
        return str(self._settings.about().get("name", ""))

    # -- messages from the lane

    def _tell(self, event: OfCall) -> None:
        self._passes(event)
        self._loop.tell(event)

    def _passes(self, message: ToRun | OfCall) -> None:
        """Announce what passes between run and lane: a death may come just before it."""
        failpoint(type(message).__name__, Path(self._call.stage))

    def _act(self, message: ToRun) -> None:
        self._passes(message)
        self._control.waiting, self._control.calling = False, True
        self._control.decided = None
        if isinstance(message, BeforePost):
            self._start(message)
        elif isinstance(message, NotSent):
            self._recorder.call_not_sent("the WebUI was no longer ready")
            self._control.waiting = True
        elif isinstance(message, RecordFailure):
            self._record_failure(message)
            self._control.decided = message.decision.action
            self._tell(Recorded(message.call, message.number))
        elif isinstance(message, RecordSelfTest):
            self._recorder.self_tested(message.unhealthy, message.decision)
            self._control.decided = message.decision.action
            what = (self._call.name, self._call.stage, message.decision.words)
            log.info("%s: %s: self-test done; %s", *what, extra=about(LogEvent.SELF_TEST_DONE))
            self._tell(Recorded(message.call, message.number))

    def _start(self, message: BeforePost) -> None:
        """Record the start of a POST. Raises OSError: the run then ends, and waits in working/."""
        if not self._settings.may_call():
            self._control.waiting, self._control.calling = True, False
            self._tell(NotNow(message.call))
            return
        kind = (self._settings.catalogue() or Catalogue()).kind
        prompt = None
        if kind.dialect is Dialect.PROMPTS:
            before, may_send = self._recorder.unseen_prompts(), self._recorder.may_send
            prompt = PromptToSend(str(uuid.uuid4()), before, may_send)
        self._handle.prompt = prompt
        self._recorder.call_started(
            message.incarnation,
            prompt.id if prompt else "",
            lane=self._lane,
            log_offset=message.log_offset,
            unseen=prompt is not None and bool(prompt.before),
        )
        self._handle.facts = bound_facts()
        self._tell(Recorded(message.call, message.number))

    def _record_failure(self, message: RecordFailure) -> None:
        """Write the evidence, then record the failure. In this order, because with the evidence
        the recorder learns the texts of the payload, and no record may echo them. A failure that
        puts the WebUI on hold names its fault: the runs that follow will meet the same one, and
        need no evidence of their own."""
        evidence = message.failure.evidence
        assert isinstance(evidence, FailureEvidence)
        explanation, decision = message.failure.explanation, message.decision
        self._evidence = self._recorder.evidence(
            self._call.run_dir,
            self._call.payload,
            evidence.tails,
            host_snapshot=evidence.host_snapshot,
            fault=explanation.key.digest if decision.action is Action.HOLD else "",
        )
        self._recorder.call_failed(
            explanation,
            message.failure.error,
            decision,
            evidence.facts.exit_code,
            crashed=message.attempt.crashed,
            printed=evidence.own_lines,
            first_call=message.attempt.first_call,
        )
        self._last = message
        failed = (self._call.name, self._call.stage, explanation.diagnosis)
        log.info(
            "%s: %s: %s; %s",
            *failed,
            decision.words,
            extra=about(LogEvent.CALL_FAILED),
        )

    # -- how it ends

    def _outcome(self, answer: Answer) -> Outcome:
        end = answer.end
        findings = end.findings if isinstance(end.findings, tuple) else ()
        if isinstance(end, GivenUp):
            self._give_up()
        if isinstance(end, Broken):
            raise LaneError(f"internal error of the lane: {end.why}")
        if isinstance(end, Succeeded):
            assert isinstance(end.reply, tuple)
            reply, warnings = end.reply
            return Outcome(reply=reply, warnings=(*warnings, *findings), added=self._call.added)
        envelope = self._envelope(end.blame if isinstance(end, Failed) else None)
        if isinstance(end, Later):
            return Outcome(envelope=envelope, later=True, warnings=findings)
        assert isinstance(end, Failed)
        if end.sent_too_often:
            sent, last = self._recorder.sent, self._recorder.attempts[-1]
            return Outcome(envelope=sent_too_often(envelope, sent, last), warnings=findings)
        return Outcome(envelope=self._with_self_test(envelope, end), warnings=findings)

    def _give_up(self) -> None:
        """Raises RunCancelledError, RunStoppedError."""
        why: RunCancelledError | RunStoppedError = RunStoppedError("the monitor was stopped")
        try:
            self._control.raise_if_given_up()
        except (RunCancelledError, RunStoppedError) as given_up:
            why = given_up
        self._recorder.call_given_up(str(why))
        raise why

    def _envelope(self, tested: Blamed | None) -> ErrorEnvelope:
        """Return what is known of the last attempt, as far as it is recorded. `tested`: whom the
        self-test after it has blamed."""
        failed = self._recorder.attempts[-1]
        diagnosis = Diagnosis(failed.diagnosis)
        last = self._last
        explanation = last.failure.explanation if last is not None else None
        kind = (self._settings.catalogue() or Catalogue()).kind
        return ErrorEnvelope(
            error=type(last.failure.error).__name__ if last is not None else "",
            diagnosis=diagnosis,
            blame=whose_fault(diagnosis, explanation.blames if explanation else None, tested),
            message=failed.message,  # free of prompts, which a reply may echo
            advice=explanation.advice if explanation else advice_for(diagnosis, kind),
            stage=self._call.stage,
            attempts=self._recorder.attempts,
            incarnation=failed.incarnation,
            exit_code=failed.exit_code,
            evidence=self._evidence,
            failure=failed.failure,
        )

    def _with_self_test(self, envelope: ErrorEnvelope, end: Failed) -> ErrorEnvelope:
        """Return the envelope with what the self-test has shown, if there was one."""
        if end.self_test_passed is None:
            return envelope
        if end.size_test is not None and depends_on_size(envelope.diagnosis):
            advice = size_advice(
                end.size_test, envelope.diagnosis, envelope.advice, self._call.payload
            )
            envelope = replace(envelope, advice=advice)
        return replace(
            envelope,
            canary=CANARY_HEALTHY if end.self_test_passed else end.unhealthy,
            self_test_passed=end.self_test_passed,
        )


def _attempt(failed: FailedAttempt, lane: str) -> Attempt:
    """Return it as `lane` may compare it: on another one, it says nothing about an incarnation of
    this one."""
    was_here = failed.lane in ("", lane)
    return Attempt(
        Diagnosis(failed.diagnosis),
        failed.status,
        failed.seconds if failed.after is None else failed.after,
        failed.incarnation if was_here else ELSEWHERE,
        failed.first_call and was_here,
        failed.crashed,
    )

"""A client that has only `generate_images`, as the client of a run: one attempt for each call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from sdwatch.errors import WebUIError
from sdwatch.known_signatures import builtin_signatures
from sdwatch.policy.failure.diagnosis import FailureFacts, diagnose
from sdwatch.policy.failure.facts import Blamed
from sdwatch.policy.failure.recovery import Action, Decision, Ground
from sdwatch.policy.report.envelope import ErrorEnvelope
from sdwatch.spool.recorder import RunRecorder
from sdwatch.spool.run import NO_WEBUI
from sdwatch.webui.http.call import Outcome
from sdwatch.webui.http.checked_reply import ReplyChecks
from sdwatch.webui.http.reply import Reply, check_image


class PlainClient(Protocol):
    """Any client that sends one generation and raises WebUIError."""

    def generate_images(self, stage: str, payload: Mapping[str, Any]) -> Reply: ...


class WithoutRecovery:
    """Makes each call of a run once on `client`."""

    catalogue = None

    def __init__(
        self, client: PlainClient, recorder: RunRecorder, reply_checks: ReplyChecks
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._reply_checks = reply_checks

    def about(self) -> dict[str, Any]:
        """Return that nothing is known of the WebUI."""
        return dict(NO_WEBUI)

    def generate_images_with_recovery(
        self, stage: str, payload: Mapping[str, Any], run_dir: Path | None, job_id: str | None
    ) -> Outcome:
        """Make one attempt, and record it. Nothing is collected in `run_dir`."""
        del run_dir, job_id
        self._recorder.call_started(0)
        try:
            reply = self._client.generate_images(stage, payload)
            for number, image in enumerate(reply.images, 1):
                check_image(stage, number, image)
            return Outcome(reply=reply, warnings=self._reply_checks.check(stage, payload, reply))
        except WebUIError as error:
            explanation = diagnose(FailureFacts(error), builtin_signatures())
            decision = Decision(Action.FAIL, Ground.NO_RECOVERY)
            self._recorder.call_failed(explanation, error, decision, None)
            failed = self._recorder.attempts[-1]
            return Outcome(
                envelope=ErrorEnvelope(
                    error=type(error).__name__,
                    diagnosis=explanation.diagnosis,
                    blame=Blamed.JOB,
                    message=failed.message,
                    advice=explanation.advice,
                    stage=stage,
                    attempts=self._recorder.attempts,
                    failure=failed.failure,
                )
            )

"""The self-test of one WebUI, which shows whether the WebUI or the job is to blame.

The canary comes first, then a plain two-step picture with the size and checkpoint of the last good
call: a tiny picture fits into whatever memory is left, so it does not show everything. The picture
is plain because a LoRA or a script of a job may be gone, which says nothing about the WebUI. Of a
call with a workflow of its own nobody knows what is plain: its workflow is repeated.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sdwatch.errors import WebUIStuckError, WebUIUnreachableError
from sdwatch.policy.failure.diagnosis import SizeTest, diagnose
from sdwatch.policy.failure.facts import Diagnosis, FailureFacts, checkpoint_named
from sdwatch.policy.failure.hold_reason import failed_self_test
from sdwatch.policy.failure.signatures import Signature
from sdwatch.policy.job.stage.stage_kinds import TXT2IMG
from sdwatch.policy.kinds.kind import Kind
from sdwatch.policy.kinds.unknown import UNKNOWN
from sdwatch.policy.lane.events import SelfTestEnd
from sdwatch.policy.lane.knowledge import Plain
from sdwatch.policy.privacy.redaction import Redactor
from sdwatch.system.clock import Clock, SystemClock
from sdwatch.webui.http.call import wanted_of
from sdwatch.webui.http.call_watch import CallWatch
from sdwatch.webui.http.canary import (
    SIDE,
    Canary,
    SelfTestCall,
    SelfTestFailure,
    payload,
    plain,
    repeated,
)
from sdwatch.webui.http.checked_reply import broken_inside
from sdwatch.webui.process.incarnation import WebUIExit


@dataclass(frozen=True)
class SelfTestSettings:
    """`signatures`: of known failures. `managed`: sdwatch starts and stops the WebUI. `kind`:
    returns its kind. `limit`: seconds that a self-test, or a size test, may take."""

    signatures: tuple[Signature, ...] = ()
    managed: bool = True
    limit: float = 600.0
    kind: Callable[[], Kind] = lambda: UNKNOWN


class SelfTest:
    """The self-test of the WebUI of `canary`. `watch`: follows a call of a stage from now on.
    `redactor`: learns what is sent."""

    def __init__(
        self,
        canary: Canary,
        watch: Callable[[str], CallWatch],
        redactor: Redactor,
        settings: SelfTestSettings = SelfTestSettings(),
        clock: Clock | None = None,
    ) -> None:
        self._canary = canary
        self._clock = clock or SystemClock()
        self._watch = watch
        self._redactor = redactor
        self._settings = settings

    def why_it_failed(
        self,
        good: Plain,
        why_over: Callable[[], str],
        how_ended: Callable[[], WebUIExit | None] = lambda: None,
    ) -> tuple[SelfTestFailure | None, bool]:
        """Return why the WebUI fails its self-test, or None, and whether it refuses the checkpoint
        of `good`, the last good call. `why_over`: returns why the caller does not wait any longer,
        or ''. `how_ended`: returns how the process ended meanwhile, or None."""
        over = self._within_limit(why_over)
        tiny = SelfTestCall(TXT2IMG.name, payload(), f"the canary ({SIDE}x{SIDE}, one step)", True)
        failure = self._ask(tiny, over, how_ended)
        if failure is not None and not _is_refused(failure):
            return failure, False
        for asked in _standing_for(good):
            failure = self._ask(asked, over, how_ended)
            if failure is None or over():
                break
        refused = _is_refused(failure) and good != Plain(good.size)
        if refused:
            failure = self._ask(plain(good.size), over, how_ended)
        return (None if _is_refused(failure) else failure), refused

    def size_test(
        self,
        stage: str,
        payload: Mapping[str, Any],
        why_over: Callable[[], str],
        how_ended: Callable[[], WebUIExit | None] = lambda: None,
        *,
        largest: int = 0,
    ) -> SizeTest:
        """Return whether the WebUI generates a plain picture as large as this call's. Used for
        advice only. The WebUI must have passed its self-test. `largest`: pixels of the largest call
        that succeeded."""
        size = wanted_of(stage, payload).made
        if size is None:
            return SizeTest.NOT_RUN
        self_test_failure = self._ask(
            plain(size, checkpoint_named(payload)), self._within_limit(why_over), how_ended
        )
        if self_test_failure is None:
            return SizeTest.PASSED
        if self_test_failure.shows is not SelfTestEnd.FAILED or why_over():
            return SizeTest.NOT_RUN
        return SizeTest.PASSED_BEFORE if largest >= size.pixels else SizeTest.FAILED

    def _within_limit(self, why_over: Callable[[], str]) -> Callable[[], str]:
        """Return `why_over` with the time limit added to it."""
        ends = self._clock.monotonic() + self._settings.limit
        late = (
            f"it did not finish within {self._settings.limit:g} s (`self_test_limit` in the config)"
        )
        return lambda: why_over() or (late if self._clock.monotonic() >= ends else "")

    def _ask(
        self,
        asked: SelfTestCall,
        why_over: Callable[[], str],
        how_ended: Callable[[], WebUIExit | None],
    ) -> SelfTestFailure | None:
        watch = self._watch(asked.stage)

        def why_not_wait() -> str:
            return why_over() or (watch.sample() if watch.is_due else "")

        self_test_failure = self._canary.ask(asked, why_not_wait)
        self_test_failure = _checked_with_log(asked, self_test_failure, watch.log.lines())
        if self_test_failure is None:
            return None
        if self_test_failure.error is not None:
            never = threading.Event()
            watch.log.wait_for_traceback(
                self_test_failure.error,
                lambda pause: bool(why_over()) or self._clock.wait(never, pause),
            )
        self._redactor.learn(asked.payload)
        is_exit = self_test_failure.error is None or isinstance(
            self_test_failure.error, WebUIUnreachableError
        )
        return self._explained(
            asked, self_test_failure, how_ended() if is_exit else None, watch.log.lines()
        )

    def _explained(
        self,
        asked: SelfTestCall,
        self_test_failure: SelfTestFailure,
        ended: WebUIExit | None,
        log: tuple[str, ...],
    ) -> SelfTestFailure:
        """Return the failure explained by the signatures, as for any call. A setup that is unusable
        calls for no restart."""
        error = self_test_failure.error or WebUIStuckError(self_test_failure.given_up)
        if ended is not None:
            error = WebUIUnreachableError("the WebUI's process ended")
        facts = FailureFacts(
            error,
            ended is not None,
            ended.code if ended else None,
            log,
            names_checkpoint=bool(checkpoint_named(asked.payload)),
            kind=self._settings.kind(),
        )
        explanation = diagnose(facts, self._settings.signatures)
        hold_reason = failed_self_test(asked.what, explanation, managed=self._settings.managed)
        hold_reason = replace(hold_reason, cause=self._redactor.redact(hold_reason.cause))
        return SelfTestFailure(
            hold_reason.cause,
            _FINDINGS.get(explanation.diagnosis, self_test_failure.shows),
            hold_reason=hold_reason,
        )


def _standing_for(good: Plain) -> tuple[SelfTestCall, ...]:
    """Return what the last good call is repeated by: one of them that passes is enough."""
    if good.workflow is not None:
        return repeated(good.workflow)
    return (plain(good.size, good.checkpoint),)


def _is_refused(failure: SelfTestFailure | None) -> bool:
    """Return whether the WebUI refused the request, which says nothing about its health."""
    return failure is not None and failure.shows is SelfTestEnd.REFUSED


_FINDINGS = {
    Diagnosis.BAD_REQUEST: SelfTestEnd.REFUSED,
    Diagnosis.NOT_USABLE: SelfTestEnd.INCONCLUSIVE,
}


def _checked_with_log(
    asked: SelfTestCall, self_test_failure: SelfTestFailure | None, log: tuple[str, ...]
) -> SelfTestFailure | None:
    """Return the failure that the log shows. SD.Next answers 200 to an exception, with a preview or
    without an image; only its log shows it."""
    if self_test_failure is not None and getattr(self_test_failure.error, "status", None) != 200:
        return self_test_failure
    came = (
        "with a picture that is not finished"
        if self_test_failure is None
        else "without what was asked for"
    )
    broken = broken_inside(asked.stage, log, came)
    return (
        self_test_failure
        if broken is None
        else SelfTestFailure(f"{asked.what} failed: {broken}", error=broken)
    )

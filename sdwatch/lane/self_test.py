"""The self-test of one WebUI: is it healthy, or was it the job? It also knows whose fault was shown
before.

The canary comes first, then a plain two-step picture with the size and checkpoint of the last good
call: a tiny picture fits into whatever memory is left, so it does not show everything. The picture
is plain because a LoRA or a script of a job may be gone, which says nothing about the WebUI.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sdwatch.errors import WebUIStuckError, WebUIUnreachableError
from sdwatch.policy.failure.blame import Blame
from sdwatch.policy.failure.diagnosis import Drawn, judge
from sdwatch.policy.failure.facts import Diagnosis, FailureFacts, checkpoint_named
from sdwatch.policy.failure.failure_key import FailureKey
from sdwatch.policy.failure.hold_reason import failed_proof
from sdwatch.policy.failure.reply_checks import made_size
from sdwatch.policy.failure.signatures import Signature
from sdwatch.policy.job.catalogue import Kind
from sdwatch.policy.job.payload import UPSCALE
from sdwatch.policy.privacy.redaction import Redactor
from sdwatch.system.clock import Clock, SystemClock
from sdwatch.webui.http.call_watch import CallWatch
from sdwatch.webui.http.canary import (
    PLAIN_SIDE,
    SIDE,
    Asked,
    By,
    Canary,
    SelfTestFailure,
    Size,
    payload,
    plain,
)
from sdwatch.webui.http.reply_checks import broken_inside


@dataclass(frozen=True)
class Ended:
    """The process ended during a self-test, with exit code `code` where that was seen."""

    code: int | None


@dataclass(frozen=True)
class _Good:
    """Size and checkpoint of the last call that succeeded. `checkpoint`: '' where it named none, or
    the WebUI now refuses that name."""

    size: Size = Size()  # noqa: RUF009 - it is frozen
    checkpoint: str = ""


class SelfTest:
    """Of the WebUI of `canary`. Used by whoever has its permit. `watch`: follows a call of a stage
    from now on. `redactor`: learns what is sent. `signatures`: of known failures. `managed`:
    sdwatch starts and stops it. `kind`: returns its kind. `limit`: seconds that a self-test, or a
    picture for advice, may take."""

    def __init__(
        self,
        canary: Canary,
        watch: Callable[[str], CallWatch],
        redactor: Redactor,
        signatures: tuple[Signature, ...] = (),
        *,
        managed: bool = True,
        clock: Clock | None = None,
        limit: float = 600.0,
        kind: Callable[[], Kind] = lambda: Kind.UNKNOWN,
    ) -> None:
        self._canary = canary
        self._clock = clock or SystemClock()
        self._watch = watch
        self._redactor = redactor
        self._signatures = signatures
        self._managed = managed
        self._kind = kind
        self._limit = limit
        self._good = _Good()
        self._largest = 0  # pixels of the largest call that succeeded
        self._blame = Blame()

    def succeeded(self, stage: str, payload: Mapping[str, Any]) -> None:
        """Note the size and checkpoint of a job's call that succeeded."""
        self._blame.succeeded()
        if (size := _size_of(stage, payload)) is not None:
            self._largest = max(self._largest, size.pixels)
            width, height = (int(payload.get(side) or PLAIN_SIDE) for side in ("width", "height"))
            self._good = _Good(Size(width, height), checkpoint_named(payload))

    def why_it_failed(
        self, why_over: Callable[[], str], how_ended: Callable[[], Ended | None] = lambda: None
    ) -> SelfTestFailure | None:
        """Return why the WebUI fails its self-test, or None. `why_over`: returns why the caller
        does not wait any longer, or ''. `how_ended`: returns how the process ended meanwhile, or
        None."""
        over = self._within_limit(why_over)
        tiny = Asked("txt2img", payload(), f"the canary ({SIDE}x{SIDE}, one step)", True)
        self_test_failure = self._ask(tiny, over, how_ended)
        if self_test_failure is not None and self_test_failure.by is not By.REFUSED:
            return self_test_failure
        self_test_failure = self._ask(
            plain(self._good.size, self._good.checkpoint), over, how_ended
        )
        if (
            self_test_failure is not None
            and self_test_failure.by is By.REFUSED
            and self._good.checkpoint
        ):
            self._good = replace(self._good, checkpoint="")
            self_test_failure = self._ask(plain(self._good.size), over, how_ended)
        return (
            None
            if self_test_failure is None or self_test_failure.by is By.REFUSED
            else self_test_failure
        )

    def can_generate(
        self,
        stage: str,
        payload: Mapping[str, Any],
        why_over: Callable[[], str],
        how_ended: Callable[[], Ended | None] = lambda: None,
    ) -> Drawn:
        """Return whether the WebUI generates a plain picture as large as this call's. Used for
        advice only. The WebUI must have passed its self-test."""
        size = _size_of(stage, payload)
        if size is None:
            return Drawn.NOT_ASKED
        self_test_failure = self._ask(
            plain(size, checkpoint_named(payload)), self._within_limit(why_over), how_ended
        )
        if self_test_failure is None:
            return Drawn.CAN
        if self_test_failure.by is not By.FAILED or why_over():
            return Drawn.NOT_ASKED
        return Drawn.COULD_BEFORE if self._largest >= size.pixels else Drawn.CANNOT

    def start_over(self) -> None:
        """Forget all conclusions: a person says that the WebUI is healthy."""
        self._good, self._largest = _Good(), 0
        self._blame = Blame()

    def forget_blame(self) -> None:
        """Forget which failures were the jobs' own: the WebUI may have changed."""
        self._blame.forget()

    def is_a_jobs_own(
        self, failure: FailureKey | None, stage: str, payload: Mapping[str, Any]
    ) -> bool:
        """Return whether this failure was shown to be the jobs' own, so that its second attempt
        needs no restart. Only where the self-test would see damage to this call: a picture smaller
        than the call's may fit where the call does not."""
        size = _size_of(stage, payload)
        is_shown = size is not None and size.pixels <= self._good.size.pixels
        return is_shown and self._blame.is_a_jobs_own(failure)

    def blamed(self, job: str, run: str, failure: FailureKey | None, died: bool) -> tuple[str, ...]:
        """Note that this failure was a job's own. `died`: the process died of it. Return the runs
        that were blamed so too often in a row to be believed, or ()."""
        self._blame.blame(job, run, failure, died)
        return self._blame.take_suspects()

    def _within_limit(self, why_over: Callable[[], str]) -> Callable[[], str]:
        """Return `why_over` with the time limit added to it."""
        ends = self._clock.monotonic() + self._limit
        late = f"it did not finish within {self._limit:g} s (`self_test_limit` in the config)"
        return lambda: why_over() or (late if self._clock.monotonic() >= ends else "")

    def _ask(
        self, asked: Asked, why_over: Callable[[], str], how_ended: Callable[[], Ended | None]
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
        broke = self_test_failure.error is None or isinstance(
            self_test_failure.error, WebUIUnreachableError
        )
        return self._explained(
            asked, self_test_failure, how_ended() if broke else None, watch.log.lines()
        )

    def _explained(
        self,
        asked: Asked,
        self_test_failure: SelfTestFailure,
        ended: Ended | None,
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
            kind=self._kind(),
        )
        explanation = judge(facts, self._signatures)
        hold_reason = failed_proof(asked.what, explanation, managed=self._managed)
        hold_reason = replace(hold_reason, cause=self._redactor.redact(hold_reason.cause))
        return SelfTestFailure(
            hold_reason.cause,
            _BY.get(explanation.diagnosis, self_test_failure.by),
            hold_reason=hold_reason,
        )


_BY = {Diagnosis.BAD_REQUEST: By.REFUSED, Diagnosis.NOT_USABLE: By.NO_TIME}


def _checked_with_log(
    asked: Asked, self_test_failure: SelfTestFailure | None, log: tuple[str, ...]
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


def _size_of(stage: str, payload: Mapping[str, Any]) -> Size | None:
    """Return the size of the pictures that a call makes at once, after hires; None where its
    payload does not say."""
    if stage == UPSCALE:
        return None
    width, height = made_size(payload)
    return Size(width, height, max(1, int(payload.get("batch_size") or 1)))

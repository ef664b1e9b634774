"""The self-test of one WebUI: is it healthy, or was it the job? And whose fault was proven before.

First the canary, then a plain picture of two steps in the size and with the checkpoint of the last
good call: a tiny picture fits into whatever memory is left, and so does not show all. It is plain,
since what a job adds to its size, a LoRA or a script, may be gone and says nothing of the WebUI.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sdwatch.errors import WebUIStuckError, WebUIUnreachableError
from sdwatch.policy.failure.blame import Blame
from sdwatch.policy.failure.diagnosis import Drawn, judge
from sdwatch.policy.failure.facts import Diagnosis, Facts, checkpoint_named
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
    Size,
    Unwell,
    payload,
    plain,
)
from sdwatch.webui.http.reply_checks import broken_inside


@dataclass(frozen=True)
class Ended:
    """The process ended during a self-test, with `code` where that was seen."""

    code: int | None


@dataclass(frozen=True)
class _Good:
    """What the plain picture has of the last call that succeeded. `checkpoint`: '' where it named
    none, or the WebUI refuses that name by now."""

    size: Size = Size()  # noqa: RUF009 - it is frozen
    checkpoint: str = ""


class Proof:
    """Of the WebUI of `canary`; used by whoever has its permit. `watch`: follows a call of a stage
    from now on. `redactor`: learns what is sent. `signatures`: what known failures look like.
    `managed`: it is ours. `kind`: which WebUI it is. `limit`: seconds that a self-test may take,
    and a picture for advice."""

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
        """A call of a job succeeded."""
        self._blame.succeeded()
        if (size := _size_of(stage, payload)) is not None:
            self._largest = max(self._largest, size.pixels)
            width, height = (int(payload.get(side) or PLAIN_SIDE) for side in ("width", "height"))
            self._good = _Good(Size(width, height), checkpoint_named(payload))

    def why_unwell(
        self, why_over: Callable[[], str], how_ended: Callable[[], Ended | None] = lambda: None
    ) -> Unwell | None:
        """Return why it fails its self-test, or None. `why_over`: why that is not to be waited for
        any more, or ''; `how_ended`: whether the process has ended meanwhile, and how."""
        over = self._bounded(why_over)
        tiny = Asked("txt2img", payload(), f"the canary ({SIDE}x{SIDE}, one step)", True)
        unwell = self._ask(tiny, over, how_ended)
        if unwell is not None and unwell.by is not By.REFUSED:
            return unwell
        unwell = self._ask(plain(self._good.size, self._good.checkpoint), over, how_ended)
        if unwell is not None and unwell.by is By.REFUSED and self._good.checkpoint:
            self._good = replace(self._good, checkpoint="")
            unwell = self._ask(plain(self._good.size), over, how_ended)
        return None if unwell is None or unwell.by is By.REFUSED else unwell

    def draws(
        self,
        stage: str,
        payload: Mapping[str, Any],
        why_over: Callable[[], str],
        how_ended: Callable[[], Ended | None] = lambda: None,
    ) -> Drawn:
        """Return whether it can generate a plain picture as large as this call's: for advice only.
        The WebUI must have passed its self-test."""
        size = _size_of(stage, payload)
        if size is None:
            return Drawn.NOT_ASKED
        unwell = self._ask(
            plain(size, checkpoint_named(payload)), self._bounded(why_over), how_ended
        )
        if unwell is None:
            return Drawn.CAN
        if unwell.by is not By.FAILED or why_over():
            return Drawn.NOT_ASKED
        return Drawn.COULD_BEFORE if self._largest >= size.pixels else Drawn.CANNOT

    def begin_anew(self) -> None:
        """A person says that the WebUI is healthy: all that was concluded before is forgotten."""
        self._good, self._largest = _Good(), 0
        self._blame = Blame()

    def forget_whose(self) -> None:
        """The WebUI may have become another: whose failures were jobs' own is not known of it."""
        self._blame.forget()

    def is_a_jobs_own(
        self, failure: FailureKey | None, stage: str, payload: Mapping[str, Any]
    ) -> bool:
        """Whether this failure was proven to be jobs' own, so that its second attempt needs no
        restart: only where the self-test that follows would see what harms this call, for a picture
        that is smaller than the call's may fit where the call does not."""
        size = _size_of(stage, payload)
        is_shown = size is not None and size.pixels <= self._good.size.pixels
        return is_shown and self._blame.is_a_jobs_own(failure)

    def blamed(self, job: str, run: str, failure: FailureKey | None, died: bool) -> tuple[str, ...]:
        """This failure was proven to be a job's own, by which the process `died` or not: the runs
        of which that was said too often in a row to be believed, or ()."""
        self._blame.blame(job, run, failure, died)
        return self._blame.take_suspects()

    def _bounded(self, why_over: Callable[[], str]) -> Callable[[], str]:
        """As `why_over`, and when the limit is passed."""
        ends = self._clock.monotonic() + self._limit
        late = f"it was not done within {self._limit:g} s (`self_test_limit` in the config)"
        return lambda: why_over() or (late if self._clock.monotonic() >= ends else "")

    def _ask(
        self, asked: Asked, why_over: Callable[[], str], how_ended: Callable[[], Ended | None]
    ) -> Unwell | None:
        watch = self._watch(asked.stage)

        def why_not_wait() -> str:
            return why_over() or (watch.look() if watch.is_due else "")

        unwell = self._canary.ask(asked, why_not_wait)
        unwell = _as_its_log_says(asked, unwell, watch.log.lines())
        if unwell is None:
            return None
        if unwell.error is not None:
            never = threading.Event()
            watch.log.hear_out(
                unwell.error, lambda pause: bool(why_over()) or self._clock.wait(never, pause)
            )
        self._redactor.learn(asked.payload)
        broke = unwell.error is None or isinstance(unwell.error, WebUIUnreachableError)
        return self._judged(asked, unwell, how_ended() if broke else None, watch.log.lines())

    def _judged(
        self, asked: Asked, unwell: Unwell, ended: Ended | None, log: tuple[str, ...]
    ) -> Unwell:
        """A self-test is a call like any other: known failures are told by their signatures. One
        that only shows that the set-up is not usable calls for no restart."""
        error = unwell.error or WebUIStuckError(unwell.given_up)
        if ended is not None:
            error = WebUIUnreachableError("the WebUI's process ended")
        facts = Facts(
            error,
            ended is not None,
            ended.code if ended else None,
            log,
            names_checkpoint=bool(checkpoint_named(asked.payload)),
            kind=self._kind(),
        )
        verdict = judge(facts, self._signatures)
        trouble = failed_proof(asked.what, verdict, managed=self._managed)
        trouble = replace(trouble, cause=self._redactor.redact(trouble.cause))
        return Unwell(trouble.cause, _BY.get(verdict.diagnosis, unwell.by), trouble=trouble)


_BY = {Diagnosis.BAD_REQUEST: By.REFUSED, Diagnosis.NOT_USABLE: By.NO_TIME}


def _as_its_log_says(asked: Asked, unwell: Unwell | None, log: tuple[str, ...]) -> Unwell | None:
    """SD.Next answers 200 to an exception, with a preview or with nothing; its log tells."""
    if unwell is not None and getattr(unwell.error, "status", None) != 200:
        return unwell
    came = "with a picture that is not finished" if unwell is None else "without what was asked for"
    broken = broken_inside(asked.stage, log, came)
    return unwell if broken is None else Unwell(f"{asked.what} failed: {broken}", error=broken)


def _size_of(stage: str, payload: Mapping[str, Any]) -> Size | None:
    """As large as what a call makes at once, after hires; None where its payload does not say."""
    if stage == UPSCALE:
        return None
    width, height = made_size(payload)
    return Size(width, height, max(1, int(payload.get("batch_size") or 1)))

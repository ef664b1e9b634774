"""The proof of one WebUI: is it well, or was it the job? And whose fault was proven before.

It is put to the proof by the canary, and then by the last call that came out, made once more: a
tiny picture does not show all. Where that fails, one as large and plain decides: what the job needs
beside its size, a LoRA or a script, may be gone, and says nothing of the WebUI.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sdwatch.clock import Clock, SystemClock
from sdwatch.errors import WebUIStuckError, WebUIUnreachableError
from sdwatch.policy.blame import Blame
from sdwatch.policy.catalogue import Kind
from sdwatch.policy.facts import Facts
from sdwatch.policy.payload import UPSCALE
from sdwatch.policy.redaction import Redactor
from sdwatch.policy.signatures import Signature
from sdwatch.policy.trouble import failed_proof
from sdwatch.policy.verdict import Diagnosis, judge
from sdwatch.webui.call_watch import CallWatch
from sdwatch.webui.canary import SIDE, Asked, By, Canary, Unwell, payload
from sdwatch.webui.review import broken_inside

_SHORT_ENOUGH = 60.0  # seconds: a call that took longer is not repeated as a proof

_SAME = ("width", "height", "steps", "batch_size", "sampler_name", "scheduler", "cfg_scale")
"""What a plain picture has of the call whose place it takes."""


@dataclass(frozen=True)
class Ended:
    """The process ended during a proof, with `code` where that was seen."""

    code: int | None


class Proof:
    """Of the WebUI of `canary`; used by whoever has its permit. `watch`: follows a call of a stage
    from now on. `redactor`: what is said of a repeated call has none of its texts. `signatures`:
    what known failures look like. `managed`: it is ours. `kind`: which WebUI it is."""

    def __init__(
        self,
        canary: Canary,
        watch: Callable[[str], CallWatch],
        redactor: Redactor,
        signatures: tuple[Signature, ...] = (),
        *,
        managed: bool = True,
        clock: Clock | None = None,
        kind: Callable[[], Kind] = lambda: Kind.UNKNOWN,
    ) -> None:
        self._canary = canary
        self._clock = clock or SystemClock()
        self._watch = watch
        self._redactor = redactor
        self._signatures = signatures
        self._managed = managed
        self._kind = kind
        self._last_good: Asked | None = None
        self._blame = Blame()

    def succeeded(self, stage: str, payload: Mapping[str, Any], seconds: float) -> None:
        """A call of a job came out, after so many seconds."""
        self._blame.succeeded()
        if seconds <= _SHORT_ENOUGH:
            self._last_good = Asked(stage, payload, "a repeat of the last good call", False)

    def why_unwell(
        self, why_over: Callable[[], str], how_ended: Callable[[], Ended | None] = lambda: None
    ) -> Unwell | None:
        """Why it is, or None. `why_over`: why the proof is not to be waited for any more, or '';
        `how_ended`: whether the process has ended meanwhile, and how."""
        tiny = Asked("txt2img", payload(), f"the canary ({SIDE}x{SIDE}, one step)", True)
        unwell = self._ask(tiny, why_over, how_ended)
        if unwell is not None and unwell.by is not By.REFUSED:
            return unwell
        return self._repeat(why_over, how_ended)

    def begin_anew(self) -> None:
        """A person says that the WebUI is well: all that was concluded before is forgotten."""
        self._last_good = None
        self._blame = Blame()

    def forget_whose(self) -> None:
        """The WebUI may have become another: whose failures were jobs' own is not known of it."""
        self._blame.forget()

    def is_a_jobs_own(self, message: str) -> bool:
        """Whether this failure was proven to be a job's own, and needs no second attempt."""
        return self._blame.is_a_jobs_own(message)

    def blamed(self, job: str, run: str, message: str, died: bool) -> tuple[str, ...]:
        """This failure was proven to be a job's own, by which the process `died` or not: the runs
        of which that was said too often in a row to be believed, or ()."""
        self._blame.blame(job, run, message, died)
        return self._blame.take_suspects()

    def _repeat(
        self, why_over: Callable[[], str], how_ended: Callable[[], Ended | None]
    ) -> Unwell | None:
        if (good := self._last_good) is None:
            return None
        if (unwell := self._ask(good, why_over, how_ended)) is None:
            return None
        if unwell.by is By.NO_TIME or why_over():
            return unwell
        if unwell.by is By.FAILED:
            if (plain := _plain(good)) is None:
                return unwell
            still = self._ask(plain, why_over, how_ended)
            if still is not None and still.by is not By.REFUSED:
                return still if still.by is By.NO_TIME else unwell
        self._last_good = None
        return None

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
        """A proof is a call like any other: known failures are told by their signatures. One that
        only shows that the set-up is not usable calls for no restart."""
        error = unwell.error or WebUIStuckError(unwell.reason.removeprefix(f"{asked.what}: "))
        if ended is not None:
            error = WebUIUnreachableError("the WebUI's process ended")
        code = ended.code if ended else None
        facts = Facts(error, ended is not None, code, log, kind=self._kind())
        verdict = judge(facts, self._signatures)
        trouble = failed_proof(asked.what, verdict, managed=self._managed)
        trouble = replace(trouble, cause=self._redactor.redact(trouble.cause))
        by = By.NO_TIME if verdict.diagnosis is Diagnosis.NOT_USABLE else unwell.by
        return Unwell(trouble.cause, by, trouble=trouble)


def _as_its_log_says(asked: Asked, unwell: Unwell | None, log: tuple[str, ...]) -> Unwell | None:
    """SD.Next answers 200 to an exception, with a preview or with nothing; its log tells."""
    if unwell is not None and getattr(unwell.error, "status", None) != 200:
        return unwell
    came = "with a picture that is not finished" if unwell is None else "without what was asked for"
    broken = broken_inside(asked.stage, log, came)
    return unwell if broken is None else Unwell(f"{asked.what} failed: {broken}", error=broken)


def _plain(good: Asked) -> Asked | None:
    """As large as a call that came out, and nothing else of it; an upscale has no such."""
    if good.stage == UPSCALE:
        return None
    same = {name: good.payload[name] for name in _SAME if name in good.payload}
    return Asked("txt2img", {**payload(), **same}, "a plain picture of the same size", False)

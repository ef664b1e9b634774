"""The proof of one WebUI: is it well, or was it the job? And whose fault was proven before.

It is put to the proof by the canary, and then by a call that came out before, made once more: a
tiny picture does not show all. Of three such calls one is enough, for what the others need may be
gone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sdwatch.policy.blame import Blame
from sdwatch.policy.redaction import Redactor
from sdwatch.webui.call_watch import CallWatch
from sdwatch.webui.canary import SIDE, Asked, By, Canary, Unwell, payload

_SHORT_ENOUGH = 60.0  # seconds: a call that took longer is not repeated as a proof
_MOST_GOOD = 3


class Proof:
    """Of the WebUI of `canary`; used by whoever has its permit. `watch`: follows a call of a stage
    from now on. `redactor`: what is said of a repeated call has none of its texts."""

    def __init__(
        self, canary: Canary, watch: Callable[[str], CallWatch], redactor: Redactor
    ) -> None:
        self._canary = canary
        self._watch = watch
        self._redactor = redactor
        self._good: dict[str, Asked] = {}  # by job, the oldest first
        self._blame = Blame()

    def succeeded(self, job: str, stage: str, payload: Mapping[str, Any], seconds: float) -> None:
        """A call of a job came out, after so many seconds."""
        self._blame.succeeded()
        if seconds > _SHORT_ENOUGH:
            return
        self._good.pop(job, None)
        self._good[job] = Asked(stage, payload, "a repeat of a call that came out before", False)
        while len(self._good) > _MOST_GOOD:
            del self._good[next(iter(self._good))]

    def why_unwell(self, why_over: Callable[[], str]) -> Unwell | None:
        """Why it is, or None. `why_over`: why the proof is not to be waited for any more, or ''."""
        tiny = Asked("txt2img", payload(), f"the canary ({SIDE}x{SIDE}, one step)", True)
        unwell = self._ask(tiny, why_over)
        if unwell is not None and unwell.by is not By.REFUSED:
            return unwell
        return self._repeat(why_over)

    def forget_good_calls(self) -> None:
        """What they need may be gone: a person says that the WebUI is well."""
        self._good.clear()

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

    def _repeat(self, why_over: Callable[[], str]) -> Unwell | None:
        """The newest first, until one comes out; what failed before that one is forgotten."""
        failed: dict[str, Unwell] = {}
        for job, asked in reversed(list(self._good.items())):
            unwell = self._ask(asked, why_over)
            if unwell is None:
                for other in failed:
                    del self._good[other]
                return None
            if unwell.by is By.NO_TIME or why_over():
                return unwell
            if unwell.by is By.REFUSED:
                del self._good[job]
            else:
                failed[job] = unwell
        return next(iter(failed.values()), None)

    def _ask(self, asked: Asked, why_over: Callable[[], str]) -> Unwell | None:
        watch = self._watch(asked.stage)

        def why_not_wait() -> str:
            return why_over() or (watch.look() if watch.is_due else "")

        unwell = self._canary.ask(asked, why_not_wait)
        if unwell is None:
            return None
        self._redactor.learn(asked.payload)
        return Unwell(self._redactor.redact(unwell.reason), unwell.by)

"""The proof of one WebUI: is it well, or was it the job? And whose fault was proven before.

It is put to the proof by the canary, and then by the last call that came out, made once more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sdwatch.policy.blame import Blame
from sdwatch.webui.call_watch import CallWatch
from sdwatch.webui.canary import SIDE, Asked, Canary, Unwell, payload

_SHORT_ENOUGH = 60.0  # seconds: a call that took longer is not repeated as a proof


class Proof:
    """Of the WebUI of `canary`; used by whoever has its permit. `watch`: follows a call of a stage
    from now on."""

    def __init__(self, canary: Canary, watch: Callable[[str], CallWatch]) -> None:
        self._canary = canary
        self._watch = watch
        self._last_good: Asked | None = None
        self._blame = Blame()

    def succeeded(self, stage: str, payload: Mapping[str, Any], seconds: float) -> None:
        """A call of a job came out, after so many seconds."""
        self._blame.succeeded()
        if seconds <= _SHORT_ENOUGH:
            self._last_good = Asked(stage, payload, "a repeat of the last good call", False)

    def why_unwell(self, why_over: Callable[[], str]) -> Unwell | None:
        """Send both: why one of them failed, or None. `why_over`: why they are not to be waited for
        any more, or ''."""
        tiny = Asked("txt2img", payload(), f"the canary ({SIDE}x{SIDE}, one step)", True)
        for asked in filter(None, (tiny, self._last_good)):
            if unwell := self._canary.ask(asked, self._why_not_wait(asked.stage, why_over)):
                return unwell
        return None

    def is_a_jobs_own(self, message: str, generation: int) -> bool:
        """Whether this failure was proven to be a job's own, and needs no more proof."""
        return self._blame.is_a_jobs_own(message, generation)

    def blamed(
        self, job: str, run: str, message: str, generation: int, died: bool
    ) -> tuple[str, ...]:
        """This failure was proven to be a job's own, by which the process `died` or not: the runs
        of which that was said too often in a row to be believed, or ()."""
        self._blame.blame(job, run, message, generation, died)
        return self._blame.take_suspects()

    def _why_not_wait(self, stage: str, why_over: Callable[[], str]) -> Callable[[], str]:
        watch = self._watch(stage)

        def why() -> str:
            if over := why_over():
                return over
            return watch.look() if watch.is_due else ""

        return why

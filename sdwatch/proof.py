"""The proof of one WebUI: is it well, or was it the job? And whose fault was proven before.

It is put to the proof by the canary, and then by the last call that came out, made once more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sdwatch.errors import WebUIStuckError, WebUIUnreachableError
from sdwatch.policy.blame import Blame
from sdwatch.policy.facts import Facts
from sdwatch.policy.signatures import Signature
from sdwatch.policy.trouble import Trouble, failed_proof
from sdwatch.policy.verdict import judge
from sdwatch.webui.call_watch import CallWatch
from sdwatch.webui.canary import SIDE, Asked, Canary, Unwell, payload

_SHORT_ENOUGH = 60.0  # seconds: a call that took longer is not repeated as a proof


@dataclass(frozen=True)
class Ended:
    """The process ended during a proof, with `code` where that was seen."""

    code: int | None


@dataclass(frozen=True)
class Failed:
    """A proof that failed. `busy`: the WebUI said that it had no time for it, and nothing else."""

    trouble: Trouble
    busy: bool = False


class Proof:
    """Of the WebUI of `canary`; used by whoever has its permit. `watch`: follows a call of a stage
    from now on. `signatures`: what known failures look like. `managed`: it is ours."""

    def __init__(
        self,
        canary: Canary,
        watch: Callable[[str], CallWatch],
        signatures: tuple[Signature, ...],
        *,
        managed: bool,
    ) -> None:
        self._canary = canary
        self._watch = watch
        self._signatures = signatures
        self._managed = managed
        self._last_good: Asked | None = None
        self._blame = Blame()

    def succeeded(self, stage: str, payload: Mapping[str, Any], seconds: float) -> None:
        """A call of a job came out, after so many seconds."""
        self._blame.succeeded()
        if seconds <= _SHORT_ENOUGH:
            self._last_good = Asked(stage, payload, "a repeat of the last good call", False)

    def why_unwell(
        self, why_over: Callable[[], str], how_ended: Callable[[], Ended | None]
    ) -> Failed | None:
        """Send both: why one of them failed, or None. `why_over`: why they are not to be waited for
        any more, or ''; `how_ended`: whether the process has ended meanwhile, and how."""
        tiny = Asked("txt2img", payload(), f"the canary ({SIDE}x{SIDE}, one step)", True)
        for asked in filter(None, (tiny, self._last_good)):
            watch = self._watch(asked.stage)
            if unwell := self._canary.ask(asked, _why_not_wait(watch, why_over)):
                broke = unwell.error is None or isinstance(unwell.error, WebUIUnreachableError)
                return self._judged(asked, unwell, how_ended() if broke else None, watch.lines())
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

    def _judged(
        self, asked: Asked, unwell: Unwell, ended: Ended | None, log: tuple[str, ...]
    ) -> Failed:
        """A proof is a call like any other: known failures are told by their signatures."""
        error = unwell.error or WebUIStuckError(unwell.reason.removeprefix(f"{asked.what}: "))
        if ended is not None:
            error = WebUIUnreachableError("the WebUI's process ended")
        facts = Facts(error, ended is not None, ended.code if ended else None, log)
        verdict = judge(facts, self._signatures)
        return Failed(failed_proof(asked.what, verdict, managed=self._managed), unwell.busy)


def _why_not_wait(watch: CallWatch, why_over: Callable[[], str]) -> Callable[[], str]:
    def why() -> str:
        if over := why_over():
            return over
        return watch.look() if watch.is_due else ""

    return why

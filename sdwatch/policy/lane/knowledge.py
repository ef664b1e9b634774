"""What is known of one WebUI from its calls: what it can generate, and whose fault failures were.
Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sdwatch.policy.failure.facts import FailureKey
from sdwatch.policy.failure.traced_failures import TracedFailures

PLAIN_SIDE = 512  # pixels, where no call has shown another size


@dataclass(frozen=True)
class Size:
    """The size of a two-step picture: pixels of each side, and how many at once."""

    width: int = PLAIN_SIDE
    height: int = PLAIN_SIDE
    batch: int = 1

    @property
    def pixels(self) -> int:
        """Return the pixels of all pictures."""
        return self.width * self.height * self.batch

    def __str__(self) -> str:
        many = f" (batch of {self.batch})" if self.batch > 1 else ""
        return f"{self.width}x{self.height}{many}"


@dataclass(frozen=True)
class Plain:
    """A plain picture: its size, and the checkpoint, '' for the loaded one. `workflow`: the payload
    of a call with a workflow of its own, which is repeated instead; None for any other call."""

    size: Size = Size()
    checkpoint: str = ""
    workflow: Mapping[str, Any] | None = field(default=None, repr=False)  # it has prompts


@dataclass(frozen=True)
class Wanted:
    """What a call asks for, as far as a self-test can repeat it: `made`, the size of its pictures
    after hires; `plain`, the plain picture that stands for it later. None where its payload does
    not say."""

    made: Size | None = None
    plain: Plain | None = None


@dataclass(frozen=True)
class Knowledge:
    """`good`: the last call that succeeded. `largest`: pixels of the largest one."""

    good: Plain = Plain()
    largest: int = 0
    traced: TracedFailures = field(default_factory=TracedFailures)

    def succeeded(self, wanted: Wanted) -> Knowledge:
        """Note that a job's call succeeded."""
        traced = self.traced.succeeded()
        if wanted.plain is None:
            return replace(self, traced=traced)
        pixels = wanted.made.pixels if wanted.made is not None else 0
        return Knowledge(wanted.plain, max(self.largest, pixels), traced)

    def is_a_jobs_own(self, failure: FailureKey | None, wanted: Wanted) -> bool:
        """Return whether this failure was shown to be the jobs' own, so that its second attempt
        needs no restart. Only where the self-test would see damage to this call: a picture smaller
        than the call's may fit where the call does not."""
        made = wanted.made
        is_plain = self.good.workflow is None
        is_shown = made is not None and is_plain and made.pixels <= self.good.size.pixels
        return is_shown and self.traced.is_a_jobs_own(failure)

    def blamed(
        self, job: str, run: str, failure: FailureKey | None, died: bool
    ) -> tuple[Knowledge, tuple[str, ...]]:
        """Note that a failure was a job's own. `died`: the process died of it. Return also the runs
        that were blamed so too often in a row to be believed, or ()."""
        traced, runs = self.traced.trace(job, run, failure, died).take_repeated()
        return replace(self, traced=traced), runs

    def forget_blame(self) -> Knowledge:
        """Forget which failures were the jobs' own: the WebUI may have changed."""
        return replace(self, traced=self.traced.forget())

    def forget_refused(self) -> Knowledge:
        """Forget the checkpoint, or the workflow, of the last good call: the WebUI refuses it."""
        return replace(self, good=Plain(self.good.size))

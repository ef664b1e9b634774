"""What is known of one WebUI from its calls: what it can generate, and whose fault failures were.
Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sdwatch.policy.failure.facts import FailureKey

PLAIN_SIDE = 512  # pixels, where no call has shown another size

TRACED_AFTER = 2
"""After the same failure was traced to so many jobs, it costs no more restarts."""

REPEATEDLY = 3
"""So many different jobs in a row that crash a WebUI: they or it may be the cause."""


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
    """It remembers, and decides nothing.

    `good`: the last call that succeeded. `largest`: pixels of the largest one. `jobs_traced`: the
    jobs to which self-tests traced each failure; one without a key is different from all others.
    `died_by`: consecutive jobs that ended the process, with their runs. What was traced outlasts
    the restarts that failed calls cost, otherwise two alternating mistakes would hide each other.
    It is forgotten when the WebUI may have changed.
    """

    good: Plain = Plain()
    largest: int = 0
    jobs_traced: Mapping[FailureKey, frozenset[str]] = field(default_factory=dict)
    died_by: Mapping[str, str] = field(default_factory=dict)

    def succeeded(self, wanted: Wanted) -> Knowledge:
        """Note that a job's call succeeded."""
        pixels = wanted.made.pixels if wanted.made is not None else 0
        largest, good = max(self.largest, pixels), wanted.plain or self.good
        return replace(self, good=good, largest=largest, died_by={})

    def is_a_jobs_own(self, failure: FailureKey | None, wanted: Wanted) -> bool:
        """Return whether this failure was traced to TRACED_AFTER jobs, so that its second attempt
        needs no restart. Only where the self-test would see damage to this call: a picture smaller
        than the call's may fit where the call does not."""
        made = wanted.made
        is_plain = self.good.workflow is None
        is_shown = made is not None and is_plain and made.pixels <= self.good.size.pixels
        jobs = self.jobs_traced.get(failure, frozenset()) if failure is not None else ()
        return is_shown and len(jobs) >= TRACED_AFTER

    def trace(self, job: str, run: str, failure: FailureKey | None, died: bool) -> Knowledge:
        """Note that a failure was a job's own. `died`: the process died of it."""
        jobs_traced = dict(self.jobs_traced)
        if failure is not None:
            jobs_traced[failure] = jobs_traced.get(failure, frozenset()) | {job}
        died_by = {**self.died_by, job: run} if died else {}
        return replace(self, jobs_traced=jobs_traced, died_by=died_by)

    def take_repeated(self) -> tuple[Knowledge, tuple[str, ...]]:
        """Return the runs of REPEATEDLY consecutive jobs that ended the WebUI, which are blamed too
        often to be believed, to start counting again; () while there are fewer."""
        if len(self.died_by) < REPEATEDLY:
            return self, ()
        return replace(self, died_by={}), tuple(self.died_by.values())

    def forget_blame(self) -> Knowledge:
        """Forget which failures were the jobs' own: the WebUI may have changed."""
        return replace(self, jobs_traced={})

    def forget_refused(self) -> Knowledge:
        """Forget the checkpoint, or the workflow, of the last good call: the WebUI refuses it."""
        return replace(self, good=Plain(self.good.size))

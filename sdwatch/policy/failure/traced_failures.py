"""Remember which failures the self-test attributed to jobs, and when to doubt that. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sdwatch.policy.failure.facts import FailureKey

TRACED_AFTER = 2
"""After the same failure was traced to so many jobs, it costs no more restarts."""

REPEATEDLY = 3
"""So many different jobs in a row that crash a WebUI: they or it may be the cause."""


@dataclass(frozen=True)
class TracedFailures:
    """The failures of one WebUI that self-tests traced to jobs. It remembers, and decides nothing.
    A failure without a key is different from all others.

    `jobs_traced`: the jobs that had each failure. `died_by`: consecutive jobs that ended the
    process, with their runs. What was traced outlasts the restarts that failed calls cost,
    otherwise two alternating mistakes would hide each other. It is forgotten when the WebUI may
    have changed.
    """

    jobs_traced: Mapping[FailureKey, frozenset[str]] = field(default_factory=dict)
    died_by: Mapping[str, str] = field(default_factory=dict)

    def is_a_jobs_own(self, failure: FailureKey | None) -> bool:
        """Return whether this failure was traced to TRACED_AFTER jobs."""
        return failure is not None and len(self.jobs_traced.get(failure, ())) >= TRACED_AFTER

    def trace(self, job: str, run: str, failure: FailureKey | None, died: bool) -> TracedFailures:
        """Note that a failure is the job's own; `died`: it ended the process."""
        jobs_traced = dict(self.jobs_traced)
        if failure is not None:
            jobs_traced[failure] = jobs_traced.get(failure, frozenset()) | {job}
        return TracedFailures(jobs_traced, {**self.died_by, job: run} if died else {})

    def succeeded(self) -> TracedFailures:
        """Note that a call succeeded."""
        return replace(self, died_by={})

    def forget(self) -> TracedFailures:
        """Forget what was proven: the WebUI ended by itself, or somebody has changed it."""
        return replace(self, jobs_traced={})

    def take_repeated(self) -> tuple[TracedFailures, tuple[str, ...]]:
        """Return the runs of REPEATEDLY consecutive jobs that ended the WebUI, to start counting
        again; () while there are fewer."""
        if len(self.died_by) < REPEATEDLY:
            return self, ()
        return replace(self, died_by={}), tuple(self.died_by.values())

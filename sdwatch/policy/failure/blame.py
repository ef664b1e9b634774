"""Remember which failures the self-test attributed to jobs, and when to doubt that. Pure."""

from __future__ import annotations

from sdwatch.policy.failure.failure_key import FailureKey

PROVEN_AFTER = 2
"""After the same failure was traced to so many jobs, it costs no more restarts."""

SUSPECTS = 3
"""So many different jobs in a row that crash a WebUI which is healthy afterwards are doubtful."""


class Blame:
    """The blame of one WebUI's failures. A failure without a key is different from all others.

    What was proven outlasts the restarts that failed calls cost, otherwise two alternating mistakes
    would make each other unproven. It is forgotten when the WebUI may have changed.
    """

    def __init__(self) -> None:
        self._proven: dict[FailureKey, set[str]] = {}  # the jobs that had each failure
        self._died_by: dict[
            str, str
        ] = {}  # consecutive jobs that ended the process, with their runs

    def is_a_jobs_own(self, failure: FailureKey | None) -> bool:
        """Return whether this failure was traced to PROVEN_AFTER jobs."""
        return failure is not None and len(self._proven.get(failure, ())) >= PROVEN_AFTER

    def blame(self, job: str, run: str, failure: FailureKey | None, died: bool) -> None:
        """Note that a failure is the job's own; `died`: it ended the process."""
        if failure is not None:
            self._proven.setdefault(failure, set()).add(job)
        if died:
            self._died_by[job] = run
        else:
            self._died_by.clear()

    def succeeded(self) -> None:
        """Note that a call succeeded."""
        self._died_by.clear()

    def forget(self) -> None:
        """Forget what was proven: the WebUI ended by itself, or somebody has changed it."""
        self._proven.clear()

    def take_suspects(self) -> tuple[str, ...]:
        """Return the runs of SUSPECTS consecutive jobs that ended the WebUI, and start counting
        again; () while there are fewer."""
        if len(self._died_by) < SUSPECTS:
            return ()
        runs = tuple(self._died_by.values())
        self._died_by.clear()
        return runs

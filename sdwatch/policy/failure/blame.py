"""What the self-test has proven so far: which failures are jobs' own, and when to doubt that.
Pure."""

from __future__ import annotations

from sdwatch.policy.failure.failure_key import FailureKey

PROVEN_AFTER = 2
"""Of so many jobs proven to be their own, the same failure costs no more restart."""

SUSPECTS = 3
"""So many different jobs in a row that crash a WebUI which is well afterwards: one doubts it."""


class Blame:
    """Of one WebUI. A failure is told by its key, `shared` between jobs; one that has none is
    unlike all others.

    What was proven outlasts the restarts that failed calls cost: else two mistakes that take turns
    would each make the other unproven. It is forgotten when the WebUI may have become another.
    """

    def __init__(self) -> None:
        self._proven: dict[FailureKey, set[str]] = {}  # of each failure, the jobs that had it
        self._died_by: dict[str, str] = {}  # jobs in a row by which the process died: their runs

    def is_a_jobs_own(self, failure: FailureKey | None) -> bool:
        """Whether this failure was proven to be their own of so many jobs."""
        return failure is not None and len(self._proven.get(failure, ())) >= PROVEN_AFTER

    def blame(self, job: str, run: str, failure: FailureKey | None, died: bool) -> None:
        """This job's failure was proven to be its own; `died`: it ended the process."""
        if failure is not None:
            self._proven.setdefault(failure, set()).add(job)
        if died:
            self._died_by[job] = run
        else:
            self._died_by.clear()

    def succeeded(self) -> None:
        """A call of a job came out."""
        self._died_by.clear()

    def forget(self) -> None:
        """It died by itself, or somebody saw to it: no failure is known of what it is now."""
        self._proven.clear()

    def take_suspects(self) -> tuple[str, ...]:
        """The runs that were spent in a row on a WebUI that died each time, once there are too many
        to believe it; () before that. They are counted anew from here on."""
        if len(self._died_by) < SUSPECTS:
            return ()
        runs = tuple(self._died_by.values())
        self._died_by.clear()
        return runs

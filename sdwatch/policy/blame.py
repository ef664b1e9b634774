"""What the canary has proven so far: which failures are jobs' own, and when to doubt that. Pure."""

from __future__ import annotations

from collections import Counter

PROVEN_AFTER = 2
"""So often proven to be a job's own, the same failure costs no more restart in this generation."""

SUSPECTS = 3
"""So many different jobs in a row that crash a WebUI which is well afterwards: one doubts it."""


class Blame:
    """Of one WebUI. A failure is told by its message; generations are numbers."""

    def __init__(self) -> None:
        self._proven: Counter[str] = Counter()
        self._known_in: dict[str, int] = {}  # the generation in which it was last proven
        self._died_by: dict[str, str] = {}  # jobs in a row by which the process died: their runs

    def is_a_jobs_own(self, message: str, generation: int) -> bool:
        """Whether this failure was proven so often to be a job's own, and in this generation."""
        known = self._known_in.get(message) == generation
        return known and self._proven[message] >= PROVEN_AFTER

    def blame(self, job: str, run: str, message: str, generation: int, died: bool) -> None:
        """This job's failure was proven to be its own; `died`: it ended the process."""
        self._proven[message] += 1
        self._known_in[message] = generation
        if died:
            self._died_by[job] = run
        else:
            self._died_by.clear()

    def succeeded(self) -> None:
        """A call of a job came out."""
        self._died_by.clear()

    def take_suspects(self) -> tuple[str, ...]:
        """The runs that were spent in a row on a WebUI that died each time, once there are too many
        to believe it; () before that. They are counted anew from here on."""
        if len(self._died_by) < SUSPECTS:
            return ()
        runs = tuple(self._died_by.values())
        self._died_by.clear()
        return runs

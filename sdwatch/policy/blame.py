"""What the canary has proven so far: which failures are jobs' own, and when to doubt that. Pure."""

from __future__ import annotations

import re

PROVEN_AFTER = 2
"""Of so many jobs proven to be their own, the same failure costs no more restart."""

SUSPECTS = 3
"""So many different jobs in a row that crash a WebUI which is well afterwards: one doubts it."""

_NUMBER = re.compile(r"(?<!allocate )\b(?:0x[0-9a-fA-F]+|\d+(?:[.,]\d+)*)")
"""Free memory, addresses and process ids are others each time, how much was asked for is not."""


_TEXT = re.compile(r"<text [^<>]{1,100}>(?:[\s,]{0,9}<text [^<>]{1,100}>)*")
"""What stands in place of a job's text tells one text from another."""


def what_is_shared(message: str) -> str:
    """What two messages of the same failure have in common."""
    return _NUMBER.sub("#", _TEXT.sub("<text>", message))


class Blame:
    """Of one WebUI. A failure is told by its message, without the texts of the job; one that has
    none is unlike all others.

    What was proven outlasts the restarts that failed calls cost: else two mistakes that take turns
    would each make the other unproven. It is forgotten when the WebUI may have become another.
    """

    def __init__(self) -> None:
        self._proven: dict[str, set[str]] = {}  # of each failure, the jobs that had it
        self._died_by: dict[str, str] = {}  # jobs in a row by which the process died: their runs

    def is_a_jobs_own(self, message: str) -> bool:
        """Whether this failure was proven to be their own of so many jobs."""
        return len(self._proven.get(what_is_shared(message), ())) >= PROVEN_AFTER

    def blame(self, job: str, run: str, message: str, died: bool) -> None:
        """This job's failure was proven to be its own; `died`: it ended the process."""
        if message:
            self._proven.setdefault(what_is_shared(message), set()).add(job)
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

"""The warnings of one WebUI: counted for status, and each told once."""

from __future__ import annotations

from collections.abc import Callable

from sdwatch.policy.failure.reply_checks import Finding

_MOST_TOLD = 1000


class CallWarnings:
    """`tell` gets lines for people. Of the newest so many each is told once for each job."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.count = 0
        self.last = ""
        self._tell = tell
        self._told: set[tuple[str, tuple[str, ...]]] = set()

    def add(self, job: str, warnings: tuple[Finding, ...]) -> None:
        """Something that a person should know of a call of this job."""
        for finding in warnings:
            self.count += 1
            self.last = f"{job}: {finding.words}"
            if (job, finding.key) not in self._told:
                self._told = self._told if len(self._told) < _MOST_TOLD else set()
                self._told.add((job, finding.key))
                self._tell(self.last)

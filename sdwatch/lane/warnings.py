"""The warnings of one WebUI: counted for `status`, and reported once each."""

from __future__ import annotations

from collections.abc import Callable

from sdwatch.policy.failure.reply_checks import Finding

_MOST_KEPT = 1000


class CallWarnings:
    """`report` gets lines for people. Each of the newest warnings is reported once for each job."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self.count = 0
        self.last = ""
        self._report = report
        self._reported: set[tuple[str, tuple[str, ...]]] = set()

    def add(self, job: str, warnings: tuple[Finding, ...]) -> None:
        """Count what a person should know of a call of this job, and report what is new."""
        for finding in warnings:
            self.count += 1
            self.last = f"{job}: {finding.words}"
            if (job, finding.key) not in self._reported:
                self._reported = self._reported if len(self._reported) < _MOST_KEPT else set()
                self._reported.add((job, finding.key))
                self._report(self.last)

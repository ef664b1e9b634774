"""What a person should know of calls that succeeded, and of starts: counted, and reported once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from sdwatch.policy.failure.reply_checks import Finding, failed_extensions
from sdwatch.webui.log.tail_capture import first_lines

_MOST_KEPT = 1000


class CallWarnings:
    """The warnings of calls; `report` gets lines for people. Each of the newest warnings is
    reported once for each job."""

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


def findings_of_start(paths: Iterable[Path]) -> tuple[Finding, ...]:
    """Return the extensions that the WebUI with these logs did not load at its start."""
    lines = [line for path in paths for line in first_lines(path)]
    return tuple(each for each in failed_extensions(lines, {}) if each.of_start)


def leaks_found(
    undone: Iterable[str], left: Iterable[str], *, managed: bool
) -> tuple[Finding, ...]:
    """Return what a person should know of settings that the WebUI kept after a call: `undone`, and
    `left`, which it still keeps."""
    undone, left = list(undone), list(left)
    found = []
    if undone:
        words = f"the WebUI kept {', '.join(undone)} after the call; sdwatch restored it"
        found.append(Finding("leak", words, facts=("undone", *undone)))
    if left:
        yours = "restart it yourself, or the next jobs use that setting too"
        how = "sdwatch restarts it" if managed else yours
        words = f"the WebUI kept {', '.join(left)} after the call and cannot restore it; {how}"
        found.append(Finding("leak", words, facts=("left", *left)))
    return tuple(found)

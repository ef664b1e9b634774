"""The monitor's reports to people: starts, ends and suspensions of runs, and their counts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from sdwatch.monitor.runs import in_words
from sdwatch.policy.failure.lasting import LastingStates, key_of
from sdwatch.policy.privacy.printable import printable, printable_text
from sdwatch.policy.report.notice import Notice, Topic
from sdwatch.spool.folders import Spool
from sdwatch.spool.run import Run
from sdwatch.stages.run_end import RunEnd
from sdwatch.system.clock import Clock
from sdwatch.system.log_events import LogEvent, about, bound

log = logging.getLogger("sdwatch.monitor")

_TOPICS = {
    RunEnd.DONE: Topic.DONE,
    RunEnd.FAILED: Topic.FAILED,
    RunEnd.CANCELLED: Topic.CANCELLED,
}
_EVENTS = {
    Topic.DONE: LogEvent.RUN_DONE,
    Topic.FAILED: LogEvent.RUN_FAILED,
    Topic.CANCELLED: LogEvent.RUN_CANCELLED,
    Topic.ON_HOLD: LogEvent.HOLD,
    Topic.WARNING: LogEvent.WARNING,
}
"""Of a topic that does not say it, the caller binds the event."""


class Reports:
    """Writes each report to the log, and gives it to `notify` and to `messages`, which sends
    messages to people who are away."""

    def __init__(
        self,
        notify: Callable[[Notice], None],
        messages: Callable[[Notice], None],
        clock: Clock,
    ) -> None:
        self.counts = {RunEnd.DONE: 0, RunEnd.FAILED: 0, RunEnd.CANCELLED: 0}
        self._notify = notify
        self._messages = messages
        self._work_left = True
        self._clock = clock
        self._refused = LastingStates()  # by the disk, by run_id

    def line(self, text: str) -> None:
        """Report that something happened. May be called from any thread."""
        self.notice(Notice(text))

    def notice(self, notice: Notice) -> None:
        """Report that something happened to a subject. May be called from any thread."""
        notice = replace(notice, text=printable_text(notice.text))
        event = _EVENTS.get(notice.topic)
        log.info("%s", notice, extra=about(event) if event else None)
        self._messages(notice)
        with suppress(OSError):  # the terminal is gone, or its disk is full: the log has it
            self._notify(notice)

    def work_left(self, some: bool) -> None:
        """Note whether any job is there. It is seen in the counts, so no line says it."""
        if some is not self._work_left:
            self._work_left = some
            topic = Topic.WORK_LEFT if some else Topic.QUEUE_EMPTY
            self._messages(Notice("", topic))

    def started(self, run: Run, *, resumed: bool) -> None:
        """Report that a run starts or resumes. What the disk refuses is retried every few seconds,
        which is not reported."""
        if not resumed:
            self._of_run(f"{run.run_id}: starts", run.run_id, LogEvent.RUN_STARTED)
        elif not self._refused.is_on(run.run_id):
            finished = sum(call.images is not None for call in run.ledger.calls.values())
            calls = "1 call is" if finished == 1 else f"{finished or 'no'} calls are"
            line = f"{run.run_id}: resumes; {calls} finished"
            self._of_run(line, run.run_id, LogEvent.RUN_RESUMED)

    def suspended(self, run_id: str, error: Exception | None) -> None:
        """Report that a run is suspended. `error`: what stopped it; None for a stop or a hold."""
        if error is None:
            line = f"{run_id}: suspended in working/; will resume"
            self._of_run(line, run_id, LogEvent.RUN_SUSPENDED)
            return
        why, now = in_words(error), self._clock.monotonic()
        if line := self._refused.persists(run_id, key_of(error), why, now):
            line = f"{run_id}: suspended in working/; will resume ({line})"
            self._of_run(line, run_id, LogEvent.RUN_SUSPENDED)

    def gone(self, run_id: str) -> None:
        """Report that somebody removed a run's folder."""
        line = f"{run_id}: somebody removed its folder in working/"
        self._of_run(line, run_id, LogEvent.RUN_GONE)

    def ended(self, run: Run, ending: RunEnd, why: str, spool: Spool) -> None:
        """Count a run that has ended, and report it."""
        self.counts[ending] += 1
        if lasted := self._refused.is_over(run.run_id, self._clock.monotonic()):
            log.info(
                "%s: the disk accepts it again, after %s",
                run.run_id,
                lasted,
                extra=about(LogEvent.DISK_ACCEPTS, run=run.run_id),
            )
        because = f" ({why.splitlines()[0]})" if why else ""
        text = f"{run.run_id}: {ending}: {printable(run.source)}{because}"
        folder = spool.done if ending is RunEnd.DONE else spool.failed
        place = printable(str(folder / run.run_id))
        with bound(run=run.run_id):
            self.notice(Notice(text, _TOPICS[ending], run.run_id, place))

    def _of_run(self, line: str, run_id: str, event: LogEvent) -> None:
        with bound(run=run_id, event=event):
            self.line(line)

"""What `run --once` waits for, and how it ends."""

from __future__ import annotations

from enum import StrEnum

from sdwatch.monitor.work import Partner, Parts, Work


class MonitorEnd(StrEnum):
    """Why the monitor ended."""

    STOPPED = "stopped"
    EMPTY = "the inbox is empty"
    WAITING = "all that is left waits for its time"
    HOLD = "on hold"


class Once:
    """Finds out whether something is left to do. Another machine may have work from here, by
    `partner`."""

    def __init__(self, parts: Parts, work: Work, partner: Partner | None) -> None:
        self._parts = parts
        self._work = work
        self._partner = partner

    def result(self, must_wait: bool) -> MonitorEnd | None:
        """Return a result if nothing is left to do with --once, or nothing can be done.
        `must_wait`: calls wait for a person, or for a disk that refuses for long."""
        if self._parts.intake.settling:
            return None  # it may be invalid or cancelled, and so need no WebUI
        if self._parts.intake.ready or self._parts.runs or self._parts.suspended:
            if not (self._parts.runs or self.has_startable()):
                self._report_times()
                return MonitorEnd.WAITING
            return MonitorEnd.HOLD if must_wait or not self._has_work() else None
        # A job that was dropped since the last scan must not be missed with its event.
        return MonitorEnd.EMPTY if self._parts.intake.is_empty_now() else None

    def has_startable(self) -> bool:
        """Return whether a job waits that need not wait for a time."""
        if any(map(self._parts.later_jobs.may_resume, self._parts.suspended)):
            return True
        return self._parts.intake.first(self._parts.later_jobs.may_start) is not None

    def _report_times(self) -> None:
        """Say what all that is left waits for."""
        count, first = self._parts.later_jobs.first(self._work.times())
        one = "1 job is left, and" if count == 1 else f"{count} jobs are left; the first one"
        self._parts.reports.line(f"{one} {first}")

    def _has_work(self) -> bool:
        """Return whether a lane has something to do, or will have. A lane on hold will if its hold
        may end without a person."""
        if self._partner is not None and self._partner.may_have_work():
            return True
        lanes = [lane for lane in self._parts.lanes if lane.is_waited_for]
        if self._parts.runs or not lanes:
            return bool(lanes)
        if any(
            self._work.will_resume_on(lane, suspended)
            for suspended in self._parts.suspended
            for lane in lanes
        ):
            return True
        return self._work.waits_for(lanes) is not None or self._work.refuses_next()

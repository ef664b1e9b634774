"""How a run ends without a lane, and how one comes back from working/."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from sdwatch.lane.lane import Lane
from sdwatch.monitor.holds import held_longer_than
from sdwatch.monitor.reports import Reports
from sdwatch.monitor.runs import was_changed
from sdwatch.monitor.suspended import REFUSED_FOR, SuspendedRun, SuspendedRuns
from sdwatch.policy.report.envelope import ErrorEnvelope, Unsent, held_envelope
from sdwatch.spool import archive
from sdwatch.spool.folders import Spool
from sdwatch.spool.run import Run
from sdwatch.stages.run_end import RunEnd
from sdwatch.system import disk
from sdwatch.system.clock import Clock
from sdwatch.system.log_events import LogEvent, about

log = logging.getLogger("sdwatch.monitor")


class RunsWithoutLane:
    """Publishes runs that have no thread. What cannot end now stays with `suspended`. Used by the
    main thread."""

    def __init__(
        self, spool: Spool, suspended: SuspendedRuns, reports: Reports, clock: Clock
    ) -> None:
        self._spool = spool
        self._suspended = suspended
        self._reports = reports
        self._clock = clock

    def end(self, run: Run, envelope: ErrorEnvelope, *, of_its_file: bool = True) -> None:
        """Publish a run that needs no lane to end. `of_its_file`: it failed because of what its job
        file says."""
        ending = RunEnd.CANCELLED if envelope.diagnosis == Unsent.CANCELLED else RunEnd.FAILED
        try:
            if of_its_file and ending is RunEnd.FAILED and was_changed(run):
                run.close()  # somebody still wrote to it: it is read again, from working/
                self._suspended.add(run.folder)
                return
            archive.publish(run, self._spool, str(ending), envelope)
        except OSError as error:
            # The disk refused a write: nothing is lost, the run resumes from working/.
            run.close()
            self.suspend_refused(run.folder, error)
        except Exception as error:
            # Whatever one run's folder holds, the other runs continue.
            log.exception(
                "%s: internal error; the run is suspended in working/",
                run.run_id,
                extra=about(LogEvent.INTERNAL_ERROR, run=run.run_id),
            )
            run.close()
            self._suspended.add(run.folder, REFUSED_FOR, f"waits: internal error: {error!r}")
        else:
            self._reports.ended(run, ending, envelope.message, self._spool)

    def resume(self, suspended: SuspendedRun) -> Run | None:
        """Return the run, or None: it cannot be read now, or it had ended and only its rename was
        left."""
        folder = suspended.folder
        self._suspended.remove(folder)
        try:
            run = Run(folder, self._clock)
            if run.ledger.ended:
                archive.move_out(folder, self._spool, run.ledger.ended)
                self._reports.ended(run, RunEnd(run.ledger.ended), "", self._spool)
                return None
            return run
        except OSError as error:
            self.suspend_refused(folder, error)
            return None

    def suspend_refused(self, folder: Path, error: OSError) -> None:
        """Suspend a run whose write the disk refused. It is retried in a while."""
        self._reports.suspended(folder.name, error)
        self._suspended.add(folder, REFUSED_FOR, f"waits: {disk.in_words(error)}")

    def fail_after_hold_max(self, limit: float | None, lanes: Sequence[Lane]) -> None:
        """Fail the runs whose call has failed while all lanes are on hold for longer than
        `limit` seconds; None for no limit."""
        hold_reason = held_longer_than(limit, lanes, self._clock)
        if hold_reason is None:
            return
        for suspended in self._suspended.due():
            if (run := self.resume(suspended)) is None:
                continue
            calls = run.ledger.calls.values()
            if any(call.images is None and call.failed for call in calls):
                self.end(run, held_envelope(hold_reason, run.ledger.evidence), of_its_file=False)
            else:
                run.close()
                self._suspended.add(suspended.folder)

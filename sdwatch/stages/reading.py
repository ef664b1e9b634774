"""Read the files of a job where it now lies: once it has settled, and as soon as they can be."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from typing import Any

from sdwatch.errors import FileProblems
from sdwatch.policy.job.job import Job
from sdwatch.policy.privacy.printable import printable
from sdwatch.policy.report.envelope import unreadable_envelope
from sdwatch.spool.patient_disk import STORAGE_PAUSE
from sdwatch.spool.run import Run
from sdwatch.stages.run_end import CallFailedError
from sdwatch.stages.settings import RunSettings
from sdwatch.system import disk
from sdwatch.system.clock import Clock
from sdwatch.system.log_events import LogEvent, about
from sdwatch.webui.http.run_control import RunControl

log = logging.getLogger("sdwatch.run")

# Errors of a share that is gone for the moment, or of a machine without memory: they are waited
# out for as long as they last, in working/.
_COMES_BACK = frozenset(
    getattr(errno, name)
    for name in (
        "EIO", "ESTALE", "ENOTCONN", "ETIMEDOUT", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN",
        "ENETUNREACH", "ECONNRESET", "ECONNABORTED", "ENODEV", "ENXIO", "EMFILE", "ENFILE",
        "ENOMEM", "EINTR", "EAGAIN",
    )
    if hasattr(errno, name)
)  # fmt: skip


class JobReading:
    """Reads the job of `run`. `control`: ends a wait."""

    def __init__(self, run: Run, control: RunControl, clock: Clock, settings: RunSettings) -> None:
        self.waits = ""  # says that it waits, and what for
        self.unreadable = ""  # the file of the job that the run waits for
        self._run = run
        self._control = control
        self._clock = clock
        self._rules = settings.rules
        self._settle = settings.settle
        self._patience = settings.patience

    def settled_job(self) -> tuple[Job, str]:
        """Return the job and its fingerprint. A job that is still being written to must settle
        first."""
        try:
            return self._settled_job()
        finally:
            self.waits = ""

    def _settled_job(self) -> tuple[Job, str]:
        settled = str(self._run.ledger.claimed.get("settled"))
        while True:
            before = self._run.looks_like()
            if before == settled:
                try:
                    job: Job = self.retry(lambda: self._run.read_job(self._rules))
                except FileProblems:
                    if self._run.looks_like() == before:
                        raise
                else:
                    if self._run.looks_like() == before:
                        return job, before
            self.waits = "waits until the job is no longer written to"
            if self._clock.wait(self._control.given_up, self._settle):
                self._control.raise_if_given_up()
            settled = before

    def retry(self, read: Callable[[], Any]) -> Any:
        """Read a file of the job, and retry while access is denied: somebody may have changed its
        permissions since the claim. That is not a share that is gone, so the run fails after
        `patience` seconds instead of waiting forever."""
        waits = self.waits
        try:
            return self._retry(read)
        finally:
            self.waits = waits

    def _retry(self, read: Callable[[], Any]) -> Any:
        since = self._clock.monotonic()
        while True:
            try:
                done = read()
            except OSError as error:
                if isinstance(error, FileNotFoundError) or error.errno in _COMES_BACK:
                    raise
                if not error.filename or self._run.is_gone:
                    raise
                name, why = str(error.filename), error.strerror or disk.in_words(error)
                if self._clock.monotonic() - since >= self._patience:
                    raise CallFailedError(unreadable_envelope(name, why)) from error
            else:
                self.unreadable = ""
                return done
            if not self.unreadable:
                log.error(
                    "%s: %s cannot be read: %s",
                    self._run.run_id,
                    printable(name),
                    why,
                    extra=about(LogEvent.FILE_UNREADABLE),
                )
            self.unreadable = name
            self.waits = f"{printable(name)} cannot be read yet: {why}"
            if self._clock.wait(self._control.given_up, min(STORAGE_PAUSE, self._patience)):
                self._control.raise_if_given_up()

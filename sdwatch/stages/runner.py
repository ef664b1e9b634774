"""One run, in its own thread: its calls in order, images from one stage to the next, and its end.

A run that was suspended, cut off by a stop or orphaned by a kill -9 resumes with this same code: it
reads the ledger and continues with the first unfinished call.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from sdwatch.config import builtin_signatures
from sdwatch.errors import (
    FileProblems,
    JournalError,
    RunCancelledError,
    RunStoppedError,
    SpoolError,
    WebUIError,
)
from sdwatch.policy.failure.diagnosis import FailureFacts, judge
from sdwatch.policy.failure.facts import Blamed
from sdwatch.policy.failure.lasting import Lasting, key_of
from sdwatch.policy.failure.ledger import Image
from sdwatch.policy.failure.made_by import what_made_it
from sdwatch.policy.failure.recovery import Action, Decision, Ground
from sdwatch.policy.failure.reply_checks import LEVELS, Level
from sdwatch.policy.job.confinement import JobRules
from sdwatch.policy.job.job import Job
from sdwatch.policy.job.payload import Call, calls_of
from sdwatch.policy.privacy.printable import printable
from sdwatch.policy.report.envelope import (
    ErrorEnvelope,
    broken_envelope,
    cancelled_envelope,
    died_here_envelope,
    job_envelope,
    lost_image_envelope,
    no_image_envelope,
    unreadable_envelope,
)
from sdwatch.spool.archive import Spool, publish
from sdwatch.spool.recorder import RunRecorder
from sdwatch.spool.run import Run
from sdwatch.stages.ending import (
    CallFailedError,
    Ending,
    JobChangedError,
    Place,
    RunGoneError,
)
from sdwatch.stages.payloads import Payloads
from sdwatch.system import disk
from sdwatch.system.clock import Clock
from sdwatch.webui.http.call import Outcome
from sdwatch.webui.http.mailbox import Mailbox
from sdwatch.webui.http.reply import Reply, check_image
from sdwatch.webui.http.reply_checks import ReplyChecks

log = logging.getLogger("sdwatch.run")

_STORAGE_PAUSE = 2.0  # seconds between two writes to a disk that is full or gone

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


class RecoveringClient(Protocol):
    """A crash-aware call. See WebUIAPI."""

    def generate_images_with_recovery(
        self, stage: str, payload: Mapping[str, Any], run_dir: Path | None, job_id: str | None
    ) -> Outcome: ...


class PlainClient(Protocol):
    """Any client that sends one generation and raises WebUIError."""

    def generate_images(self, stage: str, payload: Mapping[str, Any]) -> Reply: ...


class StageRunner:
    """Runs one claimed job against `webui`, which is crash-aware or a plain client.

    `rules`: what jobs may do. `settle`: seconds without a change before a job is read that was
    still written to when it was claimed. `patience`: seconds for which an unreadable file of the
    job is retried. `permit`: entered around each call. `mailbox`: through it the run is given up.
    `checks`: the level of each finding in the reply of a plain client.
    """

    def __init__(
        self,
        run: Run,
        webui: RecoveringClient | PlainClient,
        recorder: RunRecorder,
        *,
        clock: Clock,
        rules: JobRules = JobRules(),  # noqa: B008 - it is frozen
        settle: float = 0.0,
        patience: float = 0.0,
        permit: Callable[[], AbstractContextManager[None]] = nullcontext,
        mailbox: Mailbox | None = None,
        checks: Mapping[str, Level] = LEVELS,
    ) -> None:
        self.doing = "reads the job"  # for `status`
        self.place: Place | None = None  # None before its first call
        self.calling = False  # with the permit
        self.why = ""  # it failed
        self.waiting = False  # for the permit
        self.publishing = False
        self.disk_refuses = ""  # why the disk refuses, while the run waits for it
        self.unreadable = ""  # the file of the job that the run waits for
        self._run = run
        self._webui = webui
        self._recorder = recorder
        self._clock = clock
        self._rules = rules
        self._settle = settle
        self._patience = patience
        self._permit = permit
        self._mailbox = mailbox or Mailbox()
        self._reply_checks = ReplyChecks(checks)
        self._payloads = Payloads(run, self._retry_read)
        self._refusals = Lasting()
        recorder.insist = self._retry_on_disk

    def run_to_end(self, spool: Spool) -> Ending:
        """Run the stages, and publish to done/ or failed/. Raises OSError where the disk refuses
        even the explanation; then the run stays in working/."""
        try:
            ending, envelope = self._outcome_of_stages()
            if ending is not Ending.STOPPED:
                self.why = envelope.message if envelope else ""
                self.publishing, self.doing = True, "is being published"
                self._retry_on_disk(lambda: publish(self._run, spool, str(ending), envelope))
        except RunGoneError:
            ending = Ending.GONE
        except (RunStoppedError, RunCancelledError):  # given up while the disk refused to publish
            ending = Ending.STOPPED
        self._run.close()
        return ending

    def _outcome_of_stages(self) -> tuple[Ending, ErrorEnvelope | None]:
        """Run the stages, and return how they ended."""
        try:
            self.run_stages()
        except RunStoppedError:
            return Ending.STOPPED, None
        except RunCancelledError:
            return Ending.CANCELLED, cancelled_envelope()
        except CallFailedError as error:
            return Ending.FAILED, error.envelope
        except FileProblems as error:
            return Ending.FAILED, job_envelope(error)
        except JournalError as error:
            return Ending.FAILED, broken_envelope(str(error))
        return Ending.DONE, None

    def run_stages(self) -> list[Image]:
        """Make all calls that are not finished, in order, and return the images of the last stage.
        Raises CallFailedError, JobError, RunCancelledError, RunStoppedError."""
        if self._run.broken is not None:
            raise self._run.broken
        while True:
            job, seen = self._read_settled_job()
            try:
                return self._all_images(job, seen)
            except JobChangedError:
                log.warning("%s: the job is still being written to", self._run.run_id)

    def _all_images(self, job: Job, seen: str) -> list[Image]:
        """Do what run_stages does. Raises JobChangedError where the job's fingerprint is no longer
        `seen`."""
        try:
            images = self._make_stages(job, seen)
        except CallFailedError:
            self._refuse_changed(seen)
            raise
        self._refuse_changed(seen)
        return images

    def _refuse_changed(self, seen: str) -> None:
        if self._retry_on_disk(lambda: self._fingerprint(seen)) != seen:
            raise JobChangedError(self._run.run_id)

    def _fingerprint(self, seen: str) -> str:
        """Return the job's fingerprint. A job that was removed after it was read counts as
        unchanged."""
        return self._run.looks_like() if self._run.has_job else seen

    def _make_stages(self, job: Job, seen: str) -> list[Image]:
        self._run.forget_another_job()
        self._run.plan()
        if (call_id := self._run.ledger.too_many_cut_offs()) != "":
            raise CallFailedError(died_here_envelope(call_id))
        images: list[Image] = []
        for number, stage in enumerate(job.stages, 1):
            inputs = [image.name for image in images if not image.grid]
            calls = calls_of(number, stage, self._run.seeds[number - 1], inputs)
            if not calls:
                raise CallFailedError(no_image_envelope(number, stage.kind))
            self._refuse_changed(seen)
            images = [image for call in calls for image in self._images_of(job, call, len(calls))]
        return images

    def rebuild(self, call_id: str = "") -> tuple[Call, dict[str, Any]]:
        """Return a call and its payload as it was sent, from the job file, the recorded seeds and
        the recorded images. Nothing is written.

        `call_id`: '' for the first call that is not finished. Raises JobError, CallFailedError for
        an image that is gone, SpoolError for an unknown call, OSError.
        """
        job = self._run.read_job(self._rules)
        if self._run.ledger.seeds is None:
            raise SpoolError(f"{self._run.run_id}: the run ended before its first call")
        self._run.plan()
        images: list[Image] = []
        for number, stage in enumerate(job.stages, 1):
            inputs = [image.name for image in images if not image.grid]
            images = []
            for call in calls_of(number, stage, self._run.seeds[number - 1], inputs):
                recorded = self._run.ledger.call(call.id).images
                if call.id == (call_id or call.id) and (call_id or recorded is None):
                    return call, self._payloads.payload(job, call)
                images += recorded or ()
        what = f"there is no call {call_id}" if call_id else "all its calls are finished"
        raise SpoolError(f"{self._run.run_id}: {what}")

    def _read_settled_job(self) -> tuple[Job, str]:
        """Return the job and its fingerprint. A job that is still being written to must settle
        first."""
        settled = str(self._run.ledger.claimed.get("settled"))
        while True:
            before = self._run.looks_like()
            if before == settled:
                try:
                    job: Job = self._retry_read(lambda: self._run.read_job(self._rules))
                except FileProblems:
                    if self._run.looks_like() == before:
                        raise
                else:
                    if self._run.looks_like() == before:
                        return job, before
            self.doing = "waits until the job is no longer written to"
            if self._clock.wait(self._mailbox.given_up, self._settle):
                self._mailbox.raise_if_given_up()
            settled = before

    def _images_of(self, job: Job, call: Call, of: int) -> Sequence[Image]:
        """Return a call's images. Recorded ones are kept: a finished call is never repeated."""
        if (recorded := self._run.ledger.call(call.id).images) is not None:
            for image in recorded:
                if not self._run.has_image(image):
                    raise CallFailedError(lost_image_envelope(call.kind, call.id, image.name))
            return recorded
        self.place = Place(call.stage, len(job.stages), call.kind, call.number, of)
        self.doing = str(self.place)
        made = self._make(call, self._payloads.payload(job, call))
        assert made.reply is not None
        reply = made.reply
        facts = {"seconds": self._recorder.seconds, **what_made_it(reply.info)}
        if made.added:
            facts["added"] = dict(made.added)
        if made.warnings:
            facts["warnings"] = self._recorder.warnings(made.warnings)
        saved: tuple[Image, ...] = self._retry_on_disk(
            lambda: self._run.finish_call(call, reply.images, reply.first_image, **facts)
        )
        return saved

    def _make(self, call: Call, payload: Mapping[str, Any]) -> Outcome:
        """Make the call until it succeeds or fails for good."""
        doing = self.doing
        while True:
            self.waiting, self.doing = True, f"waits for its turn: {doing}"
            with self._permit():
                self.waiting, self.doing = False, doing
                self._recorder.take_up(call.id, payload)
                self.calling = True
                try:
                    outcome = self._call(call.kind, payload)
                finally:
                    self.calling = False
            if outcome.reply is not None:
                return outcome
            assert outcome.envelope is not None
            if not outcome.later:
                raise CallFailedError(replace(outcome.envelope, call=call.id))
            self.doing = f"waits for the WebUI: {outcome.envelope.message}"

    def _call(self, kind: str, payload: Mapping[str, Any]) -> Outcome:
        with_recovery = getattr(self._webui, "generate_images_with_recovery", None)
        if with_recovery is None:
            return self._call_without_recovery(kind, payload)
        outcome: Outcome = with_recovery(kind, payload, self._run.folder, self._run.job_id)
        return outcome

    def _call_without_recovery(self, kind: str, payload: Mapping[str, Any]) -> Outcome:
        """Make one attempt with a client that has no recovery."""
        self._recorder.call_started(0)
        try:
            reply: Reply = self._webui.generate_images(kind, payload)  # type: ignore[union-attr]
            for number, image in enumerate(reply.images, 1):
                check_image(kind, number, image)
            return Outcome(reply=reply, warnings=self._reply_checks.check(kind, payload, reply))
        except WebUIError as error:
            explanation = judge(FailureFacts(error), builtin_signatures())
            decision = Decision(Action.FAIL, Ground.NO_RECOVERY)
            self._recorder.call_failed(explanation, error, decision, None)
            return Outcome(
                envelope=ErrorEnvelope(
                    error=type(error).__name__,
                    diagnosis=explanation.diagnosis,
                    blame=Blamed.JOB,
                    message=self._recorder.attempts[-1].message,
                    advice=explanation.advice,
                    stage=kind,
                    attempts=self._recorder.attempts,
                    failure=self._recorder.attempts[-1].failure,
                )
            )

    def _retry_read(self, read: Callable[[], Any]) -> Any:
        """Read a file of the job, and retry while access is denied: somebody may have changed its
        permissions since the claim. That is not a share that is gone, so the run fails after
        `patience` seconds instead of waiting forever."""
        doing, since = self.doing, self._clock.monotonic()
        while True:
            try:
                done = read()
            except OSError as error:
                if isinstance(error, FileNotFoundError) or error.errno in _COMES_BACK:
                    raise
                if not error.filename or self._run.is_gone:
                    raise
                name, why = str(error.filename), error.strerror or str(error)
                if self._clock.monotonic() - since >= self._patience:
                    raise CallFailedError(unreadable_envelope(name, why)) from error
            else:
                self.unreadable, self.doing = "", doing
                return done
            if not self.unreadable:
                log.error("%s: %s cannot be read: %s", self._run.run_id, printable(name), why)
            self.unreadable = name
            self.doing = f"{printable(name)} cannot be read yet: {why}"
            if self._clock.wait(self._mailbox.given_up, min(_STORAGE_PAUSE, self._patience)):
                self._mailbox.raise_if_given_up()

    def _retry_on_disk(self, effect: Callable[[], Any]) -> Any:
        """Write to the disk, and retry while it is full or gone, so that no finished generation is
        lost."""
        run = self._run.run_id
        while True:
            try:
                done = effect()
            except OSError as error:
                if self._run.is_gone:
                    raise RunGoneError(str(self._run.folder)) from error
                self._run.close()  # with nothing open the disk can be unmounted and repaired
                self.disk_refuses = why = disk.refusal(error, self._run.folder)
                now = self._clock.monotonic()
                if line := self._refusals.goes_on(run, key_of(error), why, now):
                    log.error("%s: the disk refuses: %s; sdwatch keeps retrying", run, line)
                if self._clock.wait(self._mailbox.given_up, _STORAGE_PAUSE):
                    with suppress(OSError):
                        self._recorder.call_given_up("the disk did not accept the result")
                    self._mailbox.raise_if_given_up()
            else:
                self.disk_refuses = ""
                if lasted := self._refusals.is_over(run, self._clock.monotonic()):
                    log.info("%s: the disk accepts it again, after %s", run, lasted)
                return done

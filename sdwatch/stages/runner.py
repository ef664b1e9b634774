"""One run, in its own thread: its calls in order, images from one stage to the next, and its end.

A run that was suspended, cut off by a stop or orphaned by a kill -9 resumes with this same code: it
reads the ledger and continues with the first unfinished call.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from sdwatch.errors import (
    FileProblems,
    JobError,
    JournalError,
    RunCancelledError,
    RunGoneError,
    RunStoppedError,
    RunTimedOutError,
)
from sdwatch.policy.failure.generation_info import what_made_it
from sdwatch.policy.failure.ledger import Image
from sdwatch.policy.failure.recovery import Action
from sdwatch.policy.job.calls.catalogue import Catalogue
from sdwatch.policy.job.calls.payload import Call, calls_of, taken_from
from sdwatch.policy.job.job import Job, Stage
from sdwatch.policy.job.outputs.result import Keep
from sdwatch.policy.job.points.expansion import OnFailure
from sdwatch.policy.report.envelope import (
    ErrorEnvelope,
    FailedPoint,
    broken_envelope,
    cancelled_envelope,
    cut_short,
    died_here_envelope,
    failed_point,
    job_envelope,
    lost_image_envelope,
    no_image_envelope,
    points_envelope,
    timed_out_envelope,
)
from sdwatch.spool.archive import publish
from sdwatch.spool.folders import Spool
from sdwatch.spool.recorder import RunRecorder
from sdwatch.spool.run import Run
from sdwatch.stages.conduct import RunConduct
from sdwatch.stages.ladder import changed_facts, climb, may_climb, other_files_of, rungs_of
from sdwatch.stages.payloads import Payloads, names_of
from sdwatch.stages.reading import JobReading
from sdwatch.stages.results import Results, finish_result
from sdwatch.stages.run_end import (
    CallFailedError,
    JobChangedError,
    Place,
    RunEnd,
    call_failed,
)
from sdwatch.stages.settings import RunSettings
from sdwatch.system.clock import Clock
from sdwatch.system.log_events import LogEvent, about
from sdwatch.webui.http.call import Outcome
from sdwatch.webui.http.run_control import RunControl

if TYPE_CHECKING:
    from sdwatch.stages.without_recovery import PlainClient

log = logging.getLogger("sdwatch.run")

_LOOKING_SHARE = 50
"""Times as long as a look at the job's files takes pass until the next one."""

_WAITS = {
    Action.RESTART: "the restart of its WebUI",
    Action.WAIT: "its WebUI to answer again",
    Action.SELF_TEST: "the self-test of its WebUI",
    Action.TEST_AGAIN: "the restart and the self-test of its WebUI",
}
"""What comes before a call is sent again."""


@runtime_checkable
class RecoveringClient(Protocol):
    """The crash-aware call, and which WebUI it is for. See WebUIAPI."""

    @property
    def catalogue(self) -> Catalogue | None: ...

    def about(self) -> dict[str, Any]: ...

    def generate_images_with_recovery(
        self, stage: str, payload: Mapping[str, Any], run_dir: Path | None, job_id: str | None
    ) -> Outcome: ...


def _recovering(
    webui: RecoveringClient | PlainClient, recorder: RunRecorder, settings: RunSettings
) -> RecoveringClient:
    """Return the crash-aware call, or, of a plain client, what makes each call once."""
    if isinstance(webui, RecoveringClient):
        return webui
    from sdwatch.stages.without_recovery import WithoutRecovery
    from sdwatch.webui.http.checked_reply import ReplyChecks

    return WithoutRecovery(webui, recorder, ReplyChecks(settings.checks))


class StageRunner:
    """Runs one claimed job against `webui`, which is crash-aware or a plain client.

    `control`: through it the run is given up.
    """

    def __init__(
        self,
        run: Run,
        webui: RecoveringClient | PlainClient,
        recorder: RunRecorder,
        *,
        clock: Clock,
        settings: RunSettings = RunSettings(),  # noqa: B008 - it is frozen
        control: RunControl | None = None,
    ) -> None:
        self.control = control or RunControl()
        self._doing = "reads the job"
        self.place: Place | None = None  # None before its first call
        self._failed_points: list[FailedPoint] = []  # so far
        self.why = ""  # it failed
        self.publishing = False
        self._run = run
        self._webui = _recovering(webui, recorder, settings)
        self._recorder = recorder
        self._clock = clock
        self._rules = settings.rules
        self._reading = JobReading(run, self.control, clock, settings)
        self._outputs = settings.outputs
        self._payloads = Payloads(run, self._reading.retry)
        self._results = Results(Keep.ALL)
        self._disk = recorder.disk
        self._conduct = RunConduct(run, recorder, self.control, clock)
        self._look_again_at = -math.inf  # whether the job has changed

    @property
    def disk_refuses(self) -> str:
        """Return why the disk refuses, while the run waits for it, or ''."""
        return self._disk.refuses

    @property
    def doing(self) -> str:
        """Return what the run does, for `status`."""
        doing = self._reading.waits or self._doing
        decided = self.control.decided
        waits = _WAITS.get(decided) if decided is not None else None
        if self.control.waiting:
            waits = "its turn"
        elif self.pausing:
            return f"pauses (delay_between_calls) before {doing}"
        return f"waits for {waits}: {doing}" if waits else doing

    @property
    def unreadable(self) -> str:
        """Return the file of the job that the run waits for, or ''."""
        return self._reading.unreadable

    @property
    def points_failed(self) -> int:
        """Return how many points of the job failed so far."""
        return len(self._failed_points)

    @property
    def pausing(self) -> bool:
        """Return whether it waits between two calls, as its job says."""
        return self._conduct.pausing

    def run_to_end(self, spool: Spool) -> RunEnd:
        """Run the stages, and publish to done/ or failed/. Raises OSError where the disk refuses
        even the explanation; then the run stays in working/."""
        try:
            ending, envelope = self._outcome_of_stages()
            if ending is not RunEnd.STOPPED:
                self.why = envelope.message if envelope else ""
                self.publishing, self._doing = True, "is being published"
                about = self._webui.about()
                insist = self._disk.insist
                finish_result(self._run, spool, self._results, self._outputs, self.control, insist)
                insist(lambda: publish(self._run, spool, ending, envelope, about))
        except RunGoneError:
            ending = RunEnd.GONE
        except (RunStoppedError, RunCancelledError):  # given up while the disk refused to publish
            ending = RunEnd.STOPPED
        self._run.close()
        return ending

    def _outcome_of_stages(self) -> tuple[RunEnd, ErrorEnvelope | None]:
        """Run the stages, and return how they ended."""
        try:
            self.run_stages()
        except RunStoppedError:
            return RunEnd.STOPPED, None
        except RunTimedOutError:
            limit = self._run.job.conduct.timeout if self._run.job else None
            return RunEnd.FAILED, cut_short(timed_out_envelope(limit or 0.0), self._failed_points)
        except RunCancelledError:
            return RunEnd.CANCELLED, cut_short(cancelled_envelope(), self._failed_points)
        except CallFailedError as error:
            return RunEnd.FAILED, error.envelope
        except FileProblems as error:
            return RunEnd.FAILED, job_envelope(error)
        except JournalError as error:
            return RunEnd.FAILED, broken_envelope(str(error))
        return RunEnd.DONE, None

    def run_stages(self) -> list[Image]:
        """Make all calls that are not finished, in order, and return the images of the last stage.
        Raises CallFailedError, JobError, RunCancelledError, RunStoppedError."""
        if self._run.broken is not None:
            raise self._run.broken
        while True:
            job, seen = self._reading.settled_job()
            try:
                return self._all_images(job, seen)
            except JobChangedError:
                log.warning(
                    "%s: the job is still being written to",
                    self._run.run_id,
                    extra=about(LogEvent.JOB_STILL_WRITTEN),
                )

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
        """Raise JobChangedError where the job's fingerprint is no longer `seen`. A job that was
        removed after it was read counts as unchanged."""
        run = self._run
        if self._disk.insist(lambda: run.looks_like() if run.has_job else seen) != seen:
            raise JobChangedError(run.run_id)

    def _refuse_changed_soon(self, seen: str) -> None:
        """Do the same, unless it was done a moment ago: a folder of ten thousand images takes time,
        and has as many points."""
        began = self._clock.monotonic()
        if began >= self._look_again_at:
            self._refuse_changed(seen)
            took = self._clock.monotonic() - began
            self._look_again_at = began + _LOOKING_SHARE * took

    def _make_stages(self, job: Job, seen: str) -> list[Image]:
        self._run.forget_another_job()
        self._run.plan()
        self._results = Results(job.keep)
        if not job.points.are_several:
            return self._make_point(job.stages_of(1, self._run.random_seed), seen)
        images: list[Image] = []
        failed = self._failed_points = []
        first: ErrorEnvelope | None = None
        for index, point in enumerate(job.points, 1):
            try:
                stages = job.stages_of(point, self._run.random_seed)
                images = self._make_point(stages, seen, point, (index, len(job.points)))
            except (CallFailedError, JobError) as error:
                envelope = job_envelope(error) if isinstance(error, JobError) else error.envelope
                first = first or envelope
                failed.append(failed_point(point, job.about_point(point), envelope))
                if job.on_failure is OnFailure.STOP:
                    break
        if first is not None:
            raise CallFailedError(points_envelope(first, failed, len(job.points)))
        return images

    def _make_point(
        self, stages: Sequence[Stage], seen: str, point: int = 0, nth: tuple[int, int] = (0, 0)
    ) -> list[Image]:
        """Make the calls of one point that are not finished, and return its last images. `nth`:
        which point it is of how many to make, where there are several."""
        made: dict[int, list[Image]] = {0: []}
        for number, stage in enumerate(stages, 1):
            giver = taken_from(number, stage)
            seeds = self._run.seeds_of(point, number, stage)
            calls = calls_of(number, stage, seeds, names_of(made[giver]), point)
            if not calls:
                raise CallFailedError(no_image_envelope(self._run.source, number, stage, giver))
            self._refuse_changed_soon(seen)
            place = Place(number, len(stages), stage.kind, 1, len(calls), *nth)
            made[number] = []
            for call in calls:
                images = self._images_of(stage, call, place)
                self._results.add(stages, call, images, other_files_of(call, self._run))
                made[number] += images
        self._results.finish_point(stages, list(made.items()))
        return made[len(stages)]

    def rebuild(self, call_id: str = "") -> tuple[Call, dict[str, Any]]:
        """Return a call and its payload as it was sent; see rebuilding.py."""
        from sdwatch.stages.rebuilding import rebuild  # `sdwatch replay` alone needs it

        return rebuild(self._run, self._payloads, self._rules, call_id)

    def _images_of(self, stage: Stage, call: Call, place: Place) -> Sequence[Image]:
        """Return a call's images, made in another way where its job permits that after out of
        memory."""
        try:
            return self._made_or_kept(stage, call, place)
        except CallFailedError as error:
            if not may_climb(self._run, error):
                raise
            payload = self._payloads.payload(stage, call)
            rungs = rungs_of(
                self._run, call, payload, lambda: self._webui.catalogue, self._disk.insist
            )
            return climb(call, rungs, error, lambda part: self._made_or_kept(stage, part, place))

    def _made_or_kept(self, stage: Stage, call: Call, place: Place) -> Sequence[Image]:
        """Return the images of exactly this call. Recorded ones are kept: a finished call is never
        repeated."""
        if (recorded := self._run.ledger.call(call.id).images) is not None:
            if lost := self._run.lacks_of(call.id):
                raise CallFailedError(lost_image_envelope(call.kind, call.id, lost))
            return recorded
        self.place = replace(place, call=call.number)
        self._doing = str(self.place)
        made = self._make(call, self._payloads.payload(stage, call))
        assert made.reply is not None
        assert self._run.job is not None
        reply = made.reply
        facts = {"seconds": self._recorder.seconds, **what_made_it(reply.info)}
        if reply.taken_from:
            facts["prompt_id"] = reply.taken_from
        if call.point:
            facts["values"] = self._run.job.values_for_others(call.point)
        if made.added:
            facts["added"] = dict(made.added)
        changed, warned = changed_facts(call)
        facts |= changed
        if made.warnings or warned:
            facts["warnings"] = [*self._recorder.warnings(made.warnings), *warned]
        saved: tuple[Image, ...] = self._disk.insist(
            lambda: self._run.finish_call(
                call, reply.images, reply.first_image, reply.files, **facts
            )
        )
        event = about(LogEvent.CALL_FINISHED, images=len(saved))
        log.info("%s: %s: finished", self._run.run_id, call.id, extra=event)
        return saved

    def _make(self, call: Call, payload: Mapping[str, Any]) -> Outcome:
        """Make the call until it succeeds or fails for good."""
        doing = self._doing
        self._recorder.select_call(call.id, payload)
        ledger = self._run.ledger.call(call.id)
        if ledger.was_cut_off_too_often and not self._recorder.unseen_prompts():
            raise CallFailedError(died_here_envelope(call.id))
        if (envelope := self._recorder.failed_before(call.kind)) is not None:
            raise call_failed(envelope, call.id, ledger)
        while True:
            self.control.raise_if_given_up()
            self._conduct.before_call()
            with self._conduct.call():
                outcome = self._webui.generate_images_with_recovery(
                    call.kind, payload, self._run.folder, self._run.job_id
                )
            self._doing = doing
            if outcome.reply is not None:
                return outcome
            assert outcome.envelope is not None
            if not outcome.later:
                raise call_failed(outcome.envelope, call.id, ledger)
            self._doing = f"its last attempt failed: {outcome.envelope.message}"

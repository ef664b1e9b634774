"""What a run makes of its result before it is published: what was only needed on the way goes, and
a contact sheet and the outputs are made."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from sdwatch.errors import RunCancelledError
from sdwatch.policy.failure.ledger import Image
from sdwatch.policy.job.job import Job
from sdwatch.spool.folders import Spool
from sdwatch.spool.outputs_to_make import OutputSettings, OutputsRefusedError
from sdwatch.spool.run import Run
from sdwatch.stages.results import Results
from sdwatch.system.log_events import LogEvent, about
from sdwatch.webui.http.run_control import RunControl

log = logging.getLogger("sdwatch.run")


class Finishing:
    """Finishes the result of one run. `settings`: None makes no outputs; `control`: a stop ends it,
    and the run resumes here."""

    def __init__(
        self, run: Run, spool: Spool, settings: OutputSettings | None, control: RunControl
    ) -> None:
        self._run = run
        self._spool = spool
        self._settings = settings
        self._control = control

    def finish(self, results: Results, retry: Callable[[Callable[[], Any]], Any]) -> None:
        """Do it, as far as it is not done. `retry`: calls what writes to the run's folder, and
        again while its disk refuses. Raises RunStoppedError, RunGoneError."""
        job = self._run.job
        if job is None or not results.pictures:
            return
        for start in range(0, len(results.not_kept), _AT_ONCE):
            some = results.not_kept[start : start + _AT_ONCE]
            retry(partial(self._run.drop, some))
        self._make_sheets(job, results)
        if self._settings is not None:
            settings = self._settings
            retry(lambda: self._make_outputs(job, results, settings))

    def _make_sheets(self, job: Job, results: Results) -> None:
        if not job.points.have_matrix:
            return  # without a list of its pictures: there may be ten thousand
        from sdwatch.policy.job.points.contact_sheet import pages_of
        from sdwatch.spool.contact_sheets import make_sheets

        images = [each for each in results.pictures if isinstance(each.image, Image)]
        last = max((picture.stage for picture in images), default=0)
        pictures: dict[int, list[str]] = {}
        for picture in images:
            if picture.stage == last:
                pictures.setdefault(picture.point, []).append(picture.image.name)
        make_sheets(self._run, pages_of(job.points, pictures), self._check)

    def _make_outputs(self, job: Job, results: Results, settings: OutputSettings) -> None:
        wish = job.outputs.or_else(settings.default.name or "", settings.default.format)
        if not wish.name:
            return
        from sdwatch.spool.outputs import Outputs, note_refusal, wanted_outputs

        wanted = wanted_outputs(self._run, wish.name, results.pictures)
        try:
            outputs = Outputs(settings.folder, self._spool.root)
            outputs.make(self._run, wanted, wish.format, self._check)
        except OutputsRefusedError as error:
            log.warning(
                "%s: its outputs are not all there, and are made later: %s",
                self._run.run_id,
                error,
                extra=about(LogEvent.DISK_REFUSES),
            )
            note_refusal(self._run, self._spool, str(error), wanted, wish.format)

    def _check(self) -> None:
        """Raise RunStoppedError if the monitor stops; a run that is cancelled is finished."""
        try:
            self._control.raise_if_given_up()
        except RunCancelledError:
            return


_AT_ONCE = 500  # images in one record of the journal

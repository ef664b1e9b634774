"""What of a run's pictures is its result, collected while its stages are walked; and what is made
of it before the run is published."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdwatch.errors import RunCancelledError
from sdwatch.policy.failure.ledger import Image, OtherFile
from sdwatch.policy.job.calls.payload import Call
from sdwatch.policy.job.calls.plan import last_stages, result_of
from sdwatch.policy.job.job import Job, Stage
from sdwatch.policy.job.outputs.result import Format, Keep
from sdwatch.policy.job.stage.stage_kinds import STAGES
from sdwatch.spool.folders import Spool
from sdwatch.spool.outputs_to_make import (
    OutputSettings,
    OutputsRefusedError,
    ResultPicture,
)
from sdwatch.spool.run import Run
from sdwatch.system.log_events import LogEvent, about
from sdwatch.webui.http.run_control import RunControl

if TYPE_CHECKING:
    from sdwatch.spool.outputs import WantedOutput

log = logging.getLogger("sdwatch.run")


class Results:
    """The pictures of a run's result, and those that it only needs on the way."""

    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self._seeds: dict[str, int] = {}  # of the images of one point
        self.pictures: list[ResultPicture] = []
        self.not_kept: list[str] = []

    def add(
        self,
        stages: Sequence[Stage],
        call: Call,
        images: Sequence[Image],
        files: Sequence[OtherFile] = (),
    ) -> None:
        """Note the images and the other files of a finished call."""
        pictures = [image for image in images if not image.grid]
        for index, image in enumerate(pictures):
            seed = _seed_of(call, index)
            if seed is None and call.images:
                seed = self._seeds.get(call.images[0])
            if seed is not None:
                self._seeds[image.name] = seed
            if call.stage in result_of(stages, self._keep):
                stage = stages[call.stage - 1]
                name = stage.links.id or STAGES[stage.kind].short_name
                self.pictures.append(ResultPicture(image, call.point, call.stage, name, seed))
        if files and call.stage in result_of(stages, self._keep):
            stage = stages[call.stage - 1]
            name, seed = stage.links.id or STAGES[stage.kind].short_name, _seed_of(call, 0)
            self.pictures += [
                ResultPicture(file, call.point, call.stage, name, seed) for file in files
            ]

    def finish_point(
        self, stages: Sequence[Stage], made: Sequence[tuple[int, Sequence[Image]]]
    ) -> None:
        """Note which images are no longer needed, now that all stages of a point are finished.
        `made`: the images of each stage, by its number."""
        self._seeds.clear()
        if self._keep is Keep.ALL:
            return
        last = last_stages(stages)
        self.not_kept += [i.name for number, images in made if number not in last for i in images]


def _seed_of(call: Call, index: int) -> int | None:
    """Return the seed of the picture with this index (from 0) in a call's reply."""
    seed = call.fields.get("seed")
    if not isinstance(seed, int) or isinstance(seed, bool):
        return None
    varies = (call.fields.get("subseed_strength") or 0) > 0 or STAGES[call.kind].runs_workflow
    return seed if varies else seed + index


def finish_result(
    run: Run,
    spool: Spool,
    results: Results,
    settings: OutputSettings | None,
    control: RunControl,
    retry: Callable[[Callable[[], Any]], Any],
) -> None:
    """Finish the result of a run before it is published, as far as that is not done: what was only
    needed on the way goes, and a contact sheet and the outputs are made. `settings`: None makes no
    outputs; `control`: a stop ends it, and the run resumes here; `retry`: calls what writes to the
    run's folder, and again while its disk refuses. Raises RunStoppedError, RunGoneError."""
    job = run.job
    if job is None or not results.pictures:
        return

    def check() -> None:
        with suppress(RunCancelledError):  # a run that is cancelled is finished
            control.raise_if_given_up()

    for start in range(0, len(results.not_kept), _AT_ONCE):
        retry(partial(run.drop, results.not_kept[start : start + _AT_ONCE]))
    _make_sheets(run, job, results, check)
    if settings is None:
        return
    wish = job.outputs.or_else(settings.default.name or "", settings.default.format)
    if wish.name:
        from sdwatch.spool.outputs import wanted_outputs

        wanted = wanted_outputs(run, wish.name, results.pictures)
        retry(lambda: _make_outputs(run, spool, settings.folder, wanted, wish.format, check))


def _make_sheets(run: Run, job: Job, results: Results, check: Callable[[], None]) -> None:
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
    make_sheets(run, pages_of(job.points, pictures), check)


def _make_outputs(
    run: Run,
    spool: Spool,
    folder: Path,
    wanted: Sequence[WantedOutput],
    format: Format | None,
    check: Callable[[], None],
) -> None:
    from sdwatch.spool.outputs import Outputs, note_refusal

    try:
        Outputs(folder, spool.root).make(run, wanted, format, check)
    except OutputsRefusedError as error:
        log.warning(
            "%s: its outputs are not all there, and are made later: %s",
            run.run_id,
            error,
            extra=about(LogEvent.DISK_REFUSES),
        )
        note_refusal(run, spool, str(error), wanted, format)


_AT_ONCE = 500  # images in one record of the journal

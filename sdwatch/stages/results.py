"""What of a run's pictures is its result, collected while its stages are walked."""

from __future__ import annotations

from collections.abc import Sequence

from sdwatch.policy.failure.ledger import Image, OtherFile
from sdwatch.policy.job.calls.payload import Call
from sdwatch.policy.job.calls.plan import last_stages, result_of
from sdwatch.policy.job.job import Stage
from sdwatch.policy.job.outputs.result import Keep
from sdwatch.policy.job.stage.stage_kinds import STAGES
from sdwatch.spool.outputs_to_make import ResultPicture


class Results:
    """The pictures of a run's result, and those that it only needs on the way."""

    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self._seeds: dict[str, int] = {}  # of the images of one point
        self.pictures: list[ResultPicture] = []
        self.not_kept: list[str] = []

    def start_point(self) -> None:
        """Forget what was noted of the point before."""
        self._seeds.clear()

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

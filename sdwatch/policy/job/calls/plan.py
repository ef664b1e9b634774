"""What a job will do, as far as that is known before it starts: its calls in order. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sdwatch.policy.job.calls.payload import (
    own_images,
    taken_from,
    takes_all_at_once,
    works_on_images,
)
from sdwatch.policy.job.job import Job, Stage
from sdwatch.policy.job.outputs.result import Keep
from sdwatch.policy.job.stage.stage_kinds import STAGES


@dataclass(frozen=True)
class PlannedStage:
    """A stage of one point. `taken_from`: the number of the stage whose images it takes, 0 for
    none; `own`: how many images of the job folder it takes; `calls` and `pictures`: how many it
    makes, if each call returns what it asks for; not `is_sure`: its workflow has nodes that may
    make any number of pictures, and counts as one."""

    number: int
    stage: Stage
    taken_from: int
    own: int
    calls: int
    pictures: int
    is_sure: bool = True


def plan_of(stages: Sequence[Stage]) -> list[PlannedStage]:
    """Return the stages of a point with their calls, in order."""
    planned: list[PlannedStage] = []
    for number, stage in enumerate(stages, 1):
        giver, own = taken_from(number, stage), len(own_images(stage))
        images = planned[giver - 1].pictures if giver else own
        n_iter = int(stage.fields.get(STAGES[stage.kind].rounds_field, 1))
        known: int | None = int(stage.fields.get("batch_size", 1))
        if stage.workflow is not None:
            known = stage.workflow.pictures
        batch = 1 if known is None else known
        times = images
        if not works_on_images(stage):
            times = 1
        elif takes_all_at_once(stage):
            times, batch = min(images, 1), images if images > 1 else batch
        calls = min(n_iter * times, _MOST)
        made = min(calls * batch, _MOST)
        is_sure = known is not None and (not giver or planned[giver - 1].is_sure)
        planned.append(PlannedStage(number, stage, giver, own, calls, made, is_sure))
    return planned


_MOST = 10**12
"""Nobody waits for more calls, and a hundred stages would multiply beyond every number."""


def last_stages(stages: Sequence[Stage]) -> set[int]:
    """Return the numbers of the stages that no other stage takes images from."""
    taken = {taken_from(number, stage) for number, stage in enumerate(stages, 1)}
    return set(range(1, len(stages) + 1)) - taken


def result_of(stages: Sequence[Stage], keep: Keep) -> set[int]:
    """Return the numbers of the stages whose images are part of the result."""
    return set(range(1, len(stages) + 1)) if keep is Keep.ALL else last_stages(stages)


_COUNTS = (
    *("n_iter", "batch_size", "init_images", "input", "fan_out"),
    *("file", "images", "outputs"),
)
"""Fields on which depends how many pictures a point makes."""


def pictures_of(job: Job) -> int | None:
    """Return how many pictures a job makes, of the stages that no other one takes from; None where
    its points differ in that, or nobody knows."""
    if any(name in _COUNTS for axis in job.points.axes for name in axis.names):
        return None
    last = last_stages(job.stages)
    planned = [each for each in plan_of(job.stages) if each.number in last]
    if not all(each.is_sure for each in planned):
        return None
    return sum(each.pictures for each in planned) * len(job.points)

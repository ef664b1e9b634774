"""What `sdwatch check` says about the calls of a job with several stages: them, in their order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sdwatch.policy.job.calls.payload import takes_all_at_once
from sdwatch.policy.job.calls.plan import PlannedStage, last_stages, plan_of
from sdwatch.policy.job.job import Job
from sdwatch.policy.job.outputs.result import Keep
from sdwatch.policy.job.stage.stage_kinds import STAGES


def calls_in_order(job: Job, path: Path) -> Iterator[str]:
    """Yield lines with the calls of each stage; none for a job of one plain stage."""
    planned = plan_of(job.stages)
    if len(planned) < 2 and not (planned and planned[0].stage.links.inputs):
        return
    points = ", of each point" if len(job.points) > 1 else ""
    yield f"{path}: calls in order{points}:"
    for each in planned:
        yield f"  {each.number}. {_name(each)}{_takes(each, planned)}: {_counted(each.calls)}"
    if job.keep is Keep.LAST:
        last = ", ".join(map(str, sorted(last_stages(job.stages))))
        yield f"  kept: the pictures of stages {last}"


def _name(planned: PlannedStage) -> str:
    stage = planned.stage
    kind = STAGES[stage.kind].short_name
    return f"{stage.links.id} ({kind})" if stage.links.id else kind


def _takes(planned: PlannedStage, others: list[PlannedStage]) -> str:
    """Return which images a stage takes, and whether one at a time."""
    if not planned.taken_from and not planned.own:
        return ""
    whose = "the job folder"
    if planned.taken_from:
        other = others[planned.taken_from - 1]
        whose = other.stage.links.id or f"stage {other.number}"
    elif planned.own == 1:
        return ", of an image of the job folder"
    together = takes_all_at_once(planned.stage)
    return f", of {'all images' if together else 'each image'} of {whose}"


def _counted(calls: int) -> str:
    return "1 call" if calls == 1 else f"{calls:,} calls"

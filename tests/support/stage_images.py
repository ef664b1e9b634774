"""The images that a stage of a job names."""

from __future__ import annotations

from sdwatch.policy.job.job import Stage
from sdwatch.policy.job.stage.stage_kinds import IMAGE_FIELDS


def images_named(stage: Stage) -> list[str]:
    """The images of the job folder that a stage names: one, several, or by their places."""
    names: list[str] = []
    for one in (stage.fields[key] for key in IMAGE_FIELDS if key in stage.fields):
        several = list(one.values()) if isinstance(one, dict) else one
        names += [several] if isinstance(several, str) else several
    return [*names, *stage.links.inputs, *stage.script_images]

"""The lists of names of one ComfyUI, in the shape in which other WebUIs answer them; and what of a
stage the built-in workflows cannot do on it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import Any

from sdwatch.policy.job.stage.stage_kinds import STAGES
from sdwatch.policy.translation.built_in import FIELDS, PIXEL_METHODS, drawing, refusals
from sdwatch.policy.translation.samplers import sampler_names, scheduler_names
from sdwatch.policy.translation.templates import Templates, asked_for, last_of, unfit
from sdwatch.policy.workflow.node_classes import NodeClasses, checkpoint_meant, checkpoints, choices
from sdwatch.policy.workflow.preflight import misfits

NO_TEMPLATES = Templates()


def upscalers(classes: NodeClasses) -> tuple[str, ...]:
    """Return what enlarges a picture: methods without a model, and its upscale models."""
    return (*PIXEL_METHODS, *choices(classes, "UpscaleModelLoader", "model_name"))


def lists_of(
    classes: NodeClasses, embeddings: Sequence[str], templates: Templates = NO_TEMPLATES
) -> dict[str, Any]:
    """Return the lists by the names of the routes that other WebUIs have for them. A template is
    one more checkpoint or upscaler."""
    models = [
        {"title": name, "model_name": PureWindowsPath(name).stem, "filename": name}
        for name in checkpoints(classes)
    ]
    models += [
        {"title": name, "model_name": name, "filename": name}
        for name in templates.names(upscale=False)
    ]
    samplers = sampler_names(choices(classes, "KSampler", "sampler_name"))
    schedulers = scheduler_names(choices(classes, "KSampler", "scheduler"))
    enlargers = [*upscalers(classes), *templates.names(upscale=True)]
    return {
        "sd-models": models,
        "samplers": [{"name": name} for name in samplers],
        "schedulers": [{"name": name} for name in schedulers],
        "upscalers": [{"name": name} for name in enlargers],
        "embeddings": {"loaded": {name: {} for name in embeddings}, "skipped": {}},
    }


@dataclass(frozen=True)
class WorkflowRules:
    """What the built-in workflows and the templates cannot do on a ComfyUI with these node classes.
    Call it with a stage and its fields: each field that is refused, with why."""

    classes: NodeClasses
    templates: Templates = NO_TEMPLATES

    def __call__(self, stage: str, fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        name, models = asked_for(stage, fields), checkpoints(self.classes)
        has_model = name in upscalers(self.classes)
        if STAGES[stage].has_steps:
            has_model = bool(checkpoint_meant(name, models))
        if why := self.templates.why_not(stage, fields, has_model=has_model):
            yield "", why
        elif (template := self.templates.named(stage, fields)) is not None:
            yield from template.refusals(fields)
            yield from unfit(template, self.classes, fields)
        else:
            yield from refusals(stage, fields)
            yield from self._without_checkpoint(stage, fields)
            if STAGES[stage].has_steps:
                yield from self._outside_ranges(stage, fields)

    def _outside_ranges(self, stage: str, fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        images = ["image"] if STAGES[stage].needs_image else []
        drawn = last_of({**fields, **({"init_images": images} if images else {})})
        for misfit in misfits(drawing(drawn, "", "sdwatch", images), self.classes):
            if misfit.why and (field := FIELDS.get(misfit.input, "")) in fields:
                yield field, f"{field} {misfit.why}"

    def _without_checkpoint(
        self, stage: str, fields: Mapping[str, Any]
    ) -> Iterator[tuple[str, str]]:
        listed = checkpoints(self.classes)
        if not STAGES[stage].has_steps or asked_for(stage, fields) or len(listed) == 1:
            return
        why = "it has no checkpoint in models/checkpoints"
        if listed:
            why = (
                f"it has {len(listed)} checkpoints and loads none by itself: "
                "name one (override_settings: {sd_model_checkpoint: NAME})"
            )
        yield "", why

"""Templates: workflows that people add, so that jobs can use a model which the built-in workflows
do not load (Flux, Qwen-Image …). Pure.

A template is a file NAME.STAGE.json, such as `flux-dev.txt2img.json`: a workflow in the API's
format with placeholders in its values. A job uses it by naming NAME as its checkpoint, or as the
upscaler of an `upscale`. A placeholder is `{field}`, or `{field:default}` for a field that the job
may leave out. What a job asks for and the template has no placeholder for is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sdwatch.policy.job.stage.stage_kinds import STAGE_NAMES, STAGES
from sdwatch.policy.naming import did_you_mean
from sdwatch.policy.translation.built_in import (
    DEFAULT_CFG,
    DEFAULT_SIDE,
    DEFAULT_STEPS,
    DEFAULT_STRENGTH,
    matters,
    refused_settings,
)
from sdwatch.policy.translation.samplers import sampler_and_scheduler
from sdwatch.policy.workflow.places import InputPlace
from sdwatch.policy.workflow.workflow import (
    Workflow,
    WorkflowError,
    line_and_column,
    read_workflow,
)

PREFIX = "filename_prefix"
_IMAGE = "image"
_USE = re.compile(r"\{([a-z_][a-z0-9_]*)(?::([^{}]*))?\}")

_WHOLE = ("seed", "steps", "width", "height", "batch_size")
_NUMBERS = (*_WHOLE, "cfg_scale", "denoising_strength", "upscaling_resize")
_DEFAULTS: Mapping[str, Any] = {
    "negative_prompt": "",
    "steps": DEFAULT_STEPS,
    "cfg_scale": DEFAULT_CFG,
    "width": DEFAULT_SIDE,
    "height": DEFAULT_SIDE,
    "batch_size": 1,
    "sampler_name": "euler",
    "scheduler": "normal",
    "denoising_strength": DEFAULT_STRENGTH,
    "upscaling_resize": 2.0,
}
_OF_STEPS = ("prompt", "seed", *(name for name in _DEFAULTS if name != "upscaling_resize"))
_OF_UPSCALE = (_IMAGE, "upscaling_resize")
_ALWAYS = ("seed", "override_settings", "init_images", "image", "n_iter")
"""Fields of a call that are not a wish of the job for which a template would need a place."""


@dataclass(frozen=True)
class WorkflowTemplate:
    """A template. `name`: as jobs name it; `stage`: which it is for; `fields`: its placeholders,
    each with its default, None for that of the built-in workflows; `workflow`: with them in it."""

    name: str
    stage: str
    workflow: Workflow
    fields: Mapping[str, Any]

    @property
    def file(self) -> str:
        """Return what its file is called."""
        return f"{self.name}.{STAGES[self.stage].short_name}.json"

    def fields_at(self, place: InputPlace) -> list[str]:
        """Return the placeholders in an input."""
        value = self.workflow.nodes[place.node].inputs.get(place.input)
        return [use[1] for use in _USE.finditer(value)] if isinstance(value, str) else []

    def refusals(self, fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield the fields of a stage that it has no place for, with why."""
        for name, value in fields.items():
            known = name in self.fields or name in _ALWAYS or name == "upscaler_1"
            if not known and matters(value) and not (name == "batch_size" and value == 1):
                yield name, f"the template {self.name} has no {{{name}}} in it"
        yield from refused_settings(fields)

    def filled(
        self, fields: Mapping[str, Any], folder: str, images: Sequence[str] = ()
    ) -> Workflow:
        """Return the workflow of one call. `folder`: of this call's own, into which each node that
        saves does so; `images`: names that LoadImage takes. Raises WorkflowError for several
        images, since there is one place for them."""
        if len(images) > 1:
            raise WorkflowError(f"the template {self.name} takes one image, not {len(images)}")
        values = {name: self._value(name, fields) for name in self.fields}
        if _IMAGE in values:
            values[_IMAGE] = images[0] if images else ""
        nodes = {}
        for number, node in enumerate(self.workflow.nodes.values(), 1):
            inputs = {name: _put(value, values) for name, value in node.inputs.items()}
            if PREFIX in inputs:
                inputs[PREFIX] = f"{folder}/save-{number}"
            nodes[node.id] = replace(node, inputs=inputs)
        return Workflow(nodes)

    def _value(self, name: str, fields: Mapping[str, Any]) -> Any:
        if name in ("sampler_name", "scheduler"):
            names = ("sampler_name", "scheduler")
            asked = [str(fields.get(each) or self.fields.get(each) or "") for each in names]
            return sampler_and_scheduler(*asked)[name == "scheduler"]
        value = fields.get(name)
        if value is None and (value := self.fields[name]) is None:
            value = _DEFAULTS.get(name, "")
        if name in _WHOLE:
            return int(value or 0)
        return float(value) if name in _NUMBERS else str(value)


def _put(value: Any, values: Mapping[str, Any]) -> Any:
    """Return a value with its placeholders filled in; one that is nothing else keeps its type."""
    if not isinstance(value, str):
        return value
    if (whole := _USE.fullmatch(value)) is not None and whole[1] in values:
        return values[whole[1]]
    return _USE.sub(lambda found: str(values.get(found[1], found[0])), value)


def read_template(file: str, data: bytes) -> WorkflowTemplate:
    """Return the template in a file of that name, without its folder. Raises WorkflowError."""
    name, stage = _name_and_stage(file)
    workflow = read_workflow(data)
    text = data.decode("utf-8-sig")
    fields: dict[str, Any] = {}
    known = _OF_STEPS if STAGES[stage].has_steps else _OF_UPSCALE
    allowed = (*known, _IMAGE) if STAGES[stage].needs_image else known
    for node in workflow.nodes.values():
        for value in node.values().values():
            for use in _USE.finditer(value) if isinstance(value, str) else ():
                fields |= _checked(use, allowed, text, fields)
    needed = _IMAGE if STAGES[stage].needs_image else "prompt"
    if needed not in fields:
        raise WorkflowError(f'no value of its nodes is "{{{needed}}}", which it needs')
    if STAGES[stage].has_steps and "seed" not in fields:
        raise WorkflowError('no value of its nodes is "{seed}": all its pictures were alike')
    if not any(PREFIX in node.inputs for node in workflow.nodes.values()):
        raise WorkflowError(f"no node of it saves anything: none has a {PREFIX}")
    return WorkflowTemplate(name, stage, workflow, fields)


def _name_and_stage(file: str) -> tuple[str, str]:
    name, _, stage = file.removesuffix(".json").rpartition(".")
    if not name or stage not in STAGE_NAMES or STAGE_NAMES[stage].runs_workflow:
        kinds = (kind for kind in STAGES.values() if not kind.runs_workflow)
        stages = ", ".join(f"NAME.{kind.short_name}.json" for kind in kinds)
        raise WorkflowError(f"a template's file is called {stages}")
    return name, STAGE_NAMES[stage].name


def _checked(
    use: re.Match[str], allowed: Sequence[str], text: str, found: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a placeholder with its default. Raises WorkflowError."""
    name, default = use[1], use[2]
    where = line_and_column(text, text.find(use[0]))
    if name not in allowed:
        known = ", ".join(allowed)
        words = f"{{{name}}} is not a placeholder{did_you_mean(name, allowed)} (there are: {known})"
        raise WorkflowError(words, where)
    if default is None:
        return {} if name in found else {name: None}
    if name in (*_ALWAYS, "prompt"):
        raise WorkflowError(f"{{{name}}} has no default: each call has its own", where)
    value: Any = default
    if name in _NUMBERS:
        try:
            value = int(default) if name in _WHOLE else float(default)
        except ValueError:
            kind = "a whole number" if name in _WHOLE else "a number"
            raise WorkflowError(f"the default of {{{name}}} must be {kind}", where) from None
    if found.get(name) not in (None, value):
        raise WorkflowError(f"{{{name}}} has two defaults: {found[name]} and {value}", where)
    return {name: value}

"""All templates of one ComfyUI, and which of them a call uses. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sdwatch.errors import Problem
from sdwatch.policy.job.calls.payload import MAX_SEED
from sdwatch.policy.job.stage.stage_kinds import STAGES
from sdwatch.policy.translation.built_in import CHECKPOINT
from sdwatch.policy.translation.template_file import WorkflowTemplate
from sdwatch.policy.workflow.node_classes import NodeClasses
from sdwatch.policy.workflow.places import InputPlace
from sdwatch.policy.workflow.preflight import misfits, plain


@dataclass(frozen=True)
class Templates:
    """The templates of one ComfyUI; `wrong`: the files that are none, by the name that jobs would
    use."""

    known: tuple[WorkflowTemplate, ...] = ()
    wrong: Mapping[str, Problem] = field(default_factory=dict)

    def names(self, *, upscale: bool) -> list[str]:
        """Return the names that jobs may use as a checkpoint, or as an upscaler."""
        names = (t.name for t in self.known if STAGES[t.stage].has_steps is not upscale)
        return sorted(dict.fromkeys(names))

    def named(self, stage: str, fields: Mapping[str, Any]) -> WorkflowTemplate | None:
        """Return the template that a call uses; None for a built-in workflow. Case is passed
        over."""
        asked = asked_for(stage, fields).lower()
        same = (each for each in self.known if each.stage == stage)
        return next((each for each in same if asked and each.name.lower() == asked), None)

    def why_not(self, stage: str, fields: Mapping[str, Any], *, has_model: bool = False) -> str:
        """Return why a call cannot use the template that it names: its file is wrong, or it is for
        other stages; '' where it can, or names none. `has_model`: ComfyUI has a model of that
        name, which a stage without a template of its own uses."""
        asked = asked_for(stage, fields).lower()
        if not asked or self.named(stage, fields) is not None:
            return ""
        end = f".{STAGES[stage].short_name}.json"
        for name, problem in self.wrong.items():
            if name.lower() == asked and (problem.file.endswith(end) or not has_model):
                return f"its template cannot be used: {problem.located('')}"
        same = [each for each in self.known if each.name.lower() == asked]
        if not same or has_model:
            return ""
        there = ", ".join(each.file for each in same)
        return f"there is no template {same[0].name}{end}, only {there}"


def asked_for(stage: str, fields: Mapping[str, Any]) -> str:
    """Return the name by which a call chooses a template, or ''."""
    if not STAGES[stage].has_steps:
        return str(fields.get("upscaler_1") or "")
    settings = fields.get("override_settings")
    return str(settings.get(CHECKPOINT) or "") if isinstance(settings, Mapping) else ""


def unfit(
    template: WorkflowTemplate, classes: NodeClasses, fields: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """Yield why a ComfyUI with these node classes cannot run a template with these fields: the
    field, '' where it can run it with none, and why."""
    workflow = template.filled(last_of(fields), "sdwatch")
    coming = {
        InputPlace(node.id, name)
        for node in template.workflow.nodes.values()
        for name, value in node.values().items()
        if value == "{image}"
    }
    for misfit in misfits(workflow, classes, coming=coming):
        place = InputPlace(misfit.node, misfit.input)
        names = template.fields_at(place) if misfit.why else []
        if given := [name for name in names if _is_given(fields, name)]:
            if given[0] not in _LISTED:
                yield given[0], f"{given[0]} {misfit.why}"
        elif "seed" in names:
            most = classes[workflow.nodes[place.node].kind].inputs[place.input].maximum
            drawn = "a seed that is drawn may be too large for it: give a seed of at most"
            yield "", f"{template.file}: {drawn} {plain(most or 0)}"
        else:
            yield "", f"{template.file}: {misfit.message}"


def _is_given(fields: Mapping[str, Any], name: str) -> bool:
    value = fields.get(name)
    return value is not None and not (name == "seed" and value < 0)


_LISTED = ("sampler_name", "scheduler")
"""Fields that are looked up in the lists of names."""


def last_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the call of a stage that has the largest seed."""
    batch = int(fields.get("batch_size") or 1)
    first = int(fields["seed"]) if _is_given(fields, "seed") else MAX_SEED
    further = (int(fields.get("n_iter") or 1) - 1) * batch
    return {**fields, "seed": first + further, "n_iter": 1}

"""All templates of one ComfyUI, and which of them a call uses. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sdwatch.errors import Problem
from sdwatch.policy.job.stage.stage_kinds import STAGES
from sdwatch.policy.translation.built_in import CHECKPOINT
from sdwatch.policy.translation.template_file import WorkflowTemplate
from sdwatch.policy.workflow.node_classes import NodeClasses
from sdwatch.policy.workflow.places import InputPlace
from sdwatch.policy.workflow.preflight import misfits


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

    def why_not(self, stage: str, fields: Mapping[str, Any]) -> str:
        """Return why a call cannot use the template that it names: its file is wrong, or it is for
        other stages; '' where it can, or names none."""
        asked = asked_for(stage, fields).lower()
        if not asked or self.named(stage, fields) is not None:
            return ""
        for name, problem in self.wrong.items():
            if name.lower() == asked:
                return f"its template cannot be used: {problem.located('')}"
        same = [each for each in self.known if each.name.lower() == asked]
        if not same:
            return ""
        there = ", ".join(each.file for each in same)
        return f"there is no template {same[0].name}.{STAGES[stage].short_name}.json, only {there}"


def asked_for(stage: str, fields: Mapping[str, Any]) -> str:
    """Return the name by which a call chooses a template, or ''."""
    if not STAGES[stage].has_steps:
        return str(fields.get("upscaler_1") or "")
    settings = fields.get("override_settings")
    return str(settings.get(CHECKPOINT) or "") if isinstance(settings, Mapping) else ""


def unfit(template: WorkflowTemplate, classes: NodeClasses) -> Iterator[str]:
    """Yield why a ComfyUI with these node classes cannot run a template at all."""
    workflow = template.filled({}, "sdwatch")
    coming = {
        InputPlace(node.id, name)
        for node in template.workflow.nodes.values()
        for name, value in node.values().items()
        if value == "{image}"
    }
    for misfit in misfits(workflow, classes, coming=coming):
        yield misfit.message

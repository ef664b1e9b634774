"""Find what in a workflow reaches beyond the job. Pure.

ComfyUI itself lets no file outside its own folders be named. Custom nodes promise nothing of the
kind, so a workflow names no path and no address, whoever gets it. The text of a prompt may be
anything. Inputs that are places by their name are known by their class, see workflow_checks.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from sdwatch.policy.job.stage.confinement import HINT, JobRules, place_in
from sdwatch.policy.job.text.document import Node as YamlNode
from sdwatch.policy.job.text.document import Scalar
from sdwatch.policy.job.workflow_stage import StageWorkflow
from sdwatch.policy.workflow.places import InputPlace, prompt_texts
from sdwatch.policy.workflow.workflow import Node, texts_in
from sdwatch.policy.workflow.workflow_call import PREFIX


def reaching(
    used: StageWorkflow, stage: YamlNode, rules: JobRules
) -> Iterator[tuple[YamlNode, str]]:
    """Yield each path and address in a workflow: where it is written, and why it is refused."""
    prompts = prompt_texts(used.workflow)
    for node in used.workflow.nodes.values():
        for name, value in node.values().items():
            if (
                name == PREFIX  # which each call has of its own
                or InputPlace(node.id, name) in prompts
                or may_be_place(node, name, rules)
            ):
                continue
            if what := next(filter(None, map(place_in, texts_in(value))), ""):
                place = used.where(stage, InputPlace(node.id, name))
                yield Scalar("", *place), f"{name} of node {node.shown} contains {what}{HINT}"


def may_be_place(node: Node, name: str, rules: JobRules) -> bool:
    """Return whether the config permits this input, or all of the class, to be a place."""
    return rules.allows(node.kind) or rules.allows(name)

"""The workflow of a good call once more, for a self-test: small, or as it was. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sdwatch.policy.workflow.node_classes import NodeClasses
from sdwatch.policy.workflow.places import InputPlace, places_for
from sdwatch.policy.workflow.workflow import Workflow, WorkflowError
from sdwatch.policy.workflow.workflow_call import PREFIX, WorkflowCall

_SIDE = 64  # pixels
_STEPS = 1
_ONE = ("batch_size", "length", "amount", "repeat")
"""Inputs that say how many pictures, or frames, of what an empty latent image starts."""


def once_more(call: WorkflowCall, seed: int) -> WorkflowCall:
    """Return a call with another seed: the same again would come from ComfyUI's cache."""
    values: dict[tuple[str, str], Any] = dict.fromkeys(_whole(call.workflow, "seed"), seed)
    return replace(call, workflow=call.workflow.with_values(values))


def smallest(call: WorkflowCall, seed: int) -> WorkflowCall:
    """Return it with the smallest numbers that are likely to work: one step, and one small picture.
    Some workflows cannot do it (a crop, a mask, a second sampler), so its failure proves nothing.
    """
    call = once_more(call, seed)
    workflow, values = call.workflow, dict[tuple[str, str], Any]()
    values |= dict.fromkeys(_whole(workflow, "steps"), _STEPS)
    for side in ("width", "height"):
        for place, now in _whole(workflow, side).items():
            values[place] = min(now, _SIDE)
            node = workflow.nodes[place.node]
            values |= {(node.id, name): 1 for name in _ONE if name in node.values()}
    return replace(call, workflow=workflow.with_values(values))


def _whole(workflow: Workflow, name: str) -> dict[InputPlace, int]:
    found = {}
    for place in places_for(workflow, name):
        value = workflow.nodes[place.node].inputs[place.input]
        if isinstance(value, int) and not isinstance(value, bool):
            found[place] = value
    return found


def without_traces(workflow: Workflow, classes: NodeClasses) -> Workflow:
    """Return a workflow that leaves no picture in output/: it shows what it would save. Other files
    it saves as ever, in the folder of the call, and nodes that choose their own place are left out.
    Raises WorkflowError where nothing remains, or a node costs money."""
    nodes, used = {}, {link.node for node in workflow.nodes.values() for _, link in node.links()}
    ends = 0
    for node in workflow.nodes.values():
        kind = classes.get(node.kind)
        if kind is not None and kind.is_paid:
            raise WorkflowError(f"node {node.shown} costs money, so no self-test repeats it")
        saves = kind is not None and kind.saves
        if node.kind == "SaveImage":
            node = replace(node, kind="PreviewImage", inputs={"images": node.inputs.get("images")})
        elif saves and PREFIX not in node.inputs and node.id not in used:
            continue
        ends += saves
        nodes[node.id] = node
    if not ends:
        raise WorkflowError("nothing of it can be repeated without a trace")
    return Workflow(nodes)

"""One call of a workflow of the job's own, the payload that carries it, and the same once more, for
a self-test. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sdwatch.policy.workflow import WORKFLOW
from sdwatch.policy.workflow.node_classes import NodeClasses
from sdwatch.policy.workflow.places import InputPlace, places_for
from sdwatch.policy.workflow.prompt_result import PromptResult
from sdwatch.policy.workflow.workflow import Workflow, WorkflowError, workflow_of

PREFIX = "filename_prefix"
"""The input of a node that saves files which says where."""


@dataclass(frozen=True)
class WorkflowCall:
    """A workflow with the values of one call. `images`: the inputs that get its images, in their
    order; `outputs`: the ids of the nodes whose files are taken, () for all."""

    workflow: Workflow
    images: tuple[InputPlace, ...] = ()
    outputs: tuple[str, ...] = ()

    def as_payload(self) -> dict[str, Any]:
        """Return it as a part of a payload."""
        return {
            WORKFLOW: {
                "nodes": self.workflow.as_prompt(),
                "images": [list(place) for place in self.images],
                "outputs": list(self.outputs),
                "places": dict(self.workflow.places),
            }
        }

    @property
    def taken(self) -> tuple[str, ...]:
        """Return the ids of the nodes that can be told where to save and whose files are taken, in
        the order of the workflow."""
        return tuple(id for id in savers_in(self.workflow) if self.takes(id))

    def takes(self, id: str) -> bool:
        """Return whether the files of a node are taken, if it saves any."""
        return not self.outputs or id in self.outputs

    def ready(self, folder: str, names: Sequence[str]) -> Workflow:
        """Return what is sent: each node saves into `folder`, under a name of its own, so that no
        file of another call is taken for one of this. `names`: of the images, as ComfyUI has
        them."""
        prefixes = {
            (id, PREFIX): f"{folder}/save-{number}"
            for number, id in enumerate(savers_in(self.workflow), 1)
        }
        images: dict[tuple[str, str], str] = dict(zip(self.images, names, strict=True))
        return self.workflow.with_values({**prefixes, **images})


def call_in(payload: Mapping[str, Any]) -> WorkflowCall | None:
    """Return the call that a payload carries, None for one of a built-in workflow. Raises
    WorkflowError."""
    carried = payload.get(WORKFLOW)
    if not isinstance(carried, Mapping):
        return None
    return WorkflowCall(
        replace(workflow_of(carried["nodes"]), places=carried.get("places", {})),
        tuple(InputPlace(*place) for place in carried["images"]),
        tuple(carried["outputs"]),
    )


def taken(payload: Mapping[str, Any], result: PromptResult) -> PromptResult:
    """Return the result of a call with only the files that it takes: all of them, but of a workflow
    of the job's own those of some nodes, and no previews."""
    call = call_in(payload)
    if call is None:
        return result
    files = {
        id: tuple(file for file in listed if file.type == _KEPT)
        for id, listed in result.files.items()
        if call.takes(id)
    }
    texts = {id: shown for id, shown in result.texts.items() if call.takes(id)}
    return replace(
        result, files={id: listed for id, listed in files.items() if listed}, texts=texts
    )


_KEPT = "output"


def choosing_places(workflow: Workflow, classes: NodeClasses) -> list[str]:
    """Return the ids of the nodes that save where they like."""
    return [
        node.id
        for node in workflow.nodes.values()
        if PREFIX not in node.inputs and node.kind not in ONLY_SHOW
        if (kind := classes.get(node.kind)) is not None and kind.saves
    ]


ONLY_SHOW = ("PreviewImage", "MaskPreview", "PreviewAudio")
"""Classes whose files are not results: they lie in temp/."""

_CALL = "sdwatch_call"


def never_cached(workflow: Workflow, classes: NodeClasses, folder: str) -> Workflow:
    """Return a workflow whose nodes that save where they like run in any case: ComfyUI would take
    an old file from its cache. It compares all inputs of a node, and ignores one that the class
    does not have (get_immediate_node_signature and get_input_data of 0.33.0)."""
    named = choosing_places(workflow, classes)
    return workflow.with_values({(id, _CALL): folder for id in named})


def savers_in(workflow: Workflow) -> list[str]:
    """Return the ids of the nodes that can be told where to save."""
    return [node.id for node in workflow.nodes.values() if PREFIX in node.inputs]


# -- a good call once more, for a self-test

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
        if type(value) is int:
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

"""How many pictures a workflow saves, where its nodes are known to keep their number. Pure.

Classes of ComfyUI 0.33.0. Of any other nobody knows, so nothing is said of what is behind it.
"""

from __future__ import annotations

from collections.abc import Mapping

from sdwatch.policy.workflow.workflow import Workflow, link_of
from sdwatch.policy.workflow.workflow_call import PREFIX, WorkflowCall

_MOST = 4096
"""Of ComfyUI's own batches."""

_KEEPS: Mapping[str, str] = {
    "SaveImage": "images",
    "VAEDecode": "samples",
    "VAEDecodeTiled": "samples",
    "VAEEncode": "pixels",
    "VAEEncodeTiled": "pixels",
    "VAEEncodeForInpaint": "pixels",
    "KSampler": "latent_image",
    "KSamplerAdvanced": "latent_image",
    "SamplerCustom": "latent_image",
    "SamplerCustomAdvanced": "latent_image",
    "SetLatentNoiseMask": "samples",
    "LatentUpscale": "samples",
    "LatentUpscaleBy": "samples",
    "ImageScale": "image",
    "ImageScaleBy": "image",
    "ImageScaleToTotalPixels": "image",
    "ImageUpscaleWithModel": "image",
    "ImageInvert": "image",
    "ImageBlur": "image",
    "ImageSharpen": "image",
    "ImagePadForOutpaint": "image",
}
"""Classes that make of each picture one, and the input that it comes in by."""

_STARTS = ("EmptyLatentImage", "EmptySD3LatentImage", "EmptyFlux2LatentImage", "EmptyImage")
"""Classes that make as many as their `batch_size` says."""


def pictures_in(call: WorkflowCall) -> int | None:
    """Return how many pictures a call takes, None where that is not known."""
    counts = [_count(call.workflow, id) for id in call.taken]
    known = [count for count in counts if count is not None]
    return sum(known) if known and len(known) == len(counts) else None


def files_of(call: WorkflowCall, folder: str) -> list[str] | None:
    """Return the names of the files that a call takes, below `folder`, in their order; None where
    that is not known."""
    workflow = call.ready(folder, [""] * len(call.images))
    names = []
    for id in call.taken:
        count = _count(workflow, id)
        if count is None:
            return None
        stem = str(workflow.nodes[id].inputs[PREFIX]).rpartition("/")[2]
        names += [f"{stem}_{number:05}_.png" for number in range(1, count + 1)]
    return names


def _count(workflow: Workflow, id: str) -> int | None:
    """Return how many pictures come out of a node."""
    seen, times = set[str](), 1
    while id not in seen and (node := workflow.nodes.get(id)) is not None:
        seen.add(id)
        if node.kind == "LoadImage":
            return times
        if node.kind in _STARTS:
            return _whole(node.inputs.get("batch_size"), times)
        name = _KEEPS.get(node.kind, "")
        if node.kind == "RepeatLatentBatch":
            amount = _whole(node.inputs.get("amount"), times)
            if amount is None:
                return None
            times, name = amount, "samples"
        if (link := link_of(node.inputs.get(name))) is None:
            return None
        id = link.node
    return None


def _whole(value: object, times: int) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value * times <= _MOST:
        return None
    return value * times

"""What a workflow saves, where its nodes are known to keep the number of pictures. Pure.

Classes of ComfyUI 0.33.0. Of any other nobody knows, so nothing is said of what is behind it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sdwatch.policy.workflow.node_classes import NodeClasses
from sdwatch.policy.workflow.workflow import Node, Workflow, link_of
from sdwatch.policy.workflow.workflow_call import (
    ONLY_SHOW,
    PREFIX,
    WorkflowCall,
    choosing_places,
    savers_in,
)

MOST_IN_SERIES = 4096
"""Of ComfyUI's own batches."""

_KEEPS: Mapping[str, str] = {
    "SaveImage": "images",
    "SaveAudio": "audio",
    "SaveAudioMP3": "audio",
    "SaveAudioOpus": "audio",
    "VAEDecodeAudio": "samples",
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
    "ImageCrop": "image",
    "ImageFlip": "image",
    "ImageRotate": "image",
    "ImageQuantize": "image",
    "ImageBlend": "image1",
    "ImageCompositeMasked": "destination",
    "ImageScaleToMaxDimension": "image",
    "LatentComposite": "samples_to",
    "LatentCrop": "samples",
    "LatentFlip": "samples",
    "LatentRotate": "samples",
    "MaskToImage": "mask",
    "InvertMask": "mask",
    "GrowMask": "mask",
    "FeatherMask": "mask",
    "ImagePadForOutpaint": "image",
}
"""Classes that make of each picture (sound, mask) one, and the input that it comes in by."""

_ONE = ("LoadImage", "LoadImageMask", "EmptyAudio", "LoadAudio", "SolidMask")
"""Classes that give one of what they give."""

_STARTS = (
    "EmptyLatentImage",
    "EmptySD3LatentImage",
    "EmptyFlux2LatentImage",
    "EmptyImage",
    "EmptyLatentAudio",
)
"""Classes that make as many as their `batch_size` says."""


def pictures_in(call: WorkflowCall) -> int | None:
    """Return how many pictures a call takes, None where that is not known."""
    counts = [_count(call.workflow, id) for id in call.taken]
    known = [count for count in counts if count is not None]
    return sum(known) if known and len(known) == len(counts) else None


def saves_nothing(node: Node) -> bool:
    """Return whether a node is known to save nothing."""
    return PREFIX not in node.inputs and node.kind in _SAVE_NOTHING


def may_save(workflow: Workflow) -> bool:
    """Return whether a workflow may save anything, as far as its file shows that: it says where, or
    it ends in a class that is not known to save nothing."""
    used = {link.node for node in workflow.nodes.values() for _, link in node.links()}
    return any(
        PREFIX in node.inputs or (node.id not in used and not saves_nothing(node))
        for node in workflow.nodes.values()
    )


def shows_mask(workflow: Workflow, id: str) -> bool:
    """Return whether what a node saves is a mask, which may rightly be of one colour."""
    seen = set[str]()
    while id not in seen and (node := workflow.nodes.get(id)) is not None:
        seen.add(id)
        if _FROM_MASK.search(node.kind):
            return True
        if (link := link_of(node.inputs.get(_KEEPS.get(node.kind, "images")))) is None:
            return False
        id = link.node
    return False


_FROM_MASK = re.compile(r"masks?\s*to\s*images?", re.IGNORECASE)
"""MaskToImage, and how extensions call theirs: what shows a mask as a picture comes from one."""


@dataclass(frozen=True)
class Series:
    """The files of one node. `count`: how many they are, None where that is not known; `endings`:
    those that they may have."""

    stem: str
    endings: tuple[str, ...]
    count: int | None

    def names(self, number: int) -> tuple[str, ...]:
        """Return the names that the file with this number, from 1, may have."""
        start = f"{self.stem}_{number:05}"
        return tuple(f"{start}{end}.{e}" for e in self.endings for end in ("_", ""))


def series_of(
    workflow: Workflow, classes: NodeClasses, takes: Callable[[str], bool] = lambda _: True
) -> list[Series] | None:
    """Return the files that a workflow saves as it is sent, in the order of its nodes; None where a
    node saves where it likes. What is shown as a text is not a file. `takes`: returns whether the
    files of a node are wanted."""
    choosing = (workflow.nodes[id] for id in choosing_places(workflow, classes) if takes(id))
    if any(node.kind not in _SHOW_TEXT for node in choosing):
        return None
    found = []
    for id in filter(takes, savers_in(workflow)):
        node = workflow.nodes[id]
        is_known = node.kind in _ENDINGS
        count = 1 if node.kind in _ONE_FILE else _count(workflow, id)
        stem = str(node.inputs[PREFIX]).rpartition("/")[2]
        endings = _ENDINGS.get(node.kind, _ANY_ENDING)
        found.append(Series(stem, endings, count if is_known else None))
    return found


def files_of(
    workflow: Workflow, classes: NodeClasses, takes: Callable[[str], bool] = lambda _: True
) -> list[tuple[str, ...]] | None:
    """Return those files, each by the names that it may have; None where they are not known."""
    series = series_of(workflow, classes, takes)
    if series is None or any(each.count is None for each in series):
        return None
    return [each.names(number) for each in series for number in range(1, (each.count or 0) + 1)]


_ONE_FILE = frozenset(
    {"SaveVideo", "SaveWEBM", "SaveAnimatedWEBP", "SaveAnimatedPNG", "SaveLatent"}
)
"""Classes that make one file of whatever comes."""

_ENDINGS: Mapping[str, tuple[str, ...]] = {
    "SaveImage": ("png",),
    "SaveVideo": ("mp4", "webm", "mkv", "mov"),
    "SaveWEBM": ("webm",),
    "SaveAnimatedWEBP": ("webp",),
    "SaveAnimatedPNG": ("png",),
    "SaveLatent": ("latent",),
    "SaveAudio": ("flac",),
    "SaveAudioMP3": ("mp3",),
    "SaveAudioOpus": ("opus",),
}
"""What their files are called: NAME_00001_.png, and sounds NAME_00001.flac (comfy_api/latest/_ui.py
of 0.33.0)."""

_ANY_ENDING = ("png", "jpg", "jpeg", "webp", "gif", "mp4", "webm")
"""Of a save node of an extension that takes a filename_prefix."""

_SHOW_TEXT = ("PreviewAny",)

_SAVE_NOTHING = frozenset({*_KEEPS, *_STARTS, *_ONE, *ONLY_SHOW}) - {*_ENDINGS}


def _count(workflow: Workflow, id: str) -> int | None:
    """Return how many pictures come out of a node."""
    seen, times = set[str](), 1
    while id not in seen and (node := workflow.nodes.get(id)) is not None:
        seen.add(id)
        if node.kind in _ONE:
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
    if type(value) is not int or not 0 < value * times <= MOST_IN_SERIES:
        return None
    return value * times

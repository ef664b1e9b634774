"""txt2img, img2img and upscale as workflows of ComfyUI. Pure.

Small on purpose: a checkpoint of Stable Diffusion 1.5 or SDXL. What has no exact counterpart is
refused with the reason, so that nobody finds other pictures than he asked for in the morning.
Pictures differ from AUTOMATIC1111's for the same seed: the noise is made on the CPU, prompts are
weighted in another way, and a batch has one seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sdwatch.policy.job.stage.stage_kinds import STAGES
from sdwatch.policy.translation.samplers import sampler_and_scheduler
from sdwatch.policy.workflow.workflow import Node, Workflow

DEFAULT_SIDE = 512
DEFAULT_STEPS = 20
DEFAULT_CFG = 7.0
DEFAULT_STRENGTH = 0.75

CHECKPOINT = "sd_model_checkpoint"

_DRAWN = frozenset(
    {
        "prompt",
        "negative_prompt",
        "seed",
        "steps",
        "cfg_scale",
        "width",
        "height",
        "sampler_name",
        "scheduler",
        "batch_size",
        "n_iter",
        "denoising_strength",
        "override_settings",
        "init_images",
    }
)
_ENLARGED = frozenset({"image", "upscaler_1", "upscaling_resize", "resize_mode"})
PIXEL_METHODS: Mapping[str, str] = {"Lanczos": "lanczos", "Nearest": "nearest-exact"}
"""Upscalers of AUTOMATIC1111 without a model, and what ComfyUI's ImageScale calls them."""


def refusals(stage: str, fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the fields of a stage that ComfyUI's built-in workflows cannot do, with why."""
    known = _DRAWN if STAGES[stage].has_steps else _ENLARGED
    for name, value in fields.items():
        if name not in known and matters(value):
            yield name, _why(name)
    yield from refused_settings(fields)
    if "<lora:" in str(fields.get("prompt")):
        why = "ComfyUI loads no LoRA from a prompt; use a workflow of your own with a LoraLoader"
        yield "prompt", why
    if fields.get("resize_mode") and not STAGES[stage].has_steps:
        why = "the built-in workflow enlarges by a factor (upscaling_resize) and to no size"
        yield "resize_mode", why


def refused_settings(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the settings that a job would change and that ComfyUI does not have."""
    settings = fields.get("override_settings")
    for name in settings if isinstance(settings, Mapping) else {}:
        if name != CHECKPOINT:
            yield "override_settings", f"ComfyUI has no setting {name}"


def matters(value: Any) -> bool:
    """Return whether a field with this value asks for anything."""
    return value not in (None, False, "", [], {})


def _why(name: str) -> str:
    if name in ("enable_hr",) or name.startswith("hr_"):
        return "the built-in workflow has no second pass; use a workflow of your own"
    if "script" in name:
        return "ComfyUI has no scripts; use a workflow with the nodes that do it"
    if name == "styles":
        return "ComfyUI has no styles; write them into the prompt"
    return f"ComfyUI's built-in workflow has nothing for {name}; use a workflow of your own"


FIELDS: Mapping[str, str] = {
    "seed": "seed",
    "steps": "steps",
    "cfg": "cfg_scale",
    "width": "width",
    "height": "height",
    "batch_size": "batch_size",
    "amount": "batch_size",
    "denoise": "denoising_strength",
}
"""The numbers in the workflow of a txt2img or img2img, each with its field of the job."""

_NAMES: Mapping[str, str] = {
    **FIELDS,
    "ckpt_name": CHECKPOINT,
    "sampler_name": "sampler_name",
    "scheduler": "scheduler",
    "model_name": "upscaler_1",
}


def drawing(
    fields: Mapping[str, Any], checkpoint: str, prefix: str, images: Sequence[str] = ()
) -> Workflow:
    """Return the workflow of one call of txt2img, or of img2img with `images`: names that
    ComfyUI's LoadImage takes.

    `fields`: those of the payload; the seed is set. `checkpoint`: as in ComfyUI's list. `prefix`:
    a folder of this call's own, in which each SaveImage has a name of its own (two that are alike
    would write one file). The images of one call come from one SaveImage for each round of
    `n_iter`, named `save-1`, `save-2` …
    """
    nodes = {node.id: node for node in _drawing(fields, checkpoint, prefix, images)}
    return Workflow(nodes, _NAMES)


def _drawing(
    fields: Mapping[str, Any], checkpoint: str, prefix: str, images: Sequence[str]
) -> Iterator[Node]:
    yield _node("checkpoint", "CheckpointLoaderSimple", ckpt_name=checkpoint)
    for role, field in (("positive", "prompt"), ("negative", "negative_prompt")):
        text = fields.get(field) or ""
        yield _node(role, "CLIPTextEncode", text=text, clip=["checkpoint", 1])
    rounds = range(1, int(fields.get("n_iter") or 1) + 1)
    batch = int(fields.get("batch_size") or 1)
    if images:
        for number, name in enumerate(images, 1):
            yield _node(f"image-{number}", "LoadImage", image=name)
            pixels = [f"image-{number}", 0]
            if fields.get("width") or fields.get("height"):
                width, height = (int(fields.get(s) or DEFAULT_SIDE) for s in ("width", "height"))
                yield _scale(f"scaled-{number}", pixels, "lanczos", width, height)
                pixels = [f"scaled-{number}", 0]
            once = f"latent-{number}" if batch == 1 else f"encoded-{number}"
            yield _node(once, "VAEEncode", pixels=pixels, vae=["checkpoint", 2])
            if batch > 1:
                again = {"samples": [once, 0], "amount": batch}
                yield _node(f"latent-{number}", "RepeatLatentBatch", **again)
    else:
        size = {side: int(fields.get(side) or DEFAULT_SIDE) for side in ("width", "height")}
        yield _node("latent-1", "EmptyLatentImage", **size, batch_size=batch)
    for round in rounds:
        for source in range(1, max(1, len(images)) + 1):
            yield from _one_round(fields, prefix, round, source, several=len(images) > 1)


def _one_round(
    fields: Mapping[str, Any], prefix: str, round: int, source: int, *, several: bool
) -> Iterator[Node]:
    """Sample, decode and save once. Each round has its own seed, as far apart as AUTOMATIC1111 has
    them: a batch uses up as many seeds as it has images."""
    batch = int(fields.get("batch_size") or 1)
    name = f"{round}-{source}" if several else f"{round}"
    sampler, scheduler = sampler_and_scheduler(
        str(fields.get("sampler_name") or ""), str(fields.get("scheduler") or "")
    )
    strength = fields.get("denoising_strength")
    strength = DEFAULT_STRENGTH if strength is None else strength
    yield _node(
        f"sample-{name}",
        "KSampler",
        seed=int(fields["seed"]) + (round - 1) * batch,
        steps=int(fields.get("steps") or DEFAULT_STEPS),
        cfg=float(DEFAULT_CFG if fields.get("cfg_scale") is None else fields["cfg_scale"]),
        sampler_name=sampler,
        scheduler=scheduler,
        # Without an image all of it: AUTOMATIC1111 reads the strength there for hires only.
        denoise=float(strength) if fields.get("init_images") else 1.0,
        model=["checkpoint", 0],
        positive=["positive", 0],
        negative=["negative", 0],
        latent_image=[f"latent-{source}", 0],
    )
    yield _node(f"decode-{name}", "VAEDecode", samples=[f"sample-{name}", 0], vae=["checkpoint", 2])
    yield _save(f"save-{name}", f"decode-{name}", prefix)


def enlarging(
    fields: Mapping[str, Any], prefix: str, image: str, size: tuple[int, int]
) -> Workflow:
    """Return the workflow of one call of extra-single-image. `image`: a name that ComfyUI's
    LoadImage takes; `size`: its width and height.

    An upscaler is one of ComfyUI's upscale models, or a method without a model. A model enlarges by
    its own factor, so its result is scaled to the one that was asked for.
    """
    upscaler = str(fields.get("upscaler_1") or "Lanczos")
    width, height = (max(1, round(n * float(fields.get("upscaling_resize") or 2))) for n in size)
    nodes = [_node("image", "LoadImage", image=image)]
    source = "image"
    if upscaler not in PIXEL_METHODS:
        source = "grown"
        nodes += [
            _node("model", "UpscaleModelLoader", model_name=upscaler),
            _node(source, "ImageUpscaleWithModel", upscale_model=["model", 0], image=["image", 0]),
        ]
    method = PIXEL_METHODS.get(upscaler, "lanczos")
    nodes += [
        _scale("scaled", [source, 0], method, width, height),
        _save("save-1", "scaled", prefix),
    ]
    enlarged = {"width": "upscaling_resize", "height": "upscaling_resize"}
    return Workflow({node.id: node for node in nodes}, {**_NAMES, **enlarged})


def canary_picture(color: int, width: int, height: int, batch: int) -> Workflow:
    """Return the smallest workflow that uses the device and needs no model. `color`: RGB, another
    one each time, or ComfyUI answers from its cache. ImageBlur moves its picture to the device
    (comfy_extras/nodes_post_processing.py)."""
    nodes = (
        _node("empty", "EmptyImage", width=width, height=height, batch_size=batch, color=color),
        _node("blur", "ImageBlur", image=["empty", 0], blur_radius=3, sigma=1.0),
        _node("preview", "PreviewImage", images=["blur", 0]),
    )
    return Workflow({node.id: node for node in nodes})


def saved_by(workflow: Workflow, fields: Mapping[str, Any]) -> dict[str, int]:
    """Return how many pictures each SaveImage of a built-in workflow makes, in order."""
    batch = int(fields.get("batch_size") or 1)
    saves = (node.id for node in workflow.nodes.values() if node.kind == "SaveImage")
    return dict.fromkeys(saves, batch)


def _save(id: str, source: str, prefix: str) -> Node:
    return _node(id, "SaveImage", images=[source, 0], filename_prefix=f"{prefix}/{id}")


def _scale(id: str, image: list[Any], method: str, width: int, height: int) -> Node:
    return _node(
        id,
        "ImageScale",
        image=image,
        upscale_method=method,
        width=width,
        height=height,
        crop="disabled",
    )


def _node(id: str, kind: str, **inputs: Any) -> Node:
    return Node(id, kind, id, inputs)

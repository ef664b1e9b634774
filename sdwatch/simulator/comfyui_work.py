"""What the nodes of a ComfyUI do. The pictures are drawn, the files are real ones.

A node is a function of its inputs by name; it returns its outputs, and what the interface shows.
"""

from __future__ import annotations

import base64
import io
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from PIL import Image, ImageFilter, PngImagePlugin

from sdwatch.simulator import comfyui_media, pictures
from sdwatch.simulator.checkpoints import Checkpoint
from sdwatch.simulator.comfyui_faults import raise_kind
from sdwatch.simulator.comfyui_files import Folders, Place
from sdwatch.simulator.damage import Damage
from sdwatch.simulator.failures import CrashedError
from sdwatch.simulator.job import spoiled

Images = list[Image.Image]
_RESAMPLING = {
    "nearest-exact": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR,
    "area": Image.Resampling.BOX, "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS, "bislerp": Image.Resampling.BICUBIC,
}  # fmt: skip
_TILES = 4
_NAN = "simulated-nan"


@dataclass
class Latent:
    """A size in pixels; its pictures, as far as it comes from any; `batch`: how many they are."""

    width: int
    height: int
    batch: int
    images: Images = field(default_factory=list)


@dataclass(frozen=True)
class Conditioning:
    """A text that was encoded: errors show numbers of it, and not the text."""

    text: str

    def __str__(self) -> str:
        return "[tensor([[[0., 0., 0.,  ..., 0., 0., 0.]]]), {'pooled_output': None}]"


@dataclass
class Result:
    """What a node returns; `shown`: what history has under `outputs`, None for most nodes."""

    values: tuple[Any, ...]
    shown: dict[str, Any] | None = None


@dataclass(frozen=True)
class Shown:
    """What is seen of each step: its number, and a preview (a JPEG) with a bar in the log."""

    progress: bool = True
    preview: Callable[[int], bytes] | None = None


class Call(Protocol):
    """What a node needs of the run that it is in. `disk_full`: no file can be written whole;
    `blackened`: all that the model makes is NaNs."""

    folders: Folders
    damage: Damage
    disk_full: bool
    blackened: bool

    def use_model(self, checkpoint: Checkpoint) -> None: ...

    def use_device(self, pixels: int) -> None: ...

    def steps(self, count: int, pixels: int, shown: Shown) -> None: ...

    def pause(self, seconds: float) -> None: ...

    def load(self, name: str) -> Checkpoint: ...

    def metadata(self) -> dict[str, Any]: ...

    def temporary(self) -> str: ...

    def cast_nans(self) -> None: ...


Work = Callable[..., Result]


def steps_of(node: dict[str, Any]) -> int:
    """Return how many steps of a node use the device, where a fault can strike."""
    match node["class_type"]:
        case "KSampler" | "SimulatedSteps":
            return int(node["inputs"]["steps"])
        case "ImageUpscaleWithModel":
            return _TILES
    return int(node["class_type"] == "ImageBlur")


# -- models and latents


def _checkpoint(call: Call, ckpt_name: str) -> Result:
    checkpoint = call.load(ckpt_name)
    return Result((checkpoint, checkpoint, checkpoint))


def _diffusion_model(_call: Call, unet_name: str, **_more: Any) -> Result:
    return Result((Checkpoint(unet_name.rpartition(".")[0]),))


def _first(_call: Call, **inputs: Any) -> Result:
    """Of a node that changes what no picture shows."""
    return Result((next(iter(inputs.values())),))


def _lora(_call: Call, model: Checkpoint, clip: Checkpoint, **_more: Any) -> Result:
    return Result((model, clip))


def _text(_call: Call, text: str, clip: Checkpoint) -> Result:  # noqa: ARG001
    return Result((Conditioning(text),))


def _empty_latent(_call: Call, width: int, height: int, batch_size: int) -> Result:
    return Result((Latent(width // 8 * 8, height // 8 * 8, batch_size),))


def _encode(call: Call, pixels: Images, **_more: Any) -> Result:
    call.use_device(0)
    width, height = (size // 8 * 8 for size in pixels[0].size)
    return Result((Latent(width, height, len(pixels), list(pixels)),))


def _upscale_latent(_call: Call, samples: Latent, width: int, height: int, **_more: Any) -> Result:
    if not width and not height:
        return Result((samples,))
    width = width or round(samples.width * height / samples.height)
    height = height or round(samples.height * width / samples.width)
    return Result((_resized(samples, width, height),))


def _upscale_latent_by(_call: Call, samples: Latent, scale_by: float, **_more: Any) -> Result:
    size = (round(samples.width * scale_by), round(samples.height * scale_by))
    return Result((_resized(samples, *size),))


def _resized(samples: Latent, width: int, height: int) -> Latent:
    width, height = max(width, 64) // 8 * 8, max(height, 64) // 8 * 8
    images = [image.resize((width, height)) for image in samples.images]
    return replace(samples, width=width, height=height, images=images)


def _repeat(_call: Call, samples: Latent, amount: int) -> Result:
    return Result((replace(samples, batch=samples.batch * amount, images=samples.images * amount),))


def _sample(
    call: Call,
    model: Checkpoint,
    seed: int,
    steps: int,
    positive: Conditioning,
    negative: Conditioning,
    latent_image: Latent,
    denoise: float,
    **more: Any,
) -> Result:
    call.use_model(model)
    latent = latent_image

    def preview(step: int) -> bytes:
        return base64.b64decode(pictures.preview(seed, step / steps, "jpeg"))

    call.steps(steps, latent.width * latent.height * latent.batch, Shown(preview=preview))
    words = "|".join(
        str(w) for w in (positive.text, negative.text, steps, model.name, *more.values())
    )
    stage = "img2img" if latent.images else "txt2img"
    label = f"{stage} · seed {seed} · {steps} steps · {more['sampler_name']}"
    labels = [] if latent.images else [positive.text, label]
    made = []
    for i in range(latent.batch):
        size = (latent.width, latent.height)
        image = pictures.landscape(*size, seed, f"{words}|{i}" if i else words, labels)
        if latent.images:
            given = latent.images[i].convert("RGB").resize(size)
            image = Image.blend(given, image, 0.15 * denoise)
            image = pictures.framed(image, "img2img", f"{label} · denoise {denoise:g}")
        made.append(image)
    return Result((replace(latent, images=made),))


def _decode(call: Call, samples: Latent, vae: Checkpoint) -> Result:  # noqa: ARG001
    call.use_device(0)
    call.damage.before_decode()
    images = samples.images or [Image.new("RGB", (samples.width, samples.height))] * samples.batch
    return Result((_as_the_model_makes_them(call, images),))


def _as_the_model_makes_them(call: Call, images: Images) -> Images:
    """Return pictures of NaNs where that is planned; the cache keeps them like all others (0.33.0,
    run on CPU 2026-11-28)."""
    if not call.blackened:
        return images
    black = [Image.new("RGB", image.size) for image in images]
    for image in black:
        image.info[_NAN] = True  # survives what later nodes do with it
    return black


# -- pictures


def _empty_image(_call: Call, width: int, height: int, batch_size: int, color: int) -> Result:
    image = Image.new("RGB", (width, height), (color >> 16, color >> 8 & 255, color & 255))
    return Result(([image] * batch_size,))


def _load_image(call: Call, image: str) -> Result:
    path = call.folders.annotated(image)
    if path is None:
        error = f"[Errno 2] No such file or directory: '<base>/input/{image}'"
        raise CrashedError("FileNotFoundError", error)
    try:
        with Image.open(path) as opened:
            opened.load()
            mask = opened.getchannel("A") if "A" in opened.getbands() else None
            found = opened.convert("RGB")
    except (OSError, SyntaxError) as e:
        message = f"cannot identify image file '<base>/input/{image}'"
        name = "UnidentifiedImageError"
        raise CrashedError(name, message, qualified=f"PIL.{name}") from e
    return Result(([found], [mask or Image.new("L", (64, 64))]))


def _load_mask(call: Call, image: str, channel: str) -> Result:
    images, masks = _load_image(call, image).values
    if channel == "alpha":
        return Result((masks,))
    return Result(([images[0].getchannel(channel[0].upper())],))


def _scale(
    _call: Call, image: Images, upscale_method: str, width: int, height: int, crop: str
) -> Result:
    if not width and not height:
        return Result((image,))
    old_width, old_height = image[0].size
    width = width or max(1, round(old_width * height / old_height))
    height = height or max(1, round(old_height * width / old_width))
    how = _RESAMPLING[upscale_method]
    fit = [pictures.fitted(i, width, height, 1) if crop == "center" else i for i in image]
    return Result(([i.resize((width, height), how) for i in fit],))


def _scale_by(_call: Call, image: Images, upscale_method: str, scale_by: float) -> Result:
    size = tuple(max(1, round(side * scale_by)) for side in image[0].size)
    return Result(([i.resize((size[0], size[1]), _RESAMPLING[upscale_method]) for i in image],))


def _blur(call: Call, image: Images, blur_radius: int, sigma: float) -> Result:  # noqa: ARG001
    call.steps(1, image[0].width * image[0].height, Shown(progress=False))
    return Result(([i.filter(ImageFilter.GaussianBlur(sigma)) for i in image],))


def _load_upscaler(_call: Call, model_name: str) -> Result:
    return Result((model_name,))


def _upscale(call: Call, upscale_model: str, image: Images) -> Result:
    found = re.search(r"(\d)x", upscale_model, re.IGNORECASE)
    factor = int(found[1]) if found else 4
    size = (image[0].width * factor, image[0].height * factor)
    call.steps(_TILES, size[0] * size[1], Shown())
    label = f"upscale · {upscale_model}"
    enlarged = (i.resize(size, Image.Resampling.LANCZOS) for i in image)
    made = [pictures.framed(i, "extra-single-image", label) for i in enlarged]
    return Result((_as_the_model_makes_them(call, made),))


# -- what is saved


def _save_image(call: Call, images: Images, filename_prefix: str) -> Result:
    return Result((images,), {"images": _saved(call, images, filename_prefix, "output", 4)})


def _preview_image(call: Call, images: Images) -> Result:
    return Result((images,), {"images": _saved(call, images, call.temporary(), "temp", 1)})


def _saved(call: Call, images: Images, prefix: str, root: str, level: int) -> list[dict[str, str]]:
    if call.damage.has("empty-images"):
        return []
    place = call.folders.place(prefix, root, images[0].size)
    texts = PngImagePlugin.PngInfo()
    for name, value in call.metadata().items():
        texts.add_text(name, json.dumps(value))
    files = []
    for number, image in enumerate(images):
        image = spoiled(image, call.damage)
        if image.info.get(_NAN):
            call.cast_nans()
        buffer = io.BytesIO()
        image.save(buffer, "PNG", pnginfo=texts, compress_level=level)
        files.append(_written(call, place, number, "png", buffer.getvalue(), root))
    return files


def _written(
    call: Call, place: Place, number: int, ending: str, raw: bytes, root: str
) -> dict[str, str]:
    """Write one file under its final name, as all nodes do; a fault leaves half of it there."""
    name = place.name(number, ending)
    path, half = place.folder / name, raw[: len(raw) // 2]
    if call.disk_full:
        path.write_bytes(half)
        raise CrashedError("OSError", "[Errno 28] No space left on device")
    if call.damage.has("sigkill-mid-save"):
        path.write_bytes(half)
        call.damage.end_by("sigkill-mid-save")
    path.write_bytes(half if call.damage.has("undecodable-image") else raw)
    return {"filename": name, "subfolder": place.subfolder, "type": root}


def _other(call: Call, prefix: str, ending: str, raw: bytes) -> dict[str, str]:
    return _written(call, call.folders.place(prefix, "output", (0, 0)), 0, ending, raw, "output")


def _create_video(_call: Call, images: Images, fps: float, **_more: Any) -> Result:
    return Result(((images, fps),))


def _save_video(
    call: Call, video: tuple[Images, float], filename_prefix: str, format: str, **_more: Any
) -> Result:
    ending = "mp4" if format == "auto" else format
    file = _other(call, filename_prefix, ending, comfyui_media.mp4(*video))
    return Result((video,), {"images": [file], "animated": [True]})


def _save_animated(
    call: Call, images: Images, filename_prefix: str, fps: float, lossless: bool, **_more: Any
) -> Result:
    buffer, length = io.BytesIO(), int(1000 / fps)
    first, *others = images
    first.save(
        buffer, "WEBP", save_all=True, append_images=others, duration=length, lossless=lossless
    )
    file = _other(call, filename_prefix, "webp", buffer.getvalue())
    return Result((images,), {"images": [file], "animated": [len(images) > 1]})


def _preview_any(_call: Call, source: Any) -> Result:
    text = source if isinstance(source, str) else str(source)
    return Result((text,), {"text": [text]})


def _empty_audio(_call: Call, duration: float, sample_rate: int, channels: int) -> Result:
    return Result(((duration, sample_rate, channels),))


def _save_audio(call: Call, audio: tuple[float, int, int], filename_prefix: str) -> Result:
    file = _other(call, filename_prefix, "flac", comfyui_media.flac(*audio))
    return Result((audio,), {"audio": [file]})


def _save_latent(call: Call, samples: Latent, filename_prefix: str) -> Result:
    raw = comfyui_media.safetensors((samples.batch, 4, samples.height // 8, samples.width // 8))
    return Result((samples,), {"latents": [_other(call, filename_prefix, "latent", raw)]})


# -- nodes that no real ComfyUI has


def _paid(_call: Call, prompt: str) -> Result:  # noqa: ARG001
    raise CrashedError("Exception", "Unauthorized: Please login first to use this node.")


def _slow_steps(call: Call, image: Images, steps: int, delay: float) -> Result:
    call.pause(delay)
    call.steps(steps, image[0].width * image[0].height, Shown())
    return Result((image,))


def _sleep(_call: Call, image: Images, seconds: float) -> Result:
    time.sleep(seconds)  # it asks nobody whether it was interrupted
    return Result((image,))


def _raise(_call: Call, image: Images, kind: str) -> Result:
    raise_kind(kind)
    return Result((image,))


def _save_elsewhere(call: Call, images: Images, filename_prefix: str) -> Result:
    """Name a picture that is outside of output/, as savers do that have a path of their own."""
    files = _saved(call, images, filename_prefix, "output", 1)
    return Result((), {"images": [{**file, "subfolder": "../elsewhere"} for file in files]})


def _save_own(call: Call, images: Images) -> Result:
    """It has no filename_prefix, like the save nodes of some extensions."""
    return Result((), {"images": _saved(call, images, "own/picture", "output", 4)})


WORK: dict[str, Work] = {
    "KSampler": _sample, "CheckpointLoaderSimple": _checkpoint, "CLIPTextEncode": _text,
    "CLIPSetLastLayer": _first, "VAEDecode": _decode, "VAEEncode": _encode,
    "VAEEncodeForInpaint": _encode, "VAELoader": _first, "LoraLoader": _lora,
    "UNETLoader": _diffusion_model, "DualCLIPLoader": _first, "FluxGuidance": _first,
    "EmptyLatentImage": _empty_latent, "EmptySD3LatentImage": _empty_latent,
    "LatentUpscale": _upscale_latent,
    "LatentUpscaleBy": _upscale_latent_by, "RepeatLatentBatch": _repeat,
    "SetLatentNoiseMask": _first, "SaveImage": _save_image, "PreviewImage": _preview_image,
    "LoadImage": _load_image, "LoadImageMask": _load_mask, "ImageScale": _scale,
    "ImageScaleBy": _scale_by, "EmptyImage": _empty_image, "UpscaleModelLoader": _load_upscaler,
    "ImageUpscaleWithModel": _upscale, "ImageBlur": _blur, "CreateVideo": _create_video,
    "SaveVideo": _save_video, "EmptyAudio": _empty_audio, "SaveAudio": _save_audio,
    "SaveLatent": _save_latent, "SaveAnimatedWEBP": _save_animated, "PreviewAny": _preview_any,
    **dict.fromkeys(
        # Their shapes: comfy_extras/nodes_primitive.py of ComfyUI.
        ("PrimitiveInt", "PrimitiveFloat", "PrimitiveString", "PrimitiveStringMultiline"), _first
    ),
    "SimulatedPaid": _paid, "SimulatedSteps": _slow_steps,
    "SimulatedSleep": _sleep, "SimulatedRaise": _raise, "SimulatedSave": _save_own,
    "SimulatedSaveElsewhere": _save_elsewhere,
}  # fmt: skip

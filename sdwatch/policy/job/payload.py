"""From a stage to the payloads that are sent: one for each call. Pure.

n_iter is split, so that a crash costs one image and not fifty: n_iter = k with seed s makes pixel
for pixel what k calls with seeds s, s + batch_size, … make; with subseed_strength > 0 the seed
stays and the subseed counts (measured with AUTOMATIC1111 v1.10.1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sdwatch.policy.job.job import Stage

MAX_SEED = 2**32 - 1

UPSCALE = "extra-single-image"

DEFAULT_SIDE = 512  # pixels: of a txt2img that gives none
DEFAULT_SCALE = 2.0  # of hires and extra-single-image
_LONGEST_SIDE = 1e9  # beyond every bound


@dataclass(frozen=True)
class Seeds:
    """The seeds of one stage, drawn or given. `drawn`: the job left the seed to chance, so each
    input image may get one of its own."""

    seed: int
    subseed: int
    drawn: bool


@dataclass(frozen=True)
class Call:
    """One request to come: `id` is `stage.number`, both from 1, the same after every restart.

    `fields` is the payload without its images; `images` names those of the stage before it, or
    files of the job's folder, that it takes: the first of `init_images`, or `image`.
    """

    id: str
    stage: int
    number: int
    kind: str
    fields: Mapping[str, Any]
    images: tuple[str, ...]


def draw_seeds(stage: Stage, draw: Callable[[], int]) -> Seeds | None:
    """The seeds of a stage; what is -1 or absent is drawn. None for a stage without seeds."""
    if stage.kind == UPSCALE:
        return None
    seed, subseed = stage.fields.get("seed", -1), stage.fields.get("subseed", -1)
    return Seeds(seed if seed >= 0 else draw(), subseed if subseed >= 0 else draw(), drawn=seed < 0)


def own_images(stage: Stage) -> tuple[str, ...]:
    """The images that a stage names itself; those of the stage before it are taken if none."""
    if stage.kind == UPSCALE:
        return (stage.fields["image"],) if "image" in stage.fields else ()
    return tuple(stage.fields.get("init_images", ()))


def names_upscaler(fields: Mapping[str, Any]) -> bool:
    """Whether an upscale says what to enlarge the picture with."""
    return fields.get("upscaler_1") not in (None, "None")


def restores_faces(fields: Mapping[str, Any]) -> bool:
    """Whether an upscale is asked to do that beside, or instead."""
    return any(
        (fields.get(name) or 0) > 0 for name in ("gfpgan_visibility", "codeformer_visibility")
    )


def hires_size(first: tuple[int, int], fields: Mapping[str, Any]) -> tuple[int, int]:
    """Return width and height after the second pass of a txt2img whose first makes `first`; `first`
    where there is no second pass. A side that is not given follows from the other one."""
    if not fields.get("enable_hr"):
        return first
    x, y = int(fields.get("hr_resize_x") or 0), int(fields.get("hr_resize_y") or 0)
    if not (x or y):
        return scaled(first, float(fields.get("hr_scale") or DEFAULT_SCALE))
    return x or first[0] * y // first[1], y or first[1] * x // first[0]


def scaled(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """Return the sides times `factor`: at least a pixel, and no more than can be told."""
    width, height = (max(1, int(min(side * factor, _LONGEST_SIDE))) for side in size)
    return width, height


def calls_of(number: int, stage: Stage, seeds: Seeds | None, inputs: Sequence[str]) -> list[Call]:
    """The calls of the stage with this number (from 1), in their order.

    `inputs`: the images of the stage before it. A stage with images of its own, and a txt2img,
    leave them alone.
    """
    if stage.kind == "txt2img":
        takes: list[tuple[str, ...]] = [()]
    elif own := own_images(stage):
        takes = [own]
    else:
        takes = [(image,) for image in inputs]
    calls: list[Call] = []
    for index, images in enumerate(takes):
        for fields in _iterations(stage, seeds, index):
            count = len(calls) + 1
            calls.append(Call(f"{number}.{count}", number, count, stage.kind, fields, images))
    return calls


def _iterations(stage: Stage, seeds: Seeds | None, index: int) -> list[dict[str, Any]]:
    """The payloads for one input image: one for each of n_iter."""
    fields = {k: v for k, v in stage.fields.items() if k not in ("init_images", "image", "n_iter")}
    if seeds is None:
        return [fields]
    n_iter, batch = stage.fields.get("n_iter", 1), stage.fields.get("batch_size", 1)
    varies = stage.fields.get("subseed_strength", 0) > 0
    # A seed that the job gave is used for each input alike; a drawn one counts on over them.
    first = index * n_iter * batch if seeds.drawn else 0
    payloads = []
    for i in range(n_iter):
        step = first + i * batch
        payloads.append(
            fields
            | {
                "seed": seeds.seed if varies else seeds.seed + step,
                "subseed": seeds.subseed + step if varies else seeds.subseed,
                "n_iter": 1,
                # WebUIs return nothing at all without it.
                "send_images": True,
            }
        )
    return payloads

"""Make the payloads of a stage: one for each call. Pure.

n_iter is split, so that a crash costs one image and not fifty: n_iter = k with seed s makes pixel
for pixel what k calls with seeds s, s + batch_size, … make; with subseed_strength > 0 the seed
stays and the subseed counts (measured with AUTOMATIC1111 v1.10.1).

A field that a job leaves out and that one kind of WebUI needs is added only where the WebUI's own
schema has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sdwatch.policy.job.calls.catalogue import Catalogue
from sdwatch.policy.job.conduct import OomStep
from sdwatch.policy.job.job import Stage
from sdwatch.policy.job.stage.stage_kinds import STAGES
from sdwatch.policy.kinds.kind import Completion
from sdwatch.policy.kinds.table import KINDS


def may_need_more(stage: str, fields: Mapping[str, Any]) -> bool:
    """Return whether some kind of WebUI would need more fields in this call."""
    rows = (each for kind in KINDS.values() for each in kind.completions)
    return any(_is_due(each, stage, fields) for each in rows)


def completed(stage: str, fields: Mapping[str, Any], catalogue: Catalogue | None) -> dict[str, Any]:
    """Return the fields to add to a call of `stage` for the WebUI with this catalogue; none where
    it is not known."""
    if catalogue is None:
        return {}
    known = (catalogue.stages or {}).get(stage) or {}
    return {
        each.name: each.value
        for each in catalogue.kind.completions
        if each.name in known and _is_due(each, stage, fields)
    }


def _is_due(each: Completion, stage: str, fields: Mapping[str, Any]) -> bool:
    return each.stage == stage and fields.get(each.name) is None and each.needed(fields)


MAX_SEED = 2**32 - 1
DRAWN_FOR_WORKFLOWS = 2**30
"""A random seed of a workflow is below this: nodes of extensions take 31 bits, and images and
repetitions count on from there."""
NO_SUBSEED = -1

DEFAULT_SIDE = 512  # pixels: of a txt2img that gives none
DEFAULT_SCALE = 2.0  # of hires and extra-single-image
_LONGEST_SIDE = 1e9  # beyond every bound


@dataclass(frozen=True)
class Seeds:
    """The seeds of one stage, random or given; NO_SUBSEED where there is no such thing. `drawn`:
    the job left the seed to chance, so each input image may get one of its own."""

    seed: int
    subseed: int
    drawn: bool

    def as_fields(self) -> dict[str, int]:
        """Return them as the fields of a stage."""
        subseed = {} if self.subseed == NO_SUBSEED else {"subseed": self.subseed}
        return {"seed": self.seed, **subseed}


@dataclass(frozen=True)
class Changed:
    """How a call differs from the call `of`, which ran out of memory: by this step and those before
    it, in words; `first`: the number of its first picture among the pictures of that call."""

    of: str
    step: OomStep
    words: str
    first: int


@dataclass(frozen=True)
class Call:
    """One request to come: `id` is `stage.number`, both from 1, the same after every restart; of a
    job with several points `pPOINT.stage.number`; of a changed call `ID-rung-picture`, see
    oom_ladder.py. `point`: 0 where there is only one.

    `fields` is the payload without its images; `images` names those of the stage before it, or
    files of the job's folder, that it takes: the first of `init_images`, or `image`.
    """

    id: str
    stage: int
    number: int
    kind: str
    fields: Mapping[str, Any]
    images: tuple[str, ...]
    point: int = 0
    changed: Changed | None = None


CALL_ID = (
    r"(?:p\d{1,8}\.)?\d{1,4}\.\d{1,6}"
    r"(?:-(?:batch\d{1,4}|tiled|\d{1,6}(?:[x_]\d{1,6})?x?)-\d{1,6})?"
)
"""The id of a call: perhaps its point, its stage, its number; of one that was made instead of it
after out of memory, how and which."""


def point_of(call_id: str) -> int:
    """Return the point of a call by its id; 0 where there is only one."""
    first = call_id.partition(".")[0]
    return int(first[1:]) if first.startswith("p") and first[1:].isdecimal() else 0


def stage_of(call_id: str) -> str:
    """Return the number of the stage of a call, by its id; '' for what is none."""
    return (["", "", *call_id.split(".")])[-2]


def draw_seeds(stage: Stage, draw: Callable[[], int]) -> Seeds | None:
    """Return the seeds of a stage; what is -1 or absent is random. None for a stage without
    seeds."""
    if not STAGES[stage.kind].has_steps:
        return None
    if STAGES[stage.kind].runs_workflow:
        given = stage.workflow.seed if stage.workflow else None
        if given is None:
            return None
        seed = given if given >= 0 else draw() % DRAWN_FOR_WORKFLOWS
        return Seeds(seed, NO_SUBSEED, drawn=given < 0)
    seed, subseed = stage.fields.get("seed", -1), stage.fields.get("subseed", -1)
    return Seeds(seed if seed >= 0 else draw(), subseed if subseed >= 0 else draw(), drawn=seed < 0)


def counted_on(seeds: Seeds | None, stage: Stage, steps: int) -> Seeds | None:
    """Return seeds that are further by so many points of this stage's pictures."""
    if seeds is None or not steps:
        return seeds
    rounds = stage.fields.get(STAGES[stage.kind].rounds_field, 1)
    pictures = rounds * stage.fields.get("batch_size", 1)
    return replace(seeds, seed=seeds.seed + steps * pictures)


def own_images(stage: Stage) -> tuple[str, ...]:
    """Return the images that a stage names itself; those of the stage before it are taken if
    none."""
    kind = STAGES[stage.kind]
    given = stage.fields.get(kind.image_field, ())
    if isinstance(given, Mapping):  # these are the same in each call
        given = ()
    named = (given,) if isinstance(given, str) and given else tuple(given)
    return named or stage.links.inputs


def taken_from(number: int, stage: Stage) -> int:
    """Return the number of the stage whose images the stage with this number takes; 0 if it takes
    none, or images of the job folder."""
    if own_images(stage) or not works_on_images(stage):
        return 0
    return number - 1 if stage.links.taken_from is None else stage.links.taken_from


def works_on_images(stage: Stage) -> bool:
    """Return whether each call of a stage has an image: the job's own, or one of another stage."""
    kind = STAGES[stage.kind]
    if not kind.runs_workflow:
        return kind.needs_image
    return stage.workflow is not None and stage.workflow.image is not None


def takes_of(stage: Stage, inputs: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the images of each call of a stage, before n_iter makes several of it. `inputs`: the
    images of the stage that it takes from."""
    if not works_on_images(stage):
        return [()]
    images = own_images(stage) or tuple(inputs)
    if takes_all_at_once(stage):
        return [images] if images else []
    return [(image,) for image in images]


def takes_all_at_once(stage: Stage) -> bool:
    """Return whether a stage takes all its images in one call. Without a word about it that is so
    for a list of init_images."""
    if not STAGES[stage.kind].takes_several:
        return False
    if stage.links.fan_out is not None:
        return not stage.links.fan_out
    return bool(own_images(stage)) and not stage.links.inputs


def names_upscaler(fields: Mapping[str, Any]) -> bool:
    """Return whether an upscale says what to enlarge the picture with."""
    return fields.get("upscaler_1") not in (None, "None")


def restores_faces(fields: Mapping[str, Any]) -> bool:
    """Return whether an upscale is asked to do that beside, or instead."""
    return any(
        (fields.get(name) or 0) > 0 for name in ("gfpgan_visibility", "codeformer_visibility")
    )


def first_size(stage: Stage, source: tuple[int, int] | None) -> tuple[int, int] | None:
    """Return width and height of the first pass of a txt2img or img2img, None if they are not
    known. `source`: of the picture that it works on."""
    width, height = stage.fields.get("width"), stage.fields.get("height")
    if width or height or not STAGES[stage.kind].needs_image:
        return width or DEFAULT_SIDE, height or DEFAULT_SIDE
    return source


def hires_size(first: tuple[int, int], fields: Mapping[str, Any]) -> tuple[int, int]:
    """Return width and height after the second pass of a txt2img whose first makes `first`; `first`
    where there is no second pass. A side that is not given follows from the other one."""
    if not fields.get("enable_hr"):
        return first
    x, y = int(fields.get("hr_resize_x") or 0), int(fields.get("hr_resize_y") or 0)
    if not (x or y):
        return scaled(first, float(fields.get("hr_scale") or DEFAULT_SCALE))
    width, height = first
    return x or (height and width * y // height), y or (width and height * x // width)


def scaled(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """Return the sides times `factor`: at least a pixel, and no more than can be told; 0 for a side
    that is not known."""
    width, height = (max(min(1, n), int(min(n * factor, _LONGEST_SIDE))) for n in size)
    return width, height


def calls_of(
    number: int, stage: Stage, seeds: Seeds | None, inputs: Sequence[str], point: int = 0
) -> list[Call]:
    """Return the calls of the stage with this number (from 1), in their order.

    `inputs`: the images of the stage that it takes from, in their order. A stage with images of its
    own, and a txt2img, leave them alone. They are all recorded by then, and so the calls of a stage
    have the same ids after every restart. `point`: see Call.
    """
    prefix = f"p{point}." if point else ""
    calls: list[Call] = []
    first = 0
    for images in takes_of(stage, inputs):
        batch = len(images) if len(images) > 1 else stage.fields.get("batch_size", 1)
        iterations = _iterations(stage, seeds, first if seeds and seeds.drawn else 0, batch)
        first += len(iterations) * batch
        for fields in iterations:
            count = len(calls) + 1
            call_id = f"{prefix}{number}.{count}"
            calls.append(Call(call_id, number, count, stage.kind, fields, images, point))
    return calls


def _iterations(stage: Stage, seeds: Seeds | None, first: int, batch: int) -> list[dict[str, Any]]:
    """Return the payloads for one input image, or for several in one call: one for each of n_iter.
    `first`: what is added to the seed. A seed that the job gave is used for each input alike; a
    random one counts on over them.

    Several images in one call are its batch: with more than batch_size AUTOMATIC1111 v1.10.1 raises
    "bad number of images passed", with fewer it lowers batch_size (modules/processing.py)."""
    kind = STAGES[stage.kind]
    if kind.runs_workflow:  # all but the seed is in the workflow
        rounds = range(stage.fields.get(kind.rounds_field, 1))
        return [{"seed": seeds.seed + first + i} if seeds else {} for i in rounds]
    apart = (kind.image_field, "n_iter")
    fields = {k: v for k, v in stage.texts.items() if k not in apart}
    if seeds is None:
        return [fields]
    if batch != stage.fields.get("batch_size", 1):
        fields["batch_size"] = batch
    n_iter = stage.fields.get("n_iter", 1)
    varies = stage.fields.get("subseed_strength", 0) > 0
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

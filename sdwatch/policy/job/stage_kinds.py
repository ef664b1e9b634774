"""The kinds of stage: one row for each. Pure.

All other code asks a row what is so and never which stage it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sdwatch.policy.job.fields import ExtraSingleImageFields, Img2ImgFields, Txt2ImgFields
from sdwatch.policy.job.schema import Written

API = "/sdapi/v1/"


class Makes(Enum):
    """What a stage makes; its size and its reply are checked accordingly."""

    GENERATED = "pictures of a prompt"
    ENLARGED = "the given picture, enlarged"


@dataclass(frozen=True)
class StageKind:
    """A kind of stage. `name`: in jobs, journals and the route; `short`: what jobs may write
    instead, and images are named after. `fields`: the fields that a job may give.

    `image_field`: where a call has its images, '' if it takes none; `takes_several` images at once.
    `has_steps`: it samples: from a prompt, with seeds, steps and scripts. `needed_field`: each of
    its calls has it. `makes`: which checks its size and its reply get; `reply_field`: where the
    reply has its pictures, or, not `replies_several`, the one.
    """

    name: str
    fields: type[Written]
    makes: Makes
    short: str = ""
    image_field: str = ""
    takes_several: bool = False
    has_steps: bool = True
    needed_field: str = "prompt"
    reply_field: str = "images"
    replies_several: bool = True

    @property
    def route(self) -> str:
        """Return the path of its POST."""
        return API + self.name

    @property
    def needs_image(self) -> bool:
        """Return whether it works on images: the job's, or those of the stage before it."""
        return bool(self.image_field)

    def carrying(self, images: Sequence[str]) -> dict[str, Any]:
        """Return the field of a payload that carries these images, in base64; the first if it takes
        one."""
        if not self.needs_image:
            return {}
        return {self.image_field: list(images) if self.takes_several else images[0]}

    @property
    def short_name(self) -> str:
        """Return the shorter of its names."""
        return self.short or self.name


TXT2IMG = StageKind("txt2img", Txt2ImgFields, Makes.GENERATED)
"""Also that of a job without stages, and of sdwatch's own test pictures."""

_IMG2IMG = StageKind(
    "img2img", Img2ImgFields, Makes.GENERATED, image_field="init_images", takes_several=True
)

_UPSCALE = StageKind(
    "extra-single-image",
    ExtraSingleImageFields,
    Makes.ENLARGED,
    short="upscale",
    image_field="image",
    has_steps=False,
    needed_field="image",
    reply_field="image",
    replies_several=False,
)

STAGES: Mapping[str, StageKind] = {kind.name: kind for kind in (TXT2IMG, _IMG2IMG, _UPSCALE)}

STAGE_NAMES: Mapping[str, StageKind] = {
    **STAGES,
    **{kind.short: kind for kind in STAGES.values() if kind.short},
}
"""By each name that a job may write."""

IMAGE_FIELDS = (*(kind.image_field for kind in STAGES.values() if kind.needs_image), "mask")
"""Fields of a job that name images of its folder."""

PROMPTS = ("prompt", "negative_prompt", "hr_prompt", "hr_negative_prompt")


def with_scripts() -> Iterator[StageKind]:
    """Return the stages that scripts can be part of."""
    return (kind for kind in STAGES.values() if kind.has_steps)

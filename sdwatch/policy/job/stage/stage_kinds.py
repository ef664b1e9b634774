"""The kinds of stage: one row for each. Pure.

All other code asks a row what is so and never which stage it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sdwatch.policy.job.stage.fields import (
    ExtraSingleImageFields,
    Img2ImgFields,
    Txt2ImgFields,
    WorkflowFields,
)
from sdwatch.policy.job.text.typed_values import Written

API = "/sdapi/v1/"


class Makes(Enum):
    """What a stage makes; its size and its reply are checked accordingly."""

    GENERATED = "pictures of a prompt"
    ENLARGED = "the given picture, enlarged"
    SAVED = "whatever the job's own workflow saves"


@dataclass(frozen=True)
class StageKind:
    """A kind of stage. `name`: in jobs, journals and the route; `short`: what jobs may write
    instead, and images are named after. `fields`: the fields that a job may give.

    `image_field`: where a call has its images, '' if it takes none; `takes_several` images at once.
    `has_steps`: it samples: from a prompt, with seeds, steps and scripts. `needed_field`: each of
    its calls has it. `makes`: which checks its size and its reply get; `reply_field`: where the
    reply has its pictures, or, not `replies_several`, the one.

    `runs_workflow`: of the job's own. Only a WebUI that queues workflows has such a stage; it works
    on images only where the job says so, has the fields' values already in its file, and no
    scripts. `rounds_field`: how often it is done, each time with the next seed. `path`: of its
    POST, where that is not below API.
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
    runs_workflow: bool = False
    rounds_field: str = "n_iter"
    path: str = ""

    @property
    def route(self) -> str:
        """Return the path of its POST."""
        return self.path or API + self.name

    @property
    def takes_image(self) -> bool:
        """Return whether it can work on images."""
        return bool(self.image_field)

    @property
    def needs_image(self) -> bool:
        """Return whether it works on images: the job's, or those of the stage before it."""
        return self.takes_image and not self.runs_workflow

    def carrying(self, images: Sequence[str]) -> dict[str, Any]:
        """Return the field of a payload that carries these images, in base64; the first if it takes
        one."""
        if not (self.takes_image and images):
            return {}
        several = self.takes_several or self.runs_workflow
        return {self.image_field: list(images) if several else images[0]}

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

WORKFLOW_STAGE = "workflow"
"""The name of the stage that runs a workflow of the job's own."""

_WORKFLOW = StageKind(
    WORKFLOW_STAGE,
    WorkflowFields,
    Makes.SAVED,
    image_field="images",
    needed_field="file",
    runs_workflow=True,
    rounds_field="repeat",
    path="/prompt",
)

STAGES: Mapping[str, StageKind] = {
    kind.name: kind for kind in (TXT2IMG, _IMG2IMG, _UPSCALE, _WORKFLOW)
}

STAGE_NAMES: Mapping[str, StageKind] = {
    **STAGES,
    **{kind.short: kind for kind in STAGES.values() if kind.short},
}
"""By each name that a job may write."""

IMAGE_FIELDS = tuple(
    dict.fromkeys([*(kind.image_field for kind in STAGES.values() if kind.takes_image), "mask"])
)
"""Fields of a job that name images of its folder, each once."""

PROMPTS = ("prompt", "negative_prompt", "hr_prompt", "hr_negative_prompt")

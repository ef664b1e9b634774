"""The fields of each stage: the WebUI's own API fields, those of AUTOMATIC1111 and of Forge.

Names and types are those of the openapi.json of AUTOMATIC1111 v1.10.1 and Forge dfdcbab6. A bound
is here only where both are known to fail or to return nonsense without it. `firstpass_image` and
`latent_mask` are left out: what a WebUI does with the text that they take was not measured.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import Field, WithJsonSchema

from sdwatch.policy.job.text.typed_values import (
    NUMBER,
    ONE_OR_MORE,
    WHOLE,
    Free,
    Number,
    Reading,
    Whole,
    Written,
    must_be,
    reading,
)

Share = Annotated[float, Field(ge=0, le=1), NUMBER]
AtLeastOne = Annotated[int, Field(ge=1), WHOLE]
Pixels = Annotated[int, Field(ge=8, le=16384), WHOLE]
Seed = Annotated[int, Field(ge=-1), WHOLE]


ID = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")
_LIKE_AN_ID = Field(json_schema_extra={"pattern": f"^{ID.pattern}$"})


class StageFields(Written):
    """What each stage has beside the fields of its route; see graph.py."""

    id: Annotated[str, Field(min_length=1, max_length=40), _LIKE_AN_ID] | None = Field(
        None,
        description="A name for this stage, for the `input` of later ones: letters, digits, `_` "
        "and `-`.",
    )


class RouteFields(StageFields):
    """The same, of a stage with a route of /sdapi."""

    payload: dict[str, Free] | None = Field(
        None,
        description="Fields of the WebUI that sdwatch does not know, sent as they are; ComfyUI has "
        "none.",
    )


class InputFields(StageFields):
    """The same, of a stage that works on images."""

    input: str | None = Field(
        None,
        description="What to work on: the `id` of an earlier stage, an image of the job folder, or "
        "a pattern over its images such as `poses/*.png` (2.png comes before 10.png). Default: "
        "the stage before.",
    )
    fan_out: bool | None = Field(
        None,
        description="On (default): one call for each image. Off, of an img2img alone: all in one "
        "call, as one batch (its `batch_size` is their number). A list in `init_images` is one "
        "call, unless this is on.",
    )


class GenerationFields(RouteFields):
    """What txt2img and img2img have in common."""

    prompt: str | None = Field(None, description="What to draw.")
    negative_prompt: str | None = Field(None, description="What not to draw.")
    styles: Annotated[list[str], ONE_OR_MORE] | None = Field(
        None, description="Names of the WebUI's saved styles."
    )
    seed: Seed | None = Field(None, description="-1: another one each time.")
    subseed: Seed | None = Field(None, description="A variation of the seed.")
    subseed_strength: Number | None = Field(None, description="How much of it, 0 to 1.")
    seed_resize_from_h: Whole | None = None
    seed_resize_from_w: Whole | None = None
    sampler_name: str | None = Field(
        None, description="As GET /sdapi/v1/samplers lists it, such as Euler."
    )
    sampler_index: str | None = None
    scheduler: str | None = Field(
        None, description="As GET /sdapi/v1/schedulers lists it, such as Karras."
    )
    batch_size: AtLeastOne | None = Field(None, description="Images drawn at once.")
    n_iter: Annotated[int, Field(ge=1, le=1000), WHOLE] | None = Field(
        None, description="Images drawn one after the other."
    )
    steps: AtLeastOne | None = Field(None, description="Sampling steps.")
    cfg_scale: Number | None = Field(
        None, description="How closely it follows the prompt, such as 7; 1 for Flux."
    )
    distilled_cfg_scale: Number | None = Field(
        None, description="Forge: the guidance of Flux, such as 3.5."
    )
    width: Pixels | None = Field(None, description="In pixels, a multiple of 8.")
    height: Pixels | None = Field(None, description="In pixels, a multiple of 8.")
    denoising_strength: Share | None = Field(
        None, description="0 keeps the image that it starts from, 1 replaces it."
    )
    restore_faces: bool | None = Field(
        None, description="With GFPGAN or CodeFormer, after each picture."
    )
    tiling: bool | None = Field(None, description="Pictures whose edges fit together.")
    do_not_save_samples: bool | None = None
    do_not_save_grid: bool | None = None
    eta: Number | None = None
    s_min_uncond: Number | None = None
    s_churn: Number | None = None
    s_tmax: Number | None = None
    s_tmin: Number | None = None
    s_noise: Number | None = None
    override_settings: dict[str, Free] | None = Field(
        None, description="The WebUI's settings for this stage, such as sd_model_checkpoint."
    )
    override_settings_restore_afterwards: bool | None = None
    refiner_checkpoint: str | None = Field(None, description="The checkpoint for the last steps.")
    refiner_switch_at: Number | None = Field(
        None, description="The share of the steps after which it takes over, such as 0.8."
    )
    disable_extra_networks: bool | None = None
    comments: dict[str, Free] | None = None
    hr_distilled_cfg: Number | None = None
    force_task_id: str | None = None
    infotext: str | None = None
    script_name: str | None = Field(None, description="One of the WebUI's selectable scripts.")
    script_args: Annotated[list[Free], ONE_OR_MORE] | None = Field(
        None, description="Its arguments, by their places."
    )
    alwayson_scripts: dict[str, Free] | None = Field(
        None, description="Scripts and extensions by name, each with its `args`."
    )
    send_images: bool | None = None
    save_images: bool | None = None


class Txt2ImgFields(GenerationFields):
    """POST /sdapi/v1/txt2img."""

    enable_hr: bool | None = Field(None, description="Hires: a second, larger pass.")
    firstphase_width: Whole | None = None
    firstphase_height: Whole | None = None
    hr_scale: Number | None = Field(None, description="How much larger, such as 1.5.")
    hr_upscaler: str | None = Field(
        None, description="What enlarges between the passes, such as Latent."
    )
    hr_second_pass_steps: Whole | None = Field(
        None, description="Steps of the second pass; 0: as the first."
    )
    hr_resize_mode: Whole | None = None  # SD.Next enlarges only with one above 0
    hr_resize_x: Whole | None = Field(None, description="Its width in pixels instead of hr_scale.")
    hr_resize_y: Whole | None = Field(None, description="Its height in pixels instead of hr_scale.")
    hr_checkpoint_name: str | None = None
    hr_additional_modules: Annotated[list[Free], ONE_OR_MORE] | None = None
    hr_sampler_name: str | None = None
    hr_scheduler: str | None = None
    hr_prompt: str | None = None
    hr_negative_prompt: str | None = None
    hr_cfg: Number | None = None


class Img2ImgFields(GenerationFields, InputFields):
    """POST /sdapi/v1/img2img. `init_images` and `mask` are names of images of the job folder."""

    init_images: Annotated[list[str], Field(min_length=1, max_length=64), ONE_OR_MORE] | None = (
        Field(None, description="Images of the job folder; without them those of the stage before.")
    )
    mask: str | None = Field(
        None, description="An image of the job folder: what is white in it is drawn."
    )
    mask_blur: Whole | None = Field(None, description="Pixels of a soft edge of the mask.")
    mask_blur_x: Whole | None = None
    mask_blur_y: Whole | None = None
    mask_round: bool | None = None
    resize_mode: Whole | None = None
    image_cfg_scale: Number | None = None
    inpainting_fill: Whole | None = None
    inpaint_full_res: bool | None = Field(
        None, description="Draw only around the mask, in full size."
    )
    inpaint_full_res_padding: Whole | None = None
    inpainting_mask_invert: Whole | None = Field(
        None, description="1: what is black in the mask is drawn."
    )
    initial_noise_multiplier: Number | None = None
    include_init_images: bool | None = None


class ExtraSingleImageFields(InputFields, RouteFields):
    """POST /sdapi/v1/extra-single-image. `image` is the name of an image of the job folder."""

    image: str | None = Field(
        None, description="An image of the job folder; without it those of the stage before."
    )
    resize_mode: Annotated[int, Field(ge=0, le=1), WHOLE] | None = None
    show_extras_results: bool | None = None
    gfpgan_visibility: Share | None = Field(None, description="How much GFPGAN restores faces.")
    codeformer_visibility: Share | None = Field(None, description="The same with CodeFormer.")
    codeformer_weight: Share | None = None
    upscaling_resize: Annotated[float, Field(gt=0), NUMBER] | None = Field(
        None, description="How much larger, such as 2."
    )
    upscaling_resize_w: AtLeastOne | None = Field(None, description="A width in pixels instead.")
    upscaling_resize_h: AtLeastOne | None = Field(None, description="A height in pixels instead.")
    upscaling_crop: bool | None = Field(None, description="Crop to that size.")
    upscaler_1: str | None = Field(
        None, description="As GET /sdapi/v1/upscalers lists it, such as Lanczos."
    )
    upscaler_2: str | None = Field(None, description="A second one, mixed in.")
    extras_upscaler_2_visibility: Share | None = Field(
        None, description="How much of the second one."
    )
    upscale_first: bool | None = None


_LARGEST_SEED = 2**64 - 1  # of ComfyUI


def _seed(text: str) -> int:
    if not re.fullmatch(r"(-1|[0-9]{1,20})(\.0+)?", text):
        raise ValueError(text)
    return int(text.partition(".")[0])


WorkflowSeed = Annotated[
    int, Field(ge=-1, le=_LARGEST_SEED), reading(_seed, "a whole number, or -1")
]


_MOST_IMAGES = 10_000


def _images(value: object) -> object:
    """Return the images for one place, or those by place."""
    if isinstance(value, dict) and value and all(isinstance(v, str) for v in value.values()):
        return {str(place): str(name) for place, name in value.items()}
    listed = [value] if isinstance(value, str) else value
    if (
        isinstance(listed, list)
        and 0 < len(listed) <= _MOST_IMAGES
        and all(isinstance(v, str) for v in listed)
    ):
        return list(map(str, listed))
    raise must_be(_IMAGES.allowed)


_IMAGES = Reading(
    _images,
    allowed="an image of the job folder, a list of them, or a mapping of inputs to images",
)
_AS_SCHEMA = {
    "anyOf": [
        {"type": "array", "items": {"type": "string"}, "minItems": 1},  # or one, see editor_schema
        {
            "type": "object",
            "additionalProperties": {"type": ["string", "number", "boolean"]},
            "minProperties": 1,
        },
    ]
}


class WorkflowFields(InputFields):
    """A workflow of ComfyUI, beside job.yaml. Its file has a value for each input; what is here
    stands instead of these."""

    file: str | None = Field(
        None,
        description="The workflow: a file of the job folder that ComfyUI's menu Workflow → Export "
        "(API) wrote.",
    )
    set: Annotated[dict[str, Free], Field(max_length=1000)] | None = Field(
        None,
        description="Values for its inputs: the node by its title or id, a dot, the input, as "
        '`Positive.text: a castle` or `"5.width": 1216`.',
    )
    prompt: str | None = Field(
        None, description="For the one text that reaches a sampler as its positive prompt."
    )
    negative_prompt: str | None = Field(None, description="The same for the negative one.")
    seed: WorkflowSeed | None = Field(
        None, description="For its one seed. -1: another one each time. Default: as in the file."
    )
    steps: AtLeastOne | None = Field(None, description="For its one input `steps`.")
    cfg: Number | None = Field(None, description="For its one input `cfg`.")
    width: AtLeastOne | None = Field(None, description="In pixels, of its one empty latent image.")
    height: AtLeastOne | None = Field(None, description="The same.")
    checkpoint: str | None = Field(None, description="For its one input `ckpt_name`.")
    images: Annotated[Any, _IMAGES, WithJsonSchema(_AS_SCHEMA)] | None = Field(
        None,
        description="Images of the job folder for its one node that loads one: a call for each. Or "
        "`{Pose.image: pose.png}`: for these inputs, in every call. Default: behind another stage "
        "that one's, else what the file names.",
    )
    repeat: Annotated[int, Field(ge=1, le=1000), WHOLE] | None = Field(
        None, description="How often it is run, each time with the next seed."
    )
    outputs: Annotated[list[str], Field(min_length=1, max_length=100), ONE_OR_MORE] | None = Field(
        None,
        description="The nodes, by title or id, whose pictures are taken. Default: all that save "
        "to the output folder; a preview does not.",
    )
    allow: Annotated[list[str], Field(max_length=100), ONE_OR_MORE] | None = Field(
        None, description="Classes of nodes that send what they get to a paid service."
    )

"""The fields of each stage: the WebUI's own API fields, those of AUTOMATIC1111 and of Forge.

Names and types are those of the openapi.json of AUTOMATIC1111 v1.10.1 and Forge dfdcbab6. A bound
is here only where both are known to fail or to return nonsense without it. `firstpass_image` and
`latent_mask` are left out: what a WebUI does with the text that they take was not measured.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
AtLeastOne = Annotated[int, Field(ge=1)]
Pixels = Annotated[int, Field(ge=8, le=16384)]
Seed = Annotated[int, Field(ge=-1)]


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GenerationFields(_Fields):
    """What txt2img and img2img have in common."""

    prompt: str | None = Field(None, description="What to draw.")
    negative_prompt: str | None = Field(None, description="What not to draw.")
    styles: list[str] | None = None
    seed: Seed | None = Field(None, description="-1: another one each time.")
    subseed: Seed | None = None
    subseed_strength: float | None = None
    seed_resize_from_h: int | None = None
    seed_resize_from_w: int | None = None
    sampler_name: str | None = None
    sampler_index: str | None = None
    scheduler: str | None = None
    batch_size: AtLeastOne | None = Field(None, description="Images drawn at once.")
    n_iter: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        None, description="Images drawn one after the other."
    )
    steps: AtLeastOne | None = None
    cfg_scale: float | None = None
    distilled_cfg_scale: float | None = None
    width: Pixels | None = None
    height: Pixels | None = None
    denoising_strength: Share | None = None
    restore_faces: bool | None = None
    tiling: bool | None = None
    do_not_save_samples: bool | None = None
    do_not_save_grid: bool | None = None
    eta: float | None = None
    s_min_uncond: float | None = None
    s_churn: float | None = None
    s_tmax: float | None = None
    s_tmin: float | None = None
    s_noise: float | None = None
    override_settings: dict[str, Any] | None = Field(
        None, description="The WebUI's settings for this stage, such as sd_model_checkpoint."
    )
    override_settings_restore_afterwards: bool | None = None
    refiner_checkpoint: str | None = None
    refiner_switch_at: float | None = None
    disable_extra_networks: bool | None = None
    comments: dict[str, Any] | None = None
    hr_distilled_cfg: float | None = None
    force_task_id: str | None = None
    infotext: str | None = None
    script_name: str | None = None
    script_args: list[Any] | None = None
    alwayson_scripts: dict[str, Any] | None = None
    send_images: bool | None = None
    save_images: bool | None = None


class Txt2ImgFields(GenerationFields):
    """POST /sdapi/v1/txt2img."""

    enable_hr: bool | None = None
    firstphase_width: int | None = None
    firstphase_height: int | None = None
    hr_scale: float | None = None
    hr_upscaler: str | None = None
    hr_second_pass_steps: int | None = None
    hr_resize_mode: int | None = None  # SD.Next enlarges only with one above 0
    hr_resize_x: int | None = None
    hr_resize_y: int | None = None
    hr_checkpoint_name: str | None = None
    hr_additional_modules: list[Any] | None = None
    hr_sampler_name: str | None = None
    hr_scheduler: str | None = None
    hr_prompt: str | None = None
    hr_negative_prompt: str | None = None
    hr_cfg: float | None = None


class Img2ImgFields(GenerationFields):
    """POST /sdapi/v1/img2img. `init_images` and `mask` are names of images of the job folder."""

    init_images: Annotated[list[str], Field(min_length=1, max_length=64)] | None = Field(
        None, description="Images of the job folder; without them those of the stage before."
    )
    mask: str | None = None
    mask_blur: int | None = None
    mask_blur_x: int | None = None
    mask_blur_y: int | None = None
    mask_round: bool | None = None
    resize_mode: int | None = None
    image_cfg_scale: float | None = None
    inpainting_fill: int | None = None
    inpaint_full_res: bool | None = None
    inpaint_full_res_padding: int | None = None
    inpainting_mask_invert: int | None = None
    initial_noise_multiplier: float | None = None
    include_init_images: bool | None = None


class ExtraSingleImageFields(_Fields):
    """POST /sdapi/v1/extra-single-image. `image` is the name of an image of the job folder."""

    image: str | None = Field(
        None, description="An image of the job folder; without it those of the stage before."
    )
    resize_mode: Annotated[int, Field(ge=0, le=1)] | None = None
    show_extras_results: bool | None = None
    gfpgan_visibility: Share | None = None
    codeformer_visibility: Share | None = None
    codeformer_weight: Share | None = None
    upscaling_resize: Annotated[float, Field(gt=0)] | None = None
    upscaling_resize_w: AtLeastOne | None = None
    upscaling_resize_h: AtLeastOne | None = None
    upscaling_crop: bool | None = None
    upscaler_1: str | None = None
    upscaler_2: str | None = None
    extras_upscaler_2_visibility: Share | None = None
    upscale_first: bool | None = None

"""Unknown fields: aliases, which people use for a field, and where it goes; and those that WebUIs
write into their own dumps of a request, and that say nothing. Pure.

The names are those of A1111's and ComfyUI's own pages, of infotexts, of diffusers, and of what
people wrote in reports (A1111#14103, A1111#3703, adetailer#527). `seed_enable_extras` is in
payloads of A1111 0.9 and Forge (forge#2041); SD.Next 058a7f0c dumps some 200 fields of its own,
nearly all at their defaults, which are known from its openapi.json.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping

from sdwatch.policy.job.stage.stage_kinds import STAGES
from sdwatch.policy.job.text.document import Mapping as MappingNode
from sdwatch.policy.job.text.document import Node, Scalar, Sequence

_SETTING = "write it as `override_settings: {{{0}}}`"
_CHECKPOINT = _SETTING.format("sd_model_checkpoint: NAME")
_SIZE = "write `width: 512` and `height: 768`"
_HIRES = "write `enable_hr: true`, with `hr_scale`, `hr_upscaler` and `hr_second_pass_steps`"
_RESULTS = "images always go to the run's own folder in done/; `name` names the job"
_FORMAT = "images are kept as the WebUI sends them; the format is one of its own settings"
_NOTHING = "leave it out: it only says how a picture was made"
_SCRIPT = "write it as `alwayson_scripts: {{{0}: {{args: [...]}}}}`"

_PLACES: Mapping[str, str] = {
    "checkpoint ckpt model model_name base_model sd_model sd_model_checkpoint checkpoint_name "
    "ckpt_name stable_diffusion_model stable_diffusion_checkpoint model_id": _CHECKPOINT,
    "vae vae_name sd_vae": _SETTING.format("sd_vae: NAME")
    + "; on Forge `forge_additional_modules: [NAME]` stands there",
    "clip_skip clipskip clip_stop_at_last_layers": _SETTING.format("CLIP_stop_at_last_layers: 2"),
    "ensd eta_noise_seed_delta": _SETTING.format("eta_noise_seed_delta: 31337"),
    "rng randn_source": _SETTING.format("randn_source: CPU"),
    "size resolution dimensions image_size": _SIZE,
    "hires hires_fix hiresfix highres highres_fix hr hr_fix": _HIRES,
    "upscaler": "write `hr_upscaler` with `enable_hr: true`, or a stage `- upscale:` with "
    "`upscaler_1`",
    "lora loras lycoris": "write `<lora:NAME:0.8>` in the prompt",
    "embedding embeddings textual_inversion": "write its name in the prompt",
    "output_dir outdir output output_path out save_path save_dir folder directory filename "
    "file_name output_name outfile": _RESULTS,
    "format image_format file_format extension samples_format output_format": _FORMAT,
    "controlnet controlnet_units controlnet_unit control_net cn controlnet_input_image "
    "controlnet_model controlnet_module": _SCRIPT.format("ControlNet"),
    "adetailer detailer after_detailer ad_model": _SCRIPT.format("ADetailer"),
    "job jobs tasks pipeline workflow": "write `stages:`",
    "model_hash sd_model_hash lora_hashes vae_hash ti_hashes hashes version": _NOTHING,
}

_NAMES: Mapping[str, str] = {
    "count images batch_count num_images number_of_images n_images image_count iterations "
    "num_iterations iter repeat repeats samples n_samples num_samples num_images_per_prompt": (
        "n_iter"
    ),
    "batch": "batch_size",
    "cfg cfgscale guidance guidance_scale scale classifier_free_guidance": "cfg_scale",
    "flux_guidance distilled_cfg distilled_guidance": "distilled_cfg_scale",
    "sampler sampling_method sampler_method sampling": "sampler_name",
    "schedule schedule_type scheduler_name scheduler_type noise_schedule": "scheduler",
    "negative neg neg_prompt negativeprompt negative_text uc": "negative_prompt",
    "positive positive_prompt text prompts": "prompt",
    "w": "width",
    "h": "height",
    "denoise denoising strength denoise_strength denoising_str": "denoising_strength",
    "hires_upscaler highres_upscaler": "hr_upscaler",
    "hires_steps hr_steps": "hr_second_pass_steps",
    "hires_upscale hires_scale upscale_by upscale_factor": "hr_scale",
    "hires_sampler": "hr_sampler_name",
    "hires_schedule_type": "hr_scheduler",
    "hires_cfg_scale": "hr_cfg",
    "variation_seed": "subseed",
    "variation_seed_strength variation_strength": "subseed_strength",
    "step num_steps num_inference_steps sampling_steps": "steps",
    "face_restoration face_restore restore_face": "restore_faces",
    "tile tileable": "tiling",
    "style": "styles",
    "script": "script_name",
    "scripts extensions": "alwayson_scripts",
    "refiner": "refiner_checkpoint",
    "refiner_switch": "refiner_switch_at",
    "init_image initial_image input_image source_image img": "init_images",
    "inpaint_mask mask_image": "mask",
}

_MISSPELT = 0.85  # of difflib: a name so near to a field of this stage is that field, misspelt

_KNOWN = {alias: f"; {place}" for names, place in _PLACES.items() for alias in names.split()}
_FIELDS = {alias: name for names, name in _NAMES.items() for alias in names.split()}


def misspells(name: str, known: Collection[str]) -> bool:
    """Return whether an unknown name is one of a stage's fields, with a mistake in it."""
    return name not in _ALSO_THERE and bool(difflib.get_close_matches(name, known, 1, _MISSPELT))


def _in_workflow(name: str, known: Collection[str]) -> str:
    """Return the hint for a stage that takes the inputs of any node, by another field."""
    if meant := _OF_WORKFLOWS.get(name):
        return f'; did you mean "{meant}"?'
    if difflib.get_close_matches(name, known, 1, 0.75):
        return ""
    return "; an input of a node stands below `set`, as `set: {KSampler.denoise: 0.5}`"


_OF_WORKFLOWS = {
    alias: name
    for names, name in {
        "cfg_scale guidance guidance_scale": "cfg",
        "ckpt ckpt_name model sd_model_checkpoint": "checkpoint",
        "n_iter count batch_count repeats": "repeat",
        "image init_image init_images": "images",
        "workflow workflow_file path json": "file",
        "inputs values overrides nodes": "set",
        "positive text": "prompt",
        "negative": "negative_prompt",
        "noise_seed": "seed",
        "save output": "outputs",
        "from": "input",
    }.items()
    for alias in names.split()
}

_ALSO_THERE = ("seed_enable_extras", "hr_resize_mode", "hr_denoising_strength", "resize_mode")
"""Fields of some WebUI that are only like another."""


def where_it_goes(name: str, stage: str) -> str:
    """Return the hint for an unknown field `name` of a stage, as `; did you mean "n_iter"?`; ''
    where no better one is known than the name that looks alike."""
    folded = re.sub(r"[\s\-]+", "_", name.strip().lower())
    here = STAGES.get(stage)
    known = here.fields.model_fields if here else {}
    if folded in known:
        return f'; did you mean "{folded}"?'
    if here and here.runs_workflow:
        return _in_workflow(folded, known)
    meant = _FIELDS.get(folded, folded)
    if meant in known:
        return f'; did you mean "{meant}"?'
    if misspells(folded, known):
        return ""
    if found := _KNOWN.get(folded):
        return found
    home = next((kind for kind in STAGES.values() if meant in kind.fields.model_fields), None)
    if home:
        short = home.short_name
        return f'; "{meant}" belongs to a stage of its own: `stages:` with `- {short}:` in it'
    return ""


# -- dumped by a WebUI

_ALWAYS = ("seed_enable_extras",)
_AT_DEFAULT = re.compile(
    r"firstpass_image|latent_mask|clip_skip|sd_model_checkpoint|vae_type|hidiffusion|xyz|extra"
    r"|(guidance|cfg|detailer|hdr|grading|schedulers|freeu|hypertile|teacache|lora|diffusers|te|sd)"
    r"_\w+|(scale_by|selected_scale_tab|width|height|resize_(mode|name|context))_?\w*"
    r"|hr_(force|resize_mode|resize_context|denoising_strength|refiner_start|sampler_name|scale"
    r"|upscaler|second_pass_steps|resize_[xy])|firstphase_(width|height)|enable_hr"
    r"|refiner_(steps|start|prompt|negative)|(mask|init|overlay|paste|samples|grid|image)_\w+"
    r"|initial_noise_multiplier|inpaint\w*|mask|img2img_\w+|color_correction_method|include_mask"
    r"|save_images_\w+|return_grid|keep_incomplete|jpeg_quality|extra_networks_\w+|enhance_prompt"
    r"|scheduler_eta|eta_noise_seed_delta|enable_batch_seeds|nan_skip|sequential_seed|prompt_\w+"
    r"|uni_pc_variant|token_merging_method|tome_ratio|todo_ratio|skip_processing|network_data"
    r"|ip_adapter|control_units|face(_id)?|do_not_reload_embeddings"
)
_DEFAULTS = (
    *("", "false", "0", "0.0", "1", "1.0", "2.0", "4", "4.0", "5", "6.0", "8", "10", "0.3", "0.5"),
    *("0.6", "0.95", "1024", "6500", "none", "default", "full", "same as primary"),
    *("#000000", "#ffffff"),
)


def says_nothing(name: str, value: Node) -> bool:
    """Return whether an unknown field is only there because a WebUI dumped it."""
    if name in _ALWAYS:
        return True
    if not _AT_DEFAULT.fullmatch(name):
        return False
    if isinstance(value, Scalar):
        return value.is_null or value.text.lower() in _DEFAULTS
    return not (value.items if isinstance(value, Sequence) else value.entries)


def without_dumped(node: Node, known: frozenset[str]) -> tuple[Node, tuple[Scalar, ...]]:
    """Return the fields of a stage without those that say nothing, and the keys of these. `known`:
    the names that the stage has."""
    if not isinstance(node, MappingNode):
        return node, ()
    dumped = tuple(
        key
        for key, value in node.entries
        if key.text not in known
        and says_nothing(key.text, value)
        and not misspells(key.text, known)
    )
    kept = tuple(entry for entry in node.entries if entry[0] not in dumped)
    return MappingNode(kept, node.line, node.column), dumped

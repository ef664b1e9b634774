"""Drop fields that WebUIs write into their own dumps of a request and that say nothing. Pure.

`seed_enable_extras` is in payloads of A1111 0.9 and Forge (forge#2041); SD.Next 058a7f0c dumps some
200 fields of its own, nearly all at their defaults, which are known from its openapi.json.
"""

from __future__ import annotations

import re

from sdwatch.policy.job.stage.aliases import misspells
from sdwatch.policy.job.text.document import Mapping, Node, Scalar, Sequence

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
    if not isinstance(node, Mapping):
        return node, ()
    dumped = tuple(
        key
        for key, value in node.entries
        if key.text not in known
        and says_nothing(key.text, value)
        and not misspells(key.text, known)
    )
    kept = tuple(entry for entry in node.entries if entry[0] not in dumped)
    return Mapping(kept, node.line, node.column), dumped

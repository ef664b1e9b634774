"""Sanitise a payload for evidence: what was asked for, without prompts, images and secrets.

Pure: the payload is read, never changed; the same payload gives the same result.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import re
import struct
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image

from sdwatch.policy.job.stage.scripts import IMAGE_DATA
from sdwatch.policy.job.stage.stage_kinds import IMAGE_FIELDS
from sdwatch.policy.privacy.common_words import is_common
from sdwatch.policy.workflow import WORKFLOW

if TYPE_CHECKING:
    from sdwatch.policy.workflow.workflow import Node

Kind = Literal["name", "image", "secret", "text"]

DEEPEST = 32
LONGEST_NAME = 200
LONG_BASE64 = 1000

# Names of things that a WebUI lists, not prompts (txt2img, img2img and extras of Forge dfdcbab6).
NAME_KEYS = frozenset(
    [
        "sampler_name",
        "sampler_index",
        "scheduler",
        "hr_sampler_name",
        "hr_scheduler",
        "upscaler_1",
        "upscaler_2",
        "hr_upscaler",
        "upscaler",
        "sd_model_checkpoint",
        "sd_vae",
        "sd_checkpoint_hash",
        "refiner_checkpoint",
        "hr_checkpoint_name",
        "hr_additional_modules",
        "forge_additional_modules",
        "script_name",
        "resize_mode",
    ]
)
_LISTED = frozenset(
    [
        *("ckpt_name", "vae_name", "lora_name", "unet_name", "model_name", "control_net_name"),
        *("clip_name", "clip_name1", "clip_name2", "clip_name3", "style_model_name"),
        *("sampler_name", "scheduler", "upscale_method", "crop", "weight_dtype", "device"),
        *("type", "channel", "add_noise", "return_with_leftover_noise"),
    ]
)
"""Inputs of ComfyUI's own nodes that take one of a list (0.33.0)."""
_TEXT_INPUTS = frozenset(
    ["text", "text_g", "text_l", "clip_l", "t5xxl", "prompt", "string", "value"]
)
_NODE_ID = re.compile(r"[0-9]{1,20}(?::[0-9]{1,20}){0,9}")
LONGEST_CLASS = 100
IMAGE_KEYS = frozenset(
    [
        *IMAGE_FIELDS,
        "init_image",
        "images",
        "imagelist",
        "mask_image",
        "firstpass_image",
        "latent_mask",
        "input_image",
        "input_images",
    ]
)
_SECRET_KEY = re.compile(r"passw|secret|token\b|api_?key|authorization|cookie|credential", re.I)
_BASE64 = re.compile(r"[A-Za-z0-9+/_\-\r\n]++={0,2}\s*")
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_.:+-]{0,59}")
_WORD = re.compile(r"[^\W_]+")
_SCRIPTS = (
    *("additional networks", "animatediff", "anti burn", "booru tag", "composable lora"),
    *("controlnet", "cutoff", "dynamic prompts", "dynamic thresholding", "extra options"),
    *("fooocus inpaint",),
    *("forge couple", "freeu integrated", "hypertile integrated", "kohya hrfix", "latent couple"),
    *("latentmodifier integrated", "multidiffusion integrated", "never oom integrated"),
    *("perturbed-attention guidance", "randomize", "regional prompter", "self attention guidance"),
    *("selfattentionguidance integrated", "soft inpainting", "styleselectorxl", "style selector"),
    *("tiled diffusion", "tiled vae", "ultimate sd upscale", "x/y/z plot", "stylealign integrated"),
)  # fmt: skip
"""How titles of scripts of several words begin that Forge, AUTOMATIC1111 and much used extensions
have."""
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")


def sanitise(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the payload with each text as `{"text": {"length", "sha256"}}` and each image as
    `{"image": {"length", "sha256", "size"}}`.

    Numbers, booleans, null, keys, and the names under `NAME_KEYS` stay. `length` counts
    characters; an image's sha256 is that of its decoded bytes, its size `"WxH"` or None. Of a
    workflow its structure stays: ids, classes and links of its nodes, without their titles.
    """
    return {_clean_key(key): _clean_field(key, value) for key, value in payload.items()}


def strings(payload: Mapping[str, Any]) -> Iterator[tuple[Kind, str]]:
    """Yield every string value of a payload, wherever it is nested, with what it is taken for."""
    for key, value in payload.items():
        if key == WORKFLOW and (nodes := _nodes_in(value)) is not None:
            # Who learns them keeps the last ones, if there are too many.
            for node in sorted(nodes, key=lambda node: not _TEXT_INPUTS.isdisjoint(node.inputs)):
                yield from _strings_of_node(node)
        else:
            yield from _strings(str(key), value, 1)


def kind_of(key: str, value: str) -> Kind:
    """Return what a string under `key` is taken for; in doubt it is a text, and hidden."""
    if _is_secret(key):
        return "secret"
    if (
        key.lower() in IMAGE_KEYS
        or IMAGE_DATA.match(value)
        or (len(value) >= LONG_BASE64 and _BASE64.fullmatch(value))
    ):
        return "image"
    is_name = key in NAME_KEYS and len(value) <= LONGEST_NAME and value.isprintable()
    return "name" if is_name else "text"


def digest(text: str) -> str:
    """Return the sha256 of a text, in hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _clean_field(key: str, value: Any) -> Any:
    if key != WORKFLOW or (nodes := _nodes_in(value)) is None:
        return _clean(key, value, 1)
    return {
        "nodes": {_clean_id(node.id): _clean_node(node) for node in nodes},
        "outputs": [_clean_id(str(id)) for id in value.get("outputs") or ()],
    }


def _nodes_in(value: Any) -> list[Node] | None:
    """Return the nodes of a workflow that a payload carries, None for anything else."""
    from sdwatch.policy.workflow.workflow import WorkflowError, workflow_of  # few payloads have one

    try:
        return list(workflow_of(value["nodes"]).nodes.values())
    except (WorkflowError, KeyError, TypeError, AttributeError):
        return None


def _clean_node(node: Node) -> dict[str, Any]:
    is_class = len(node.kind) <= LONGEST_CLASS and node.kind.isprintable()
    values = {
        _clean_key(name): value if _is_listed(name, value) else _clean(name, value, 2)
        for name, value in node.values().items()
    }
    links = {_clean_key(name): [_clean_id(link.node), link.slot] for name, link in node.links()}
    return {
        "class_type": node.kind if is_class else _hidden_key(node.kind),
        "links": links,
        "values": values,
    }


def _clean_id(id: str) -> str:
    return id if _NODE_ID.fullmatch(id) else _hidden_key(id)


def _strings_of_node(node: Node) -> Iterator[tuple[Kind, str]]:
    """Yield the texts in a node's inputs. Its title is its name for people. The editor puts
    `ComfyUI` into each filename_prefix, and switches have words such as `enable`: to hide these
    makes a log unreadable."""
    for name, value in node.values().items():
        is_word = isinstance(value, str) and _WORD.fullmatch(value) is not None
        is_said_often = is_word and name not in _TEXT_INPUTS and is_common(value)
        if _is_listed(name, value) or is_said_often:
            yield "name", value
        else:
            yield from _strings("", {name: value}, 1)


def _is_listed(name: str, value: Any) -> bool:
    """Return whether an input of a node is one of a list, by its name."""
    is_name = isinstance(value, str) and len(value) <= LONGEST_NAME and value.isprintable()
    return is_name and name in _LISTED


def _strings(key: str, value: Any, depth: int) -> Iterator[tuple[Kind, str]]:
    if isinstance(value, str):
        yield kind_of(key, value), value
    elif depth >= DEEPEST:
        return
    elif isinstance(value, Mapping):
        for inner, item in value.items():
            name = str(inner)
            if not _is_name_of_field(name):
                yield "text", name
            yield from _strings(key if _is_secret(key) else name, item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(key, item, depth + 1)


def _clean(key: str, value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if _is_secret(key):
        return {"secret": "hidden"}
    if isinstance(value, int | float):
        return value
    if isinstance(value, str):
        kind = kind_of(key, value)
        if kind == "image":
            return {"image": _describe_image(value)}
        return (
            value if kind == "name" else {"text": {"length": len(value), "sha256": digest(value)}}
        )
    if depth >= DEEPEST:
        return {"hidden": "nested too deep"}
    if isinstance(value, Mapping):
        return {_clean_key(k): _clean(str(k), item, depth + 1) for k, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(key, item, depth + 1) for item in value]
    return {"hidden": type(value).__name__}


def _clean_key(key: Any) -> str:
    """Return a key if it is the name of a field or script; anything else may be a text, and is
    hidden."""
    text = str(key)
    return text if _is_name_of_field(text) else _hidden_key(text)


def _hidden_key(text: str) -> str:
    return f"<{len(text)} characters sha256:{digest(text)}>"


def _is_name_of_field(key: str) -> bool:
    """Return whether a key is one word, as a field has it; or the title of a script that is known;
    or of words that are in every log. A key of several others may be a prompt."""
    if _FIELD.fullmatch(key):
        return True
    title = next((known for known in _SCRIPTS if key.casefold().startswith(known)), "")
    is_short = len(key) <= LONGEST_NAME and key.isprintable()
    return is_short and all(map(is_common, _WORD.findall(key[len(title) :])))


def _is_secret(key: str) -> bool:
    return _SECRET_KEY.search(key) is not None


def _describe_image(value: str) -> dict[str, Any]:
    encoded = value.partition(",")[2] if value.startswith("data:") else value
    try:
        data = base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data:  # a path, a URL or rubbish where an image belongs
        return {"length": len(value), "sha256": digest(value), "size": None}
    sha256 = hashlib.sha256(data).hexdigest()
    return {"length": len(value), "sha256": sha256, "size": _image_size(data)}


def _image_size(data: bytes) -> str | None:
    """Return `"WxH"` from the header alone; no pixel is decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                return f"{image.width}x{image.height}"
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError):
        return None

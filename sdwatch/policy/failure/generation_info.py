"""Read from a reply's `info` what a WebUI used for a picture: typed, bounded, no prompts. Pure.

It may differ from the request. Facts: the replies of Forge dfdcbab6, AUTOMATIC1111 v1.10.1, SD.Next
058a7f0c and stable-diffusion.cpp 97d29908; none has everything. What is only in the last line of
the infotext (`Steps: 2, Sampler: Euler, Schedule type: Karras`) is read there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from sdwatch.policy.privacy.printable import printable

_LONGEST_NAME = 200
_LONGEST_LINE = 20_000
_MOST = 1000  # images in a reply
_LARGEST = 2**63
_QUOTED = re.compile(r'(?<!\\)"(?:\\.|[^"\\])*+"')  # a second prompt, which may say anything


def named_in(info: Mapping[str, Any], key: str) -> str:
    """Return the name that `info` has there, as it can be kept and shown; '' for what is none."""
    return _name(info.get(key)) or ""


def parameters_of(info: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the last line of the first infotext by its keys, without what is in quotes."""
    texts = info.get("infotexts")
    text = texts[0] if isinstance(texts, list) and texts else ""
    line = text.rpartition("\n")[2] if isinstance(text, str) else ""
    if not line.startswith("Steps: ") or len(line) > _LONGEST_LINE:
        return {}
    pairs = (part.partition(": ") for part in _QUOTED.sub("", line).split(", "))
    return {key: value.strip() for key, _, value in pairs}


def what_made_it(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return `model`, `model_hash`, `webui_version` and `used`, each as far as it was said. `used`:
    sampler, scheduler, steps, cfg_scale, width and height (of the first pass, in pixels), vae,
    clip_skip, `hires`, the `seeds` of the images in their order, and so on."""
    parameters = parameters_of(info)
    made = _read(_MADE, info, parameters)
    used = _read(_USED, info, parameters)
    if modules := _modules(parameters, "Module"):
        used["modules"] = modules
    hires = _read(_HIRES, info, parameters)
    if modules := _modules(parameters, "Hires Module"):
        hires["modules"] = modules
    if hires:
        used["hires"] = hires
    return {**made, "used": used} if used else made


def _name(value: object) -> str | None:
    return printable(value[:_LONGEST_NAME]) if isinstance(value, str) and value else None


def _number(value: object) -> float | None:
    """Return a number, or a text that is one."""
    if isinstance(value, str):
        try:
            value = float(value) if "." in value or "e" in value else int(value[:_LONGEST_NAME])
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) < _LARGEST else None  # neither NaN, which is not JSON


def _whole(value: object) -> int | None:
    number = _number(value)
    return int(number) if number is not None and number == int(number) else None


def _truth(value: object) -> bool | None:
    return value if isinstance(value, bool) and value else None


def _wholes(value: object) -> list[int] | None:
    listed = value if isinstance(value, list) and len(value) <= _MOST else []
    numbers = [_whole(each) for each in listed]
    known = [number for number in numbers if number is not None]
    return known if known and len(known) == len(numbers) else None


_Field = tuple[str, str, str, Callable[[object], Any]]
"""Its name here, in `info`, and in the infotext ('' for nowhere); how it is read."""

_MADE: tuple[_Field, ...] = (
    ("model", "sd_model_name", "Model", _name),
    ("model_hash", "sd_model_hash", "Model hash", _name),
    ("webui_version", "version", "Version", _name),
)
_USED: tuple[_Field, ...] = (
    ("sampler", "sampler_name", "Sampler", _name),
    ("scheduler", "", "Schedule type", _name),
    ("scheduler_class", "", "Scheduler", _name),  # SD.Next has no other
    ("steps", "steps", "Steps", _whole),
    ("cfg_scale", "cfg_scale", "CFG scale", _number),
    ("distilled_cfg_scale", "", "Distilled CFG Scale", _number),
    ("width", "width", "", _whole),
    ("height", "height", "", _whole),
    ("batch_size", "batch_size", "", _whole),
    ("denoising_strength", "denoising_strength", "Denoising strength", _number),
    ("clip_skip", "clip_skip", "Clip skip", _whole),
    ("vae", "sd_vae_name", "VAE", _name),
    ("vae_hash", "sd_vae_hash", "VAE hash", _name),
    ("refiner", "", "Refiner", _name),
    ("refiner_switch_at", "", "Refiner switch at", _number),
    ("rng", "", "RNG", _name),
    ("eta", "", "Eta", _number),
    ("restore_faces", "restore_faces", "", _truth),
    ("face_restoration", "face_restoration_model", "Face restoration", _name),
    ("pipeline", "", "Pipeline", _name),
    ("subseed_strength", "subseed_strength", "Variation seed strength", _number),
    ("seeds", "all_seeds", "", _wholes),
    ("subseeds", "all_subseeds", "", _wholes),
)
_HIRES: tuple[_Field, ...] = (
    ("scale", "", "Hires upscale", _number),
    ("size", "", "Hires resize", _name),
    ("steps", "", "Hires steps", _whole),
    ("upscaler", "", "Hires upscaler", _name),
    ("sampler", "", "Hires sampler", _name),
    ("scheduler", "", "Hires schedule type", _name),
    ("checkpoint", "", "Hires checkpoint", _name),
    ("cfg_scale", "", "Hires CFG Scale", _number),
)


def _read(
    fields: tuple[_Field, ...], info: Mapping[str, Any], parameters: Mapping[str, str]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, key, parameter, read in fields:
        value = read(info.get(key))
        if value is None:
            value = read(parameters.get(parameter))
        if value is not None:
            found[name] = value
    return found


def _modules(parameters: Mapping[str, str], of: str) -> list[str]:
    """Return the names in Forge's `Module 1: …, Module 2: …`."""
    named = (_name(parameters.get(f"{of} {number}")) for number in range(1, 10))
    return [name for name in named if name]

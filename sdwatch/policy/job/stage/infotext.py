"""Read a job from the settings that a WebUI writes into its pictures. Pure.

    a castle <lora:add_detail:0.6>
    Negative prompt: bad
    Steps: 30, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 5, Size: 512x768, Model: foo

The form is that of AUTOMATIC1111 v1.10.1, Forge and SD.Next (create_infotext there).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from sdwatch.policy.job.stage.stage_kinds import PROMPTS
from sdwatch.policy.job.text.document import (
    Mapping,
    Node,
    Scalar,
    UnreadableError,
    text_of,
    too_large,
)

# As WebUIs write it: `steps: 20, seed: 5` may be a line of YAML in braces.
_LAST_LINE = re.compile(r"Steps: \d+, (?:[A-Z][^,:\n]*: )")
_NEGATIVE = "Negative prompt:"
_PART = re.compile(r'\s*+([\w/\-][\w /\-]*+):\s*+("(?:\\.|[^\\"])*+"(?=,|$)|[^,]*+)(?:,|$)')

# Key of an infotext: the field it becomes.
_FIELDS = {
    "steps": "steps",
    "sampler": "sampler_name",
    "schedule type": "scheduler",
    "cfg scale": "cfg_scale",
    "distilled cfg scale": "distilled_cfg_scale",
    "seed": "seed",
    "denoising strength": "denoising_strength",
    "variation seed": "subseed",
    "variation seed strength": "subseed_strength",
    "eta": "eta",
    "hires upscale": "hr_scale",
    "hires steps": "hr_second_pass_steps",
    "hires upscaler": "hr_upscaler",
    "hires sampler": "hr_sampler_name",
    "hires schedule type": "hr_scheduler",
    "hires cfg scale": "hr_cfg",
    "hires prompt": "hr_prompt",
    "hires negative prompt": "hr_negative_prompt",
    "refiner": "refiner_checkpoint",
    "refiner switch at": "refiner_switch_at",
    "face restoration": "restore_faces",
    "tiling": "tiling",
}
_SETTINGS = {
    "model": "sd_model_checkpoint",
    "clip skip": "CLIP_stop_at_last_layers",
    "ensd": "eta_noise_seed_delta",
    "rng": "randn_source",
}
_SIZES = {
    "size": ("width", "height"),
    "hires resize": ("hr_resize_x", "hr_resize_y"),
    "seed resize from": ("seed_resize_from_w", "seed_resize_from_h"),
}
_OF_HIRES = ("hires upscale", "hires resize", "hires steps", "hires upscaler")
_Entry = tuple[Scalar, Node]


@dataclass(frozen=True)
class Infotext:
    """An infotext as a document, with its places in the text; `left_out`: keys that become no
    field."""

    root: Mapping
    left_out: tuple[str, ...]
    line: int


def infotext_in(data: bytes) -> Infotext | None:
    """Return the settings of a picture if they were pasted as the job file."""
    try:
        text = text_of(data) if not too_large(len(data)) else ""
    except UnreadableError:
        return None
    return read_infotext(text) if looks_like_infotext(text) else None


def looks_like_infotext(text: str) -> bool:
    """Return whether the last line that says anything is one of `Steps: 20, Sampler: …`."""
    lines = text.strip().splitlines()
    return bool(lines) and _LAST_LINE.match(lines[-1].lstrip()) is not None


def read_infotext(text: str) -> Infotext:
    """Return the fields of an infotext (see `looks_like_infotext`)."""
    lines = text.rstrip().splitlines()
    last = len(lines)
    start = next((n for n, line in enumerate(lines) if line.startswith(_NEGATIVE)), last - 1)
    entries = [_entry("prompt", "\n".join(lines[:start]).strip(), 1)]
    if start < last - 1:
        negative = "\n".join(lines[start : last - 1]).removeprefix(_NEGATIVE).strip()
        entries.append(_entry("negative_prompt", negative, start + 1))
    fields, left_out = _read_parts(lines[-1], last)
    return Infotext(Mapping((*entries, *fields), 1, 1), tuple(left_out), last)


def _parts(line: str) -> Iterator[re.Match[str]]:
    """Yield each `Key: value` of the last line; what is none is passed over up to the next
    comma."""
    at = 0
    while at < len(line):
        if found := _PART.match(line, at):
            yield found
        comma = line.find(",", at)
        at = found.end() if found else (comma + 1 if comma >= 0 else len(line))


def _read_parts(line: str, number: int) -> tuple[list[_Entry], list[str]]:
    """Return the fields of the last line, which is line `number`, and the keys that become none."""
    fields: list[_Entry] = []
    settings: list[_Entry] = []
    left_out: list[str] = []
    keys = set()
    for part in _parts(line):
        key, value, column = part[1].lower(), _unquoted(part[2].strip()), part.start(1) + 1
        keys.add(key)
        if key == "refiner":
            value = re.sub(r" \[\w+\]$", "", value)
        elif key == "face restoration":
            value = "true"
        if key in _FIELDS:
            fields.append(_entry(_FIELDS[key], value, number, column))
        elif key in _SETTINGS:
            settings.append(_entry(_SETTINGS[key], value, number, column))
        elif key in _SIZES and (size := re.fullmatch(r"(\d+)\s*x\s*(\d+)", value)):
            pairs = zip(_SIZES[key], size.groups(), strict=True)
            fields += [_entry(name, side, number, column) for name, side in pairs]
        else:
            left_out.append(part[1])
    if not keys.isdisjoint(_OF_HIRES):
        fields.append(_entry("enable_hr", "true", number))
    if settings:
        mapping = Mapping(tuple(settings), number, 1)
        fields.append((Scalar("override_settings", number, 1), mapping))
    return fields, left_out


def _entry(name: str, value: str, line: int, column: int = 1) -> _Entry:
    return Scalar(name, line, column), Scalar(value, line, column, quoted=name in PROMPTS)


def _unquoted(value: str) -> str:
    if len(value) > 1 and value.startswith('"') and value.endswith('"'):
        try:
            return str(json.loads(value))
        except ValueError:
            return value.strip('"')
    return value

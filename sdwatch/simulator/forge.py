"""Everything that makes the simulator a Forge: its lists, names, boot lines, infotext.

Another kind of WebUI would be another file like this one. All of it was measured with Forge
dfdcbab6 (--nowebui --api), November 2026.
"""

from __future__ import annotations

import json
import platform
import re
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from typing import Any

VERSION = "f2.0.1v1.10.1-previous-669-gdfdcbab6"
COMMIT = "dfdcbab685e57677014f05a3309b48cc87383167"


def _load(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((files(__package__) / name).read_text(encoding="utf-8"))
    return data


LISTS = _load("forge_lists.json")
OPENAPI = _load("forge_openapi.json")
SCHEMAS: dict[str, dict[str, Any]] = {
    "txt2img": OPENAPI["components"]["schemas"]["StableDiffusionProcessingTxt2Img"],
    "img2img": OPENAPI["components"]["schemas"]["StableDiffusionProcessingImg2Img"],
    "extra-single-image": OPENAPI["components"]["schemas"]["ExtrasSingleImageRequest"],
    "png-info": OPENAPI["components"]["schemas"]["PNGInfoRequest"],
}
JOB_NAMES = {
    "txt2img": "scripts_txt2img",
    "img2img": "scripts_img2img",
    "extra-single-image": "Upscale",
}


@dataclass(frozen=True)
class Checkpoint:
    """A model file that does not exist."""

    name: str

    @property
    def sha256(self) -> str:
        return sha256(self.name.encode()).hexdigest()

    @property
    def hash(self) -> str:
        return self.sha256[:10]

    @property
    def filename(self) -> str:
        return f"<webui>/models/Stable-diffusion/{self.name}.safetensors"

    @property
    def title(self) -> str:
        return f"{self.name}.safetensors [{self.hash}]"

    def answers_to(self, name: str) -> bool:
        """Title, file name, bare name and hash are all names of a checkpoint."""
        return name in (self.title, f"{self.name}.safetensors", self.name, self.hash)

    def item(self) -> dict[str, Any]:
        """Its entry in /sdapi/v1/sd-models."""
        return {
            "title": self.title,
            "model_name": self.name,
            "hash": self.hash,
            "sha256": self.sha256,
            "filename": self.filename,
            "config": None,
        }

    def selected(self) -> dict[str, Any]:
        """What the log says about it."""
        info = {"filename": self.filename, "hash": self.hash[:8]}
        return {"checkpoint_info": info, "additional_modules": [], "unet_storage_dtype": None}


CHECKPOINTS = (Checkpoint("simulated-a"), Checkpoint("simulated-b"))


def find_checkpoint(name: str) -> Checkpoint | None:
    """The checkpoint with this title, file name, name or hash."""
    return next((c for c in CHECKPOINTS if c.answers_to(name)), None)


def sampler_and_schedule(sampler: str, scheduler: str | None) -> tuple[str, str]:
    """The names that the infotext will show. Unknown ones become DPM++ 2M and Automatic.

    "DPM++ 2M Karras", the old style, is two names in one. Automatic is shown as the sampler's
    own schedule where it has one.
    """
    schedules = {s["name"]: s["label"] for s in LISTS["schedulers"]}
    labels = {label: label for label in schedules.values()}
    label = {**labels, **schedules}.get(scheduler or "", "Automatic")
    for known in labels:
        if sampler.endswith(" " + known):
            sampler, label = sampler.removesuffix(" " + known), known
    samplers = {s["name"]: s["options"] for s in LISTS["samplers"]}
    if sampler not in samplers:
        sampler = "DPM++ 2M"
    if label == "Automatic":
        label = schedules.get(samplers[sampler].get("scheduler", "automatic"), "Automatic")
    return sampler, label


def infotext(prompt: str, negative: str, parameters: dict[str, Any]) -> str:
    """The text that WebUIs write into their pictures."""
    lines = [prompt]
    if negative:
        lines.append(f"Negative prompt: {negative}")
    lines.append(", ".join(f"{k}: {_quoted(v)}" for k, v in parameters.items()))
    return "\n".join(lines)


def parse_infotext(text: str) -> dict[str, str]:
    """The parameters in an infotext, as /png-info gives them (without Forge's defaults)."""
    prompt, negative, last = text, "", ""
    if "\nSteps: " in text or text.startswith("Steps: "):
        head, _, last = ("\n" + text).rpartition("\n")
        prompt, _, negative = head.lstrip("\n").partition("\nNegative prompt: ")
    found = {k: v.strip('"') for k, v in re.findall(r'([\w ]+): ("(?:\\.|[^"])*"|[^,]*)', last)}
    pairs = {k.strip(): v for k, v in found.items()}
    if size := re.fullmatch(r"(\d+)x(\d+)", pairs.pop("Size", "")):
        pairs["Size-1"], pairs["Size-2"] = size.groups()
    return {**pairs, "Prompt": prompt, "Negative prompt": negative} if text else {}


def _quoted(value: Any) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if set(text) & set(',:"\n') else text


def boot_lines(port: int) -> list[str]:
    """What is printed before the server starts."""
    return [
        f"Python {platform.python_version()} ({platform.python_implementation()})",
        f"Version: {VERSION}",
        f"Commit hash: {COMMIT}",
        f"Launching API server with arguments: --nowebui --api --port {port}",
        "SIMULATED WebUI: pictures are drawn, not generated",
        "Total VRAM 8192 MB, total RAM 24106 MB",
        "Device: simulated",
        "Model selected: " + str(CHECKPOINTS[0].selected()),
        "Using online LoRAs in FP16: False",
    ]

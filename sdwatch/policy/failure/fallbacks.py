"""Find in a WebUI's log what it silently left out of a picture or replaced. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

from sdwatch.policy.job.stage.file_arguments import bare_name
from sdwatch.policy.job.stage.stage_kinds import PROMPTS


class Fallback(Enum):
    """What a WebUI leaves out or replaces, and only reports in its log."""

    LORA = "a LoRA of the prompt was not found or not applied"
    CHECKPOINT = "the checkpoint that the job names was not found"
    OTHER_CHECKPOINT = "a checkpoint was not found, so another was used"
    VAE = "the VAE was not found, so the picture was made without it"
    UPSCALER = "the upscaler's weights were not loaded, so the picture was only resized"
    FACES = "the faces were not restored because the weights for that were not loaded"
    SCRIPT = "a script was not found and was left out"
    EMBEDDING = "a textual inversion of the prompt could not be loaded"


# What each prints; the lines about LoRAs are from the sources of SD.Next, AUTOMATIC1111 and Forge.
# `…` stands for any text: its parts are searched one after the other, so that no line takes long.
_FALLBACKS: tuple[tuple[Fallback, tuple[str, ...]], ...] = (
    (
        Fallback.LORA,
        (
            r"Couldn't find (?:network|Lora) with name|Networks not found:|Failed to load network",
            r"\b(?:ERROR|WARNING)\b…\b(?:[Nn]etwork|LoRA)\b…not found|not loaded|mismatch|failed",
            r"\[LORA\] LoRA version mismatch",
            r"\[LORA\] Loading … with unmatched keys",
            # AUTOMATIC1111 and Forge (reForge#90); "deactivating" harms nothing
            r"^activating extra network …: \w{1,60}",
            r"^loading network …: \w{1,60}(?:Error|Exception)",
        ),
    ),
    (Fallback.CHECKPOINT, ("Override not found: checkpoint",)),
    (Fallback.OTHER_CHECKPOINT,
     ("Checkpoint … not found; loading fallback",)),
    (Fallback.VAE, ("Couldn't find VAE named",)),
    (
        Fallback.UPSCALER,
        (
            r"Unable to load \w{0,60}(?:ESRGAN|SwinIR|DAT|ScuNET|HAT|LDSR|upscal)\w{0,60} ?model",
            r"Could not find upscaler|Error loading (?:upscaler|ESRGAN)",
        ),
    ),
    (
        Fallback.FACES,
        (r"Unable to load (?:face-restoration|GFPGAN|[Cc]ode[Ff]ormer)\w{0,60} ?model",),
    ),
    (Fallback.SCRIPT, ("Script … not found",)),
)  # fmt: skip


_COMPILED = tuple(
    (fallback, tuple(tuple(re.compile(part) for part in way.split("…")) for way in ways))
    for fallback, ways in _FALLBACKS
)


def fallbacks_in(log: Sequence[str], payload: Mapping[str, Any]) -> Mapping[Fallback, str]:
    """Return each fallback that the log names, with the first line that does."""
    found: dict[Fallback, str] = {}
    for line in log:
        if (name := _unloaded_embedding(line)) and _is_prompted(name, payload):
            found.setdefault(Fallback.EMBEDDING, line.strip()[:300])
        for fallback, ways in _COMPILED:
            if fallback not in found and any(_has_in_order(line, parts) for parts in ways):
                found[fallback] = line.strip()
    return found


_EMBEDDING = "Error loading embedding "


def _unloaded_embedding(line: str) -> str:
    """Return the name of an embedding that is damaged or made for another model, else ''. All in
    the folder are loaded with a checkpoint, whether a prompt names them or not (source of Forge
    dfdcbab6: the line has the file's path; SD.Next has no such line)."""
    _, sign, path = line.partition(_EMBEDDING)
    return bare_name(path.strip()) if sign else ""


def _is_prompted(name: str, payload: Mapping[str, Any]) -> bool:
    words = " ".join(str(payload.get(field) or "") for field in PROMPTS).lower()
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", words) is not None


def _has_in_order(line: str, parts: Iterable[re.Pattern[str]]) -> bool:
    at = 0
    for part in parts:
        if (found := part.search(line, at)) is None:
            return False
        at = found.end()
    return True

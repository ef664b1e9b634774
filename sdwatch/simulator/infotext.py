"""The text that WebUIs write into their pictures, and what /png-info reads out of it."""

from __future__ import annotations

import json
import re
from typing import Any


def infotext(prompt: str, negative: str, parameters: dict[str, Any]) -> str:
    """Prompt, negative prompt if there is one, and a line of parameters."""
    head = [prompt, f"Negative prompt: {negative}"] if negative else [prompt]
    return "\n".join([*head, parameter_line(parameters)])


def parameter_line(parameters: dict[str, Any]) -> str:
    return ", ".join(f"{k}: {_quoted(v)}" for k, v in parameters.items())


def parse_infotext(text: str) -> dict[str, str]:
    """Return the parameters in an infotext, as /png-info gives them (without Forge's defaults)."""
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

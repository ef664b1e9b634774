"""What may be found in a reply, and what each finding does unless the config says otherwise. Pure.

Apart from the checks themselves (reply_checks.py), because the config of every command needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Level = Literal["fail", "warn", "off"]

LEVELS: Mapping[str, Level] = {
    "interrupted": "fail",
    "count": "fail",
    "size": "fail",
    "upscale_unchanged": "fail",
    "one_colour": "fail",
    "one_colour_upscale": "warn",
    "model": "fail",
    "sampler": "fail",
    "scheduler": "fail",
    "seed": "fail",
    "extension": "warn",
    "fallback": "warn",
}
"""Every kind of finding, the most severe first, with its default level."""

"""What the WebUI refuses or crashes on, as far as that is known without a model.

Status codes and words were measured with Forge dfdcbab6.
"""

from __future__ import annotations

import math
from typing import Any

from PIL import Image

from sdwatch.simulator import failures, forge, pictures
from sdwatch.simulator.failures import CrashedError, RefusedError

MOST_PIXELS = 8192 * 8192


def check_option_names(given: dict[str, Any], known: dict[str, Any]) -> None:
    """Raise what the WebUI raises for a setting that does not exist."""
    for name in given:
        if name not in known:
            raise CrashedError("KeyError", repr(name))


def check_numbers(f: dict[str, Any]) -> None:
    """Raise what the WebUI raises for numbers that no picture can have."""
    width, height, steps = f["width"], f["height"], f["steps"]
    if f["prompt"] is None:
        raise CrashedError("AssertionError", "")
    if None in (width, height, steps, f["batch_size"], f["n_iter"], f["cfg_scale"]):
        message = "unsupported operand type(s) for *: 'NoneType' and 'int'"
        raise CrashedError("TypeError", message)
    if f["batch_size"] < 1 or f["n_iter"] < 1:
        raise CrashedError("IndexError", "list index out of range")
    if steps == 0:
        raise CrashedError("ZeroDivisionError", "integer division or modulo by zero")
    if steps < 0:
        raise CrashedError("RuntimeError", "number of steps must be non-negative")
    check_size(width, height)


def check_size(width: int, height: int) -> None:
    """Raise what the network raises for a size that it cannot work on."""
    columns, rows = math.trunc(width / 8), math.trunc(height / 8)
    if columns < 0 or rows < 0:
        message = f"Trying to create tensor with negative dimension {min(columns, rows)}: "
        raise CrashedError("RuntimeError", f"{message}[4, {rows}, {columns}]")
    if columns == 0 or rows == 0:
        message = (
            f"Calculated padded input size per channel: ({rows + 2} x {columns + 2}). "
            "Kernel size: (3 x 3). Kernel size can't be greater than actual input size"
        )
        raise CrashedError("RuntimeError", message)
    if columns == rows == 1:
        message = (
            "Given groups=1, weight of size [320, 4, 3, 3], expected input[2, 9, 1, 1] "
            "to have 4 channels, but got 9 channels instead"
        )
        raise CrashedError("RuntimeError", message)
    if width * height > MOST_PIXELS:
        raise failures.too_large(width * height * 20)


def check_names(f: dict[str, Any]) -> None:
    """Raise what the WebUI raises for a refiner or a hires upscaler that does not exist."""
    refiner = f["refiner_checkpoint"]
    if refiner and refiner != "None" and forge.find_checkpoint(refiner) is None:
        raise CrashedError("Exception", f"Could not find checkpoint with name {refiner}")
    if f.get("enable_hr"):
        latent = [m["name"] for m in forge.LISTS["latent-upscale-modes"]]
        if f["hr_upscaler"] not in (None, *latent):
            check_upscaler(f["hr_upscaler"], "Exception")


def check_upscaler(name: str, error: str) -> None:
    """Raise `error` for an upscaler that does not exist; names are case-sensitive."""
    if name not in [u["name"] for u in forge.LISTS["upscalers"]]:
        raise CrashedError(error, f"could not find upscaler named {name}")


def check_scripts(stage: str, fields: dict[str, Any]) -> None:
    """Raises RefusedError (422) for a script that does not exist."""
    for name in (fields["script_name"], *fields["alwayson_scripts"]):
        if name and name.lower() not in forge.LISTS["scripts"][stage]:
            raise RefusedError(422, f"Script {name!r} not found")


def init_images(fields: dict[str, Any]) -> list[Image.Image]:
    """The pictures that img2img starts from, decoded."""
    if not fields["init_images"]:
        message = "Dimension out of range (expected to be in range of [-1, 0], but got 1)"
        raise CrashedError("IndexError", message)
    return [pictures.decode(i) for i in fields["init_images"]]

"""What the WebUI refuses or crashes on, as far as that is known without a model.

Status codes and words were measured with Forge dfdcbab6.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sdwatch.simulator import checkpoints, failures
from sdwatch.simulator.checkpoints import Checkpoint
from sdwatch.simulator.failures import CrashedError, RefusedError

if TYPE_CHECKING:
    from PIL import Image

MOST_PIXELS = 8192 * 8192


class Checks:
    """Forge's; another kind overrides what it does differently. `lists` are its names."""

    def __init__(self, lists: dict[str, Any]) -> None:
        self.lists = lists

    def before_queue(self, stage: str, f: dict[str, Any]) -> None:
        """Raise what is raised before the request waits for its turn."""
        if stage == "img2img" and f["init_images"] is None:
            raise RefusedError(404, "Init image not found")
        if stage != "extra-single-image":
            self.scripts(stage, f)

    def scripts(self, stage: str, f: dict[str, Any]) -> None:
        """Check the script. Raises RefusedError (422) for one that does not exist."""
        infos = self.lists["script-info"]
        is_always_on = {
            each["name"]: each["is_alwayson"]
            for each in infos
            if each["is_img2img"] is (stage == "img2img")
        }
        known = {name.lower() for name in self.lists["scripts"][stage]}
        chosen = f["script_name"]
        if chosen and (chosen.lower() not in known or is_always_on.get(chosen.lower(), True)):
            raise RefusedError(422, f"Script {chosen!r} not found")
        for name in f["alwayson_scripts"]:
            if name.lower() not in known:
                raise RefusedError(422, f"Script {name!r} not found")
            if not is_always_on.get(name.lower(), True):
                message = "Cannot have a selectable script in the always on scripts params"
                raise RefusedError(422, message)

    def option_names(self, given: dict[str, Any], known: dict[str, Any]) -> None:
        """Raise what the WebUI raises for a setting that does not exist."""
        for name in given:
            if name not in known:
                raise CrashedError("KeyError", repr(name))

    def numbers(self, f: dict[str, Any]) -> None:
        """Raise what the WebUI raises for numbers that no picture can have."""
        width, height, steps = f["width"], f["height"], f["steps"]
        if f["prompt"] is None:
            raise CrashedError("AssertionError", "", code="assert p.prompt is not None")
        if None in (width, height, steps, f["batch_size"], f["n_iter"], f["cfg_scale"]):
            message = "unsupported operand type(s) for *: 'NoneType' and 'int'"
            raise CrashedError("TypeError", message)
        if f["batch_size"] < 1 or f["n_iter"] < 1:
            raise CrashedError("IndexError", "list index out of range")
        if steps == 0:
            raise CrashedError("ZeroDivisionError", "integer division or modulo by zero")
        if steps < 0:
            raise CrashedError("RuntimeError", "number of steps must be non-negative")
        self.size(width, height)

    def batch(self, f: dict[str, Any], images: int) -> dict[str, Any]:
        """Return the fields with the batch of several images in one call; raise what is raised for
        more of them than that (modules/processing.py of AUTOMATIC1111 v1.10.1 and of Forge)."""
        if images > f["batch_size"]:
            message = f"bad number of images passed: {images}; expecting {f['batch_size']} or less"
            raise CrashedError("RuntimeError", message)
        return f | {"batch_size": images} if images > 1 else f

    def size(self, width: int, height: int) -> None:
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
            self.smallest()
        if width * height > MOST_PIXELS:
            raise failures.too_large(width * height * 20)

    def smallest(self) -> None:
        """Raise what is raised for 8x8."""
        message = (
            "Given groups=1, weight of size [320, 4, 3, 3], expected input[2, 9, 1, 1] "
            "to have 4 channels, but got 9 channels instead"
        )
        raise CrashedError("RuntimeError", message)

    def names(self, f: dict[str, Any], known: Iterable[Checkpoint]) -> None:
        """Raise what is raised for a refiner or a hires upscaler that does not exist. `known`: the
        checkpoints."""
        refiner = f["refiner_checkpoint"]
        if refiner and refiner != "None" and checkpoints.find(refiner, known) is None:
            raise CrashedError("Exception", f"Could not find checkpoint with name {refiner}")
        if f.get("enable_hr"):
            latent = [m["name"] for m in self.lists["latent-upscale-modes"]]
            if f["hr_upscaler"] not in (None, *latent):
                self.upscaler(f["hr_upscaler"], "Exception")

    def second_pass(self, f: dict[str, Any]) -> None:
        """Raise what is raised between the passes of a hires job: Forge's own field has no default
        that its code can take. Other kinds have no such field."""
        if "hr_additional_modules" in f and f["hr_additional_modules"] is None:
            message = "argument of type 'NoneType' is not iterable"
            code = (
                "if hasattr(self, 'hr_additional_modules') and 'Use same choices' not in "
                "self.hr_additional_modules:"
            )
            raise CrashedError("TypeError", message, code=code)

    def upscaler(self, name: str, error: str) -> None:
        """Raise `error` for an upscaler that does not exist; names are case-sensitive."""
        if self.find_upscaler(name) is None:
            raise CrashedError(error, f"could not find upscaler named {name}")

    def find_upscaler(self, name: str) -> dict[str, Any] | None:
        """Return its entry in the list."""
        return next((u for u in self.lists["upscalers"] if u["name"] == name), None)

    def init_images(self, f: dict[str, Any]) -> list[Image.Image]:
        """Return the pictures that img2img starts from, decoded."""
        if not f["init_images"]:
            raise self.no_init_image()
        from sdwatch.simulator import pictures

        return [pictures.decode(i) for i in f["init_images"]]

    def no_init_image(self) -> CrashedError:
        """Return what an empty list of them gives."""
        message = "Dimension out of range (expected to be in range of [-1, 0], but got 1)"
        return CrashedError("IndexError", message)

    def sampler_and_schedule(self, f: dict[str, Any]) -> tuple[str, str]:
        """Return the names that the infotext will show. Unknown ones become DPM++ 2M and Automatic.

        "DPM++ 2M Karras", the old style, is two names in one. Automatic is shown as the
        sampler's own schedule where it has one.
        """
        sampler: str = f["sampler_name"] or f["sampler_index"]
        schedules = {s["name"]: s["label"] for s in self.lists["schedulers"]}
        labels = {label: label for label in schedules.values()}
        label = {**labels, **schedules}.get(f["scheduler"] or "", "Automatic")
        for known in labels:
            if sampler.endswith(" " + known):
                sampler, label = sampler.removesuffix(" " + known), known
        samplers = {s["name"]: s["options"] for s in self.lists["samplers"]}
        if sampler not in samplers:
            sampler = "DPM++ 2M"
        if label == "Automatic":
            label = schedules.get(samplers[sampler].get("scheduler", "automatic"), "Automatic")
        return sampler, label

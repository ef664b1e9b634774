"""extra-single-image: the enlarged picture and what is said about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sdwatch.simulator.checks import MOST_PIXELS
from sdwatch.simulator.failures import CrashedError

if TYPE_CHECKING:
    from PIL import Image


def upscaled(image: Image.Image, f: dict[str, Any]) -> Image.Image:
    """Return the picture at its new size, framed; unchanged where no upscaler is named."""
    if f["upscaler_1"] == "None":
        return image
    from sdwatch.simulator import pictures

    if f["resize_mode"] == 1:
        size = (f["upscaling_resize_w"], f["upscaling_resize_h"])
    else:
        size = (
            int(image.width * f["upscaling_resize"]),
            int(image.height * f["upscaling_resize"]),
        )
    if size[0] * size[1] > MOST_PIXELS:
        raise CrashedError("MemoryError", "")
    crop = f["resize_mode"] == 1 and f["upscaling_crop"]
    image = pictures.fitted(image, max(size[0], 1), max(size[1], 1), int(crop))
    label = f"extra-single-image · {f['upscaler_1']} · {image.width}x{image.height}"
    return pictures.framed(image, "extra-single-image", label)


def upscale_info(f: dict[str, Any]) -> str:
    """Return the `html_info` of the reply: empty where nothing was done."""
    if f["upscaler_1"] == "None":
        return "<p></p>"
    how = f"by: {f['upscaling_resize']:.1f}"
    if f["resize_mode"] == 1:
        how = f"to: {f['upscaling_resize_w']}x{f['upscaling_resize_h']}"
    return f"<p>Postprocess upscale {how}, Postprocess upscaler: {f['upscaler_1']}</p>"

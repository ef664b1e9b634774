"""The pictures: drawn from the request, so that the same request gives the same bytes.

A picture is a small landscape that says SIMULATED. A later stage frames the picture it was given
and writes its own name on the frame, so a person sees that the stages follow each other.

Imported by whoever draws, at the first picture: a start without one takes a third less.
"""

from __future__ import annotations

import base64
import binascii
import colorsys
import functools
import io
import math
import random
from hashlib import sha256
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageOps, PngImagePlugin

from sdwatch.simulator.failures import CrashedError, RefusedError

Colour = tuple[int, int, int]
_SMALLEST_WITH_TEXT = 96
_FRAMES: dict[str, Colour] = {
    "img2img": (38, 84, 124),
    "extra-single-image": (122, 62, 110),
    "hires": (52, 104, 74),
}
_EXIF_IFD, _USER_COMMENT = 0x8769, 0x9286


def landscape(width: int, height: int, seed: int, words: str, labels: list[str]) -> Image.Image:
    """Return a picture in colours and shapes of `seed` and `words` (what else makes it differ).

    It says SIMULATED above the labels, where there are labels and room for them.
    """
    dice = random.Random(sha256(f"{seed}|{words}".encode()).digest())
    hue = dice.random()
    image = _sky(width, height, hue)
    _sun(image, dice, hue)
    draw = ImageDraw.Draw(image)
    for depth in range(4):
        _hills(draw, width, height, dice, hue, depth)
    if labels and min(width, height) >= _SMALLEST_WITH_TEXT:
        _captions(image, labels)
    return image


def framed(image: Image.Image, stage: str, label: str) -> Image.Image:
    """Return the picture inside a frame of the stage's colour, same size, with the label on top."""
    width, height = image.size
    side, top = max(width // 48, 2), max(height // 14, 4)
    canvas = Image.new("RGB", image.size, _FRAMES[stage])
    inside = (max(width - 2 * side, 1), max(height - top - side, 1))
    canvas.paste(image.convert("RGB").resize(inside, Image.Resampling.BILINEAR), (side, top))
    if min(width, height) >= _SMALLEST_WITH_TEXT:
        font = _font(max(int(top * 0.54), 8))
        draw = ImageDraw.Draw(canvas)
        text = _fitting(label, font, width - 2 * side)
        draw.text((side, top / 2), text, fill=(255, 255, 255), font=font, anchor="lm")
    return canvas


def fitted(image: Image.Image, width: int, height: int, resize_mode: int) -> Image.Image:
    """img2img's input at the asked size: 0 stretches, 1 crops, 2 fills up."""
    image = image.convert("RGB")
    if resize_mode == 1:
        return ImageOps.fit(image, (width, height))
    if resize_mode == 2:
        return ImageOps.pad(image, (width, height), color=(24, 24, 24))
    return image.resize((width, height), Image.Resampling.BILINEAR)


def blended(one: Image.Image, other: Image.Image, share: float) -> Image.Image:
    """Return a picture that has `share` of the other's colours."""
    return Image.blend(one, other, share)


def black(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height))


def grid(images: list[Image.Image]) -> Image.Image:
    """Return all pictures side by side, in about as many rows as columns."""
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    width, height = images[0].size
    sheet = Image.new("RGB", (width * columns, height * rows), (24, 24, 24))
    for i, image in enumerate(images):
        sheet.paste(image, (width * (i % columns), height * (i // columns)))
    return sheet


def preview(seed: int, share: float, samples_format: str) -> str:
    """Return the small picture that /progress shows during a job, in base64."""
    return encode(_sky(16, 16, (seed % 97) / 97 + share / 10), samples_format, "")


def encode(image: Image.Image, samples_format: str, infotext: str) -> str:
    """Return the picture as base64: PNG with a tEXt, JPEG or WebP with an EXIF UserComment."""
    buffer = io.BytesIO()
    if samples_format in ("jpg", "jpeg"):
        image.convert("RGB").save(buffer, "JPEG", quality=80, exif=_exif(infotext))
    elif samples_format == "webp":
        image.save(buffer, "WEBP", quality=80, method=0, exif=_exif(infotext))
    else:
        texts = PngImagePlugin.PngInfo()
        if infotext:
            texts.add_text("parameters", infotext)
        image.save(buffer, "PNG", compress_level=1, pnginfo=texts)
    return base64.b64encode(buffer.getvalue()).decode()


def decode(text: Any) -> Image.Image:
    """Return a base64 picture of a request. Raises as Forge dfdcbab6 does for each kind of
    rubbish."""
    if text is None:
        raise CrashedError("AttributeError", "'NoneType' object has no attribute 'startswith'")
    if not isinstance(text, str):
        raise RefusedError(500, "Invalid encoded image")
    if text.startswith(("http://", "https://")):
        raise RefusedError(500, "Request to local resource not allowed")
    if text.startswith("data:image/"):
        text = text.partition(",")[2]
    try:
        image = Image.open(io.BytesIO(base64.b64decode(text)))
    except (binascii.Error, ValueError, OSError) as e:
        raise RefusedError(500, "Invalid encoded image") from e
    try:
        image.load()
    except (OSError, SyntaxError) as e:
        raise CrashedError("OSError", "image file is truncated") from e
    return image


def infotext_of(image: Image.Image) -> str:
    """Return the infotext in a picture, "" where there is none."""
    if "parameters" in image.info:
        return str(image.info["parameters"])
    comment = image.getexif().get_ifd(_EXIF_IFD).get(_USER_COMMENT, b"")
    if isinstance(comment, bytes) and comment.startswith(b"UNICODE\0"):
        return comment[8:].decode("utf-16-be", errors="replace")
    return ""


def _exif(infotext: str) -> Image.Exif:
    exif = Image.Exif()
    exif.get_ifd(_EXIF_IFD)[_USER_COMMENT] = b"UNICODE\0" + infotext.encode("utf-16-be")
    return exif


def _rgb(hue: float, saturation: float, value: float) -> Colour:
    r, g, b = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return int(r * 255), int(g * 255), int(b * 255)


def _sky(width: int, height: int, hue: float) -> Image.Image:
    ramp = Image.linear_gradient("L").resize((1, height))
    top, bottom = _rgb(hue + 0.45, 0.52, 0.66), _rgb(hue + 0.36, 0.20, 1.0)
    column = ImageOps.colorize(ramp, top, bottom)
    return column.resize((width, height), Image.Resampling.NEAREST)


def _sun(image: Image.Image, dice: random.Random, hue: float) -> None:
    width, height = image.size
    size = max(int(min(width, height) * dice.uniform(0.16, 0.26)), 2)
    place = (int(width * dice.uniform(0.12, 0.70)), int(height * dice.uniform(0.10, 0.30)))
    image.paste(_rgb(hue + 0.98, 0.12, 1.0), place, _disc(size))


@functools.lru_cache(maxsize=64)
def _disc(size: int) -> Image.Image:
    """Return a round mask with a soft edge: drawn four times as large, then made small."""
    large = Image.new("L", (size * 4, size * 4))
    ImageDraw.Draw(large).ellipse((0, 0, size * 4 - 1, size * 4 - 1), fill=255)
    return large.resize((size, size), Image.Resampling.LANCZOS)


def _hills(
    draw: ImageDraw.ImageDraw,
    width: int,
    height: int,
    dice: random.Random,
    hue: float,
    depth: int,
) -> None:
    base = height * (0.48 + 0.11 * depth)
    waves = [(dice.uniform(0.6, 2.2), dice.uniform(0, 6.3), dice.uniform(0.02, 0.06))]
    waves.append((dice.uniform(2.5, 5.0), dice.uniform(0, 6.3), 0.012))
    points = [(0.0, float(height))]
    for i in range(65):
        x = i / 64
        rise = sum(a * math.sin(f * 6.28 * x + shift) for f, shift, a in waves)
        points.append((x * width, base - rise * height))
    points.append((float(width), float(height)))
    draw.polygon(points, fill=_rgb(hue + 0.50, 0.35 + 0.10 * depth, 0.66 - 0.13 * depth))


def _captions(image: Image.Image, labels: list[str]) -> None:
    width, height = image.size
    small = _font(max(min(width, height) // 26, 9))
    line = small.size * 1.35
    draw = ImageDraw.Draw(image)
    margin = width * 0.05
    y = height - margin * 0.7 - line * len(labels)
    title = _font(max(int(width * 0.095), 12))
    draw.text((margin, y - line * 0.35), "SIMULATED", (255, 255, 255), title, anchor="ls")
    for i, label in enumerate(labels):
        text = _fitting(label, small, width - 2 * margin)
        draw.text((margin, y + line * i), text, (232, 238, 244), small, anchor="la")


@functools.lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def _fitting(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """Return the text, cut with an ellipsis to be at most `width` pixels wide."""
    text = " ".join(text.split())[:200]
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[: int(len(text) * 0.95)] if len(text) > 20 else text[:-1]
    return text.rstrip() + "…"

"""Make a PNG, JPEG or WebP of a picture, with its settings (the infotext) where WebUIs look for
them. Pure.

WebUIs read them from a PNG's text `parameters`, and from the EXIF tag UserComment of JPEG and WebP,
which starts with `UNICODE` and two more bytes and is UTF-16, big-endian, as piexif writes and reads
it (save_image_with_geninfo and read_info_from_image in modules/images.py of AUTOMATIC1111 v1.10.1).
"""

from __future__ import annotations

import io
import struct

from PIL import Image, PngImagePlugin

from sdwatch.policy.job.outputs.picture import looking_at, settings_in
from sdwatch.policy.job.outputs.result import Format

MOST_PIXELS = 100_000_000
"""A picture is decoded whole to convert it, 4 bytes for each pixel, for a while twice."""

_QUALITY = 90
_LONGEST_SIDE = {Format.JPEG: 65_535, Format.WEBP: 16_383, Format.PNG: 2**31 - 1}
_MOST_EXIF = 65_533  # bytes of a JPEG's segment

_CODES = {Format.PNG: "PNG", Format.JPEG: "JPEG", Format.WEBP: "WEBP"}
ENDINGS = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}
"""By Pillow's name of the format."""


def format_of(data: bytes) -> str:
    """Return Pillow's name of a picture's format. Raises NoPictureError."""
    with looking_at(data) as picture:
        return picture.format or ""


def converted(data: bytes, wanted: Format | None) -> tuple[bytes, str]:
    """Return a picture in the wanted format, and its ending. It stays as it is where it has that
    format, where none is wanted, and where the format cannot have it: a side or an infotext that is
    too long for it. Raises NoPictureError."""
    there = format_of(data)
    if wanted is None or there == _CODES[wanted]:
        return data, ENDINGS[there]
    made = _convert(data, wanted)
    return (data, ENDINGS[there]) if made is None else (made, ENDINGS[_CODES[wanted]])


def _convert(data: bytes, wanted: Format) -> bytes | None:
    """Return the picture in another format; None where that cannot have it."""
    with looking_at(data, "cannot be converted") as picture:
        infotext = settings_in(data)
        exif = _exif(infotext) if infotext else b""
        is_too_large = picture.width * picture.height > MOST_PIXELS
        if is_too_large or max(picture.size) > _LONGEST_SIDE[wanted]:
            return None
        if wanted is not Format.PNG and len(exif) > _MOST_EXIF:
            return None
        more = {"icc_profile": profile} if (profile := picture.info.get("icc_profile")) else {}
        out = io.BytesIO()
        if wanted is Format.PNG:
            texts = PngImagePlugin.PngInfo()
            if infotext:
                texts.add_text("parameters", infotext)
            picture.save(out, "PNG", pnginfo=texts, **more)
        else:
            if exif:
                more["exif"] = exif
            shown = _eight_bits(picture, with_alpha=wanted is Format.WEBP)
            shown.save(out, _CODES[wanted], quality=_QUALITY, **more)
        return out.getvalue()


def _exif(infotext: str) -> bytes:
    """Return EXIF with nothing but the comment, of type UNDEFINED. Pillow 13.0 would write it as
    BYTE; piexif makes a tuple of that, and WebUIs then an error (measured with piexif 1.1.3)."""
    comment = b"UNICODE\0" + infotext.encode("utf-16-be", "surrogatepass")
    inner = len(_TIFF) + _ONE_ENTRY
    entries = (
        struct.pack(">HHHLLL", 1, _EXIF_IFD, _LONG, 1, inner, 0),
        struct.pack(">HHHLLL", 1, _USER_COMMENT, _UNDEFINED, len(comment), inner + _ONE_ENTRY, 0),
    )
    return b"".join((b"Exif\0\0", _TIFF, *entries, comment))


_TIFF = b"MM\0*\0\0\0\x08"  # big-endian, its first directory right behind
_ONE_ENTRY = 2 + 12 + 4  # bytes of a directory with one entry
_EXIF_IFD, _USER_COMMENT = 0x8769, 0x9286
_LONG, _UNDEFINED = 4, 7  # types of values


def _eight_bits(picture: Image.Image, *, with_alpha: bool) -> Image.Image:
    """Return it with 8 bits of each colour; without transparency on white, unless it may stay."""
    if picture.mode.startswith("I"):  # 16 bits of grey
        return picture.point(lambda value: value / 257).convert("L")
    if "A" not in picture.getbands() and "transparency" not in picture.info:
        return picture if picture.mode == "L" and not with_alpha else picture.convert("RGB")
    rgba = picture.convert("RGBA")
    if with_alpha:
        return rgba
    flat = Image.new("RGB", picture.size, "white")
    flat.paste(rgba, mask=rgba.getchannel("A"))
    return flat

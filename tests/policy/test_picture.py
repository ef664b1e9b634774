"""Pictures that cannot be used, by their bytes."""

from __future__ import annotations

import io
import os
import random
import zlib
from typing import Any

import pytest
from PIL import Image

from sdwatch.policy.job.outputs.picture import (
    MOST_PIXELS,
    NoPictureError,
    check_whole,
    is_one_colour,
    look_at,
    may_be_one_colour,
    size_of,
)
from tests.support.fakes import picture
from tests.support.tables import table

KINDS = ("PNG", "JPEG", "WEBP")


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_one_has_its_size(kind: str) -> None:
    data = picture(kind=kind, size=(24, 8))
    assert size_of(io.BytesIO(data)) == check_whole(data) == (24, 8)


def test_the_bound_is_the_last_size_that_is_taken() -> None:
    data = picture(size=(24, 8))
    assert check_whole(data, 24 * 8) == (24, 8)
    with pytest.raises(NoPictureError, match="has 24 x 8 pixels"):
        check_whole(data, 24 * 8 - 1)


@pytest.mark.slow
@table("kind", KINDS)
def test_bytes_that_were_changed_anywhere_end_in_a_size_or_an_error(
    kind: str,
) -> None:
    rng = random.Random(1)
    whole = picture(3, kind, (40, 24))
    ends = {True: 0, False: 0}
    for _ in range(1500):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 8)):
            at = rng.randrange(len(data))
            data[at : at + rng.randint(0, 2)] = rng.randbytes(rng.randint(0, 2))
        try:
            width, height = check_whole(bytes(data))
        except NoPictureError:
            ends[False] += 1
        else:
            assert 0 < width * height <= MOST_PIXELS
            ends[True] += 1
    assert ends[False] > 100


def test_the_first_picture_of_an_animation_counts() -> None:
    frames = [Image.new("RGB", (16, 16), (n * 50, 0, 0)) for n in range(3)]
    for kind in ("PNG", "WEBP"):
        buffer = io.BytesIO()
        frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
        assert check_whole(buffer.getvalue()) == (16, 16)


@pytest.mark.slow
def test_a_large_webp_is_checked_by_its_length_without_decoding() -> None:
    buffer = io.BytesIO()
    Image.new("L", (7000, 6000)).save(buffer, "WEBP", lossless=True, quality=0, method=0)
    data = buffer.getvalue()
    assert check_whole(data) == (7000, 6000)
    with pytest.raises(NoPictureError, match="is cut off or damaged"):
        check_whole(data[:-2])


def encoded(image: Image.Image, kind: str, **more: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **more)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_one_colour_is_distinguished_from_two(kind: str) -> None:
    size = (640, 480)
    plain = Image.new("RGB", size, (40, 41, 42))
    black = encoded(plain, kind)
    assert may_be_one_colour(black, size)
    assert is_one_colour(black)
    assert look_at(black) == (size, True if kind == "PNG" else None)
    plain.paste((60, 41, 42), (0, 0, 64, 64))
    assert not is_one_colour(encoded(plain, kind))


def test_what_is_large_or_rich_is_not_decoded_to_see() -> None:
    noise = Image.effect_noise((512, 512), 64)
    assert not may_be_one_colour(encoded(noise, "PNG"), noise.size)
    assert not may_be_one_colour(b"", (20_000, 20_000))


def test_checksums_that_are_right_over_bytes_that_are_not() -> None:
    data = picture(size=(8, 8))
    at = data.index(b"IDAT")
    length = int.from_bytes(data[at - 4 : at], "big")
    body = b"IDAT" + bytes(length)
    damaged = data[:at] + body + zlib.crc32(body).to_bytes(4, "big") + data[at + 8 + length :]
    assert check_whole(damaged) == (8, 8)
    with pytest.raises(NoPictureError, match="damaged"):
        is_one_colour(damaged)
    with pytest.raises(NoPictureError, match="damaged"):
        look_at(damaged)


def chunk(kind: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(kind + body).to_bytes(4, "big")
    return len(body).to_bytes(4, "big") + kind + body + checksum


@pytest.mark.parametrize("pixels", [os.urandom(200_000), zlib.compress(bytes(1000)),
                                    zlib.compress(bytes([9]) * (512 * 3 + 1) * 512)],
                         ids=["noise", "too few", "rows of no kind"])  # fmt: skip
def test_a_png_of_a_reply_has_pixels_behind_its_checksums(pixels: bytes) -> None:
    head = (512).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    parts = ((b"IHDR", head), (b"IDAT", pixels), (b"IEND", b""))
    data = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)
    assert check_whole(data) == (512, 512)
    with pytest.raises(NoPictureError, match="is cut off or damaged"):
        look_at(data)


WAYS: list[dict[str, Any]] = [
    {"quality": 30},
    {"quality": 95, "subsampling": 0},
    {"quality": 80, "subsampling": 2, "optimize": True},
    {"quality": 75, "restart_marker_blocks": 3},
    {"quality": 100, "exif": b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\xff\xd9"},
]


@table("way", WAYS, ids=str)
@table("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_that_ends_in_the_middle_is_detected(way: dict[str, Any], mode: str) -> None:
    for side in (1, 64, 200):
        for noise in (1, 90):
            image = Image.effect_noise((side, 260 - side), noise).convert(mode)
            whole = encoded(image, "JPEG", **way)
            assert look_at(whole)[0] == look_at(whole + b"more")[0] == image.size
            pixels = whole.rindex(b"\xff\xda") + 14
            if len(whole) - pixels < 200:
                continue  # too little to cut
            with pytest.raises(NoPictureError, match="is cut off"):
                look_at(whole[: (pixels + len(whole)) // 2] + b"\xff\xd9")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_whole_decodes(kind: str) -> None:
    for mode in ("RGB", "RGBA", "L", "P", "I;16", "1"):
        image = Image.effect_noise((70, 33), 50)
        if kind == "PNG" or mode in ("RGB", "L"):
            assert look_at(encoded(image.convert(mode), kind))[0] == (70, 33)


def test_a_progressive_jpeg_decodes() -> None:
    image = Image.effect_noise((70, 33), 50)
    assert look_at(encoded(image, "JPEG", progressive=True))[0] == (70, 33)

"""Pictures that cannot be used, by their bytes."""

from __future__ import annotations

import io
import random
import zlib

import pytest
from PIL import Image

from sdwatch.policy.picture import (
    MOST_PIXELS,
    NoPictureError,
    check_whole,
    is_one_colour,
    may_be_one_colour,
    size_of,
)
from tests.fakes import picture

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


@pytest.mark.parametrize("kind", KINDS)
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


def test_of_an_animation_the_first_picture_counts() -> None:
    frames = [Image.new("RGB", (16, 16), (n * 50, 0, 0)) for n in range(3)]
    for kind in ("PNG", "WEBP"):
        buffer = io.BytesIO()
        frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
        assert check_whole(buffer.getvalue()) == (16, 16)


def test_a_large_webp_is_not_decoded_and_its_length_tells() -> None:
    buffer = io.BytesIO()
    Image.new("L", (7000, 6000)).save(buffer, "WEBP", lossless=True, quality=0, method=0)
    data = buffer.getvalue()
    assert check_whole(data) == (7000, 6000)
    with pytest.raises(NoPictureError, match="is cut off or damaged"):
        check_whole(data[:-2])


def encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_one_colour_is_told_from_two(kind: str) -> None:
    size = (640, 480)
    plain = Image.new("RGB", size, (40, 41, 42))
    black = encoded(plain, kind)
    assert may_be_one_colour(black, size)
    assert is_one_colour(black)
    plain.paste((60, 41, 42), (0, 0, 64, 64))
    assert not is_one_colour(encoded(plain, kind))


def test_what_is_large_or_rich_is_not_decoded_to_see() -> None:
    noise = Image.effect_noise((1024, 1024), 64)
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

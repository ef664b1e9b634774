"""Replies made to eat memory or time: each ends in an error that says what it was, in a process
whose memory is measured while it receives them."""

from __future__ import annotations

import base64
import gzip
import json
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.api.bombs import chunk, jpeg, png, webp
from tests.api.scripted_server import Handler, Script, serving, status
from tests.support.fakes import picture

ROOT = Path(__file__).parents[2]
MB = 1 << 20
BOUND = 8 * MB
"""Of a reply, in a process that has another one: filling the real one takes seconds each time."""


TEXT_BOMB = zlib.compress(bytes(20 * MB))
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"


# -- replies


def of(*pictures: bytes, again: int = 1) -> Script:
    encoded = [base64.b64encode(p).decode() for p in pictures] * again
    return status(200, {"images": encoded, "info": "{}"})


def endless(head: bytes, part: bytes) -> Script:
    """`head`, then `part` for as long as somebody reads it."""

    def send(handler: Handler) -> None:
        handler.close_connection = True
        handler.connection.sendall(b"HTTP/1.1 200 OK\r\n" + head)
        while not handler.server.over.is_set():
            handler.connection.sendall(part)

    return send


def chunked(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def gzipped(layers: int) -> Script:
    """More blanks than the bound, packed so many times."""
    data = gzip.compress(b" " * (BOUND + 8 * MB), 1)
    for _ in range(layers - 1):
        data = gzip.compress(data)
    return lambda handler: handler.answer(
        200, data, **{"content-encoding": ", ".join(["gzip"] * layers)}
    )


def filled(begin: bytes, part: bytes, end: bytes) -> Script:
    """A body just below the bound."""
    body = begin + part * ((BOUND - 100) // len(part)) + end
    return status(200, body)


@dataclass(frozen=True)
class Evil:
    """`script` is made when it is asked for; the reply ends in `says` and takes `mb` at most."""

    script: Callable[[], Script]
    says: str
    mb: int


TOO_LARGE = "WebUIReplyError: the reply is larger than 8 MB"
NO_JSON = "WebUIReplyError: the reply is not complete JSON"
BAD_IMAGE = "WebUIReplyError: image 1 of the reply does not decode: it "
DAMAGED = BAD_IMAGE + "is cut off or damaged"
NO_KIND = BAD_IMAGE + "is not a PNG, JPEG or WebP picture"
MANY_PIXELS = BAD_IMAGE + "has "

TWO_GB = b"content-length: 2147483648\r\n\r\n"

EVIL = {
    "2 GB": Evil(lambda: endless(TWO_GB, b" " * MB), TOO_LARGE, 30),
    "chunks without end": Evil(
        lambda: endless(b"transfer-encoding: chunked\r\n\r\n", chunked(b" " * MB)), TOO_LARGE, 60
    ),
    "gzip bomb": Evil(lambda: gzipped(1), TOO_LARGE, 30),
    "gzip bomb in gzip": Evil(lambda: gzipped(2), TOO_LARGE, 30),
    "header of a megabyte": Evil(
        lambda: endless(b"x: " + b"a" * MB + b"\r\n", b"\r\n"), "WebUIUnreachableError: ", 20
    ),
    "headers without end": Evil(lambda: endless(b"", b"x: y\r\n"), "WebUIUnreachableError: ", 20),
    "JSON 10,000 deep": Evil(lambda: status(200, b"[" * 10_000 + b"]" * 10_000), NO_JSON, 20),
    "lists of nothing": Evil(lambda: filled(b"[", b"[],", b"0]"), NO_JSON, 60),
    "one image of 6 MB": Evil(lambda: filled(b'{"images": ["', b"AAAA", b'"]}'), NO_KIND, 60),
    "PNG bomb": Evil(lambda: of(png(50_000, 50_000)), MANY_PIXELS, 20),
    "PNG text bomb": Evil(
        lambda: of(png(64, 64, chunk(b"zTXt", b"parameters\0\0" + TEXT_BOMB))), DAMAGED, 20
    ),
    "PNG itext bomb": Evil(
        lambda: of(png(64, 64, chunk(b"iTXt", b"parameters\0\1\0\0\0" + TEXT_BOMB))), DAMAGED, 20
    ),
    "PNG profile bomb": Evil(
        lambda: of(png(64, 64, chunk(b"iCCP", b"icc\0\0" + TEXT_BOMB))),
        DAMAGED,
        20,
    ),
    "JPEG bomb": Evil(lambda: of(jpeg(65_000, 65_000)), MANY_PIXELS, 20),
    "JPEG below the bound": Evil(lambda: of(jpeg(13_000, 13_000)), DAMAGED, 60),
    "WebP bomb": Evil(lambda: of(webp(16_383, 16_383)), MANY_PIXELS, 20),
    "many WebP bombs": Evil(
        lambda: of(webp(13_000, 13_000), again=1000), "the images of the reply have more than", 60
    ),
    "GIF": Evil(lambda: of(picture(kind="GIF")), NO_KIND, 20),
    "TIFF": Evil(lambda: of(picture(kind="TIFF")), NO_KIND, 20),
    "EPS": Evil(lambda: of(EPS), NO_KIND, 20),
    "200,000 images": Evil(
        lambda: status(200, {"images": ["AA"] * 200_000}), "reply has 200,000 images", 40
    ),
    "a long message": Evil(
        lambda: status(500, {"detail": "x" * MB}),
        "WebUIServerError: the WebUI answered 500 to txt2img: a message of 1,048,576 characters",
        20,
    ),
}


def received(url: str, number: int, *bound: int) -> list[tuple[str, int]]:
    """How so many replies ended in a process of their own, and the bytes that each took there."""
    command = [sys.executable, "-m", "tests.api.receiver", url, str(number), *map(str, bound)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def ended() -> dict[str, tuple[str, int]]:
    """How each of them ended in one process, and the bytes that it took there."""
    # Made one at a time: together they would fill the memory here.
    scripts = [lambda handler, evil=evil: evil.script()(handler) for evil in EVIL.values()]
    with serving(*scripts) as server:
        lines = received(server.url, len(EVIL), BOUND // MB)
    assert len(server.posts) == len(EVIL)
    return {name: (said, took) for name, (said, took) in zip(EVIL, lines, strict=True)}


@pytest.mark.parametrize("name", EVIL)
def test_it_is_an_error_that_says_what_it_was_within_its_memory(
    ended: dict[str, tuple[str, int]], name: str
) -> None:
    said, took = ended[name]
    assert EVIL[name].says in said
    assert took < EVIL[name].mb * MB


def test_a_reply_of_2_gb_is_an_error_at_256_mb() -> None:
    with serving(endless(TWO_GB, b" " * MB)) as server:
        ((said, took),) = received(server.url, 1)
    assert said == "WebUIReplyError: the reply is larger than 256 MB"
    assert took < 60 * MB

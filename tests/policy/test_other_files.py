"""Videos, sounds and other files: what they are by their content, and whether they are whole."""

from __future__ import annotations

import io
import json
import random
import struct
import wave
import zipfile
from collections.abc import Iterator
from contextlib import suppress

import pytest
from PIL import Image

from sdwatch.policy.job.outputs.other_files import check_whole_file, format_of, is_still_picture
from sdwatch.policy.job.outputs.whole_file import NotWholeError
from sdwatch.simulator import comfyui_media
from tests.support.tables import table


def frames() -> list[Image.Image]:
    return [Image.effect_noise((48, 48), 40 + n).convert("RGB") for n in range(4)]


def moving(format: str) -> bytes:
    first, *rest = frames()
    buffer = io.BytesIO()
    first.save(buffer, format, save_all=True, append_images=rest, duration=80)
    return buffer.getvalue()


def still(format: str) -> bytes:
    buffer = io.BytesIO()
    frames()[0].save(buffer, format)
    return buffer.getvalue()


def wav() -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(random.Random(1).randbytes(4000))
    return buffer.getvalue()


def mp3(frames: int = 8, tag: bytes = b"") -> bytes:
    """Frames of 128 kbit/s at 44,100 Hz, of 417 bytes."""
    return tag + (b"\xff\xfb\x90\x00" + bytes(413)) * frames


def ogg(codec: bytes = b"\x01vorbis") -> bytes:
    """Three pages; the last one says so."""
    pages = []
    for number, flags in enumerate((2, 0, 4)):
        body = codec + bytes(100) if number == 0 else bytes(200)
        head = b"OggS\0" + bytes([flags]) + bytes(8) + struct.pack("<III", 7, number, 0)
        pages.append(head + bytes([1, len(body)]) + body)
    return b"".join(pages)


def ebml(id: bytes, body: bytes, *, is_open: bool = False) -> bytes:
    size = b"\x01" + b"\xff" * 7 if is_open else b"\x01" + len(body).to_bytes(7, "big")
    return id + size + body


CLUSTER, CUES = b"\x1f\x43\xb6\x75", b"\x1c\x53\xbb\x6b"


def matroska(kind: bytes = b"webm", *, is_open: bool = False, has_index: bool = True) -> bytes:
    head = ebml(b"\x1a\x45\xdf\xa3", ebml(b"\x42\x82", kind))
    parts = ebml(CLUSTER, bytes(300)) + (ebml(CUES, bytes(20)) if has_index else b"")
    return head + ebml(b"\x18\x53\x80\x67", parts, is_open=is_open)


def box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body) + 8) + name + body


BOXES = box(b"moov", b"x") + box(b"mdat", bytes(99))


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a.txt", "a" * 400)
    return buffer.getvalue()


WHOLE = {
    "MP4/mp4": comfyui_media.mp4(frames(), 8.0),
    "QuickTime/mov": box(b"ftyp", b"qt  " + bytes(4)) + BOXES,
    "WebM/webm": matroska(),
    "Matroska/mkv": matroska(b"matroska"),
    "GIF/gif": moving("GIF"),
    "animated WebP/webp": moving("WEBP"),
    "animated PNG/png": moving("PNG"),
    "FLAC/flac": comfyui_media.flac(0.6, 44100, 2),
    "WAV/wav": wav(),
    "MP3/mp3": mp3(),
    "Ogg/ogg": ogg(),
    "Opus/opus": ogg(b"OpusHead"),
    "safetensors/safetensors": comfyui_media.safetensors((1, 4, 8, 8)),
    "glTF/glb": b"glTF" + struct.pack("<II", 2, 12 + 90) + bytes(90),
    "ZIP/zip": zipped(),
}  # fmt: skip


@table("named", WHOLE)
def test_a_whole_file_is_known_by_its_content(named: str) -> None:
    format = format_of(WHOLE[named], "castle.txt")  # its name says nothing
    assert f"{format.name}/{format.ending}" == named
    check_whole_file(WHOLE[named], format)
    assert not is_still_picture(WHOLE[named])


def test_a_latent_keeps_the_ending_without_which_comfyui_does_not_load_it() -> None:
    assert format_of(comfyui_media.safetensors((1, 4, 8, 8)), "x_00001_.latent").ending == "latent"


def cuts(data: bytes) -> Iterator[bytes]:
    """As a full disk or a death leaves a file."""
    draw = random.Random(len(data))
    places = [len(data) - 1, len(data) - 2, len(data) // 2, 70]
    return (data[:at] for at in [*places, *(draw.randrange(66, len(data)) for _ in range(40))])


@table("named", WHOLE)
def test_a_file_that_is_cut_off_is_not_whole(named: str) -> None:
    for cut in cuts(WHOLE[named]):
        if named.startswith("MP3") and len(cut) % 417 == 0:
            continue  # between two frames nobody can tell
        with pytest.raises(NotWholeError):
            check_whole_file(cut, format_of(cut))


@table("named", WHOLE)
def test_no_bytes_whatever_break_the_check(named: str) -> None:
    draw = random.Random(3)
    for _ in range(60):
        data = bytearray(WHOLE[named])
        for _ in range(draw.randrange(1, 9)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        with suppress(NotWholeError):
            check_whole_file(bytes(data), format_of(bytes(data)))


@table(
    ("data", "why"),
    [
        (b"", "is empty"),
        (bytes(500), "zero bytes only"),
        (matroska(is_open=True, has_index=False), "was not finished"),
        (box(b"ftyp", b"isom\0\0\0\0") + box(b"mdat", bytes(50)), "was not finished"),
        (box(b"ftyp", b"isom\0\0\0\0") + box(b"moov", bytes(50)), "has no content"),
        (mp3(0, tag=b"ID3\x04\0\0\0\0\0\x05" + bytes(5)), "has no content"),
        (comfyui_media.safetensors((1, 4, 8, 8)) + b"x", "more than its header says"),
    ],
)
def test_what_is_missing_is_said(data: bytes, why: str) -> None:
    with pytest.raises(NotWholeError, match=why):
        check_whole_file(data, format_of(data))


def test_a_live_webm_with_an_index_is_whole() -> None:
    data = matroska(is_open=True)
    check_whole_file(data, format_of(data))


@table(
    ("data", "name", "ending"),
    [
        (b"a text", "x.weird", "txt"),
        (json.dumps({"a": 1}).encode(), "x.json", "json"),
        ("<svg>ä</svg>".encode(), "x.SVG", "svg"),
        (b"v 1 2 3\n", "mesh.obj", "obj"),
        (b"#!/bin/sh\n", "x.sh", "txt"),
        (b"<html>", "../../x.html", "txt"),
        (b"\xfe\x00\x01rest", "x.exe", "bin"),
    ],
)
def test_a_text_has_an_ending_that_nobody_runs(data: bytes, name: str, ending: str) -> None:
    assert format_of(data, name).ending == ending
    check_whole_file(data, format_of(data, name))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_a_still_picture_is_one(format: str) -> None:
    assert is_still_picture(still(format))
    assert is_still_picture(still(format)[:40]), "a cut-off one must not pass for something else"

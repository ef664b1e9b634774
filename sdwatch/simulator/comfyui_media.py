"""Files that are not pictures, small and whole: MP4, FLAC, safetensors."""

from __future__ import annotations

import io
import json
import math
import struct

from PIL import Image

_BLOCK = 4096  # samples of a FLAC frame


def mp4(images: list[Image.Image], fps: float) -> bytes:
    """Return the pictures as an MP4 whose boxes are whole; players see no track in it."""
    data = b"".join(_jpeg(image) for image in images)
    length = int(len(images) / fps * 1000)
    matrix = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    header = struct.pack(">5I", 0, 0, 0, 1000, length) + struct.pack(">IHxxxxxxxxxx", 0x10000, 256)
    header += matrix + bytes(24) + struct.pack(">I", 2)
    return (
        _box("ftyp", b"isom" + struct.pack(">I", 512) + b"isomiso2mp41")
        + _box("moov", _box("mvhd", header))
        + _box("mdat", data)
    )


def _box(name: str, body: bytes) -> bytes:
    return struct.pack(">I", len(body) + 8) + name.encode() + body


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def safetensors(shape: tuple[int, ...]) -> bytes:
    """Return one tensor of this shape, as SaveLatent writes it: all zeros."""
    size = math.prod(shape) * 4
    tensor = {"dtype": "F32", "shape": list(shape), "data_offsets": [0, size]}
    header = json.dumps({"latent_tensor": tensor}).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + bytes(size)


def flac(seconds: float, rate: int, channels: int) -> bytes:
    """Return so much silence as FLAC, 16 bits a sample."""
    count = int(seconds * rate)
    packed = rate << 44 | channels - 1 << 41 | 15 << 36 | count
    info = struct.pack(">HH", _BLOCK, _BLOCK) + bytes(6) + packed.to_bytes(8, "big") + bytes(16)
    frames = [
        _frame(number, min(_BLOCK, count - number * _BLOCK), channels)
        for number in range(-(-count // _BLOCK))
    ]
    return b"fLaC" + b"\x80" + len(info).to_bytes(3, "big") + info + b"".join(frames)


def _frame(number: int, samples: int, channels: int) -> bytes:
    """Return a frame of constant subframes; its rate is that of the stream."""
    head = b"\xff\xf8\x70" + bytes([channels - 1 << 4 | 8]) + chr(number).encode()
    head += struct.pack(">H", samples - 1)
    head += bytes([_checksum(head, 0x07, 8)])
    body = head + b"\x00\x00\x00" * channels
    return body + struct.pack(">H", _checksum(body, 0x8005, 16))


def _checksum(data: bytes, polynomial: int, bits: int) -> int:
    value, top = 0, 1 << bits - 1
    for byte in data:
        value ^= byte << bits - 8
        for _ in range(8):
            value = (value << 1 ^ polynomial if value & top else value << 1) & (1 << bits) - 1
    return value

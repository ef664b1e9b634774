"""Pictures that are small files and say that they are large."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image

from tests.support.fakes import picture


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """A PNG that says it is so large, of few bytes."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + data + chunk(b"IEND", b"")


def jpeg(width: int, height: int) -> bytes:
    """A small JPEG that says it is so large."""
    data = bytearray(picture(kind="JPEG"))
    at = data.index(b"\xff\xc0") + 5  # the frame's header: length, bits, height, width
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def webp(width: int, height: int) -> bytes:
    """A lossless WebP of one colour: a few bytes for any size."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (1, 2, 3)).save(buffer, "WEBP", lossless=True)
    data = bytearray(buffer.getvalue())
    data[21:25] = struct.pack("<I", (width - 1) | (height - 1) << 14)
    return bytes(data)

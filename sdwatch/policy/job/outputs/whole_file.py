"""Read a file part by part, and notice where it ends too soon. Pure."""

from __future__ import annotations

from typing import IO


class NotWholeError(ValueError):
    """A file is not whole; the text says why, as in `is cut off`."""


def exactly(file: IO[bytes], count: int) -> bytes:
    """Return so many bytes. Raises NotWholeError where there are fewer."""
    data = file.read(count) if count >= 0 else b""
    if len(data) != count:
        raise NotWholeError("is cut off")
    return data


def skip(file: IO[bytes], count: int) -> None:
    """Pass over so many bytes. Raises NotWholeError where there are fewer."""
    if count > 0:
        file.seek(count - 1, 1)
        exactly(file, 1)


def until(end: int, size: int) -> None:
    """Check that a file of `size` bytes has what ends there. Raises NotWholeError."""
    if end > size:
        raise NotWholeError("is cut off")


def u32(data: bytes) -> int:
    """Return the number in the first four bytes, the largest first."""
    return int.from_bytes(data[:4], "big")

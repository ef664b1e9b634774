"""A picture as bytes: how large it says it is, and whether it is whole. Pure.

PNG, JPEG and WebP only: what WebUIs answer with and what people edit. Other decoders of
Pillow do more than decode (that of EPS runs a program).

Its size is known before anything is decoded. Of what a job brings as little as possible is decoded
then, of what a WebUI answers each picture once. Measured with Pillow 13.0 for 12,000 x 12,000
pixels, of one colour: a JPEG decoded takes 550 MB, at an eighth of its size 12 MB (a progressive
one 420 MB); a PNG's checksums take 3 MB; a WebP, which may be a file of 38 bytes, takes 2,200 MB
and six seconds. A PNG of 1024 x 1024 pixels is decoded in 24 ms, one of 4096 x 4096 in half a
second.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, Protocol, TypeAlias

from PIL import Image, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "WEBP")

MOST_PIXELS = 178_956_970
"""In one picture: what Pillow takes for a decompression bomb unless told otherwise."""

# Pillow itself warns above this, and refuses above twice as much.
Image.MAX_IMAGE_PIXELS = MOST_PIXELS

_DECODED_WEBP = 40_000_000
"""Pixels up to which a WebP is decoded to see whether it is whole: 16 bytes each."""

_DECODED_PNG = 100_000_000
"""Pixels up to which a PNG of a reply is decoded: 4 bytes each. As many as one call may make."""

_NO_END = bytes(16)
"""In place of a JPEG's end, and for its decoder more of the picture."""

_DECODED = 40_000_000
"""Pixels up to which a picture is decoded to see its colours: 3 bytes each, for a while twice."""

_SMALL_FILE = 65_536  # bytes: what a WebUI writes beside the picture, its preview too
_SQUEEZED = 100  # pixels in a byte: zlib makes of one colour a thousandth, a JPEG about as little

_ONE_COLOUR = 5  # of 255: what JPEG (2) and WebP make of one colour

# What Pillow raises on bytes that somebody made up, found by trying.
BROKEN = (OSError, SyntaxError, ValueError, EOFError, MemoryError, Image.DecompressionBombError)
"""What Pillow raises for what is not a picture, or not a whole one."""


class NoPictureError(ValueError):
    """This cannot be used as a picture; the text says why, as in `is cut off`."""


class StoredPicture(Protocol):
    """A picture that is too large to be in memory, and is read from where it lies."""

    def __len__(self) -> int: ...
    def open(self) -> IO[bytes]: ...


PictureData: TypeAlias = bytes | StoredPicture
"""A picture's bytes, or where they lie."""


def opened(data: PictureData) -> IO[bytes]:
    """Return a picture's bytes as a file, at its start."""
    return io.BytesIO(data) if isinstance(data, bytes) else data.open()


@contextmanager
def looking_at(data: PictureData, broken: str = "is cut off or damaged") -> Iterator[Image.Image]:
    """Open a picture, not decoded yet. Raises NoPictureError with `broken` for what Pillow raises
    then or within."""
    try:
        with Image.open(opened(data), formats=FORMATS) as picture:
            yield picture
    except BROKEN as error:
        raise NoPictureError(broken) from error


def size_of(file: IO[bytes], most: int = MOST_PIXELS) -> tuple[int, int]:
    """Return width and height, as its first bytes tell them. Raises NoPictureError, also for more
    than `most` pixels."""
    try:
        with Image.open(file, formats=FORMATS) as picture:
            width, height = picture.size
    except Image.DecompressionBombError as error:
        raise NoPictureError(f"has more than {most / 1e6:.4g} megapixels") from error
    except UnidentifiedImageError as error:
        raise NoPictureError("is not a PNG, JPEG or WebP picture") from error
    except BROKEN as error:
        raise NoPictureError("is cut off or damaged") from error
    if width * height > most:
        raise NoPictureError(
            f"has {width:,} x {height:,} pixels, more than {most / 1e6:.4g} megapixels"
        )
    return width, height


def settings_in(data: bytes) -> str:
    """Return the infotext that a WebUI wrote into a picture: into a PNG's chunk `parameters`, into
    the EXIF comment of JPEG and WebP; '' where there is none. Raises NoPictureError."""
    size_of(io.BytesIO(data))
    with looking_at(data) as picture:
        written = picture.info.get("parameters")
        if written is None:
            written = picture.getexif().get_ifd(_EXIF).get(_USER_COMMENT, b"")
    if isinstance(written, bytes):
        coding = "utf-16-be" if written.startswith(b"UNICODE") else "utf-8"
        written = written[8:].decode(coding, "replace")
    return str(written).strip("\0 \n")


_EXIF, _USER_COMMENT = 0x8769, 0x9286


def may_be_cut(head: bytes, tail: bytes, size: int) -> bool:
    """Return whether a file of `size` bytes with this start and this end (up to ENDS bytes) may be
    an incomplete picture: it is empty, or does not end as its format does. A picture with other
    data after it may still be complete."""
    if not head.strip(b"\0"):
        return True
    if head.startswith(_PNG):
        return _PNG_END not in tail
    if head.startswith(_JPEG):
        return not tail.endswith(_JPEG_END)
    if head.startswith(_RIFF):
        return size < 8 + int.from_bytes(head[4:8], "little") or not tail.strip(b"\0")
    return size < len(_PNG) and any(magic.startswith(head) for magic in (_PNG, _JPEG, _RIFF))


def check_to_its_end(data: bytes, most: int = MOST_PIXELS) -> None:
    """Check more strictly than check_whole: where room was made for a file that is not filled yet,
    the decoders of JPEG and WebP take the zero bytes for a picture (measured with Pillow 13.0).
    Raises NoPictureError."""
    zeros = len(data) - len(body := data.rstrip(b"\0"))
    not_filled = data.startswith(_RIFF) and zeros >= ENDS
    not_filled |= data.startswith(_JPEG) and zeros > 0 and not body.endswith(_JPEG_END)
    if not_filled:
        raise NoPictureError("is not filled to its end")
    check_whole(data, most)


ENDS = 512
"""Bytes at either end of a picture that tell whether it is whole."""

_PNG, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_JPEG, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_RIFF = b"RIFF"


def check_whole(data: PictureData, most: int = MOST_PIXELS) -> tuple[int, int]:
    """Return width and height in pixels of a complete picture; large ones are checked without
    decoding. Raises NoPictureError."""
    return _checked(data, most, _look_through)[0]


def look_at(data: PictureData) -> tuple[tuple[int, int], bool | None]:
    """Return width and height of a picture that is decoded once to check it, since checksums may be
    right over bytes that are not picture; and whether it is of one colour, where it was decoded so
    that this could be seen. None: is_one_colour says it. Raises NoPictureError."""
    return _checked(data, MOST_PIXELS, _decode)


def _checked(
    data: PictureData, most: int, look: Callable[[Image.Image, PictureData], bool | None]
) -> tuple[tuple[int, int], bool | None]:
    size = size_of(opened(data), most)
    with looking_at(data) as picture:
        return size, look(picture, data)


def is_one_colour(data: PictureData) -> bool:
    """Return whether each pixel of a picture that is whole has the same colour, or nearly (JPEG).
    Raises NoPictureError where only its checksums were whole."""
    with looking_at(data, "is damaged inside") as picture:
        picture.draft(None, (256, 256))
        return _is_one_colour(picture)


def _is_one_colour(picture: Image.Image) -> bool:
    # Of RGB and RGBA no copy is made: it would have the size of the picture again.
    extrema = (picture if picture.mode in ("RGB", "RGBA") else picture.convert("RGB")).getextrema()
    return all(high - low <= _ONE_COLOUR for low, high in extrema[:3])  # type: ignore[misc]


def may_be_one_colour(data: PictureData, size: tuple[int, int]) -> bool:
    """Return whether it is worth decoding to see: a file as large as this has colours, and a
    picture as large as this one may be is never decoded whole."""
    pixels = size[0] * size[1]
    return pixels <= _DECODED and len(data) <= _SMALL_FILE + pixels // _SQUEEZED


def _look_through(picture: Image.Image, data: PictureData) -> None:
    """Verify a picture. Raises one of BROKEN where it is not whole."""
    width, height = picture.size
    if picture.format == "PNG":
        picture.verify()  # its checksums tell; of other formats verify() knows nothing
    elif picture.format != "WEBP":
        picture.draft(None, (max(1, width // 8), max(1, height // 8)))
        picture.load()
    elif width * height <= _DECODED_WEBP:
        picture.load()
    elif len(data) < 8 + int.from_bytes(
        opened(data).read(8)[4:], "little"
    ):  # its own word for its length
        raise OSError("shorter than it says")


def _decode(picture: Image.Image, data: PictureData) -> bool | None:
    """Decode a picture, see look_at. Raises one of BROKEN where not all of it decodes."""
    width, height = picture.size
    is_baseline = picture.format == "JPEG" and "progressive" not in picture.info
    with Image.open(_without_end(data) if is_baseline else opened(data), formats=FORMATS) as again:
        _look_through(again, data)
    if picture.format == "PNG" and width * height <= _DECODED_PNG:
        picture.load()
        return may_be_one_colour(data, picture.size) and _is_one_colour(picture)
    return None


def _without_end(data: PictureData) -> IO[bytes]:
    """Return a JPEG that must have all its pixels, as a file. What is missing before an end its
    decoder fills with grey, and says nothing (measured); only where there is no end either, it
    finds the file cut off. One that is whole is ready before that; a progressive one is read to its
    end at first."""
    file = opened(data)
    end = _last_end(file, len(data))
    file.seek(0)
    return file if end < 0 else io.BufferedReader(_EndsAt(file, end))


def _last_end(file: IO[bytes], size: int) -> int:
    """Return where a JPEG's last end marker starts; -1 if it has none."""
    after = b""
    while size > 0:
        start = max(0, size - _BLOCK)
        file.seek(start)
        block = file.read(size - start)
        if (found := (block + after).rfind(_JPEG_END)) >= 0:
            return start + found
        size, after = start, block[:1]
    return -1


_BLOCK = 1 << 16


class _EndsAt(io.RawIOBase):
    """`file` up to `end`, and then _NO_END."""

    def __init__(self, file: IO[bytes], end: int) -> None:
        self._file = file
        self._end = end
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        size = self._end + len(_NO_END)
        self._at = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: size}[whence] + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        if self._at < self._end:
            self._file.seek(self._at)
            data = self._file.read(min(len(buffer), self._end - self._at))
        else:
            data = _NO_END[self._at - self._end :][: len(buffer)]
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def smallest_picture() -> bytes:
    """Return a PNG of 8x8 pixels, the least that a WebUI takes."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (90, 120, 150)).save(buffer, "PNG")
    return buffer.getvalue()

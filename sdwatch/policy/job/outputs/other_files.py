"""Files that a WebUI made and that are not still pictures: what they are, by their content, and
whether they are whole. Pure.

Videos, moving pictures, sounds, latents, meshes, texts. Nothing is decoded: each format says itself
how long it is, by the lengths of its parts, checksums or an end mark. A file that was cut off, by a
full disk or a death, contradicts that. What is of no format known here is saved as it is.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import IO

from sdwatch.policy.job.outputs.picture import PictureData, opened
from sdwatch.policy.job.outputs.sound_files import check_flac, check_mp3, check_ogg, is_mp3
from sdwatch.policy.job.outputs.whole_file import NotWholeError, exactly, skip, u32, until


@dataclass(frozen=True)
class FileFormat:
    """A format. `ending`: of its files' names; `check`: raises NotWholeError for one that is not
    whole, None where nobody can say."""

    name: str
    ending: str
    check: Callable[[IO[bytes], int], None] | None = None


HEAD = 64
"""Bytes at the start of a file that show its format, but for moving pictures."""

_TEXT_ENDINGS = re.compile(
    r"\.(txt|json|csv|md|srt|vtt|xml|svg|obj|gltf|yaml|log)", re.IGNORECASE | re.ASCII
)
_TEXT = FileFormat("text", "txt")
_UNKNOWN = FileFormat("file of an unknown format", "bin")
_MOST_TEXT = 16 << 20


def is_still_picture(data: PictureData) -> bool:
    """Return whether these bytes start like a PNG, JPEG or WebP that does not move."""
    with opened(data) as file:
        head = file.read(HEAD)
        if head.startswith(b"\xff\xd8\xff"):
            return True
        if head.startswith(_PNG):
            return not _moves_png(file)
        moves = head[12:16] == b"VP8X" and len(head) > 20 and bool(head[20] & 2)
        return _is_riff(head, b"WEBP") and not moves


def format_of(data: PictureData, name: str = "") -> FileFormat:
    """Return the format of a file's content. `name`: as the WebUI calls it, which chooses between
    the endings of texts, and of safetensors, alone."""
    with opened(data) as file:
        head = file.read(HEAD)
        found = next((each for fits, each in _FORMATS if fits(head)), None)
        if found is not None:
            is_latent = found.ending == "safetensors" and name.lower().endswith(".latent")
            return replace(found, ending="latent") if is_latent else found
        rest = file.read(_MOST_TEXT)
    if not _is_text(head + rest, whole=len(data) == len(head) + len(rest)):
        return _UNKNOWN
    written = _TEXT_ENDINGS.fullmatch(name[name.rfind(".") :]) if "." in name else None
    return FileFormat("text", written[1].lower()) if written else _TEXT


def is_named_after_another(format: FileFormat, name: str) -> bool:
    """Return whether a file is called after a format that has marks of its own, and has none: a
    page of a proxy, or a video whose start was never written."""
    ending = name.rpartition(".")[2].lower()
    return format.name in (_TEXT.name, _UNKNOWN.name) and ending in _MARKED


def check_whole_file(data: PictureData, format: FileFormat) -> None:
    """Check that a file is whole, as far as its format shows that. Raises NotWholeError."""
    if not len(data):
        raise NotWholeError("is empty")
    if format.check is not None:
        with opened(data) as file:
            format.check(file, len(data))
    elif format is _UNKNOWN:
        with opened(data) as file:
            if not any(part.strip(b"\0") for part in iter(lambda: file.read(1 << 20), b"")):
                raise NotWholeError("has zero bytes only")


def _is_text(data: bytes, *, whole: bool) -> bool:
    if b"\0" in data:
        return False
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return not whole and error.start >= len(data) - 4 and error.start > 0
    return bool(data)


# -- PNG and WebP that move

_PNG = b"\x89PNG\r\n\x1a\n"


def _png_chunks(file: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Yield name and length of each chunk; the file is at its content then."""
    file.seek(len(_PNG))
    while len(head := file.read(8)) == 8:
        length = u32(head)
        at = file.tell()
        yield head[4:], length
        file.seek(at + length + 4)


def _moves_png(file: IO[bytes]) -> bool:
    """The chunk acTL comes before the picture."""
    for name, _ in islice(_png_chunks(file), 102):
        if name in (b"acTL", b"IDAT", b"IEND"):
            return name == b"acTL"
    return False


def _check_apng(file: IO[bytes], size: int) -> None:
    frames = said = 0
    for name, length in _png_chunks(file):
        if file.tell() + length + 4 > size:
            break
        content = exactly(file, length)
        if zlib.crc32(name + content) != u32(exactly(file, 4)):
            raise NotWholeError(f"has a damaged part ({name.decode('latin-1')})")
        frames += name == b"fcTL"
        said = u32(content) if name == b"acTL" else said
        if name == b"IEND":
            if frames != said:
                raise NotWholeError(f"has {frames} of {said} frames")
            return
    raise NotWholeError("is cut off")


def _is_riff(head: bytes, kind: bytes) -> bool:
    return head.startswith(b"RIFF") and head[8:12] == kind


def _check_riff(file: IO[bytes], size: int) -> None:
    """WebP, WAV and AVI: the length of all, and of each part."""
    said = int.from_bytes(exactly(file, 8)[4:], "little") + 8
    until(said, size + 1)  # some leave out the last filler
    kind, at, parts = exactly(file, 4), 12, 0
    while at + 8 <= min(said, size):
        file.seek(at)
        head = exactly(file, 8)
        length = int.from_bytes(head[4:], "little")
        until(at + 8 + length, size)
        parts += head[:4] in (b"ANMF", b"data", b"LIST")
        at += 8 + length + length % 2
    if not parts:
        raise NotWholeError(f"has no content ({kind.decode('latin-1').strip()})")


def _check_gif(file: IO[bytes], size: int) -> None:
    del size
    screen = exactly(file, 13)
    skip(file, _colours(screen[10]))
    while (sign := exactly(file, 1)) != b";":
        if sign == b",":
            skip(file, _colours(exactly(file, 9)[8]))
            exactly(file, 1)
        elif sign == b"!":
            exactly(file, 1)
        else:
            raise NotWholeError("is damaged")
        while length := exactly(file, 1)[0]:
            skip(file, length)


def _colours(packed: int) -> int:
    """Return the bytes of a table of colours."""
    return 3 * 2 ** ((packed & 7) + 1) if packed & 0x80 else 0


# -- videos


def _check_mp4(file: IO[bytes], size: int) -> None:
    """Its boxes end where it ends; one has the list of what is in it, one the content."""
    at, seen = 0, set[bytes]()
    while at < size:
        file.seek(at)
        head = exactly(file, 8)
        length, name = u32(head), head[4:]
        if length == 1:
            length = int.from_bytes(exactly(file, 8), "big")
        elif length == 0:
            length = size - at
        if length < 8 or at + length > size:
            raise NotWholeError("is cut off")
        seen.add(name)
        at += length
    if not seen & {b"moov", b"moof", b"meta"}:
        raise NotWholeError("was not finished: it has no list of its content")
    if not seen & {b"mdat", b"idat", b"moof"}:
        raise NotWholeError("has no content")


def _check_matroska(file: IO[bytes], size: int) -> None:
    """WebM and MKV: the length of the segment, and its parts. A writer that ended before its time
    leaves that length open, and no index."""
    exactly(file, 4)
    skip(file, _ebml_number(file)[0])
    if exactly(file, 4) != b"\x18\x53\x80\x67":
        raise NotWholeError("has no content")
    length, is_open = _ebml_number(file)
    start = file.tell()
    if not is_open:
        until(start + length, size)
    end, seen = size if is_open else start + length, set[bytes]()
    while file.tell() < end:
        seen.add(name := _ebml_id(file))
        length, part_is_open = _ebml_number(file)
        if part_is_open:
            break
        until(file.tell() + length, size)
        file.seek(length, 1)
        if len(name) == 4 and len(seen) > _MOST_PARTS:
            break
    if b"\x1f\x43\xb6\x75" not in seen:
        raise NotWholeError("has no content")
    if is_open and b"\x1c\x53\xbb\x6b" not in seen:
        raise NotWholeError("was not finished: it has no index")


_MOST_PARTS = 100


def _ebml_id(file: IO[bytes]) -> bytes:
    first = exactly(file, 1)
    length = 9 - first[0].bit_length()
    if length > 4:
        raise NotWholeError("is damaged")
    return first + exactly(file, length - 1)


def _ebml_number(file: IO[bytes]) -> tuple[int, bool]:
    """Return a length, and whether it is left open."""
    first = exactly(file, 1)[0]
    more = 8 - first.bit_length()
    if more > 7:
        raise NotWholeError("is damaged")
    value = int.from_bytes(bytes([first & (0x7F >> more)]) + exactly(file, more), "big")
    return value, value == (1 << 7 * (more + 1)) - 1


# -- tensors, meshes, archives


def _is_safetensors(head: bytes) -> bool:
    return head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") < _MOST_HEADER


_MOST_HEADER = 100_000_000


def _check_safetensors(file: IO[bytes], size: int) -> None:
    """SaveLatent writes these, too, as `.latent`: ComfyUI's LoadLatent lists no other ending
    (nodes.py:566). Their header says how long each tensor is."""
    (length,) = struct.unpack("<Q", exactly(file, 8))
    until(8 + length, size)
    try:
        header = json.loads(exactly(file, length))
        ends = [item["data_offsets"][1] for name, item in header.items() if name != "__metadata__"]
        said = 8 + length + max(ends, default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise NotWholeError("has a damaged header") from error
    if said != size:
        raise NotWholeError("is cut off" if said > size else "has more than its header says")


def _check_glb(file: IO[bytes], size: int) -> None:
    until(int.from_bytes(exactly(file, 12)[8:], "little"), size)


def _check_zip(file: IO[bytes], size: int) -> None:
    """The end of its directory is within its last 64 kB."""
    file.seek(max(0, size - (1 << 16) - _ZIP_END))
    tail = file.read()
    end = tail[at:] if (at := tail.rfind(b"PK\x05\x06")) >= 0 else b""
    if len(end) < _ZIP_END or len(end) < _ZIP_END + int.from_bytes(end[20:22], "little"):
        raise NotWholeError("is cut off")


_ZIP_END = 22


def _starts(*beginnings: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(beginnings)


def _is_media_of(*brands: bytes) -> Callable[[bytes], bool]:
    return lambda head: head[4:8] == b"ftyp" and (not brands or head[8:12] in brands)


_FORMATS: tuple[tuple[Callable[[bytes], bool], FileFormat], ...] = (
    (_starts(_PNG), FileFormat("animated PNG", "png", _check_apng)),
    (lambda head: _is_riff(head, b"WEBP"), FileFormat("animated WebP", "webp", _check_riff)),
    (lambda head: _is_riff(head, b"WAVE"), FileFormat("WAV", "wav", _check_riff)),
    (lambda head: _is_riff(head, b"AVI "), FileFormat("AVI", "avi", _check_riff)),
    (_starts(b"GIF87a", b"GIF89a"), FileFormat("GIF", "gif", _check_gif)),
    (_is_media_of(b"avif", b"avis"), FileFormat("AVIF", "avif", _check_mp4)),
    (_is_media_of(b"M4A "), FileFormat("M4A", "m4a", _check_mp4)),
    (_is_media_of(b"qt  "), FileFormat("QuickTime", "mov", _check_mp4)),
    (_is_media_of(), FileFormat("MP4", "mp4", _check_mp4)),
    (
        lambda head: head.startswith(b"\x1a\x45\xdf\xa3") and b"webm" in head,
        FileFormat("WebM", "webm", _check_matroska),
    ),
    (_starts(b"\x1a\x45\xdf\xa3"), FileFormat("Matroska", "mkv", _check_matroska)),
    (_starts(b"fLaC"), FileFormat("FLAC", "flac", check_flac)),
    (
        lambda head: head.startswith(b"OggS") and b"OpusHead" in head,
        FileFormat("Opus", "opus", check_ogg),
    ),
    (_starts(b"OggS"), FileFormat("Ogg", "ogg", check_ogg)),
    (is_mp3, FileFormat("MP3", "mp3", check_mp3)),
    (_starts(b"glTF"), FileFormat("glTF", "glb", _check_glb)),
    (_starts(b"PK\x03\x04"), FileFormat("ZIP", "zip", _check_zip)),
    (_is_safetensors, FileFormat("safetensors", "safetensors", _check_safetensors)),
    (_starts(b"v/1\x01"), FileFormat("OpenEXR", "exr")),
    (_starts(b"II*\0", b"MM\0*"), FileFormat("TIFF", "tif")),
    (_starts(b"ply\n", b"ply\r\n"), FileFormat("PLY", "ply")),
    (_starts(b"%PDF-"), FileFormat("PDF", "pdf")),
)
"""By the first bytes; the upper of two counts."""

_MARKED = frozenset(
    {*(each.ending for _, each in _FORMATS if each.check is not None), "latent", "sft", "m4v"}
)
"""Endings whose files show by their first bytes what they are."""

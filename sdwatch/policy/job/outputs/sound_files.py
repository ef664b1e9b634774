"""Whether a sound file is whole: FLAC, MP3, Ogg. Pure.

None of them says how many bytes it has. A FLAC says how many samples, and each of its frames where
it starts and what its checksum is; MP3 and Ogg are frames and pages that say their own lengths.
"""

from __future__ import annotations

from functools import cache
from typing import IO

from sdwatch.policy.job.outputs.whole_file import NotWholeError, exactly, skip, until

_LAST = 1 << 20
"""Bytes at the end of a FLAC in which its last frame is looked for: one has at most 65,535 samples
of eight channels."""


def check_flac(file: IO[bytes], size: int) -> None:
    """Find the last frame: it must end the file, with its checksum, and be the one with the last
    sample. Raises NotWholeError."""
    exactly(file, 4)
    samples, block_size, is_last = 0, 0, False
    while not is_last:
        head = exactly(file, 4)
        is_last, length = bool(head[0] & 0x80), int.from_bytes(head[1:], "big")
        if head[0] & 0x7F == 0:
            info = exactly(file, length)
            block_size = int.from_bytes(info[2:4], "big")
            samples = int.from_bytes(info[10:18], "big") & (1 << 36) - 1
        else:
            skip(file, length)
    if not samples:  # nobody knew it when the file was begun
        if file.tell() >= size:
            raise NotWholeError("has no content")
        return
    start = max(file.tell(), size - _LAST)
    file.seek(start)
    tail = file.read()
    at = len(tail)
    while (at := tail.rfind(b"\xff", 0, at)) >= 0:
        found = _flac_frame(tail[at : at + 20], block_size)
        if found is not None and _crc(tail[at:-2], 0x8005, 16) == int.from_bytes(tail[-2:], "big"):
            first, count = found
            if first + count >= samples:
                return
            break
    raise NotWholeError("is cut off")


def _flac_frame(head: bytes, block_size: int) -> tuple[int, int] | None:
    """Return the number of a frame's first sample and how many it has; None where this is not a
    frame's head."""
    if len(head) < 8 or head[0] != 0xFF or head[1] & 0xFE != 0xF8:
        return None
    number, at = _coded_number(head, 4)
    code, rate = head[2] >> 4, head[2] & 15
    extra = {6: 1, 7: 2}.get(code, 0)
    after = at + extra + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if number is None or code == 0 or after >= len(head) or _crc(head[:after], 7, 8) != head[after]:
        return None
    if extra:
        count = int.from_bytes(head[at : at + extra], "big") + 1
    else:
        count = 192 if code == 1 else 576 << code - 2 if code <= 5 else 256 << code - 8
    return (number if head[1] & 1 else number * block_size), count


def _coded_number(head: bytes, at: int) -> tuple[int | None, int]:
    """Return a number in the coding of UTF-8, and where the next byte is."""
    first = head[at]
    if first < 0x80:
        return first, at + 1
    length = 8 - (first ^ 0xFF).bit_length()
    rest = head[at + 1 : at + length]
    if not 2 <= length <= 7 or any(byte & 0xC0 != 0x80 for byte in rest):
        return None, at
    value = first & (0x7F >> length)
    for byte in rest:
        value = value << 6 | byte & 0x3F
    return value, at + length


def _crc(data: bytes, polynomial: int, bits: int) -> int:
    """Return the checksum of FLAC, with a table."""
    table, mask, shift = _table(polynomial, bits), (1 << bits) - 1, bits - 8
    value = 0
    for byte in data:
        value = (value << 8 & mask) ^ table[value >> shift ^ byte]
    return value


@cache
def _table(polynomial: int, bits: int) -> list[int]:
    top, mask, made = 1 << bits - 1, (1 << bits) - 1, []
    for byte in range(256):
        value = byte << bits - 8
        for _ in range(8):
            value = (value << 1 ^ (polynomial if value & top else 0)) & mask
        made.append(value)
    return made


def check_ogg(file: IO[bytes], size: int) -> None:
    """Vorbis and Opus: the last page says that it is the last. Raises NotWholeError."""
    flags = 0
    while file.tell() < size:
        head = exactly(file, 27)
        if head[:4] != b"OggS":
            raise NotWholeError("is damaged")
        flags = head[5]
        skip(file, sum(exactly(file, head[26])))
    if not flags & 4:
        raise NotWholeError("is cut off")


# -- MP3

_RATES = (44100, 48000, 32000)
_KBITS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBITS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


def is_mp3(head: bytes) -> bool:
    """Return whether a file starts with a tag of MP3s, or with one of their frames."""
    return head.startswith(b"ID3") or _mp3_frame(head) > 0


def check_mp3(file: IO[bytes], size: int) -> None:
    """Each frame says how long it is. Raises NotWholeError."""
    at = frames = 0
    while at < size:
        file.seek(at)
        head = exactly(file, min(10, size - at))
        if head[:3] == b"ID3" and len(head) == 10:
            at += 10 + sum(
                byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True)
            )
            continue
        if head[:3] == b"TAG" or head[:8] == b"APETAGEX":
            break
        length = _mp3_frame(head)
        if not length:
            raise NotWholeError("is damaged" if frames else "has no content")
        at, frames = at + length, frames + 1
    until(at, size)
    if not frames:
        raise NotWholeError("has no content")


def _mp3_frame(head: bytes) -> int:
    """Return the bytes of a frame of layer III; 0 where this is none."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return 0
    version, kbits, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or kbits in (0, 15) or rate == 3:
        return 0
    is_first = version == 3
    hertz = _RATES[rate] >> {3: 0, 2: 1, 0: 2}[version]
    rate_of = (_KBITS_1 if is_first else _KBITS_2)[kbits] * 1000
    return (144 if is_first else 72) * rate_of // hertz + (head[2] >> 1 & 1)

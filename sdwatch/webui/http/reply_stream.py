"""Read a reply as it arrives, without holding its images in memory.

Nearly all bytes of a reply are base64 of its pictures. Each is decoded as it comes, and goes to a
scratch file if it is large; in the JSON that is left a number takes its place. What that JSON means
is decided at the end, by json.loads: this module knows only strings, brackets and commas.
"""

from __future__ import annotations

import binascii
import json
import re
from dataclasses import dataclass, field

from sdwatch.system.scratch import Arriving, Scratch, ScratchFile

MOST_SIGNS = 2_000_000
"""Structural characters in JSON. Three bytes, `[],`, take 64 in memory, so bytes bound little."""

MOST_IMAGES = 1000

_SHORT = 1100
"""Characters of an image that are kept as they came: it may be the path of a file instead."""

_MOST_TEXT = 1 << 16
"""Bytes of another string: the request, which some WebUIs send back, has pictures in it too."""

_SIGN = re.compile(rb'["\[\]{},:]')
_ESCAPE = rb"\\(?:u[0-9a-fA-F]{4}|[^u])"
_INSIDE = re.compile(rb'(?:[^"\\]++|' + _ESCAPE + rb")*+", re.DOTALL)
_ESCAPES = re.compile(_ESCAPE, re.DOTALL)
_LONGEST_ESCAPE = 6
_CONTROL = re.compile(rb"[\x00-\x1f]")
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NO_BASE64 = bytes(set(range(256)) - set(_ALPHABET) - set(b"="))


@dataclass(frozen=True)
class EncodedImage:
    """A string in the place of an image. `text`: all of it, if it is short. `data`: what it
    encodes; None if it is not base64."""

    text: str | None
    data: bytes | ScratchFile | None


NO_TEXT = EncodedImage(None, None)
"""What is there is no string, or an empty one."""


@dataclass
class Arrived:
    """A whole reply. `rest`: its JSON, with the index in `images` as a string for each of them;
    strings of more than _MOST_TEXT bytes besides `info` are left out. `broken`: what came is not
    JSON, or has too many values."""

    rest: bytes = b""
    images: list[EncodedImage] = field(default_factory=list)
    broken: bool = False


class ReplyStream:
    """Takes a reply in parts. `key`: of its images, a list of strings; of `one` image, a string."""

    def __init__(self, key: str, scratch: Scratch, *, one: bool = False) -> None:
        self._key_of_images = key
        self._one = one
        self._scratch = scratch
        self._arrived = Arrived()
        self._rest = bytearray()
        self._signs = 0
        self._depth = 0
        self._key = ""  # the last one of the outermost object
        self._after_colon = False  # in the outermost object
        self._in_images = False
        self._text: _Kept | _Base64 | None = None  # the string that is being read
        self._torn = b""  # an escape whose end is still to come

    def feed(self, part: bytes) -> None:
        """Take the next part."""
        data, self._torn, at = self._torn + part, b"", 0
        while at < len(data) and not self._arrived.broken:
            at = self._between(data, at) if self._text is None else self._inside(data, at)

    def finish(self) -> Arrived:
        """Return everything that has arrived."""
        self._rest += self._torn
        self._arrived.rest = bytes(self._rest)
        return self._arrived

    def _between(self, data: bytes, at: int) -> int:
        """Read to the start of a string, and return where to continue."""
        found = _SIGN.search(data, at)
        end = found.start() if found else len(data)
        piece = data[at:end]
        self._rest += b" " if piece.isspace() else piece
        if found is None:
            return end
        sign = found[0]
        if sign == b'"':
            self._text = self._new_text()
        else:
            self._rest += sign
            self._take(sign)
        return found.end()

    def _take(self, sign: bytes) -> None:
        self._signs += 1
        self._arrived.broken = self._signs > MOST_SIGNS
        outermost = self._depth == 1
        if sign in b"[{":
            if outermost and self._is_value_of_images and sign == b"[" and not self._one:
                self._in_images = True
            self._depth += 1
        elif sign in b"]}":
            self._depth -= 1
            self._in_images &= self._depth > 1
        elif outermost:
            self._after_colon = sign == b":"

    @property
    def _is_value_of_images(self) -> bool:
        return self._after_colon and self._key == self._key_of_images

    def _new_text(self) -> _Kept | _Base64:
        outermost = self._depth == 1
        if (self._in_images and self._depth == 2) or (
            self._one and outermost and self._is_value_of_images
        ):
            return _Base64(self._scratch)
        is_key = outermost and not self._after_colon
        whole = outermost and self._after_colon and self._key == "info"
        return _Kept(is_key=is_key, most=None if whole else _MOST_TEXT)

    def _inside(self, data: bytes, at: int) -> int:
        """Read to the end of a string, and return where to continue."""
        assert self._text is not None
        end = _end_of_text(data, at)
        self._text.add(data[at:end])
        if end == len(data):
            return end
        if data[end : end + 1] == b'"':
            self._end_text(self._text)
            self._text = None
            return end + 1
        if len(data) - end < _LONGEST_ESCAPE:
            self._torn = data[end:]
        else:
            self._arrived.broken = True  # no escape that JSON has
        return len(data)

    def _end_text(self, text: _Kept | _Base64) -> None:
        if isinstance(text, _Kept):
            self._rest += b'"%b"' % bytes(text.text)
            if text.is_key:
                self._key = _unescaped(bytes(text.text)).decode("utf-8", "replace")
            return
        images = self._arrived.images
        self._arrived.broken |= text.broken
        if text.is_empty:
            self._rest += b'""'
            return
        self._rest += b'"%d"' % len(images)
        if len(images) <= MOST_IMAGES:  # of any more only their number counts
            images.append(text.finish())


class _Kept:
    """A string that stays where it is; one of more than `most` bytes is left out."""

    def __init__(self, *, is_key: bool, most: int | None) -> None:
        self.is_key = is_key
        self.text = bytearray()
        self._most = most
        self._left_out = False

    def add(self, part: bytes) -> None:
        self.text += part
        if self._left_out or (self._most is not None and len(self.text) > self._most):
            self._left_out = True
            self.text.clear()


class _Base64:
    """An image, decoded as base64.b64decode does: what is not of its alphabet is passed over, and
    so is what comes after its end."""

    def __init__(self, scratch: Scratch) -> None:
        self.broken = False
        self.is_empty = True
        self._start: bytearray | None = bytearray()
        self._before_comma = False  # of a data: URL
        self._is_ascii = True
        self._data = Arriving(scratch)
        self._digits = b""  # less than four
        self._pads = 0
        self._is_over = False

    def add(self, part: bytes) -> None:
        if not part:
            return
        self.is_empty = False
        if part.translate(None, _ALPHABET):  # else there is nothing in it that could be wrong
            self.broken |= _CONTROL.search(part) is not None
            part = _unescaped(part)
            self.broken |= b"\xff" in part  # no escape that JSON has; UTF-8 has no such byte
        if self._start is None:
            self._decode(part)
            return
        self._start += part
        if len(self._start) > _SHORT:
            self._decode_start()

    def finish(self) -> EncodedImage:
        """Return the image."""
        text = None
        if self._start is not None:
            text = self._start.decode("utf-8", "backslashreplace")
            self._decode_start()
        is_base64 = self._is_ascii and (self._is_over or not self._digits)
        return EncodedImage(text, self._data.finish() if is_base64 else None)

    def _decode_start(self) -> None:
        assert self._start is not None
        start, self._start = bytes(self._start), None
        self._before_comma = start.startswith(b"data:")
        self._decode(start)

    def _decode(self, part: bytes) -> None:
        self._is_ascii &= part.isascii()
        if self._before_comma:
            _, comma, part = part.partition(b",")
            self._before_comma = not comma
        digits, *padded = part.translate(None, _NO_BASE64).split(b"=")
        self._decode_digits(digits)
        for digits in padded:
            have = len(self._digits)
            if have >= 2 and have + (self._pads + 1) >= 4 and not self._is_over:
                self._data.write(binascii.a2b_base64(self._digits + b"=="))
                self._is_over = True
            self._pads += have >= 2
            self._decode_digits(digits)

    def _decode_digits(self, digits: bytes) -> None:
        if self._is_over or not digits:
            return
        self._pads = 0
        digits = self._digits + digits
        whole = len(digits) // 4 * 4
        self._data.write(binascii.a2b_base64(digits[:whole]))
        self._digits = digits[whole:]


def _end_of_text(data: bytes, at: int) -> int:
    """Return where a string has its end or an escape that is torn or broken; the end of `data` if
    nowhere. Nearly all strings have no escape, and `find` is 200 times as fast as a pattern."""
    end = data.find(b'"', at)
    end = len(data) if end < 0 else end
    if data.find(b"\\", at, end) < 0:
        return end
    found = _INSIDE.match(data, at)
    assert found is not None
    return found.end()


def _unescaped(part: bytes) -> bytes:
    """Return what a part of a string stands for, in UTF-8; half a character as three bytes."""
    if b"\\" not in part:
        return part

    def character(found: re.Match[bytes]) -> bytes:
        try:
            value: str = json.loads(b'"%b"' % found[0])
        except ValueError:
            return b"\xff"  # no escape that JSON has
        return value.encode("utf-8", "surrogatepass")

    return _ESCAPES.sub(character, part)

"""A WebUI's output as text. Its bytes are in whatever encoding each of its programs prints.

One log may hold UTF-8 of the WebUI, the ANSI code page of a C++ library and the OEM code page of
cmd.exe. A wrong letter would hide a prompt from the redaction.
"""

from __future__ import annotations

import codecs
from functools import cache

from sdwatch import system


def decoded(data: bytes) -> str:
    """Return the text of `data`: each line as UTF-8 or, if it is not, in the code page of this
    system that turns most of its characters into letters. What no encoding has becomes U+FFFD."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "".join(map(_line, data.splitlines(keepends=True)))


def _line(line: bytes) -> str:
    try:
        codecs.utf_8_decode(line, "strict", False)
    except UnicodeDecodeError:
        # UTF-8 with one wrong byte among many letters stays UTF-8.
        return max([line.decode("utf-8", "replace"), *_in_code_pages(line)], key=_letters)
    return line.decode("utf-8", "replace")  # at most its last character is incomplete


def _in_code_pages(line: bytes) -> list[str]:
    readings = []
    for name in _code_pages():
        try:
            readings.append(line.decode(name))
        except UnicodeDecodeError:
            continue  # this code page does not have its characters
    return readings


@cache
def _code_pages() -> tuple[str, ...]:
    """Return the code pages that Python knows."""
    known = []
    for name in system.code_pages():
        try:
            codecs.lookup(name)
        except LookupError:
            continue
        known.append(name)
    return tuple(known)


def _letters(text: str) -> float:
    """Return the share of letters among the characters beyond ASCII."""
    beyond = [sign for sign in text if not sign.isascii()]
    return sum(map(str.isalpha, beyond)) / max(1, len(beyond))

"""Decode texts in base64 and hex, as a log may have them. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator

_BASE64 = re.compile(r"(?<![\w+/\-])[A-Za-z0-9+/_\-]{12,}+")
_HEX = re.compile(r"\b(?:[0-9a-fA-F]{2}){8,}+\b")
_LONGEST = 400_000
"""Of one run. A longer one is an image."""

_LEAST_PRINTABLE = 0.9


def texts_in(text: str) -> Iterator[tuple[int, int, str]]:
    """Return where each run stands that may be one, and what it says; of one whose beginning was
    cut off, what each of the four ways to read it says."""
    for found in _HEX.finditer(text):
        if len(found.group()) <= _LONGEST and (said := _said(bytes.fromhex(found.group()))):
            yield found.start(), found.end(), said
    for found in _BASE64.finditer(text):
        run = found.group()
        if len(run) > _LONGEST or (run.isalpha() and (run.islower() or run.isupper())):
            continue
        for start in range(4):
            if said := _said(_from_base64(run[start:])):
                yield found.start(), found.end(), said


def _from_base64(run: str) -> bytes:
    digits = run.replace("-", "+").replace("_", "/")
    digits = digits[: len(digits) - len(digits) % 4]
    try:
        return base64.b64decode(digits, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _said(data: bytes) -> str:
    """Return the text that bytes are, also if it was cut within a character; '' if they are
    none."""
    text = data.decode("utf-8", "ignore")
    if len(text.encode()) < len(data) - 6:
        return ""
    printable = sum(sign.isprintable() or sign.isspace() for sign in text)
    return text if printable >= _LEAST_PRINTABLE * len(text) else ""

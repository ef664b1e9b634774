"""How a text that is too long is cut: its beginning and its end stay, and a mark says so. Pure.

Whatever a WebUI wrote may have a part of a prompt at each side of the mark, too short for anybody
to recognise: the redactor takes what is next to a mark away with it (see redaction.py).
"""

from __future__ import annotations

import re

MARK = re.compile(r"\(… [\d,]{1,20} (?:characters|bytes) left out …\)")


def mark(count: int, unit: str = "characters") -> str:
    """Return what stands in the place of `count` characters or bytes."""
    return f"(… {count} {unit} left out …)"


def shortened(text: str, most: int) -> str:
    """Return `text`, or of one that has more than `most` characters its two ends."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} {mark(len(text) - 2 * half)} {text[-half:]}"

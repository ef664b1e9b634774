"""Make text that others wrote safe to show: no sign of it commands a terminal. Pure.

A text that is too long is cut: its two ends stay, and a mark says so. There may be a part of a
prompt at each side of the mark, too short for anybody to recognise: the redactor takes what is next
to a mark away with it (see redaction.py).
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


# What a terminal obeys, or shows out of its order; halves of characters.
_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(name: str) -> str:
    """Return a name, in one line: control characters, and what is not a character, escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def printable_text(text: str) -> str:
    """Return a text, whose lines and signs of any language stay as they are."""
    return _COMMANDS.sub(lambda found: printable(found.group()), text)


def counted(number: int, one: str, many: str = "") -> str:
    """Return `1 job`, `2 jobs`. `many`: where that is not `one` and an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"

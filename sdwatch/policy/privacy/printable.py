"""Text that others wrote, as it can be shown: no sign of it commands a terminal. Pure."""

from __future__ import annotations

import re

# What a terminal obeys, or shows out of its order; halves of characters.
_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(name: str) -> str:
    """A name, in one line: control characters, and what is no character, escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def printable_text(text: str) -> str:
    """A text, whose lines and signs of any language stay as they are."""
    return _COMMANDS.sub(lambda found: printable(found.group()), text)

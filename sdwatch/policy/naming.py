"""How messages name what people wrote: in quotes, or only its length, with the name that was meant
or those that are allowed; and how names that are too long for a disk are cut. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable

_MOST_SHOWN = 12  # names


def shown(text: str) -> str:
    """Return a value or a key for a message: in quotes if it is short, else only its length,
    because it may be a prompt. Messages end up in logs, a line each, so what would break a line is
    escaped."""
    if len(text) > 24 or len(text.split()) > 3:
        return f"a text of {len(text):,} characters"
    return f'"{text}"' if text.isprintable() else repr(text)


def quoted(name: str) -> str:
    """Return a name in quotes. One long word is a name, and so are a few short ones; anything else
    may be a prompt, so only its length is shown (see `shown`)."""
    is_name = re.fullmatch(r"[^\s<>]{1,80}|[^<>\n]{1,48}", name) and len(name.split()) <= 5
    return f'"{name}"' if is_name else shown(name)


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return `; did you mean ...?`, or what is allowed where nothing is near."""
    names = list(allowed)
    return did_you_mean(name, names) or f"; allowed are {some_of(names)}"


def did_you_mean(name: str, allowed: Iterable[str], how_near: float = 0.6) -> str:
    """Return `; did you mean ...?`, or '' where nothing is so near."""
    folded = {n.lower().replace("-", "_"): n for n in allowed}
    near = difflib.get_close_matches(name.lower().replace("-", "_"), folded, 1, how_near)
    return f'; did you mean "{folded[near[0]]}"?' if near else ""


def some_of(names: list[str]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return ", ".join(names[:_MOST_SHOWN]) + more


def cut(name: str, most: int, most_bytes: int, is_mark: Callable[[str], bool]) -> str:
    """Return the start of a name, with at most so many UTF-16 units and bytes of UTF-8; no letter
    is parted from its marks."""
    units = size = end = 0
    for sign in name:
        units += 1 + (sign > "\uffff")
        size += len(sign.encode())
        if units > most or size > most_bytes:
            while end and is_mark(name[end]):
                end -= 1
            break
        end += 1
    return name[:end]

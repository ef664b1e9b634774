"""Choose which of the things that pile up are removed: the oldest first, by age and total bytes.
Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Kept:
    """A run, or a log. `age`: seconds since it was last touched; `size`: bytes."""

    name: str
    age: float
    size: int


def too_old(things: Iterable[Kept], most_age: float | None) -> list[str]:
    """Return the names of those that are older than `most_age` seconds, oldest first; None: no
    limit."""
    if most_age is None:
        return []
    return [thing.name for thing in _oldest_first(things) if thing.age > most_age]


def too_much(things: Iterable[Kept], most_bytes: int | None) -> list[str]:
    """Return the names of those that must go until the rest has at most `most_bytes`, oldest first;
    the newest always stays. None: no limit."""
    if most_bytes is None:
        return []
    left = _oldest_first(things)
    total = sum(thing.size for thing in left)
    gone = []
    for thing in left[:-1]:
        if total <= most_bytes:
            break
        gone.append(thing.name)
        total -= thing.size
    return gone


def _oldest_first(things: Iterable[Kept]) -> list[Kept]:
    return sorted(things, key=lambda thing: (-thing.age, thing.name))

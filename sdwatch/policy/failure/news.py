"""Does a log say something new, or does it repeat itself? Pure.

A heartbeat, a poll, a retry or a warning differs from the one before in its timestamp, its count or
its id: a call that hangs may print one each second. News is a line in other words, or a number that
says how far something has come (per cent, n of m, an amount of bytes) and is larger than before.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")

_MOST = 2000
"""So many different lines are remembered; the oldest is forgotten first."""

_NO_DIGITS = str.maketrans("", "", "0123456789")
_NO_WORDS = re.compile(r"[\W_\d]+")
_UUID = re.compile(r"\b[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}\b", re.IGNORECASE)
_HEX = re.compile(r"\b(?:0x[0-9a-f]+|(?=[a-f]*\d)[0-9a-f]{6,})\b", re.IGNORECASE)
_RANDOM = re.compile(r"\b(?=\w{6})[a-z]*+\d++[a-z]++\d\w*+\b", re.IGNORECASE)
"""An id of letters and digits in turns."""

_AMOUNT = r"(\d+(?:[.,]\d+)?)\s?([kKMGT]?)"
_PER_CENT = re.compile(r"(\d+(?:\.\d+)?)\s?%")
_OF = re.compile(rf"{_AMOUNT}(?:i?B)?(?:\s?/\s?|[ -]of[ -]){_AMOUNT}")
_BYTES = re.compile(r"(\d+(?:[.,]\d+)?)\s?([kKMGT]?)i?B\b(?!/s|ps)")
_UNITS = {"": 1, "k": 1 << 10, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_AGAIN = re.compile(r"\b(?:re-?tr(?:y|ies)|retrying|attempts?|tries|try(?:ing)?)\b", re.IGNORECASE)


@dataclass(frozen=True)
class HowFar:
    """What a line says of how far something has come: per cent, a share (0 to 1), bytes;
    negative where it says nothing of it."""

    per_cent: float = -1.0
    share: float = -1.0
    size: float = -1.0

    def is_beyond(self, other: HowFar) -> bool:
        """Whether it is further in any of them."""
        ahead = self.per_cent > other.per_cent or self.share > other.share
        return ahead or self.size > other.size

    def furthest(self, other: HowFar) -> HowFar:
        """The larger of each."""
        return HowFar(
            max(self.per_cent, other.per_cent),
            max(self.share, other.share),
            max(self.size, other.size),
        )


NOWHERE = HowFar()


def how_far(text: str) -> HowFar:
    """How far a line says that something has come. The number of a retry is none: more of them are
    not more of the work."""
    if _AGAIN.search(text):
        return NOWHERE
    shares = [_bytes(n, unit) / whole for n, unit, m, of in _OF.findall(text)
              if (whole := _bytes(m, of)) > 1 and _bytes(n, unit) <= whole]  # fmt: skip
    return HowFar(
        max(map(float, _PER_CENT.findall(text)), default=-1.0),
        max(shares, default=-1.0),
        max((_bytes(n, unit) for n, unit in _BYTES.findall(text)), default=-1.0),
    )


def _bytes(number: str, unit: str) -> float:
    return float(number.replace(",", ".")) * _UNITS[unit]


def substance(text: str) -> str:
    """The words of a line, without numbers, ids and signs: what lines that repeat each other have
    in common."""
    for ids in (_UUID, _HEX, _RANDOM):
        text = ids.sub(" ", text)
    return _NO_WORDS.sub(" ", text).strip().casefold()


class News:
    """Of one log, from its first line on."""

    def __init__(self) -> None:
        self._furthest: dict[str, HowFar] = {}  # by substance
        self._plain: dict[str, None] = {}  # known lines without digits, that say nothing of how far
        self._bars: dict[tuple[str, str], object] = {}

    def is_in_line(self, text: str) -> bool:
        """Whether this line says something that none before it said."""
        without_digits = text.translate(_NO_DIGITS)
        if without_digits in self._plain:  # of a flood all but the first, and fast
            return False
        words, far = substance(text), how_far(text)
        known = self._furthest.pop(words, None)
        _keep(self._furthest, words, far.furthest(known or NOWHERE))
        if far == NOWHERE:
            _keep(self._plain, without_digits, None)
        return bool(words) if known is None else far.is_beyond(known)

    def is_in_bar(self, label: str, position: str) -> bool:
        """Whether this bar stands elsewhere than when it was last drawn. Bars of one label that end
        elsewhere are different ones, so that a redraw of two in turns moves neither."""
        key = (substance(label), position.partition("/")[2])
        moved = self._bars.pop(key, None) != position
        _keep(self._bars, key, position)
        return moved

    def is_in_drawn(self, text: str) -> bool:
        """Whether text that is drawn over, in no form that is known, has moved: like a line, but
        that it may begin again from nothing, as a bar does for the next picture."""
        far = how_far(text)
        if far == NOWHERE:
            return self.is_in_line(text)
        key = (substance(text), "")
        moved = self._bars.pop(key, None) != far
        _keep(self._bars, key, far)
        return moved


def _keep(known: dict[K, V], key: K, value: V) -> None:
    """As the newest; the oldest goes where there is no more room."""
    if len(known) >= _MOST:
        del known[next(iter(known))]
    known[key] = value

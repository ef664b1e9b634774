"""Detect regular expressions that may take forever, by their structure. Pure.

A search that does not fit goes back and tries all other ways. Where several repeats in a row may
take the same text, as in `.*a.*b.*`, these are as many as the text is long, to the power of the
repeats; where one of them is repeated itself, as in `(a+)+`, there is no end of them. So those
repeats are counted that can give their text to one another, with nothing between them that could
not be a part of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

MOST_IN_A_ROW = 2

_MANY = 100  # times, from which a repeat counts as one without end
_FEW = 8  # up to which what varies in it does not count
_ROUNDS = 3  # of what is repeated; a fourth would tell nothing new
_MOST_STEPS = 20_000

_OTHER = "\u4e00"  # stands for all that are not Latin
_ALL = frozenset(chr(n).lower() for n in range(256)) | {_OTHER}

Chars: TypeAlias = "frozenset[str]"
Items: TypeAlias = "Iterable[tuple[Any, Any]]"

_parser: Any = re._parser  # type: ignore[attr-defined] # as `re.compile` itself reads them


def is_slow(text: str, most: int = MOST_IN_A_ROW) -> bool:
    """Return whether an expression that compiles has more than `most` repeats in a row."""
    try:
        _Walk(most).along(_parser.parse(text), (), inside=False)
    except _TooManyError:
        return True
    return False


class _TooManyError(Exception):
    pass


class _Walk:
    """Walks along an expression with the row of repeats that may still take more text, as the
    characters of each."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._steps = 0

    def along(self, items: Items, row: tuple[Chars, ...], inside: bool) -> tuple[Chars, ...]:
        """Return the row after `items`. `inside` a repeat, everything of variable length counts."""
        for op, of in items:
            self._steps += 1
            if self._steps > _MOST_STEPS:
                raise _TooManyError
            row = self._behind(str(op), of, row, inside)
        return row

    def _behind(self, op: str, of: Any, row: tuple[Chars, ...], inside: bool) -> tuple[Chars, ...]:
        if op in ("MAX_REPEAT", "MIN_REPEAT"):
            low, high, body = of
            return self._repeat(low, high, body, row, inside)
        if op == "BRANCH":
            ways = [self.along(way, row, inside) for way in of[1]]
            longest = max(ways, key=len)
            return self._more(_all(of[1]), longest, 0) if inside and _overlap(of[1]) else longest
        if op == "SUBPATTERN":
            return self._group(of[3], row, inside)
        if op in ("ASSERT", "ASSERT_NOT", "ATOMIC_GROUP", "POSSESSIVE_REPEAT"):
            body = of if op == "ATOMIC_GROUP" else of[-1]
            self.along(body, (), inside=False)  # nothing goes back into it later
            stays = op.startswith("ASSERT") or (op == "POSSESSIVE_REPEAT" and not of[0])
            return row if stays else self._fixed(_all([body]), row, 1)
        chars = _chars(op, of)
        return tuple(one for one in row if one & chars) if chars else row

    def _repeat(
        self, low: int, high: int, body: Any, row: tuple[Chars, ...], inside: bool
    ) -> tuple[Chars, ...]:
        many = high > _MANY
        if len(body) == 1 and (chars := _chars(str(body[0][0]), body[0][1])):
            counts = low < high and (many or inside)
            return self._more(chars, row, low) if counts else self._fixed(chars, row, low)
        behind = row
        for _ in range(min(high, _ROUNDS)):
            behind = self.along(body, behind, inside or high > _FEW)
        if inside and low < high and not many:
            behind = self._more(_all([body]), behind, low)
        return behind if low else max(row, behind, key=len)

    def _group(self, body: Any, row: tuple[Chars, ...], inside: bool) -> tuple[Chars, ...]:
        if inside and len(body) == 1 and str(body[0][0]) == "IN":
            members = [[member] for member in body[0][1]]
            if _overlap(members):  # `(\w|\d)`, which Python turns into a set
                return self._more(_all(members), row, 1)
        return self.along(body, row, inside)

    def _fixed(self, chars: Chars, row: tuple[Chars, ...], low: int) -> tuple[Chars, ...]:
        return tuple(one for one in row if one & chars) if low else row

    def _more(self, chars: Chars, row: tuple[Chars, ...], low: int) -> tuple[Chars, ...]:
        """With one more repeat, which takes at least `low` of `chars`."""
        if sum(bool(one & chars) for one in row) >= self._most:
            raise _TooManyError
        return (*self._fixed(chars, row, low), chars)


def _overlap(ways: Iterable[Items]) -> bool:
    """Return whether two of them may match the same text, or one the start of the other's."""
    starts = [_starts(way)[0] for way in ways]
    return any(
        all(here & there for here, there in zip(one, other, strict=False))
        for number, one in enumerate(starts)
        for other in starts[:number]
    )


def _starts(items: Items) -> tuple[list[Chars], bool]:
    """Return what its first characters may be, as far as their number is fixed, and whether that is
    all."""
    found: list[Chars] = []
    for op, of in items:
        if str(op).endswith("_REPEAT"):
            return found + (_starts(of[2])[0] if of[0] else []), False
        if str(op) == "BRANCH":
            firsts = [_starts(way)[0][:1] for way in of[1]]
            return found + ([_all_of(firsts)] if all(firsts) else []), False
        if str(op) in ("SUBPATTERN", "ATOMIC_GROUP"):
            more, is_all = _starts(of[3] if str(op) == "SUBPATTERN" else of)
            found += more
            if not is_all:
                return found, False
        elif chars := _chars(str(op), of):
            found.append(chars)
    return found, True


def _all_of(parts: Iterable[Iterable[Chars]]) -> Chars:
    return frozenset(char for part in parts for chars in part for char in chars)


def _all(ways: Iterable[Items]) -> Chars:
    """All characters that may be in one of them."""
    return frozenset(char for way in ways for op, of in way for char in _within(str(op), of))


def _within(op: str, of: Any) -> Iterator[str]:
    if op.endswith("_REPEAT"):
        yield from _all([of[2]])
    elif op == "BRANCH":
        yield from _all(of[1])
    elif op in ("SUBPATTERN", "ATOMIC_GROUP"):
        yield from _all([of[3] if op == "SUBPATTERN" else of])
    else:
        yield from _chars(op, of)


def _chars(op: str, of: Any) -> Chars:
    """Those that one sign of an expression takes, in lower case; none where it takes no text."""
    if op == "LITERAL":
        return frozenset({_plain(of)})
    if op == "NOT_LITERAL":
        return _ALL - {_plain(of)}
    if op == "ANY":
        return _ALL
    if op == "RANGE":
        return frozenset(map(_plain, range(min(of[0], 256), min(of[1], 256) + 1)))
    if op == "CATEGORY":
        return frozenset(c for c in _ALL if _CATEGORIES[str(of)].match(c))
    if op == "IN":
        negated = str(of[0][0]) == "NEGATE"
        chars = frozenset[str]().union(*(_chars(str(o), a) for o, a in of[negated:]))
        return _ALL - chars if negated else chars
    return frozenset()


_CATEGORIES = {
    f"CATEGORY_{no}{name}": re.compile(sign.upper() if no else sign)
    for name, sign in (("DIGIT", r"\d"), ("SPACE", r"\s"), ("WORD", r"\w"))
    for no in ("", "NOT_")
}


def _plain(number: int) -> str:
    return chr(number).lower() if number < 256 else _OTHER

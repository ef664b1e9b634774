"""Find passages of hidden texts in what others wrote, however they were cut or written. Pure.

A passage is a run of so many characters of a hidden text, in its normal form: without case, blanks,
punctuation and escapes. It is found by its pieces of a few characters, which are all in one set, so
that the time depends only on the text and not on how many or how long the hidden texts are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterator
from itertools import chain, pairwise
from typing import Any

from sdwatch.policy.privacy.common_words import is_common
from sdwatch.policy.privacy.normal_form import NormalForm

PIECE = 6
ENOUGH = 12
"""Characters of a normal form: a passage of this length is not a coincidence."""

_LONG_ENOUGH = 24
"""The same if all of its words are common in logs."""

_LONGEST_WHOLE = 20_000
"""Of a longer text not every piece is kept, but each that follows the one before."""

_LEAST_LETTERS = 4
_GAP = 80
"""Characters of a log between two words that follow each other in a hidden text: a tokenizer prints
one to a line, with its number."""

_WORD = re.compile(r"[^\W_]+")
_NETWORK = re.compile(r"<\w{1,20}:")  # the beginning of `<lora:name:1>`, which is not a text
_ESCAPED = re.compile(r"\\[ux][0-9a-fA-F]{2}|%[0-9a-fA-F]{2}|&#")
_PHRASE_ENDS = re.compile(r"[\n\r,;|()\[\]{}<>:]+")

Span = tuple[int, int]


class Passages:
    """Remembers hidden texts, and forgets them again."""

    def __init__(self) -> None:
        self._pieces: Counter[str] = Counter()
        self._every_sixth: Counter[str] = Counter()
        """Those of very long texts."""
        self._phrases: Counter[str] = Counter()
        self._pairs: Counter[tuple[str, str]] = Counter()
        self._words: Counter[str] = Counter()

    def add(self, text: str) -> None:
        """Hide `text`."""
        for store, kept in self._kept(text):
            store.update(kept)

    def remove(self, text: str) -> None:
        """Hide it no longer. It must have been added."""
        for store, kept in self._kept(text):
            for one in kept:
                store[one] -= 1
                if store[one] <= 0:
                    del store[one]

    def _kept(self, text: str) -> Iterator[tuple[Counter[Any], set[Any]]]:
        found = map(str.casefold, _WORD.findall(text))
        words = [word for word in found if not is_common(word)]
        if len(text) <= _LONGEST_WHOLE:
            yield self._pieces, set(_pieces(text, 1))
        else:
            yield self._every_sixth, set(_pieces(text, PIECE))
        yield self._phrases, set(_phrases(text))
        yield self._words, set(words)
        yield self._pairs, set(pairwise(words))

    def found_in(self, text: str) -> Iterator[Span]:
        """Yield where in `text` such passages stand, also overlapping each other."""
        if not (self._pieces or self._every_sixth or self._phrases or self._words):
            return
        form = NormalForm(text)
        yield from _runs(text, form, self._pieces, 1)
        if self._every_sixth:
            yield from _runs(text, form, self._every_sixth, PIECE)
        yield from self._short(form)
        yield from self._one_by_one(text)

    def _short(self, form: NormalForm) -> Iterator[Span]:
        """Yield whole phrases that are shorter than a passage."""
        normal, phrases = form.text, self._phrases
        if not phrases:
            return
        for start in form.starts:
            for end in range(start + PIECE, min(start + ENOUGH, len(normal) + 1)):
                if normal[start:end] in phrases and form.ends_run(end):
                    yield form.raw_span(start, end)

    def _one_by_one(self, text: str) -> Iterator[Span]:
        """Yield words that follow each other in a hidden text, with little between them here."""
        known = ((found, found.group().casefold()) for found in _WORD.finditer(text))
        words = [(found, word) for found, word in known if word in self._words]
        for (one, first), (other, second) in pairwise(words):
            if (first, second) in self._pairs and other.start() - one.end() <= _GAP:
                yield one.start(), other.end()


def _runs(text: str, form: NormalForm, pieces: Container[str], step: int) -> Iterator[Span]:
    """Return passages whose every piece, or every `step`-th, follows the one before."""
    normal = form.text
    hits = (at for at in range(len(normal) - PIECE + 1) if normal[at : at + PIECE] in pieces)
    start = last = -1 - PIECE
    for at in chain(hits, (len(normal) + PIECE,)):
        if at - last <= step:
            last = at
            continue
        end = last + PIECE
        letters = (sign for sign in normal[max(start, 0) : end] if not sign.isdigit())
        if end - start >= ENOUGH and sum(1 for _ in letters) >= _LEAST_LETTERS:
            first, behind = form.raw_span(start, end)
            if end - start >= _LONG_ENOUGH or _is_telling(text[first:behind]):
                yield first, behind
        start = last = at


def _pieces(text: str, step: int) -> Iterator[str]:
    for part in _NETWORK.split(text):
        normal = NormalForm(part).text
        last = len(normal) - PIECE
        if last >= 0:
            yield from (normal[at : at + PIECE] for at in range(0, last, step))
            yield normal[last:]


def _phrases(text: str) -> Iterator[str]:
    for phrase in _PHRASE_ENDS.split(text):
        if len(phrase) >= 2 and _is_telling(phrase):
            normal = NormalForm(phrase).text
            if PIECE <= len(normal) < ENOUGH:
                yield normal


def _is_telling(text: str) -> bool:
    """Return whether it has a word that is not in every log. Escapes are not words."""
    if not text.isascii() or _ESCAPED.search(text):
        return True
    return not all(map(is_common, _WORD.findall(text)))

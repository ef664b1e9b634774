"""Hide what the redactor leaves of prompts: single words, cut ends, encoded forms. Pure.

It is slower than the redactor and hides more of a log; it is for what is given to others. Common
words of logs (common_words.py) are never hidden: a prompt about memory must not hide "out of
memory".
"""

from __future__ import annotations

import base64
import binascii
import html
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from urllib.parse import unquote_plus

from sdwatch.policy.privacy.common_words import COMMON, tells_nothing

WORD, PIECE, ENCODED, IMAGE = "<word>", "<text>", "<encoded>", "<image>"

SHORTEST_END = 12
"""Characters without blanks: a start or end of a prompt of this length is no coincidence."""

SHORTEST_PIECE = 4
"""Of a word that was cut."""

SHORTEST_GLUED = 6
"""Letters of a word that is no coincidence within a longer run of letters and digits."""

LONGEST_TEXT = 20_000
_WORD = re.compile(r"[^\W_]+")
_BLANKS = re.compile(r"\s+")
_ESCAPE = re.compile(r"\\{1,4}(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2}))")
_RUN = re.compile(r"[^\s\"'<>]+")
_CODE = re.compile(
    r"\b(?P<hex>(?:[0-9a-fA-F]{2}){8,})\b|(?<![\w+/\-])(?P<base64>[A-Za-z0-9+/_\-]{8,}={0,2})"
)
_IMAGE_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM6")


class LeftoverWords:
    """Learns texts, and hides what of them is left. `is_secret`: what of a decoded text must not be
    seen beside these, as a password."""

    def __init__(self, is_secret: Callable[[str], bool] = lambda _: False) -> None:
        self._is_secret = is_secret
        self._words: set[str] = set()
        self._glued: dict[str, set[str]] = {}
        """Words by how they begin, which are looked for within longer ones too."""
        self._pairs: set[str] = set()
        self._texts: dict[str, str] = {}

    def learn(self, text: str) -> None:
        """Remember a prompt, or a name."""
        text = text[:LONGEST_TEXT]
        for found in _WORD.findall(text):
            self._learn_word(found.casefold())
        squeezed = _BLANKS.sub("", text).lower()
        if len(squeezed) >= SHORTEST_END:
            self._texts.setdefault(squeezed[:SHORTEST_END], squeezed)
            self._texts.setdefault(squeezed[-SHORTEST_END:], squeezed)

    def hide(self, text: str) -> str:
        """`text` with a marker in place of each."""
        text = _RUN.sub(self._without_escapes, text)
        return self._plain(text)

    def _plain(self, text: str) -> str:
        return _WORD.sub(self._without_word, self._without_ends(text))

    def _learn_word(self, word: str) -> None:
        if tells_nothing(word):
            return
        self._words.add(word)
        if sum(map(str.isalpha, word)) >= SHORTEST_GLUED:
            self._glued.setdefault(word[:SHORTEST_GLUED], set()).add(word)
        for size in range(SHORTEST_PIECE, len(word)):
            pieces = (word[:size], word[-size:])
            self._words.update(piece for piece in pieces if not tells_nothing(piece))
        self._pairs.update(_pairs(word))

    def _without_word(self, found: re.Match[str]) -> str:
        word = found.group().casefold()
        hides = (
            word in self._words
            or (not word.isascii() and not self._pairs.isdisjoint(_pairs(word)))
            or (word not in COMMON and self._is_within(word))
        )
        return WORD if hides else found.group()

    def _is_within(self, run: str) -> bool:
        """Whether a word was glued to others, as in `00001vermilion` and `=20vermilion`."""
        return any(
            run.startswith(word, at)
            for at in range(len(run) - SHORTEST_GLUED + 1)
            for word in self._glued.get(run[at : at + SHORTEST_GLUED], ())
        )

    def _without_ends(self, text: str) -> str:
        """Without the beginnings and ends of what was learned, as far as each goes."""
        at = [n for n, character in enumerate(text) if not character.isspace()]
        squeezed = "".join(text[n].lower()[:1] for n in at)
        spans = sorted(self._ends(squeezed))
        kept, last = [], 0
        for start, end in spans:
            if at[start] >= last:
                kept += [text[last : at[start]], PIECE]
            last = max(last, at[end - 1] + 1)
        return "".join([*kept, text[last:]])

    def _ends(self, squeezed: str) -> Iterator[tuple[int, int]]:
        for end, whole in self._texts.items():
            found = squeezed.find(end)
            while found >= 0:
                if whole.startswith(end):
                    yield found, found + _same(whole, squeezed[found : found + len(whole)])
                else:
                    before = squeezed[
                        max(0, found + SHORTEST_END - len(whole)) : found + SHORTEST_END
                    ]
                    yield (
                        found + SHORTEST_END - _same(whole[::-1], before[::-1]),
                        found + SHORTEST_END,
                    )
                found = squeezed.find(end, found + 1)

    def _without_escapes(self, found: re.Match[str]) -> str:
        run = found.group()
        if any(said != run and self._tells(said) for said in _unescaped(run)):
            return ENCODED
        return _CODE.sub(self._without_code, run)

    def _without_code(self, found: re.Match[str]) -> str:
        data = bytes.fromhex(found["hex"]) if found["hex"] else _from_base64(found["base64"])
        if data.startswith(_IMAGE_STARTS):
            return IMAGE
        said = _said(data)
        return ENCODED if said and self._tells(said) else found.group()

    def _tells(self, said: str) -> bool:
        return self._plain(said) != said or self._is_secret(said)


def _pairs(word: str) -> Iterator[str]:
    """Two characters that follow each other, of a script that has no blanks between words."""
    for pair in pairwise(word):
        if not any(c.isascii() or c < "\u0590" for c in pair):
            yield "".join(pair)


def _same(one: str, other: str) -> int:
    """How far two texts are the same."""
    size = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        size += 1
    return size


def _unescaped(run: str) -> Iterator[str]:
    """What it may say."""
    if "%" in run:
        yield unquote_plus(run)
    if "&" in run:
        yield html.unescape(run)
    if "\\" in run:
        yield _ESCAPE.sub(lambda code: chr(int(code[1] or code[2], 16)), run)


def _from_base64(run: str) -> bytes:
    digits = run.rstrip("=").replace("-", "+").replace("_", "/")
    digits = digits[:-1] if len(digits) % 4 == 1 else digits
    try:
        return base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _said(data: bytes) -> str:
    """The text that bytes are, also if it was cut within a character; empty if they are none."""
    text = data.decode("utf-8", "ignore")
    is_text = len(text.encode()) >= len(data) - 3 and all(
        c.isprintable() or c.isspace() for c in text
    )
    return text if is_text else ""

"""Takes this generation's texts out of what others said: logs, error bodies, tracebacks.

A prompt comes back in many forms: whole, by line or phrase, JSON-escaped, as a repr, wrapped at
80 columns (SD.Next), or in fragments ("the following part of your input was truncated").
"""

from __future__ import annotations

import html
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote

from sdwatch.policy.sanitise import digest, strings

SECRET = "<secret>"
MOST_TEXTS = 500
MOST_PARTS = 200
LONGEST_TEXT = 50_000
LONGEST_WRAPPED = 300
SHORTEST_PART = 6
FRAGMENT_WORDS = 3
FRAGMENT_LETTERS = 10
FRAGMENT_GAP = 40

# Values that say nothing of a prompt, and without which a log cannot be read.
_COMMON = frozenset(["none", "null", "true", "false", "nan", "default", "auto", "automatic"])
_SPACE = re.compile(r"(?:\s|\\[nrt])+")  # a line end may come back escaped
_WRAPPED = re.compile(r"\n {20,}")
_WRAP = r"(?:[ \t]*\n {20,})?"  # SD.Next breaks long words too, and indents what follows
_BASE64 = re.compile(
    r"[A-Za-z0-9+/]{201,}={0,2}|(?:[A-Za-z0-9+/]{50,80}+[^\S\n]{0,99}\n\s{0,99}){4,}[A-Za-z0-9+/]*={0,2}"
    r"|(?<![\w+/])(?:iVBORw0KGgo|/9j/[A-Za-z0-9+/]{8})[A-Za-z0-9+/]*={0,2}"  # a picture's beginning
)
_BYTES = re.compile(  # as Python prints them, and the beginning of a PNG or JPEG in hex
    r"\bb(\\{0,4}[\"'])(?=[^\n]{0,400}?\\x[0-9a-f]{2})(?:(?!\1)[^\n])*(?:\1)?"
    r"|\b(?:89504e470d0a|ffd8ff)[0-9a-f]{8,}",
    re.I,
)
_LINE_ENDS = ("\\n", "\\r", "\\t")  # escaped: what follows begins a word all the same
_QUOTES_BEFORE, _QUOTES_AFTER = ('"', "'", ";"), ('"', "'", "\\", "&")  # ; and & as in &quot;
_WORD = re.compile(r"[^\W_]+")
_LORA = re.compile(r"<\w++:([^:<>]++)[^<>]*+>")  # never given back: a prompt may be a megabyte
_PHRASE_ENDS = re.compile(r"[\n\r,;|()\[\]{}]+|(?=<)|(?<=>)")

Fragment = tuple[str, ...]


@dataclass(frozen=True)
class _Needle:
    """One form of what is hidden. `squeezed`, without blanks, tells fast whether to look at all."""

    text: str
    marker: str
    squeezed: str


@dataclass(frozen=True)
class _Learned:
    needles: tuple[_Needle, ...]
    fragments: frozenset[Fragment] = frozenset()


class _Span(NamedTuple):
    """What lies in [start, end) is to be replaced by `marker`; empty for a fragment."""

    start: int
    end: int
    marker: str


class Redactor:
    """Learns what must not be seen and replaces it wherever it appears. Safe between threads.

    The last `MOST_TEXTS` texts are remembered; secrets as many again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._texts: OrderedDict[str, _Learned] = OrderedDict()
        self._secrets: OrderedDict[str, _Learned] = OrderedDict()
        self._all: tuple[list[_Needle], frozenset[Fragment]] | None = None

    def learn(self, payload: Mapping[str, Any]) -> None:
        """Remember each text of a payload that `sanitise` hides, and its secrets."""
        for kind, value in strings(payload):
            if kind == "secret":
                self.learn_secret(value)
            elif kind == "text" and _is_worth_hiding(value):
                self._remember(self._texts, value[:LONGEST_TEXT])

    def learn_secret(self, text: str) -> None:
        """Remember a password or the like; it becomes `<secret>`, without length and digest."""
        if text.strip():
            self._remember(self._secrets, text)

    def redact(self, text: str) -> str:
        """`text` with all that was learned replaced: a text by `<text 12 chars sha256:ab12cd34>`,
        base64 of an image or of more than 200 characters by `<base64 N chars>`, bytes likewise."""
        needles, fragments = self._known()
        base64 = (
            _Span(match.start(), match.end(), f"<base64 {len(match.group())} chars>")
            for match in _BASE64.finditer(text)
        )
        data = (
            _Span(match.start(), match.end(), f"<bytes {len(match.group())} chars>")
            for match in _BYTES.finditer(text)
        )
        return _cover(
            text, [*_found(text, needles), *base64, *data, *_fragments_in(text, fragments)]
        )

    def _remember(self, store: OrderedDict[str, _Learned], text: str) -> None:
        with self._lock:
            if text in store:
                store.move_to_end(text)
                return
            store[text] = _secret(text) if store is self._secrets else _text(text)
            if len(store) > MOST_TEXTS:
                store.popitem(last=False)
            self._all = None

    def _known(self) -> tuple[list[_Needle], frozenset[Fragment]]:
        """All needles, each once, secrets first; and all fragments."""
        with self._lock:
            if self._all is None:
                learned = (*self._secrets.values(), *self._texts.values())
                needles: dict[str, _Needle] = {}
                for one in learned:
                    for needle in one.needles:
                        needles.setdefault(needle.text, needle)
                fragments = frozenset().union(*(one.fragments for one in learned))
                self._all = [*needles.values()], fragments
            return self._all


def _is_worth_hiding(text: str) -> bool:
    return text.strip().lower() not in _COMMON and any(c.isalnum() for c in text)


def _secret(text: str) -> _Learned:
    forms = {*_forms(text), quote(text, safe="")}
    ordered = sorted(forms, key=lambda form: (-len(form), form))
    return _Learned(tuple(_Needle(form, SECRET, _squeeze(form)) for form in ordered))


def _text(text: str) -> _Learned:
    needles: list[_Needle] = []
    for part in dict.fromkeys(_parts(text)):
        marker = _marker(part)
        needles.extend(_Needle(form, marker, _squeeze(form)) for form in _forms(part))
    return _Learned(tuple(needles), frozenset(_fragments(text)))


def _marker(text: str) -> str:
    return f"<text {len(text)} chars sha256:{digest(text)[:8]}>"


def _parts(text: str) -> Iterator[str]:
    """The whole text, its lines, its phrases between commas and brackets, its LoRA names."""
    yield text.strip()
    found = [*text.splitlines(), *_PHRASE_ENDS.split(text), *_LORA.findall(text)]
    for part in found[:MOST_PARTS]:
        part = part.strip()
        if len(part) >= SHORTEST_PART and any(c.isalpha() for c in part):
            yield part


def _forms(text: str) -> set[str]:
    """How a text looks plain, in JSON, in JSON within JSON, in a repr, and in HTML."""
    as_json = json.dumps(text)[1:-1]
    forms = {
        text,
        as_json,
        json.dumps(as_json)[1:-1],
        json.dumps(text, ensure_ascii=False)[1:-1],
        repr(text)[1:-1],
        repr(text + "'\"")[1:-4],  # the quotes are escaped where both kinds occur
        html.escape(text),
        html.escape(text, quote=False),
    }
    return {form for form in forms if _squeeze(form)}


def _fragments(text: str) -> Iterator[Fragment]:
    words = [word.casefold() for word in _WORD.findall(text)]
    for at in range(len(words) - FRAGMENT_WORDS + 1):
        fragment = tuple(words[at : at + FRAGMENT_WORDS])
        if sum(c.isalpha() for word in fragment for c in word) >= FRAGMENT_LETTERS:
            yield fragment


def _squeeze(text: str) -> str:
    return _SPACE.sub("", text)


def _found(text: str, needles: list[_Needle]) -> Iterator[_Span]:
    """Where each needle stands in `text`; careful with short ones, so that a log stays readable."""
    squeezed = _squeeze(text)
    beginnings = {squeezed[at : at + SHORTEST_PART] for at in range(len(squeezed))}
    wrapped = _WRAPPED.search(text) is not None
    for needle in needles:
        begins = needle.squeezed[:SHORTEST_PART]
        # Nearly all of thousands are told apart by this, in no time.
        if len(begins) == SHORTEST_PART and begins not in beginnings:
            continue
        if needle.squeezed not in squeezed:
            continue
        for match in _pattern(needle.text.strip(), wrapped).finditer(text):
            if _stands_alone(needle, text, match.start(), match.end()):
                yield _Span(match.start(), match.end(), needle.marker)


def _pattern(needle: str, wrapped: bool) -> re.Pattern[str]:
    joint = _WRAP if wrapped and len(needle) <= LONGEST_WRAPPED else ""
    words = (joint.join(map(re.escape, word)) for word in _SPACE.split(needle))
    return re.compile(_SPACE.pattern.join(words))


def _stands_alone(needle: _Needle, text: str, start: int, end: int) -> bool:
    """Whether what was found is the needle and not a part of a longer word."""
    hidden = needle.text.strip()
    if not hidden.isascii() or (needle.marker == SECRET and len(hidden) > 3):
        return True
    before, after = text[max(0, start - 2) : start], text[end : end + 1]
    if len(hidden) <= 2 or not any(c.isalpha() for c in hidden):
        return before[-1:] in _QUOTES_BEFORE and after in _QUOTES_AFTER
    opens = not (hidden[0].isalnum() and _is_word(before[-1:])) or before in _LINE_ENDS
    return opens and not (hidden[-1].isalnum() and _is_word(after))


def _is_word(character: str) -> bool:
    return character.isascii() and (character.isalnum() or character == "_")


def _fragments_in(text: str, fragments: frozenset[Fragment]) -> Iterator[_Span]:
    """Words that follow each other in a hidden text as well."""
    if not fragments:
        return
    words = list(_WORD.finditer(text))
    folded = [word.group().casefold() for word in words]
    for at in range(len(words) - FRAGMENT_WORDS + 1):
        fragment = tuple(folded[at : at + FRAGMENT_WORDS])
        if fragment not in fragments:
            continue
        start, end = words[at].start(), words[at + FRAGMENT_WORDS - 1].end()
        if end - start <= sum(map(len, fragment)) + FRAGMENT_GAP * (FRAGMENT_WORDS - 1):
            yield _Span(start, end, "")


def _cover(text: str, spans: list[_Span]) -> str:
    """`text` with each span replaced; of spans that overlap, all is covered by one marker: that
    of the longest one, or of what is covered where that is a fragment."""
    pieces: list[str] = []
    at = 0
    for start, end, marker in _merged(spans):
        pieces += [text[at:start], marker or _marker(text[start:end])]
        at = end
    return "".join([*pieces, text[at:]])


def _merged(spans: list[_Span]) -> list[_Span]:
    merged: list[_Span] = []
    longest = 0
    for span in sorted(spans, key=lambda s: (s.start, -s.end, not s.marker)):
        size = span.end - span.start
        if merged and span.start < merged[-1].end:
            last = merged.pop()
            marker = span.marker if size > longest else last.marker
            merged.append(_Span(last.start, max(last.end, span.end), marker))
            longest = max(longest, size)
        else:
            merged.append(span)
            longest = size
    return merged

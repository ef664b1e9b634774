"""Remove a payload's texts from what others said: logs, error bodies, tracebacks.

A prompt comes back in many forms: whole, by line or phrase, JSON-escaped, as a repr, wrapped at
80 columns (SD.Next), or in passages ("the following part of your input was truncated"), which are
found however they were cut (see passages.py). So redact before you cut: half a prompt is hard to
recognise. Where a text was cut before, there is a mark (see printable.py), and what touches the
mark is removed, too.
"""

from __future__ import annotations

import binascii
import html
import json
import re
import threading
from base64 import b64decode, b64encode
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, quote_plus

from sdwatch.policy.privacy.config_secrets import is_weak
from sdwatch.policy.privacy.credentials import SECRET
from sdwatch.policy.privacy.passages import Passages
from sdwatch.policy.privacy.printable import MARK
from sdwatch.policy.privacy.sanitise import digest, strings

MOST_TEXTS = 500
MOST_CHARACTERS = 2_000_000
"""Of all texts that are remembered."""

MOST_PARTS = 200
LONGEST_TEXT = 50_000
"""A longer text is found by its passages alone."""

MOST_AT_ONCE = 200_000
"""Characters that are looked through in a second at the worst. What is longer is cut before, with a
mark: 200 usual lines are 20,000."""

LONGEST_WRAPPED = 300
SHORTEST_PART = 6
_TORN = 96
"""Characters at each side of where a text was cut: those of a passage that is too short to be told
from chance, however they are escaped."""

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
_LINE_ENDS = ("\\n", "\\r", "\\t")  # escaped: what follows still starts a word
_QUOTES_BEFORE, _QUOTES_AFTER = ('"', "'", ";"), ('"', "'", "\\", "&")  # ; and & as in &quot;
_LORA = re.compile(r"<\w++:([^:<>]++)[^<>]*+>")  # never given back: a prompt may be a megabyte
_PHRASE_ENDS = re.compile(r"[\n\r,;|()\[\]{}]+|(?=<)|(?<=>)")


@dataclass(frozen=True)
class _Needle:
    """One form of what is hidden. `squeezed`, without blanks, shows quickly if it can occur."""

    text: str
    marker: str
    squeezed: str


class _Span(NamedTuple):
    """What lies in [start, end) is to be replaced by `marker`; empty for a passage."""

    start: int
    end: int
    marker: str


class Redactor:
    """Learns what must not be seen and replaces it wherever it appears. Safe between threads.

    The last `MOST_TEXTS` texts are remembered; secrets as many again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._texts: OrderedDict[str, tuple[_Needle, ...]] = OrderedDict()
        self._secrets: OrderedDict[str, tuple[_Needle, ...]] = OrderedDict()
        self._labelled: OrderedDict[tuple[str, str], re.Pattern[str]] = OrderedDict()
        self._passages = Passages()
        self._characters = 0
        self._all: list[_Needle] | None = None

    def learn(self, payload: Mapping[str, Any]) -> None:
        """Remember each text of a payload that `sanitise` hides, and its secrets."""
        for kind, value in strings(payload):
            if kind == "secret":
                self.learn_secret(value)
            elif kind == "text" and _is_worth_hiding(value):
                self._learn_text(value)

    def learn_secret(self, text: str, label: str = "") -> None:
        """Remember a password or the like; it becomes `<secret>`, without length and digest.

        `label`: the flag, key or variable that it is the value of. One that is short, or a usual
        word, is hidden behind its label alone, so that a log stays readable.
        """
        if not text.strip():
            return
        with self._lock:
            if label and is_weak(text):
                _put(self._labelled, (label, text), lambda: _behind(label, text))
            elif _put(self._secrets, text, lambda: _secret(text)):
                self._all = None

    def redact(self, text: str) -> str:
        """Return `text` with all that was learned replaced: a text by `<text 12 chars
        sha256:ab12cd34>`, base64 of an image or of more than 200 characters by `<base64 N chars>`,
        bytes likewise."""
        return self._redacted(text, with_texts=True)

    def without_secrets(self, text: str) -> str:
        """Return `text` with `<secret>` in place of each secret, and its other texts as they
        are."""
        return self._redacted(text, with_texts=False)

    def _redacted(self, text: str, *, with_texts: bool) -> str:
        with self._lock:
            spans = [*self._secrets_in(text), *(self._texts_in(text) if with_texts else ())]
        return _cover(text, spans) if spans else text

    def _secrets_in(self, text: str) -> Iterator[_Span]:
        for pattern in self._labelled.values():
            yield from (_Span(m.start(1), m.end(1), SECRET) for m in pattern.finditer(text))
        for needles in self._secrets.values():
            for needle in needles:
                # A program may print a key in capitals, and one in hex opens the door all the same.
                yield from _found_one(text, needle, wrapped=False, flags=re.IGNORECASE)

    def _texts_in(self, text: str) -> Iterator[_Span]:
        yield from _found(text, self._needles())
        for match in _BASE64.finditer(text):
            yield _Span(match.start(), match.end(), f"<base64 {len(match.group())} chars>")
        for match in _BYTES.finditer(text):
            yield _Span(match.start(), match.end(), f"<bytes {len(match.group())} chars>")
        for start, end in self._passages.found_in(text):
            yield _Span(start, end, "")
        for start, end, said in _decoded_in(text):
            if next(self._passages.found_in(said), None) or any(self._secrets_in(said)):
                yield _Span(start, end, f"<base64 {end - start} chars>")
        for match in MARK.finditer(text):
            before = text.rfind("\n", 0, match.start()) + 1
            behind = text.find("\n", match.end())
            start = max(before, match.start() - _TORN)
            end = min(len(text) if behind < 0 else behind, match.end() + _TORN)
            yield _Span(start, end, match.group())

    def _learn_text(self, text: str) -> None:
        with self._lock:
            if not _put(self._texts, text, lambda: _text(text), most=0):
                return
            self._passages.add(text)
            self._characters += len(text)
            while len(self._texts) > 1 and (
                len(self._texts) > MOST_TEXTS or self._characters > MOST_CHARACTERS
            ):
                oldest, _ = self._texts.popitem(last=False)
                self._passages.remove(oldest)
                self._characters -= len(oldest)
            self._all = None

    def _needles(self) -> list[_Needle]:
        """Return the needles of all texts, each once."""
        if self._all is None:
            needles: dict[str, _Needle] = {}
            for learned in self._texts.values():
                for needle in learned:
                    needles.setdefault(needle.text, needle)
            self._all = [*needles.values()]
        return self._all


_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def _put(
    store: OrderedDict[_Key, _Value],
    key: _Key,
    make: Callable[[], _Value],
    most: int = MOST_TEXTS,
) -> bool:
    """Put it in at the end; whether it is new. `most`: so many are kept, 0 for all."""
    if key in store:
        store.move_to_end(key)
        return False
    store[key] = make()
    if most and len(store) > most:
        store.popitem(last=False)
    return True


def _is_worth_hiding(text: str) -> bool:
    return text.strip().lower() not in _COMMON and any(c.isalnum() or c > "\u2100" for c in text)


def _secret(text: str) -> tuple[_Needle, ...]:
    forms = {*_forms(text), quote(text, safe=""), quote_plus(text), text.strip()}
    ordered = sorted(forms, key=lambda form: (-len(form), form))
    return tuple(_Needle(form, SECRET, _squeeze(form)) for form in ordered)


def _behind(label: str, secret: str) -> re.Pattern[str]:
    """Return a pattern for a secret behind the name of what it is the value of, as a command line,
    JSON, a repr, or a list of variables has it."""
    words = filter(None, re.split(r"[-_]", label))
    name = "[-_]?".join(map(re.escape, words))
    return re.compile(rf"{name}[\"']?[\s,:=(\[{{]{{1,4}}[\"']?({re.escape(secret)})(?!\w)", re.I)


def _text(text: str) -> tuple[_Needle, ...]:
    if len(text) > LONGEST_TEXT:
        return ()
    needles: list[_Needle] = []
    for part in dict.fromkeys(_parts(text)):
        marker = _marker(part)
        needles.extend(_Needle(form, marker, _squeeze(form)) for form in _forms(part))
        if len(part) >= SHORTEST_PART:
            encoded = b64encode(part.encode("utf-8", "surrogatepass")).decode().rstrip("=")
            needles.append(_Needle(encoded, f"<base64 {len(encoded)} chars>", encoded))
    return tuple(needles)


def _marker(text: str) -> str:
    return f"<text {len(text)} chars sha256:{digest(text)[:8]}>"


def _parts(text: str) -> Iterator[str]:
    """Yield the whole text, its lines, its phrases between commas and brackets, its LoRA names."""
    yield text.strip()
    found = [*text.splitlines(), *_PHRASE_ENDS.split(text), *_LORA.findall(text)]
    for part in found[:MOST_PARTS]:
        part = part.strip()
        if len(part) >= SHORTEST_PART and any(c.isalpha() for c in part):
            yield part


def _forms(text: str) -> set[str]:
    """Return how a text looks plain, in JSON, in JSON within JSON, in a repr, and in HTML."""
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


def _squeeze(text: str) -> str:
    return _SPACE.sub("", text)


def _found(text: str, needles: list[_Needle]) -> Iterator[_Span]:
    """Yield where each needle stands in `text`; careful with short ones, so that a log stays
    readable."""
    squeezed = _squeeze(text)
    starts = {squeezed[at : at + SHORTEST_PART] for at in range(len(squeezed))}
    wrapped = _WRAPPED.search(text) is not None
    for needle in needles:
        start = needle.squeezed[:SHORTEST_PART]
        # This quickly excludes nearly all of thousands.
        if len(start) == SHORTEST_PART and start not in starts:
            continue
        if needle.squeezed not in squeezed:
            continue
        yield from _found_one(text, needle, wrapped)


def _found_one(
    text: str, needle: _Needle, wrapped: bool, flags: int | re.RegexFlag = 0
) -> Iterator[_Span]:
    for match in _pattern(needle.text.strip(), wrapped, flags).finditer(text):
        if _stands_alone(needle, text, match.start(), match.end()):
            yield _Span(match.start(), match.end(), needle.marker)


def _pattern(needle: str, wrapped: bool, flags: int | re.RegexFlag) -> re.Pattern[str]:
    joint = _WRAP if wrapped and len(needle) <= LONGEST_WRAPPED else ""
    words = (joint.join(map(re.escape, word)) for word in _SPACE.split(needle))
    return re.compile(_SPACE.pattern.join(words), flags)


def _stands_alone(needle: _Needle, text: str, start: int, end: int) -> bool:
    """Return whether what was found is the needle and not a part of a longer word."""
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


def _cover(text: str, spans: list[_Span]) -> str:
    """Return `text` with each span replaced; of spans that overlap, all is covered by one
    marker."""
    pieces: list[str] = []
    at = 0
    for start, end, marker in _merged(spans):
        pieces += [text[at:start], marker or _marker(text[start:end])]
        at = end
    return "".join([*pieces, text[at:]])


def _merged(spans: list[_Span]) -> Iterator[_Span]:
    """Yield spans that do not overlap: each the union of some that do."""
    together: list[_Span] = []
    end = -1
    for span in sorted(spans):
        if together and span.start >= end:
            yield _as_one(together, end)
            together = []
        together.append(span)
        end = max(end, span.end)
    if together:
        yield _as_one(together, end)


def _as_one(spans: list[_Span], end: int) -> _Span:
    """Return the union of spans, with the marker of the longest; with none where all that is known
    by a marker is the smaller part of it. A mark says that a text was cut, also in the middle of a
    secret."""
    start = spans[0].start
    cut = next((span for span in spans if MARK.fullmatch(span.marker)), None)
    known = cut or max((span for span in spans if span.marker), key=_size, default=None)
    is_most = known is not None and (cut or 2 * _size(known) >= end - start)
    return _Span(start, end, known.marker if known and is_most else "")


def _size(span: _Span) -> int:
    return span.end - span.start


# -- texts in base64 and hex, as a log may have them

_BASE64_TEXT = re.compile(r"(?<![\w+/\-])[A-Za-z0-9+/_\-]{12,}+")
_HEX_TEXT = re.compile(r"\b(?:[0-9a-fA-F]{2}){8,}+\b")
_LONGEST_ENCODED = 400_000
"""Of one run. A longer one is an image."""

_LEAST_PRINTABLE = 0.9


def _decoded_in(text: str) -> Iterator[tuple[int, int, str]]:
    """Return where each run stands that may be one, and what it says; of one whose beginning was
    cut off, what each of the four ways to read it says."""
    for found in _HEX_TEXT.finditer(text):
        if len(found.group()) <= _LONGEST_ENCODED and (said := _said(bytes.fromhex(found.group()))):
            yield found.start(), found.end(), said
    for found in _BASE64_TEXT.finditer(text):
        run = found.group()
        if len(run) > _LONGEST_ENCODED or (run.isalpha() and (run.islower() or run.isupper())):
            continue
        for start in range(4):
            if said := _said(_from_base64(run[start:])):
                yield found.start(), found.end(), said


def _from_base64(run: str) -> bytes:
    digits = run.replace("-", "+").replace("_", "/")
    digits = digits[: len(digits) - len(digits) % 4]
    try:
        return b64decode(digits, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _said(data: bytes) -> str:
    """Return the text that bytes are, also if it was cut within a character; '' if they are
    none."""
    text = data.decode("utf-8", "ignore")
    if len(text.encode()) < len(data) - 6:
        return ""
    printable = sum(sign.isprintable() or sign.isspace() for sign in text)
    return text if printable >= _LEAST_PRINTABLE * len(text) else ""

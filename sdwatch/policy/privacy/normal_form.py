"""A text without all in which two copies of it may differ: case, accents, blanks, punctuation, line
ends, and escapes of JSON, Python, URLs and HTML. Pure.

`Silver\\u0020Moons`, `silver%20moons` and `SILVER\\n  MOONS` are all `silvermoons`.
"""

from __future__ import annotations

import html
import re
import unicodedata
from bisect import bisect_left, bisect_right
from functools import lru_cache
from urllib.parse import unquote_to_bytes

WEIGHT = 4
"""So many times a character of a script without blanks between words, or an emoji, stands in a
normal form: three of them tell as much as a dozen letters."""

_TOKEN = re.compile(
    r"(?P<plain>[A-Za-z0-9]+)"
    r"|(?P<beyond>[^\x00-\x7f])"
    r"|(?P<unit>\\{1,8}(?:u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}))"
    r"|(?P<bytes>(?:\\{1,8}x[0-9a-fA-F]{2})+)"
    r"|\\{1,8}[nrtbfv0]"
    r"|(?P<percent>(?:%[0-9a-fA-F]{2})+)"
    r"|&(?P<entity>#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]{2,8});"
    r"|</w>"  # ends a word in the vocabulary of CLIP's tokenizer
)
_HEX = re.compile(r"[0-9a-fA-F]{2}(?=\\|$)")
_FIRST_WITHOUT_BLANKS = "\u0590"
_OF_TOKENIZERS = "\u0120\u010a\u2581"  # stand for a blank or a line end
_HANGUL = ("\uac00", "\ud7a3")  # taken apart these would weigh too much


class NormalForm:
    """The normal form `text` of `raw`. It consists of runs: words or single characters. `starts`:
    where in `text` each run starts."""

    def __init__(self, raw: str) -> None:
        self._raw_starts: list[int] = []
        self._raw_ends: list[int] = []
        self.starts: list[int] = []
        pieces: list[str] = []
        size = 0
        for found in _TOKEN.finditer(raw):
            group = found.lastgroup
            if group == "plain":
                piece = found.group().lower()
            elif group is None or not (piece := _decoded(group, found[group])):
                continue
            pieces.append(piece)
            self.starts.append(size)
            self._raw_starts.append(found.start())
            self._raw_ends.append(found.end())
            size += len(piece)
        self.text = "".join(pieces)

    def ends_run(self, at: int) -> bool:
        """Return whether a run ends at `at` in `text`."""
        next_run = bisect_left(self.starts, at)
        return at == (self.starts[next_run] if next_run < len(self.starts) else len(self.text))

    def raw_span(self, start: int, end: int) -> tuple[int, int]:
        """Return where in the raw text the runs lie that [start, end) of `text` covers; also one at
        each end that it covers in part, unless that is by chance, as the end of `truncated`."""
        first = bisect_right(self.starts, start) - 1
        last = bisect_left(self.starts, end) - 1
        first_end, last_start = self._end_of(first), self.starts[last]
        if first < last and _is_by_chance(first_end - start, first_end - self.starts[first]):
            first += 1
        if first < last and _is_by_chance(end - last_start, self._end_of(last) - last_start):
            last -= 1
        return self._raw_starts[first], self._raw_ends[last]

    def _end_of(self, run: int) -> int:
        return self.starts[run + 1] if run + 1 < len(self.starts) else len(self.text)


def _is_by_chance(covered: int, size: int) -> bool:
    return covered < WEIGHT and 2 * covered < size


def _decoded(group: str, said: str) -> str:
    if group == "beyond":
        return _units(said)
    if group == "unit":
        code = int(said.lstrip("\\")[1:], 16)
        signs = chr(code) if code <= 0x10FFFF else ""
    elif group == "entity":
        signs = html.unescape(f"&{said};")
    elif group == "percent":
        signs = _text_of(unquote_to_bytes(said))
    else:
        signs = _text_of(bytes(int(code, 16) for code in _HEX.findall(said)))
    return "".join(map(_units, signs))


def _text_of(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


@lru_cache(maxsize=1 << 16)
def _units(sign: str) -> str:
    if sign in _OF_TOKENIZERS:
        return ""
    apart = sign if _HANGUL[0] <= sign <= _HANGUL[1] else unicodedata.normalize("NFKD", sign)
    return "".join(map(_unit, apart.casefold()))


def _unit(sign: str) -> str:
    if sign < _FIRST_WITHOUT_BLANKS:
        return sign if sign.isalnum() else ""
    if sign > "\uffff":  # JSON has it as two
        high, low = divmod(ord(sign) - 0x10000, 0x400)
        return chr(0xD800 + high) * WEIGHT + chr(0xDC00 + low) * WEIGHT
    kind = unicodedata.category(sign)
    return "" if kind[0] in "PZM" or kind in ("Cc", "Cf") else sign * WEIGHT

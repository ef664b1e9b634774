"""A WebUI's output as lines: what a person would have seen on the terminal.

Facts measured with Forge dfdcbab6, AUTOMATIC1111 and SD.Next: bars are
written with `\\r` and ESC[A, and the next line is glued on to them; every health probe leaves an
access line; SD.Next wraps at 80 columns, with continuations indented by 25 blanks; Forge Neo wraps
at the terminal's width, beside `file.py :: LEVEL` (its source). Both are joined again here, so that
a text can be found in one line.

Its bytes are in whatever encoding each of its programs prints: one log may hold UTF-8 of the WebUI,
the ANSI code page of a C++ library and the OEM code page of cmd.exe. A wrong letter would hide a
prompt from the redaction.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

from sdwatch import system
from sdwatch.policy.failure.error_lines import OWN_ROUTES, as_one, is_error
from sdwatch.policy.privacy.printable import shortened


def decoded(data: bytes) -> str:
    """Return the text of `data`: each line as UTF-8 or, if it is not, in the code page of this
    system that turns most of its characters into letters. What no encoding has becomes U+FFFD."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "".join(map(_line, data.splitlines(keepends=True)))


def _line(line: bytes) -> str:
    try:
        codecs.utf_8_decode(line, "strict", False)
    except UnicodeDecodeError:
        # UTF-8 with one wrong byte among many letters stays UTF-8.
        return max([line.decode("utf-8", "replace"), *_in_code_pages(line)], key=_letters)
    return line.decode("utf-8", "replace")  # at most its last character is incomplete


def _in_code_pages(line: bytes) -> list[str]:
    readings = []
    for name in _code_pages():
        try:
            readings.append(line.decode(name))
        except UnicodeDecodeError:
            continue  # this code page does not have its characters
    return readings


@cache
def _code_pages() -> tuple[str, ...]:
    """Return the code pages that Python knows."""
    known = []
    for name in system.code_pages():
        try:
            codecs.lookup(name)
        except LookupError:
            continue
        known.append(name)
    return tuple(known)


def _letters(text: str) -> float:
    """Return the share of letters among the characters beyond ASCII."""
    beyond = [sign for sign in text if not sign.isascii()]
    return sum(map(str.isalpha, beyond)) / max(1, len(beyond))


LONGEST_LINE = 4000
PROBE_PATHS = rf"(?:/|/app_id|/internal/ping|/openapi.json|{OWN_ROUTES})(?:\?\S*)?"

_UP = re.compile(r"\x1b\[\d*[AF]")
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]?"  # CSI: colours, cursor
    r"|\x1b[\]PX^_][^\x07\x1b\r\n]*(?:\x07|\x1b\\)?"  # OSC, DCS and their like
    r"|\x1b[ -/]*[0-Z\\^-~]?"
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_TQDM = re.compile(
    r"(?P<label>[^%|\r\n]{0,80}?)\s*\b\d{1,3}%\|[^|\r\n]{0,300}\|\s*"
    r"(?P<position>[^/\s]{1,20}/[^\s/]{1,20}) \[[^\]]{0,200}\]"
)
_TQDM_OPEN = re.compile(r"(?P<label>[^\r\n]{0,80}?)\b(?P<position>\d+it) \[[\d:]+,[^\]]{0,200}\]")
_RICH = re.compile(
    r"(?P<start>Progress)\s.{0,400}?\b\d{1,3}%\s+(?P<position>\d+/\d+)\s+\S+\s+\S+(?P<label>.*)$"
)
_CLOCK = re.compile(r"\d+:[\d:.]+")
_UVICORN = re.compile(
    rf'(?:INFO:\s+)?\S{{1,60}} - "(?:GET|HEAD) {PROBE_PATHS} HTTP/[\d.]+" (?P<status>\d{{3}})'
    r"(?: [A-Z][A-Za-z -]*)?\s*$"
)
_API_LINE = re.compile(
    r"(?:\S.*\s)?API (?:\S+ )*?(?:code=)?(?P<status>\d{3}) http/[\d.]+ (?:GET|HEAD) "
    rf"{PROBE_PATHS}(?: \S+ [\d.]+)?\s*$"
)
_API_REST = re.compile(r"\s{20,}(?:\d+\.){3}\d+ \d+\.\d+\s*$")
_ACCESS = re.compile(
    r'"(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) \S+ HTTP/[\d.]+"'
    r"|\bhttp/[\d.]+ (?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) /",
)
_SDNEXT = re.compile(r"\d\d:\d\d:\d\d-\d+ [A-Z]+ ")  # how a message of SD.Next starts
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_LONG_WORD = 16  # characters: longer than any word of a message that is searched for
_INDENT = 25
_WIDTH = 80


@dataclass(frozen=True)
class LogLine:
    """One line, or one frame of a progress bar: then `bar` is its label, and `position` how far it
    got, without clocks and rates, so that a bar redrawn by a timer has not moved. `drawn`: it is
    overwritten, in no known form."""

    text: str
    bar: str | None = None
    position: str = ""
    drawn: bool = False


def split_lines(text: str) -> list[LogLine]:
    """Return lines and bar frames in order, without escapes and blank lines, with wrapped messages
    joined. All frames are kept."""
    plain = _ESCAPES.sub("", _UP.sub("\r", text))
    plain = re.sub(r"\r+\n", "\n", plain)
    parts = re.split(r"([\r\n])", plain)
    ends = [*parts[1::2], ""]
    lines: list[LogLine] = []
    for piece, end in _unfolded(zip(parts[::2], ends, strict=True)):
        if not piece.isprintable():
            piece = _CONTROLS.sub("", piece)
        lines.extend(_read_piece(piece, drawn=end == "\r"))
    return join_wrapped(lines)


def _unfolded(pieces: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield pieces with their ends, each message of Forge Neo in one piece. It is laid out as a
    grid: its first row ends in file and level, the next rows are padded with blanks to the same
    width."""
    rows: list[str] = []  # of the message that is being read
    place, width = "", 0
    for piece, end in pieces:
        if rows and len(piece) == width and piece.strip() and not piece[len(rows[0]) :].strip():
            rows.append(piece[: len(rows[0])])
            continue
        if rows:
            yield _folded(rows, place), "\n"
            rows = []
        start = _place_in(piece)
        if start < 0:
            yield piece, end
        else:
            place, width = piece[start:].rstrip(), len(piece)
            rows = [piece[: start - 1]]
    if rows:
        yield _folded(rows, place), "\n"


def _place_in(piece: str) -> int:
    """Return where the `file.py :: LEVEL` starts in which a message of Forge Neo ends; -1 for
    another line."""
    left, sign, level = piece.rstrip().rpartition(" :: ")
    if not sign or level not in _LEVELS or not left.endswith(".py"):
        return -1
    return left.rfind(" ") + 1 or -1


def _folded(rows: list[str], place: str) -> str:
    """Return a message from its rows, which have the width of its column. A word longer than that
    was split, and its first parts fill their rows. So may a whole word in a narrow column."""
    text = ""
    for row in rows:
        is_torn = " " not in row and len(row) > _LONG_WORD
        text += row.rstrip() + ("" if is_torn else " ")
    return f"{text.rstrip()} {place}"


def join_wrapped(lines: Iterable[LogLine]) -> list[LogLine]:
    """Return each wrapped message of SD.Next as one line."""
    joined: list[LogLine] = []
    parts: list[str] = []  # of the message that the last line belongs to
    for line in lines:
        if parts and line.bar is None and _continues(line.text):
            parts.append(line.text)
            continue
        _close(joined, parts)
        parts = [line.text] if line.bar is None and _SDNEXT.match(line.text) else []
        joined.append(line)
    _close(joined, parts)
    return joined


def _continues(text: str) -> bool:
    return text.startswith(" " * _INDENT) and not text[_INDENT : _INDENT + 1].isspace()


def _close(joined: list[LogLine], parts: list[str]) -> None:
    if len(parts) > 1:
        joined[-1] = LogLine(_shorten("".join(_pieces(parts))))


def _pieces(parts: list[str]) -> Iterator[str]:
    """Yield the parts with a blank between words. A word longer than a line was split, and fills
    its line."""
    yield parts[0]
    for before, part in pairwise(parts):
        text = before[_INDENT:]
        yield part[_INDENT:] if len(before) >= _WIDTH and " " not in text else part[_INDENT - 1 :]


def _read_piece(piece: str, *, drawn: bool) -> Iterator[LogLine]:
    """Yield what lies between two line ends: bars, and the text glued on to them."""
    while (frame := _match_bar(piece)) is not None:
        yield LogLine(frame.group().strip(), _label(frame), frame["position"])
        piece = piece[frame.end() :]
    if piece.strip():
        shown = _shorten(piece.rstrip())
        yield _drawn(shown) if drawn and not is_error(shown) else LogLine(shown)


def _match_bar(piece: str) -> re.Match[str] | None:
    if "%|" in piece:
        return _TQDM.match(piece)
    if "it [" in piece:
        return _TQDM_OPEN.match(piece)
    return _RICH.match(piece) if piece.startswith("Progress") else None


def _label(frame: re.Match[str]) -> str:
    start = frame.groupdict().get("start") or ""
    return f"{start} {frame['label'].strip()}".strip()


def _drawn(text: str) -> LogLine:
    """Return text that `\\r` will overwrite, in no known form: its numbers and signs are its
    movement."""
    position = re.sub(r"[^\w%]+", " ", _CLOCK.sub("", text)).strip()
    bar = re.sub(r"[\W\d]+", " ", text).strip()[:80]
    return LogLine(text, bar=bar, position=position, drawn=True)


def _shorten(line: str) -> str:
    return shortened(line, LONGEST_LINE)


def last_frames(lines: list[LogLine]) -> list[LogLine]:
    """Return the lines with only the last of each bar's consecutive frames."""
    kept: list[LogLine] = []
    run: dict[str, LogLine] = {}
    for line in lines:
        if line.bar is not None:
            run.pop(line.bar, None)
            run[line.bar] = line
            continue
        kept.extend(run.values())
        run.clear()
        kept.append(line)
    return [*kept, *run.values()]


def without_repeats(lines: list[LogLine]) -> list[LogLine]:
    """Return the lines with only the last of those that differ in numbers, and their count (see
    policy/failure/error_lines.py)."""
    shown = as_one([line.text for line in lines])
    return [replace(lines[at], text=text) for at, text in shown]


def without_probes(lines: list[LogLine]) -> tuple[list[LogLine], int]:
    """Return the lines without the access lines of health probes, and how many these were. A probe
    that was answered with 500 or above is kept: it is evidence."""
    kept: list[LogLine] = []
    for line in lines:
        status = probe_status(line.text)
        if status is None or status >= 500:
            kept.append(line)
    return kept, len(lines) - len(kept)


def probe_status(text: str) -> int | None:
    """Return the HTTP status in the access line of a health probe; None for every other line. The
    second half of such a line that SD.Next wrapped counts as status 0."""
    if "HTTP/" in text:
        found = _UVICORN.match(text)
    elif "http/" in text:
        found = _API_LINE.match(text)
    else:
        return 0 if _API_REST.match(text) else None
    return int(found["status"]) if found else None


def is_access(text: str) -> bool:
    """Return whether this is the access line of a request, whoever made it."""
    return _ACCESS.search(text) is not None or probe_status(text) is not None

"""A window of a log as the lines worth showing, within milliseconds: the rest is skipped as bytes,
before each line costs a regular expression.

A WebUI that fails waits for its evidence, and 4 MB of a flood are half a million short lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import groupby, islice

from sdwatch.policy.failure import alike
from sdwatch.policy.failure.error_lines import (
    ERROR_SIGNS,
    FRAME_SIGN,
    TRACEBACK,
    WORST_SIGNS,
    is_error,
)
from sdwatch.policy.privacy.cuts import mark
from sdwatch.webui.log.log_lines import (
    LogLine,
    join_wrapped,
    last_frames,
    split_lines,
    without_probes,
    without_repeats,
)
from sdwatch.webui.log.log_text import decoded

_FIRST_LOOK = 16 * 1024  # 200 lines are rarely larger
_GROWTH = 4
_LONGEST_RUN = 1024 * 1024  # of a bar's frames, before they are read in parts
_LINE_LIMIT = 64 * 1024  # so far back the start of an error's line is searched
_NEAR = 1024 * 1024  # so far up errors of every kind are searched
_MOST_HITS = 1000  # of each sign: a flood of errors is searched only so far
_HEAD, _INNERMOST = 8 * 1024, 64 * 1024  # of an endless traceback
_MANY_FRAMES = 200
_CONTROLS = bytes({*range(0x20), 0x7F} - set(b"\t\n\r\x07\x1b"))  # the bell ends escapes
_NO_LETTERS = bytes(n for n in range(256) if n > 0x7F or not (chr(n).isalpha() or chr(n) in "\r\n"))
_APART = LogLine("")  # between errors that do not follow each other in the log
_KIND = 300
_LINE = re.compile(rb"[^\r\n]*[\r\n]*")
_WORST = tuple(sign.encode() for sign in WORST_SIGNS)
_SIGNS = tuple(sign.encode() for sign in ERROR_SIGNS)
_TRACEBACK = TRACEBACK.encode()
_TRACEBACKS = (_TRACEBACK, FRAME_SIGN.encode())
_LONGEST_BOX = 500
_MOST_WRAPPED = 6
_WRAP = b" " * 20
_SIGN = rb"(?:\xe2\x95[\xad\xb0]|\xe2\x94[\x82\x9c]|\xe2\x9d\xb1|\d+ \xe2\x94\x82)"
"""╭ ╰ │ ├ ❱"""
_PLACE = rb"[^\s:][^\r\n:]*:\d+ in [^\s]+[ ]*(?=[\r\n]|$)"
_BOXED_LINE = rb"[ ]*+(?:" + _SIGN + rb"[^\r\n]*|" + _PLACE + rb")(?:[ ]*[\r\n]+)*+"
_BOXED, _BOXES = re.compile(_BOXED_LINE), re.compile(rb"(?:" + _BOXED_LINE + rb")*+")
_EXCEPTION = re.compile(rb"[\w.]{0,200}(?:Error|Exception|Interrupt|Exit)\b[^\r\n]*[\r\n]*")
_DIGITS = b"0123456789"
_USUAL_PROBE = re.compile(
    rb'^INFO:     [0-9A-Fa-f.:\[\]]{3,60} - "GET /sdapi/v1/(?:progress|sd-models|memory)'
    rb'(?:\?[^\s"]*)? HTTP/1\.1" 200 OK\r?\n',
    re.MULTILINE,
)


def last_lines(data: bytes, wanted: int) -> tuple[list[LogLine], int, int]:
    """Return the last lines of `data`, at least `wanted` where it has so many, without the access
    lines of probes; then how many of these were left out, and the offset of the first line. Of bars
    only the last frames are kept, and only the last of lines that differ in numbers."""
    lines: list[LogLine] = []
    probes, start, size = 0, len(data), _FIRST_LOOK
    while start and len(lines) <= wanted:
        end, start = start, _line_start(data, start - size)
        more, left_out = _shown(data[start:end])
        # A wrapped message may lie on both sides of where this window starts.
        lines = without_repeats(last_frames(join_wrapped([*more, *lines])))
        probes, size = probes + left_out, size * _GROWTH
    return lines, probes, start


def errors_in(data: bytes, end: int) -> list[LogLine]:
    """Return the errors in `data[:end]` with what belongs to each, oldest first; of those that
    differ in numbers only the newest. Far up, only the worst kinds."""
    found: dict[bytes, tuple[int, int]] = {}
    for signs, least in ((_WORST, 0), (_SIGNS, max(0, end - _NEAR))):
        for sign in signs:
            above = end
            for hit in _hits(data, sign, least, end):
                if hit < above:  # else it is in the block that was found last
                    above, stop, kind = _block_at(data, hit, end)
                    found.setdefault(kind, (above, stop))
    lines: list[LogLine] = []
    for start, stop in _merged(found.values()):
        lines += _shown(_mark_if_torn(data, start) + _without_middle(data[start:stop]))[0]
        if stop < end:
            lines.append(_APART)
    return lines


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the spans in order; those that touch become one."""
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            start, before = merged.pop()
            stop = max(stop, before)
        merged.append((start, stop))
    return merged


def _hits(data: bytes, sign: bytes, least: int, end: int) -> Iterator[int]:
    """Yield the offsets of a sign, the last first."""
    if not sign.isascii() and sign[-2:-1] not in data:
        return  # one byte is found much faster
    for _ in range(_MOST_HITS):
        if (end := data.rfind(sign, least, end)) < 0:
            return
        yield end


def traceback_in(data: bytes) -> list[LogLine]:
    """Return the last traceback in `data` with the line above it, and the errors after it."""
    hit = max(
        (at for s in _TRACEBACKS for at in islice(_hits(data, s, 0, len(data)), 1)), default=-1
    )
    if hit < 0:
        return []
    start, _, _ = _block_at(data, hit, len(data))
    above = _error_start(data, start - 1)
    return errors_in(data[above:], len(data))


def _shown(data: bytes) -> tuple[list[LogLine], int]:
    data = data.translate(None, _CONTROLS)
    usual = 0
    if b'HTTP/1.1" 200 OK' in data:
        data, usual = _USUAL_PROBE.subn(b"", data)
    if data.count(b"\n") > alike.MOST:
        data = b"\n".join(_as_one(data))
    if data.count(b"\r") > _MANY_FRAMES:
        data = b"".join(_without_old_frames(data))
    lines, probes = without_probes(split_lines(decoded(data)))
    return lines, probes + usual


def _as_one(data: bytes) -> Iterator[bytes]:
    """Yield the lines; of those that differ in numbers only the last, with their count. Bars
    stay."""
    told = data.translate(None, _DIGITS)
    first, size = told[: told.find(b"\n") + 1], told.count(b"\n")
    if size > alike.MOST and _is_said(first) and told == first * size:  # nothing but a flood: fast
        yield _told(data[data.rfind(b"\n", 0, -1) + 1 :], size)
        return
    lines, at = data.split(b"\n"), 0
    for said, run in groupby(told.split(b"\n")):
        size = len(list(run))
        at += size
        if size > alike.MOST and _is_said(said):
            yield _told(lines[at - 1], size)
        else:
            yield from lines[at - size : at]


def _is_said(line: bytes) -> bool:
    """Return whether it is a line of its own: not indented, not overwritten."""
    return bool(line[:1].strip()) and b"\r" not in line.rstrip(b"\r\n")


def _told(line: bytes, count: int) -> bytes:
    return alike.told(line.rstrip(b"\r\n").decode("latin-1"), count).encode("latin-1")


def _without_old_frames(data: bytes) -> Iterator[bytes]:
    """Yield the pieces without frames that a later frame of the same bar overwrote. A bar is
    identified by its letters, and by what comes before its percentage; one that says error is no
    bar."""
    *drawn, last = data.split(b"\r")
    letters = data.translate(None, _NO_LETTERS).split(b"\r")
    has_percent = b"%|" in data
    run: dict[tuple[bytes, bytes], bytes] = {}
    errors: dict[tuple[bytes, bytes], bool] = {}
    for piece, said in zip(drawn, letters, strict=False):
        label, percent, _ = piece.partition(b"%|") if has_percent else (b"", b"", b"")
        bar = (label.rstrip(_DIGITS) if percent else b"", said)
        if bar not in errors:
            errors[bar] = b"\n" in said or is_error(piece.decode("utf-8", "replace"))
        if errors[bar]:  # or more than a bar: lines that are glued on to it
            yield from _ended(run.values())
            run.clear()
            yield piece + b"\r"
        else:
            run.pop(bar, None)
            run[bar] = piece
    yield from _ended(run.values())
    yield last


def _ended(pieces: Iterable[bytes]) -> Iterator[bytes]:
    return (piece + b"\r" for piece in pieces)


def _line_start(data: bytes, at: int) -> int:
    """Return where the line starts that contains `at`. A frame of a bar counts as a line only if
    nothing else is there, so that no `\r\n` is split."""
    if at <= 0:
        return 0
    start = data.rfind(b"\n", 0, at)
    if start < max(0, at - _LONGEST_RUN):
        start = data.rfind(b"\r", 0, at)
    return start + 1


def _error_start(data: bytes, at: int) -> int:
    """Return where the line starts that contains `at`; what is glued on to a bar is a line of its
    own."""
    at = max(0, at)
    least = max(0, at - _LINE_LIMIT)
    start = data.rfind(b"\n", least, at)
    return max(start, data.rfind(b"\r", max(start, least), at), least - 1) + 1


def _block_at(data: bytes, hit: int, end: int) -> tuple[int, int, bytes]:
    """Return where the error with a sign at `hit` starts and ends, and its text without numbers."""
    start = _error_start(data, hit)
    if _BOXED.match(data, start, end):
        start, stop = _box(data, start, end)
    else:
        stop = _indented(data, start, end)
    return start, stop, _kind(data, start, stop)


def _box(data: bytes, start: int, end: int) -> tuple[int, int]:
    """Return the span of a traceback in a box, as SD.Next prints it: the error above it, its lines,
    and the line of the exception."""
    for _ in range(_LONGEST_BOX):
        above = _error_start(data, start - 2)
        is_blank = not data[above:start].strip()
        if start == 0 or not (is_blank or _BOXED.match(data, above, end)):
            break
        start = above
    below = _BOXES.match(data, start, end)
    own = _EXCEPTION.match(data, below.end() if below else start, end)
    stop = own.end() if own else below.end() if below else start
    return _said_above(data, start), stop


def _said_above(data: bytes, start: int) -> int:
    """Return where the message of the error above `start` starts, which SD.Next wraps."""
    above = start
    for _ in range(_MOST_WRAPPED):
        if above == 0:
            break
        above = _error_start(data, above - 2)
        line = data[above:start].partition(b"\n")[0]
        if not line.startswith(_WRAP):
            return above if is_error(line.decode("utf-8", "replace")) else start
    return start


def _indented(data: bytes, start: int, end: int) -> int:
    """Return where the error ends that starts at `start`, judged by what is indented below it."""
    head = _LINE.match(data, start, end)
    assert head is not None
    text = head.group()
    deeper = _deeper(len(text) - len(text.lstrip(b" "))).match(data, head.end(), end)
    assert deeper is not None
    stop = deeper.end()
    if _TRACEBACK in text and (own := _LINE.match(data, stop, end)) is not None:
        stop = own.end()  # the exception's own line
    return stop


def _kind(data: bytes, start: int, stop: int) -> bytes:
    head = _LINE.match(data, start, stop)
    assert head is not None
    text = head.group()
    body = data[max(start, stop - 2 * _KIND) : stop].rstrip()
    last = body[_error_start(body, len(body)) :][:_KIND]
    return (b"%s\n%s" % (text[:_KIND].strip(), last)).translate(None, _DIGITS)


@cache
def _deeper(depth: int) -> re.Pattern[bytes]:
    return re.compile(rb"(?: {%d}[^\r\n]*[\r\n]*)*+" % (depth + 1))


def _without_middle(block: bytes) -> bytes:
    """Return the head and the innermost frames of an endless traceback."""
    if len(block) <= _HEAD + _INNERMOST:
        return block
    end = block.rfind(b"\n", 0, _HEAD) + 1
    head = block[:end] if end else block[:_HEAD] + _mark(len(block) - _HEAD)
    return head + b"\n" + block[_line_start(block, len(block) - _INNERMOST) :]


def _mark_if_torn(data: bytes, start: int) -> bytes:
    """Return a mark if `start` lies within a line."""
    return b"" if data[max(0, start - 1) : start].strip(b"\r\n") == b"" else _mark(start)


def _mark(size: int) -> bytes:
    return mark(size, "bytes").encode()

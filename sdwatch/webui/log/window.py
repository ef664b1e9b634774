"""Parse a window of a log's bytes: its last lines, and the errors above them, within milliseconds.
Pure. What is not worth showing is skipped as bytes, before each line costs a regular expression.

Two drivers read windows: tail_capture.py backward from a log's end, follower.py as it grows. A
WebUI that fails waits for its evidence, and 4 MB of a flood are half a million short lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby

from sdwatch.policy.failure.error_lines import (
    ERROR_SIGNS,
    MOST_ALIKE,
    TRACEBACK,
    WORST_SIGNS,
    ErrorBlock,
    error_blocks,
    is_error,
    with_count,
    without_numbers,
)
from sdwatch.policy.privacy.printable import mark
from sdwatch.webui.log.log_lines import (
    LogLine,
    decoded,
    join_wrapped,
    last_frames,
    split_lines,
    without_probes,
    without_repeats,
)

_FIRST_LOOK = 16 * 1024  # 200 lines are rarely larger
_GROWTH = 4
_LONGEST_RUN = 1024 * 1024  # of a bar's frames, before they are read in parts
_LINE_LIMIT = 64 * 1024  # so far back the start of an error's line is searched
_NEAR = 1024 * 1024  # so far up errors of every kind are searched
_LONGEST_SPAN = 512 * 1024
_MOST_SPANS = 8  # for each sign: a flood of errors is read only so far
_ABOVE, _BELOW = 16 * 1024, 8 * 1024  # around a sign, which may be at either end of an error
_MANY_FRAMES = 200
_CONTROLS = bytes({*range(0x20), 0x7F} - set(b"\t\n\r\x07\x1b"))  # the bell ends escapes
_NO_LETTERS = bytes(n for n in range(256) if n > 0x7F or not (chr(n).isalpha() or chr(n) in "\r\n"))
_APART = LogLine("")  # between errors that do not follow each other in the log
_WORST = tuple(sign.encode() for sign in WORST_SIGNS)
_SIGNS = tuple(sign.encode() for sign in ERROR_SIGNS)
_TRACEBACK = TRACEBACK.encode()
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
    differ in numbers only the newest. Far up, only the worst kinds; of a flood of one kind only
    its end."""
    spans = [
        span
        for signs, least in ((_WORST, 0), (_SIGNS, max(0, end - _NEAR)))
        for sign in signs
        for span in _around(data, sign, least, end)
    ]
    found: dict[str, list[LogLine]] = {}
    for start, stop in reversed(_merged(spans)):
        lines, _ = _shown(_mark_if_torn(data, start) + _without_middle(data[start:stop]))
        texts = [line.text for line in lines]
        for block in reversed(error_blocks(texts)):
            is_open = stop == end and block.end == len(lines)
            body = [*lines[block.start : block.end], *([] if is_open else [_APART])]
            found.setdefault(kind_of(texts, block), body)
    return [line for body in reversed(found.values()) for line in body]


def kind_of(texts: list[str], block: ErrorBlock) -> str:
    """Return the same text for errors that differ in numbers only."""
    return without_numbers(f"{texts[block.start]}\n{texts[block.end - 1]}")


def _around(data: bytes, sign: bytes, least: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield what is to be read around the last places of a sign, the last first."""
    if not sign.isascii() and sign[-2:-1] not in data:
        return  # one byte is found much faster
    at = end
    for _ in range(_MOST_SPANS):
        if (hit := data.rfind(sign, least, at)) < 0:
            return
        at = _not_within(data, hit - _ABOVE)
        yield at, min(end, _line_start(data, hit + _BELOW) if hit + _BELOW < end else end)


def _not_within(data: bytes, at: int) -> int:
    """Return where a line starts at or above `at` that belongs to no other above it; of an endless
    traceback its head."""
    end = at = max(0, at)
    least = max(0, at - _LINE_LIMIT)
    while (newline := data.rfind(b"\n", least, end)) >= 0:
        if data[newline + 1 : newline + 2].strip():
            return newline + 1
        end = newline
    if end < at and least:  # there are lines, and all are indented
        return _line_start(data, max(0, data.rfind(_TRACEBACK, 0, at)))
    return max(least, data.rfind(b"\r", least, at) + 1)


def _without_middle(data: bytes) -> bytes:
    """Return the head and the innermost frames of an endless traceback."""
    if len(data) <= _LONGEST_SPAN:
        return data
    end = data.rfind(b"\n", 0, _ABOVE) + 1 or _ABOVE
    start = _line_start(data, len(data) - _LONGEST_SPAN // 2)
    return data[:end] + b"    " + _mark(start - end) + b"\n" + data[start:]


def without_torn_line(data: bytes) -> bytes:
    """Return the data without its first line, which starts outside; marked where there is no other
    line."""
    end = min((at for sign in b"\r\n" if (at := data.find(sign)) >= 0), default=-1)
    rest = data[end + 1 :]
    return rest if rest.strip() else _mark(len(data)) + data


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the spans in order; those that touch become one."""
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            start, before = merged.pop()
            stop = max(stop, before)
        merged.append((start, stop))
    return merged


def traceback_in(data: bytes) -> list[LogLine]:
    """Return the last traceback in `data`, and the errors after it."""
    lines = errors_in(data, len(data))
    blocks = [block for block in error_blocks([line.text for line in lines]) if block.traceback]
    return lines[blocks[-1].start :] if blocks else []


def _shown(data: bytes) -> tuple[list[LogLine], int]:
    data = data.translate(None, _CONTROLS)
    usual = 0
    if b'HTTP/1.1" 200 OK' in data:
        data, usual = _USUAL_PROBE.subn(b"", data)
    if data.count(b"\n") > MOST_ALIKE:
        data = b"\n".join(_as_one(data))
    if data.count(b"\r") > _MANY_FRAMES:
        data = b"".join(_without_old_frames(data))
    lines, probes = without_probes(split_lines(decoded(data)))
    return lines, probes + usual


def _as_one(data: bytes) -> Iterator[bytes]:
    """Yield the lines; of those that differ in numbers only the last, with their count. Bars
    stay."""
    without_digits = data.translate(None, _DIGITS)
    first, size = without_digits[: without_digits.find(b"\n") + 1], without_digits.count(b"\n")
    if (
        size > MOST_ALIKE and _is_said(first) and without_digits == first * size
    ):  # nothing but a flood: fast
        yield _with_count(data[data.rfind(b"\n", 0, -1) + 1 :], size)
        return
    lines, at = data.split(b"\n"), 0
    for said, run in groupby(without_digits.split(b"\n")):
        size = len(list(run))
        at += size
        if size > MOST_ALIKE and _is_said(said):
            yield _with_count(lines[at - 1], size)
        else:
            yield from lines[at - size : at]


def _is_said(line: bytes) -> bool:
    """Return whether it is a line of its own: not indented, not overwritten."""
    return bool(line[:1].strip()) and b"\r" not in line.rstrip(b"\r\n")


def _with_count(line: bytes, count: int) -> bytes:
    return with_count(line.rstrip(b"\r\n").decode("latin-1"), count).encode("latin-1")


def _without_old_frames(data: bytes) -> Iterator[bytes]:
    """Yield the pieces without frames that a later frame of the same bar overwrote. A bar is
    identified by its letters, and by what comes before its percentage; one that says error is not a
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


def _mark_if_torn(data: bytes, start: int) -> bytes:
    """Return a mark if `start` lies within a line."""
    return b"" if data[max(0, start - 1) : start].strip(b"\r\n") == b"" else _mark(start)


def _mark(size: int) -> bytes:
    return mark(size, "bytes").encode()

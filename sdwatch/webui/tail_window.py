"""A window of a log as the lines worth showing, in milliseconds: what cannot be shown is passed
over as bytes, before anything costs a regular expression for each line.

A WebUI that fails waits for its evidence, and 4 MB of a flood are half a million short lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache

from sdwatch.policy.error_lines import ERROR_SIGNS, TRACEBACK, WORST_SIGNS, is_error
from sdwatch.webui.log_lines import (
    LogLine,
    join_wrapped,
    last_frames,
    split_lines,
    without_probes,
)

_FIRST_LOOK = 16 * 1024  # 200 lines are rarely more
_GROWTH = 4
_LONGEST_RUN = 1024 * 1024  # of a bar's frames, before they are looked at in parts
_LINE_LIMIT = 64 * 1024  # so far back the beginning of an error's line is looked for
_NEAR = 1024 * 1024  # so far up one looks for errors of every kind
_MOST_HITS = 1000  # of each sign: a flood of errors is looked through only so far
_HEAD, _INNERMOST = 8 * 1024, 64 * 1024  # of a traceback without end
_MANY_FRAMES = 200
_CONTROLS = bytes({*range(0x20), 0x7F} - set(b"\t\n\r\x07\x1b"))  # the bell ends escapes
_NO_LETTERS = bytes(n for n in range(256) if n > 0x7F or not (chr(n).isalpha() or chr(n) in "\r\n"))
_APART = LogLine("")  # between errors that do not follow each other in the log
_KIND = 300
_LINE = re.compile(rb"[^\r\n]*[\r\n]*")
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
    """The last lines of `data`, at least `wanted` where it has so many: of bars the last frames,
    without the access lines of probes. Then how many of these were left out among them, and from
    where in `data` on they stand."""
    lines: list[LogLine] = []
    probes, start, size = 0, len(data), _FIRST_LOOK
    while start and len(lines) <= wanted:
        end, start = start, _line_start(data, start - size)
        more, left_out = _shown(data[start:end])
        # What was wrapped may lie on both sides of where this look began.
        lines = last_frames(join_wrapped([*more, *lines]))
        probes, size = probes + left_out, size * _GROWTH
    return lines, probes, start


def errors_in(data: bytes, end: int) -> list[LogLine]:
    """The errors in `data[:end]` with what belongs to each, oldest first; of those that differ in
    numbers only the newest. Far up, the worst only: what a person would want to know still."""
    found: dict[bytes, tuple[int, int]] = {}
    for signs, least in ((_WORST, 0), (_SIGNS, max(0, end - _NEAR))):
        for sign in signs:
            for hit in _hits(data, sign, least, end):
                start = _error_start(data, hit)
                stop, kind = _block(data, start, end)
                found.setdefault(kind, (start, stop))
    lines: list[LogLine] = []
    for start, stop in _merged(found.values()):
        lines += _shown(_without_middle(data[start:stop]))[0]
        if stop < end:
            lines.append(_APART)
    return lines


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """In order; those that touch each other as one."""
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            start, before = merged.pop()
            stop = max(stop, before)
        merged.append((start, stop))
    return merged


def _hits(data: bytes, sign: bytes, least: int, end: int) -> Iterator[int]:
    """Where it stands, the last first."""
    for _ in range(_MOST_HITS):
        if (end := data.rfind(sign, least, end)) < 0:
            return
        yield end


def traceback_in(data: bytes) -> list[LogLine]:
    """The last traceback in `data` with the line above it, and the errors after it."""
    hit = data.rfind(_TRACEBACK)
    if hit < 0:
        return []
    above = _error_start(data, _error_start(data, hit) - 1)
    return errors_in(data[above:], len(data))


def _shown(data: bytes) -> tuple[list[LogLine], int]:
    data = data.translate(None, _CONTROLS)
    usual = 0
    if b'HTTP/1.1" 200 OK' in data:
        data, usual = _USUAL_PROBE.subn(b"", data)
    if data.count(b"\r") > _MANY_FRAMES:
        data = b"".join(_without_old_frames(data))
    lines, probes = without_probes(split_lines(data.decode("utf-8", "replace")))
    return lines, probes + usual


def _without_old_frames(data: bytes) -> Iterator[bytes]:
    """What was drawn over by a frame of the same bar is left out. A bar is told by its letters, and
    by what stands before its percentage; one that says error is no bar."""
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
    """Where the line begins in which `at` lies; a frame of a bar counts as one only where there is
    nothing else, so that no `\r\n` is torn apart."""
    if at <= 0:
        return 0
    start = data.rfind(b"\n", 0, at)
    if start < max(0, at - _LONGEST_RUN):
        start = data.rfind(b"\r", 0, at)
    return start + 1


def _error_start(data: bytes, at: int) -> int:
    """The same for what is glued on to a bar as well, which is a line of its own."""
    at = max(0, at)
    least = max(0, at - _LINE_LIMIT)
    start = data.rfind(b"\n", least, at)
    return max(start, data.rfind(b"\r", max(start, least), at), least - 1) + 1


def _block(data: bytes, start: int, end: int) -> tuple[int, bytes]:
    """Where the error ends that begins at `start`, by what is indented below it; and what it says,
    without numbers."""
    head = _LINE.match(data, start, end)
    assert head is not None
    text = head.group()
    deeper = _deeper(len(text) - len(text.lstrip(b" "))).match(data, head.end(), end)
    assert deeper is not None
    stop = deeper.end()
    if _TRACEBACK in text and (own := _LINE.match(data, stop, end)) is not None:
        stop = own.end()  # the exception's own line
    body = data[max(start, stop - 2 * _KIND) : stop].rstrip()
    last = body[_error_start(body, len(body)) :][:_KIND]
    kind = b"%s\n%s" % (text[:_KIND].strip(), last)
    return stop, kind.translate(None, _DIGITS)


@cache
def _deeper(depth: int) -> re.Pattern[bytes]:
    return re.compile(rb"(?: {%d}[^\r\n]*[\r\n]*)*+" % (depth + 1))


def _without_middle(block: bytes) -> bytes:
    """Of a traceback without end, the head and the innermost frames."""
    if len(block) <= _HEAD + _INNERMOST:
        return block
    return block[:_HEAD] + b"\n" + block[_line_start(block, len(block) - _INNERMOST) :]

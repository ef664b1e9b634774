"""Find the lines of a WebUI's output that report errors, and choose the ten that a person should
see. Pure.

Text in, values out: the tail is captured elsewhere, and free of prompts before it comes here.

Lines that differ only in their numbers are shown as one with a count: a flood is not evidence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from sdwatch.policy.failure.tail_marks import (
    ALIKE,
    PINNED,
    alike,
    is_heading,
    is_placeholder,
)

MOST_ALIKE = 3
"""So many lines alike may stand below each other."""

_MARKS = " \t^~"
"""Python marks with these, below a line of code, what in it failed."""
_NO_DIGITS = str.maketrans("", "", "0123456789")


def as_one(lines: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield each long run of lines that differ only in numbers as its last line, with its place and
    how many they are; all others as they are. What is indented belongs to a line above it, and
    stays."""
    for _, run in groupby(range(len(lines)), key=lambda at: _kind(lines[at], at)):
        places = list(run)
        total = sum(_count(lines[at]) for at in places)
        if total > MOST_ALIKE:
            yield places[-1], with_count(plain(lines[places[-1]]), total)
        else:
            yield from ((at, lines[at]) for at in places)


def with_count(line: str, count: int) -> str:
    """Return a line that stands for so many."""
    return f"{line}{alike(count)}"


def plain(line: str) -> str:
    """Return the line without the count of those for which it stands."""
    return ALIKE.sub("", line)


def without_numbers(line: str) -> str:
    """Return what lines that differ only in numbers have in common."""
    return plain(line).translate(_NO_DIGITS)


def _count(line: str) -> int:
    found = ALIKE.search(line)
    return int(found[1]) if found else 1


def _kind(line: str, at: int) -> str | int:
    said = without_numbers(line)
    return said if said.strip() and not said[0].isspace() else at


MATTER = 10
_LONGEST_SHOWN = 300
_BEFORE = 3  # lines above an error: what the WebUI was at
_FRAME = 'File "'
_MESSAGE = 6  # lines of an error that stands above its traceback
FRAME_SIGN = "❱"
"""The mark of the line of code that failed, in a traceback of SD.Next."""
_DRAWN = re.compile(r"\s*(?:[╭│╰├❱]|\d+ │)|[^\s:][^:]*:\d+ in \S+\s*$")
_DRAWN_FRAME = re.compile(r"(?:\s*│\s+)?[^\s:][^:]*:\d+ in \S+")
_STREAM = re.compile(r"=====? \S.*=====")

_FATAL = "Fatal Python error"
_STACK = "(most recent call first):"
TRACEBACK = "Traceback (most recent call last)"
_ERROR = re.compile(
    r"\b(?:ERROR|CRITICAL|FATAL)\b|^\s*\*\*\* |^\s*[│╭╰❱]|Traceback \(most recent call last\)"
    r"|^\s*(?:\w+\.)*\w*(?:Error|Exception|Interrupt|Exit)\b(?::|\s*$)"
    r"|^\s*(?:During handling of|The above exception was)"
    r"|^Error (?:running|executing callback|calling|loading)\b"
    r"|Segmentation fault|\bKilled\b|[Oo]ut of memory|CUDA error|cuDNN error|terminate called"
    r"|Fatal Python error|core dumped|HTTP/[\d.]+\" 5\d\d\b"
)
WORST_SIGNS = (
    *(TRACEBACK, FRAME_SIGN),
    *("CUDA error", "cuDNN error", "ut of memory", "Fatal Python error"),
    *("Segmentation fault", "Killed", "core dumped", "terminate called"),
)
ERROR_SIGNS = (
    *("ERROR", "CRITICAL", "FATAL", "*** ", "│", "╭", "╰", 'HTTP/1.1" 5'),
    *("Error", "Exception", "Interrupt", "Exit", "During handling of", "The above exception"),
)
"""No line is an error without one of these or of the worst: cheap to look for in a large log."""


@dataclass(frozen=True)
class ErrorBlock:
    """Lines [start, end) that belong to one error or traceback."""

    start: int
    end: int
    traceback: bool


def is_error(text: str) -> bool:
    """Return whether a line says error, or starts or ends a traceback."""
    return _ERROR.search(text) is not None


def error_blocks(lines: Sequence[str]) -> list[ErrorBlock]:
    """Return errors and tracebacks in order: a line that says error, and what is indented below it;
    a traceback with the error right above it, which is its message."""
    blocks: list[ErrorBlock] = []
    at = 0
    while at < len(lines):
        if not is_error(lines[at]):
            at += 1
            continue
        least = blocks[-1].end if blocks else 0
        block = _drawn(lines, at, least) if _DRAWN.match(lines[at]) else _indented(lines, at)
        at = block.end
        if block.traceback and blocks and _is_message(blocks[-1], block):
            block = replace(block, start=blocks.pop().start)
        blocks.append(block)
    return blocks


def _is_message(above: ErrorBlock, block: ErrorBlock) -> bool:
    is_next = above.end == block.start and above.end - above.start <= _MESSAGE
    return is_next and not above.traceback


def _indented(lines: Sequence[str], at: int) -> ErrorBlock:
    end = _block_end(lines, at)
    return ErrorBlock(at, end, any(TRACEBACK in line for line in lines[at:end]))


def _drawn(lines: Sequence[str], at: int, least: int) -> ErrorBlock:
    """Return a traceback between lines that are drawn, and the exception's own line."""
    start, end = at, at + 1
    while start > least and _DRAWN.match(lines[start - 1]):
        start -= 1
    while end < len(lines) and _DRAWN.match(lines[end]):
        end += 1
    is_traceback = any(TRACEBACK in line or FRAME_SIGN in line for line in lines[start:end])
    own = is_traceback and end < len(lines) and is_error(lines[end])
    return ErrorBlock(start, end + own, is_traceback)


OWN_ROUTES = (
    r"/sdapi/v1/(?:progress|sd-models|memory|status|options|cmd-flags|samplers|schedulers|upscalers"
    r"|latent-upscale-modes|scripts|script-info|prompt-styles|loras|embeddings|sd-vae|sd-modules"
    r"|version|checkpoint)"
)
"""What sdwatch asks a WebUI, as a regular expression."""

_OWN_PATHS = rf"(?:/openapi\.json|{OWN_ROUTES})"
_OWN_FAILURE = re.compile(
    rf"\bAPI error: (?:GET|HEAD): (?:https?://[^/\s]+)?{_OWN_PATHS}(?![\w/-])"
    rf"|\bAPI error: POST: (?:https?://[^/\s]+)?/sdapi/v1/extra-single-image\b.*ResProcessImage"
    rf'|"(?:GET|HEAD) {_OWN_PATHS}(?:\?\S*)? HTTP/[\d.]+" 5\d\d\b'
)
_FOLLOWS = re.compile(r"\bERROR\b[ |]+HTTP API: |ERROR: +Exception in ASGI application")


def without_own_failures(lines: Sequence[str]) -> list[str]:
    """Return the lines without what sdwatch's own questions have caused: a WebUI that answers one
    of them with an exception (SD.Next: GET /schedulers, and any upscaling of its version 058a7f0c;
    Forge: GET /cmd-flags) prints a traceback, which says nothing of a call."""
    if not any(_OWN_FAILURE.search(line) for line in lines if _may_be_own(line)):
        return list(lines)
    kept: list[str] = []
    at = 0
    while at < len(lines):
        if _may_be_own(lines[at]) and _OWN_FAILURE.search(lines[at]):
            at = _end_of_own(lines, at + 1)
        else:
            kept.append(lines[at])
            at += 1
    return kept


def _may_be_own(line: str) -> bool:
    return "API error: " in line or 'HTTP/1.1" 5' in line


def _end_of_own(lines: Sequence[str], at: int) -> int:
    """Return the index behind what belongs to such a line: what is indented, the heading of a
    traceback, and the traceback with the exception's own lines."""
    while at < len(lines):
        line = lines[at]
        if line.startswith((" ", TRACEBACK)) or _DRAWN.match(line) or _FOLLOWS.search(line):
            at += 1
        elif _DRAWN.match(lines[at - 1]) or lines[at - 1].startswith(" "):
            is_own = _EXCEPTION.match(line) is not None
            at += is_own
            if not is_own:
                break
        else:
            break
    return at


_EXCEPTION = re.compile(r"(?:\w+\.)*[A-Z]\w*(?:: |\s*$)")


def lines_that_matter(tail: str) -> list[str]:
    """Return the few lines of a tail that say most, in their order: of the last traceback the
    exception, its innermost frame and what stood before it; else the last error; else the last
    lines.

    What a flood pushed out may be old: then half of them are of the last lines. Of lines that
    differ in numbers only there is one.
    """
    lines, pinned = _read("\n".join(without_own_failures(tail.splitlines())))
    blocks = error_blocks(lines)
    fresh = [block for block in blocks if block.end > pinned]
    if not blocks:
        chosen = set()
    elif not fresh or (_most_telling(blocks).traceback and not _most_telling(fresh).traceback):
        chosen = _chosen(lines, _most_telling(blocks), MATTER // 2)
    else:
        chosen = _chosen(lines, _most_telling(fresh), MATTER)
    seen = {without_numbers(lines[at]) for at in chosen}
    last = []
    for at in range(len(lines) - 1, pinned - 1, -1):
        if at not in chosen and without_numbers(lines[at]) not in seen:
            seen.add(without_numbers(lines[at]))
            last.append(at)
    chosen |= set(_first(last, MATTER - len(chosen)))
    return [_cut(lines[at]) for at in sorted(chosen)]


def _read(tail: str) -> tuple[list[str], int]:
    """Return the lines without headings and placeholders, and how many of them are from further
    up."""
    lines: list[str] = []
    pinned, is_pinned = 0, False
    for line in tail.splitlines():
        if line == PINNED:
            is_pinned = True
        elif _STREAM.fullmatch(line) or is_heading(line):
            is_pinned = False
        elif line.strip(_MARKS) and not is_placeholder(line):
            # Pinned lines go to the front, so that one number marks them.
            lines.insert(pinned, line) if is_pinned else lines.append(line)
            pinned += is_pinned
    above = [line for _, line in as_one(lines[:pinned])]
    return above + [line for _, line in as_one(lines[pinned:])], len(above)


def _most_telling(blocks: Iterable[ErrorBlock]) -> ErrorBlock:
    return max(blocks, key=lambda block: (block.traceback, block.start))


def _of_block(lines: Sequence[str], block: ErrorBlock) -> Iterator[int]:
    """Yield the lines of a block and those before it, the most telling first."""
    if not block.traceback:
        yield from range(block.start, block.end)
        yield from range(block.start - 1, max(-1, block.start - 1 - _BEFORE), -1)
        return
    if any(FRAME_SIGN in lines[at] for at in range(block.start, block.end)):
        yield from _of_drawn(lines, block)
        return
    end = block.end
    while end - 1 > block.start and not is_error(lines[end - 1]):
        end -= 1
    yield from range(end - 1, max(block.start, end - 4), -1)  # exception, its frame, its code
    yield block.start
    yield from range(block.start - 1, max(-1, block.start - 1 - _BEFORE), -1)
    yield from range(end - 4, block.start, -1)


def _of_drawn(lines: Sequence[str], block: ErrorBlock) -> Iterator[int]:
    """Yield the exception, the line of code that failed and where it stands, the message above."""
    inside = range(block.end - 1, block.start - 1, -1)
    yield block.end - 1
    failed = next(at for at in inside if FRAME_SIGN in lines[at])
    yield failed
    yield from _first(
        (at for at in range(failed, block.start, -1) if _DRAWN_FRAME.match(lines[at])), 1
    )
    yield block.start
    yield from range(block.start - 1, max(-1, block.start - 1 - _BEFORE), -1)


def _chosen(lines: Sequence[str], block: ErrorBlock, most: int) -> set[int]:
    """Return the most telling lines; no code without the line that says where it stands."""
    chosen = set(_first(_of_block(lines, block), most))
    first = min((at for at in chosen if block.start < at < block.end), default=0)
    if block.traceback and first - 1 not in chosen and lines[first].startswith("    "):
        chosen -= {first} if _FRAME not in lines[first] else set()
    return chosen


def _first(found: Iterable[int], most: int) -> list[int]:
    kept: list[int] = []
    for at in found:
        if len(kept) >= most:
            break
        if at >= 0 and at not in kept:
            kept.append(at)
    return kept


def without_headings(tail: str) -> list[str]:
    """Return what the WebUI printed of a tail: without headings and placeholders."""
    return _read(tail)[0]


def _cut(line: str) -> str:
    """Return a line of bounded length. Its start says what it is, its end what happened: SD.Next
    names an exception behind a long dict of what it was called with."""
    if len(line) <= _LONGEST_SHOWN:
        return line
    third = _LONGEST_SHOWN // 3
    return f"{line[:third]} … {line[-2 * third :]}"


def uncut(line: str) -> str:
    """Return a line that was shown, or as much of its start as was."""
    return line[: _LONGEST_SHOWN // 3] if len(line) > _LONGEST_SHOWN else line


def _block_end(lines: Sequence[str], start: int) -> int:
    depth = _indent(lines[start])
    end = start + 1
    if _FATAL in lines[start] and any(_STACK in line for line in lines[end : end + 1]):
        end += 1  # "Stack" or "Current thread 0x…", at the margin, with the frames below it
    while end < len(lines) and _indent(lines[end]) > depth:
        end += 1
    has_last_line = TRACEBACK in lines[start] and end > start + 1
    return min(end + has_last_line, len(lines))  # the exception's own line ends a traceback


def _indent(text: str) -> int:
    return len(text) - len(text.lstrip(" "))

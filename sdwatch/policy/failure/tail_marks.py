"""The lines with which sdwatch marks a tail of a WebUI's output, and which it finds there again:
for webui/log/tail_capture.py, which writes tails, and error_lines.py, which reads them. Pure."""

from __future__ import annotations

import re

PINNED = "(errors from further up in this log:)"
"""Stands in a tail above the errors that a flood pushed out of its last lines."""

_NO_OUTPUT = "(no output: "


def no_output(why: str) -> str:
    """Return what stands in place of output that there is not."""
    return f"{_NO_OUTPUT}{why})"


def last_of(lines: str) -> str:
    """Return the heading of the last lines, below the pinned ones. `lines`: such as `30 lines`."""
    return f"(the last {lines}:)"


def probes_left_out(number: int) -> str:
    """Return the note about access lines of our own probes that are not shown."""
    return f"({number} access lines of health probes left out)"


ALIKE = re.compile(r"  \((\d+) such lines, but for numbers\)$")


def alike(count: int) -> str:
    """Return what follows a line that stands for `count` lines that differ only in numbers."""
    return f"  ({count} such lines, but for numbers)"


_HEADING = re.compile(r"\((?:the last \d+ lines?:|\d+ access lines of .*)\)")


def is_heading(line: str) -> bool:
    """Return whether a line starts the last lines of a tail, or stands above them."""
    return _HEADING.fullmatch(line) is not None


def is_placeholder(line: str) -> bool:
    """Return whether a line stands in place of output."""
    return line.startswith(_NO_OUTPUT)

"""Select the lines of a WebUI's output that can explain a failure: drop noise and, for a failed
start, everything that the start survived. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from sdwatch.policy.failure.error_lines import TRACEBACK

_SIGNS = (
    # Forge and AUTOMATIC1111 without a GPU, at every start (recorded with both)
    "', memory monitor disabled",
    # PyTorch, when it is asked whether there is a GPU
    "UserWarning: CUDA initialization: ",
    # SD.Next without a GPU, in lines of each start and each call (recorded with 058a7f0c)
    "'gpu': {",
    # AUTOMATIC1111, Forge and SD.Next beside an error: all that the job asked for, its prompt first
    "Arguments: (",
    "Arguments: args=",
)
_DEBUG = re.compile(r"\d\d:\d\d:\d\d-\d++ ++DEBUG\b|[^|]*+\|.*\| DEBUG ++\|")
"""A line of SD.Next that says nothing else; of its output, or of its own sdnext.log."""

_CONTINUED = " " * 20
"""SD.Next wraps a message: its further lines are indented so far at least."""

_REPORT = "*** "
"""AUTOMATIC1111 and Forge put it before an error that they caught, as in an extension."""

_END = 40
"""So many lines before a start's end, or before its last traceback, can say what went wrong."""

_AFTER = 6
"""With more lines than this behind its message a traceback was survived."""

_CHAINED = ("During handling of the above", "The above exception was the direct")
_DETAILS = ("Command:", "Error code:", "stdout:", "stderr:")
"""What launch_utils.py adds to the message of a command that failed: the whole output of it."""


def without_noise(lines: Iterable[str]) -> list[str]:
    """Return `lines` with an empty one in place of each that a healthy WebUI prints although it
    names an error."""
    kept, noisy = [], False
    for line in lines:
        continues = noisy and line.startswith(_CONTINUED)
        noisy = continues or _is_noise(line)
        kept.append("" if noisy else line)
    return kept


def _is_noise(line: str) -> bool:
    # Plain text first: a regular expression for each of 2,000 lines would cost 40 ms.
    if any(sign in line for sign in _SIGNS):
        return True
    return " DEBUG " in line and _DEBUG.match(line) is not None


def decisive(lines: Sequence[str]) -> list[str]:
    """Return the lines at the end of a start's output that can say why it failed.

    `lines` are those of one stream, oldest first. Starts survive many errors: those that an
    extension's loader reports, and a traceback after which the start continued.
    """
    lines = _without_reports(without_noise(lines))
    starts = [at for at, line in enumerate(lines) if line.startswith(TRACEBACK)]
    if not starts:
        return lines[-_END:]
    ends = [_message_of(lines, start) for start in starts]
    behind = lines[ends[-1] + 1 :]
    if not _has(behind[:4], _DETAILS) and sum(map(bool, map(str.strip, behind))) > _AFTER:
        return behind[-_END:]
    first = len(starts) - 1
    while first and _has(lines[ends[first - 1] : starts[first]], _CHAINED):
        first -= 1
    earlier = ends[first - 1] + 1 if first else 0
    return lines[max(earlier, starts[first] - _END) :]


def _without_reports(lines: Iterable[str]) -> list[str]:
    kept, in_report = [], False
    for line in lines:
        in_report = line.startswith(_REPORT) or (in_report and line.startswith("    "))
        if not in_report:
            kept.append(line)
    return kept


def _message_of(lines: Sequence[str], start: int) -> int:
    """Return the line with the exception of the traceback that starts at `start`."""
    at = start + 1
    while at < len(lines) - 1 and lines[at].startswith(" "):
        at += 1
    return min(at, len(lines) - 1)


def _has(lines: Sequence[str], starts: tuple[str, ...]) -> bool:
    return any(line.startswith(starts) for line in lines)

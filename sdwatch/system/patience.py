"""Try again with files that another program holds for a moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from sdwatch import system

T = TypeVar("T")

HELD_FOR = 2.0
"""Seconds for which an effect is tried again on a file that another program holds. Virus scanners,
indexers and Explorer open new files on Windows; nearly always they let go within one."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.1


def patiently(
    effect: Callable[[], T],
    passes: Callable[[Exception], bool] | None = None,
    limit: float | None = None,
) -> T:
    """Return what `effect` returns; try it again while it fails for a reason that passes by itself.

    `passes` says which do; by default only that another program holds the file for a moment, which
    happens on Windows alone. After `limit` seconds on the same file, by default HELD_FOR, the last
    error is raised: OSError, or ValueError where `passes` is about that."""
    first, pause, until = None, _FIRST_PAUSE, 0.0
    while True:
        try:
            return effect()
        except (OSError, ValueError) as error:
            if not (passes or is_held_now)(error):
                raise
            now, held = time.monotonic(), str(getattr(error, "filename", ""))
            if held != first:  # of a folder with many files the scanner holds one after the other
                limit = HELD_FOR if limit is None else limit
                first, pause, until = held, _FIRST_PAUSE, now + limit
            if now >= until:
                raise
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def is_held_now(error: Exception) -> bool:
    return isinstance(error, OSError) and system.is_held(error)

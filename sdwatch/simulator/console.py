"""How the simulator prints: lines and progress bars, flushed at once.

Measured with Forge dfdcbab6: one stream of both outputs, bars on stderr with `\\r` and no `\\n`,
so that the next line is glued on.
"""

from __future__ import annotations

import io
import os
import sys
import time
from typing import TextIO

_BLOCKS = " ▏▎▍▌▋▊▉█"
_BAR_PAUSE_S = 0.1


def use_utf8() -> None:
    """Make both streams take progress bars, whatever the locale or the code page is. Without a
    stream (pythonw, `>&-`) its output is lost."""
    sys.stdout, sys.stderr = (
        stream or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        for stream in (sys.stdout, sys.stderr)
    )
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace", newline="\n")


def out(line: str) -> None:
    """Print one line on stdout."""
    write(sys.stdout, line + "\n")


def err(line: str) -> None:
    """Print one line on stderr."""
    write(sys.stderr, line + "\n")


def write(stream: TextIO, text: str) -> None:
    """Write a text at once, so that threads do not mix lines. A reader that went away is not an
    error."""
    try:
        stream.write(text)
        stream.flush()
    except OSError:
        pass


class Bar:
    """A tqdm bar on stderr, drawn at most ten times a second, and at its start and end."""

    def __init__(self, total: int, label: str = "") -> None:
        self.total = total
        self._label = label
        self._begin = time.monotonic()
        self._drawn = 0.0
        self.show(0)

    def show(self, done: int) -> None:
        """Redraw at `done` of the total."""
        now = time.monotonic()
        if done not in (0, self.total) and now - self._drawn < _BAR_PAUSE_S:
            return
        self._drawn = now
        write(sys.stderr, self.frame(done, now - self._begin))

    def close(self) -> None:
        """End the line, as tqdm does when a job is over."""
        write(sys.stderr, "\n")

    def frame(self, done: int, elapsed: float) -> str:
        """Return what one drawing of it writes. `elapsed` in seconds."""
        share = done / self.total if self.total else 1.0
        eighths = int(share * 80)
        bar = ("█" * (eighths // 8) + _BLOCKS[eighths % 8])[:10].ljust(10)
        start = f"\r{self._label}{share:4.0%}|{bar}| {done}/{self.total} "
        if not done or not elapsed:
            return start + "[00:00<?, ?it/s]"
        left = elapsed / done * (self.total - done)
        return start + f"[{minutes(elapsed)}<{minutes(left)}, {rate(done, elapsed)}]"


def rate(done: int, elapsed: float) -> str:
    """Return a speed as tqdm writes it."""
    speed = done / elapsed
    return f"{speed:5.2f}it/s" if speed >= 1 else f"{1 / speed:5.2f}s/it"


def minutes(seconds: float) -> str:
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"

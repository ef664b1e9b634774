"""What the simulator prints, and how: log lines, progress bars, tracebacks, flushed at once.

Measured with Forge dfdcbab6: one stream of both outputs, bars on stderr with `\\r` and no `\\n`,
so that the next line is glued on; an access line for each request.
"""

from __future__ import annotations

import io
import sys
import time
from typing import TextIO

_BLOCKS = " ▏▎▍▌▋▊▉█"
_BAR_PAUSE_S = 0.1


def use_utf8() -> None:
    """Make both streams take progress bars, whatever the locale or the code page is."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace", newline="\n")


def out(line: str) -> None:
    """One line on stdout."""
    _write(sys.stdout, line + "\n")


def err(line: str) -> None:
    """One line on stderr."""
    _write(sys.stderr, line + "\n")


def traceback(last_line: str, *, raised_in: str = "modules/processing.py") -> None:
    """The traceback that a WebUI prints for a 500; ends with `last_line` ("Class: message")."""
    err(
        "ERROR:    Exception in ASGI application\n"
        "Traceback (most recent call last):\n"
        '  File "<site-packages>/uvicorn/protocols/http/h11_impl.py", line 411, in run_asgi\n'
        "    result = await app(\n"
        '  File "<site-packages>/starlette/concurrency.py", line 41, in run_in_threadpool\n'
        "    return await anyio.to_thread.run_sync(func, *args)\n"
        f'  File "<webui>/{raised_in}", line 1, in simulated\n'
        "    raise\n"
        f"{last_line}"
    )


def _write(stream: TextIO, text: str) -> None:
    """In one write, so that threads do not mix lines. A reader that went away is no error."""
    try:
        stream.write(text)
        stream.flush()
    except OSError:
        pass


class Bar:
    """A tqdm bar on stderr, drawn at most ten times a second, and at its start and end."""

    def __init__(self, total: int, label: str = "") -> None:
        self._total = total
        self._label = label
        self._begin = time.monotonic()
        self._drawn = 0.0
        self.show(0)

    def show(self, done: int) -> None:
        """Redraw at `done` of the total."""
        now = time.monotonic()
        if done not in (0, self._total) and now - self._drawn < _BAR_PAUSE_S:
            return
        self._drawn = now
        _write(sys.stderr, "\r" + self._label + self._text(done, now - self._begin))

    def close(self) -> None:
        """End the line, as tqdm does when a job is over."""
        _write(sys.stderr, "\n")

    def _text(self, done: int, elapsed: float) -> str:
        share = done / self._total if self._total else 1.0
        eighths = int(share * 80)
        bar = ("█" * (eighths // 8) + _BLOCKS[eighths % 8])[:10].ljust(10)
        if not done or not elapsed:
            return f"{share:4.0%}|{bar}| {done}/{self._total} [00:00<?, ?it/s]"
        left = elapsed / done * (self._total - done)
        rate = done / elapsed
        speed = f"{rate:5.2f}it/s" if rate >= 1 else f"{1 / rate:5.2f}s/it"
        times = f"[{_minutes(elapsed)}<{_minutes(left)}, {speed}]"
        return f"{share:4.0%}|{bar}| {done}/{self._total} {times}"


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"

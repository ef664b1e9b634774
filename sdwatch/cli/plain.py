"""Print a monitor's events as plain lines, for logs, pipes and services."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol

from sdwatch.policy.report.notice import Notice, Topic


def say(line: str) -> None:
    """Print a line on stdout; the command continues if nobody reads it."""
    with suppress(OSError):
        print(line, flush=True)


class Show(Protocol):
    """What people see while a monitor works: the plain lines, or the live display."""

    def tell(self, notice: Notice) -> None: ...
    def __enter__(self) -> Any: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class PlainShow:
    """One line for each event on stdout, warnings on stderr."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def tell(self, notice: Notice) -> None:
        """Print an event; a warning is something that sdwatch deals with by itself."""
        if notice.topic is Topic.WARNING:
            self._print(f"warning: {notice}", sys.stderr)
        else:
            self._print(str(notice), sys.stdout)

    def _print(self, line: str, stream: Any) -> None:
        with self._lock:
            print(time.strftime("%Y-%m-%d %H:%M:%S"), line, file=stream, flush=True)

    def __enter__(self) -> PlainShow:
        return self

    def __exit__(self, *_: object) -> None:
        pass

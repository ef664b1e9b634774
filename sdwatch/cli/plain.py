"""A monitor's news as plain lines, for logs, pipes and services."""

from __future__ import annotations

import os
import sys
import threading
import time
from types import TracebackType
from typing import Any, Protocol


def open_missing_streams() -> None:
    """Give this process the standard streams that it was started without (pythonw, a Windows
    service, `>&-`). What is printed is lost then, and no command fails because of it."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            # It lasts as long as the process, as a stream from outside would.
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


class Show(Protocol):
    """What people see while a monitor works: the plain lines, or the live display."""

    def tell(self, line: str) -> None: ...
    def warn(self, line: str) -> None: ...
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

    def tell(self, line: str) -> None:
        """Something happened."""
        self._print(line, sys.stdout)

    def warn(self, line: str) -> None:
        """Something went wrong; sdwatch deals with it."""
        self._print(f"warning: {line}", sys.stderr)

    def _print(self, line: str, stream: Any) -> None:
        with self._lock:
            print(time.strftime("%Y-%m-%d %H:%M:%S"), line, file=stream, flush=True)

    def __enter__(self) -> PlainShow:
        return self

    def __exit__(self, *_: object) -> None:
        pass

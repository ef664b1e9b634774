"""Print a monitor's events as plain lines, for logs, pipes and services."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import AbstractContextManager, suppress
from typing import Any

from sdwatch.policy.report.notice import Notice, Topic


def say(line: str) -> None:
    """Print a line on stdout; the command continues if nobody reads it."""
    with suppress(OSError):
        print(line, flush=True)


class PlainShow(AbstractContextManager["PlainShow"]):
    """Prints one line for each event on stdout, warnings on stderr."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def notify(self, notice: Notice) -> None:
        """Print an event; a warning is something that sdwatch deals with by itself."""
        if notice.topic is Topic.WARNING:
            self._print(f"warning: {notice}", sys.stderr)
        else:
            self._print(str(notice), sys.stdout)

    def _print(self, line: str, stream: Any) -> None:
        with self._lock:
            print(time.strftime("%Y-%m-%d %H:%M:%S"), line, file=stream, flush=True)

    def __exit__(self, *_: object) -> None:
        """Do nothing: each line is whole."""

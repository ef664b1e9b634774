"""Read a log that may be on a share that hangs: on a thread of its own, and for a few seconds."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

READ_LIMIT = 5.0
"""Seconds for one read: enough for the last megabytes of a log over Wi-Fi. Whoever waits for it
keeps a call or a retry waiting."""


class LogReader:
    """Reads the logs of one WebUI. `may_hang`: they may be on a share; local files are read on the
    thread that asks. While a read hangs, no other is started."""

    def __init__(self, name: str, *, may_hang: bool) -> None:
        self._may_hang = may_hang
        self._wanted: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]
        self._wanted = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"log-{name}", daemon=True)
        self._starts = threading.Lock()
        self._late: Future[Any] | None = None

    def read(self, act: Callable[[], T], otherwise: T) -> T:
        """Return what `act` reads; `otherwise` where that takes longer than READ_LIMIT."""
        if not self._may_hang:
            return act()
        if self._late is not None and not self._late.done():
            return otherwise
        with self._starts:  # two threads may be the first that read
            if self._thread.ident is None:
                self._thread.start()
        read: Future[T] = Future()
        self._wanted.put((read, act))
        try:
            return read.result(READ_LIMIT)
        except TimeoutError:
            self._late = read
            return otherwise

    def close(self) -> None:
        """End the thread, once what hangs has ended."""
        self._wanted.put(None)

    def _run(self) -> None:
        while (wanted := self._wanted.get()) is not None:
            read, act = wanted
            try:
                read.set_result(act())
            except Exception as error:  # noqa: BLE001 - a thread's outer edge: for who has asked
                read.set_exception(error)


LOCAL = LogReader("local", may_hang=False)
"""For files that are never on a share."""

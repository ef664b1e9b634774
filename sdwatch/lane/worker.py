"""A long-lived thread that does one thing after the other."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping

from sdwatch.system.log_events import LogEvent, about, bound

log = logging.getLogger("sdwatch.lane")

Act = Callable[[], None]
Failed = Callable[[Exception], None]


_ENDED = RuntimeError("the thread that should have done it has ended")


class Worker:
    """The thread starts with the first thing to do, and ends with `close`. `facts`: what its lines
    in the log are about."""

    def __init__(self, name: str, facts: Mapping[str, object]) -> None:
        self._facts = facts
        self._queue: queue.SimpleQueue[tuple[Act, Failed] | None] = queue.SimpleQueue()
        self._is_dead = False
        self._starts = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def do(self, act: Act, failed: Failed) -> None:
        """Do this once all before is done. `failed`: gets an internal error of it, so that whoever
        waits for it hears of that."""
        with self._starts:  # two threads may have the first thing to do
            if self._thread.ident is None:
                self._thread.start()
        self._queue.put((act, failed))
        if self._is_dead:
            self._fail_all()

    def close(self) -> None:
        """End once all is done."""
        self._queue.put(None)

    def _run(self) -> None:
        with bound(**self._facts):
            self._work()

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            act, failed = task
            try:
                act()
            except Exception as error:
                # The thread's outer edge: without an answer the lane would wait forever.
                log.exception(
                    "internal error of the lane; it continues", extra=about(LogEvent.INTERNAL_ERROR)
                )
                failed(error)
            except BaseException:
                self._is_dead = True
                failed(_ENDED)
                self._fail_all()
                raise

    def _fail_all(self) -> None:
        """Answer what nobody does any more."""
        while True:
            try:
                task = self._queue.get_nowait()
            except queue.Empty:
                return
            if task is not None:
                task[1](_ENDED)

"""The long-lived threads of a lane: each does one thing after the other."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping

from sdwatch.system.log_events import LogEvent, about, bound
from sdwatch.webui.http.call import Sent

log = logging.getLogger("sdwatch.lane")

Act = Callable[[], None]
Failed = Callable[[Exception], None]


_ENDED = RuntimeError("the thread that should have done it has ended")


class Worker:
    """One of them. It starts with the first thing to do, and ends with `close`. `facts`: what its
    lines in the log are about."""

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


class Poster:
    """Sends each POST, of jobs and self-tests, and looks after the settings around a call.

    One thread at a time, made by `new_worker`; another one while it may hang in a POST that was
    abandoned."""

    def __init__(self, new_worker: Callable[[], Worker]) -> None:
        self.worker = new_worker()
        self._new_worker = new_worker
        self._last_sent = Sent(0)
        self._no_interrupt = threading.Event()
        self._no_interrupt.set()
        self.was_interrupted = False
        """Whether a generation may be left of the POST before."""

    def post(self, sent: Sent, act: Act, failed: Failed = lambda _: None) -> None:
        """Have `act` send this POST. `failed`: gets an internal error."""
        worker = self.free()
        self._last_sent = sent
        worker.do(act, failed)

    def free(self) -> Worker:
        """Return the thread, which hangs in nothing that was abandoned."""
        if self._last_sent.is_under_way:
            self.let_go()
            self._last_sent = Sent(0)
        return self.worker

    def let_go(self) -> None:
        """Leave the thread alone, which may hang; a new one does what follows."""
        self.worker.close()
        self.worker = self._new_worker()

    def note_interrupt(self) -> threading.Event:
        """Note that an interrupt is under way, until the event that is returned is set."""
        self._no_interrupt = threading.Event()
        self.was_interrupted = True
        return self._no_interrupt

    def wait_for_interrupt(self) -> None:
        """Wait until none is under way: it would hit the next POST."""
        self._no_interrupt.wait()

    def close(self) -> None:
        """End once all is done."""
        self.worker.close()

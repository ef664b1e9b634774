"""The thread that sends each POST, of jobs and self-tests, and looks after the settings around a
call."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sdwatch.lane.worker import Act, Failed, Worker
from sdwatch.webui.http.call import Sent


class Poster:
    """One thread at a time, made by `new_worker`; another one while it may hang in a POST that was
    abandoned."""

    def __init__(self, new_worker: Callable[[], Worker]) -> None:
        self.worker = new_worker()
        self._new_worker = new_worker
        self._last_sent = Sent(0)
        self._no_interrupt = threading.Event()
        self._no_interrupt.set()

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
        return self._no_interrupt

    def wait_for_interrupt(self) -> None:
        """Wait until none is under way: it would hit the next POST."""
        self._no_interrupt.wait()

    def close(self) -> None:
        """End once all is done."""
        self.worker.close()

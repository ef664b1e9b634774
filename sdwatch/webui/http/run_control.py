"""How a run is given up from outside, and whether it waits for its lane."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sdwatch.errors import RunCancelledError, RunStoppedError, RunTimedOutError
from sdwatch.policy.failure.recovery import Action


class RunControl:
    """One for each run; any thread may use it. Giving up (a cancel, the job's timeout, or the
    monitor's stop) happens once and is permanent; `given_up` is an event for those who wait for
    something else. `waiting`: its call waits for its turn; `calling`: the lane serves its call;
    `decided`: what the lane does before its call is sent again, None for nothing. `time_left`:
    returns the seconds until the job's timeout, None where that is far or the run is given up."""

    def __init__(self) -> None:
        self.given_up = threading.Event()
        self.time_left: Callable[[], float | None] = _no_limit
        self.waiting = False
        self.calling = False
        self.decided: Action | None = None
        self._lock = threading.Lock()
        self._why: RunCancelledError | RunStoppedError | None = None
        self._on_given_up: Callable[[], None] = _nobody

    def cancel(self) -> None:
        """Give the run up because somebody cancelled it."""
        self._give_up(RunCancelledError("cancelled"))

    def time_out(self) -> None:
        """Give the run up because its calls took longer than its job allows."""
        self._give_up(RunTimedOutError("the timeout of the job"))

    def stop(self, why: str = "the monitor was stopped") -> None:
        """Give the run up for now: the monitor stops without more grace for calls, or the lane is
        on hold. `why`: for the journal."""
        self._give_up(RunStoppedError(why))

    def raise_if_given_up(self) -> None:
        """Raise RunCancelledError or RunStoppedError if the run was given up."""
        if self._why is not None:
            raise self._why

    @contextmanager
    def while_calling(self, on_given_up: Callable[[], None]) -> Iterator[None]:
        """Have `on_given_up` called once the run is given up, while a call of it is under way."""
        with self._lock:
            self._on_given_up = on_given_up
        if self.given_up.is_set():
            on_given_up()
        try:
            yield
        finally:
            self._on_given_up = _nobody
            self.waiting = self.calling = False
            self.decided = None

    def _give_up(self, why: RunCancelledError | RunStoppedError) -> None:
        with self._lock:
            # A cancel outranks a stop: the run must end, not resume at the next start.
            if not isinstance(self._why, RunCancelledError):
                self._why = why
            self.given_up.set()
            on_given_up = self._on_given_up
        on_given_up()


def _nobody() -> None:
    pass


def _no_limit() -> float | None:
    return None

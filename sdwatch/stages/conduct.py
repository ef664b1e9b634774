"""Keep a run to what its job says about time: its windows, its timeout, pauses between calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sdwatch import system
from sdwatch.errors import RunStoppedError, RunTimedOutError
from sdwatch.policy.job.conduct import Conduct
from sdwatch.spool.recorder import RunRecorder
from sdwatch.spool.run import Run
from sdwatch.system.clock import Clock
from sdwatch.webui.http.run_control import RunControl


class RunConduct:
    """The times of `run`. `pausing`: it waits between two calls."""

    def __init__(self, run: Run, recorder: RunRecorder, control: RunControl, clock: Clock) -> None:
        self.pausing = False
        self._run = run
        self._recorder = recorder
        self._control = control
        self._clock = clock
        self._may_wait = True  # the next attempt is the first one since its call was asked for
        self._ended_at: float | None = None  # the last call, on the monotonic clock
        recorder.before_start = self._before_start

    @property
    def _conduct(self) -> Conduct:
        return self._run.job.conduct if self._run.job else Conduct()

    def before_call(self) -> None:
        """Wait for the pause between two calls. Raises RunStoppedError outside the windows of the
        job: the run resumes in the next one; RunTimedOutError where its time is over."""
        self._may_wait = True
        self._raise_outside_window()
        self._pause()
        self._raise_outside_window()
        limit = self._conduct.timeout
        if limit is not None and self._used() >= limit:
            raise RunTimedOutError("the timeout of the job")

    @contextmanager
    def call(self) -> Iterator[None]:
        """Give the run up if its time ends during this call."""
        self._control.time_left = self._time_left
        try:
            yield
        finally:
            self._ended_at = self._clock.monotonic()

    def _time_left(self) -> float | None:
        """Return the seconds until the time is over. Only the time in which an attempt is under way
        counts: a WebUI that is down, or busy with other jobs, must not cost this one."""
        limit = self._conduct.timeout
        if limit is None or self._control.given_up.is_set():
            return None
        left = limit - self._used()
        if left > 0 and not self._recorder.is_under_way:
            return None
        return min(max(0.0, left), system.LONGEST_WAIT)

    def _used(self) -> float:
        """Return the seconds that all attempts took so far, without those that a death cut off."""
        return self._run.ledger.seconds + self._recorder.under_way

    def _pause(self) -> None:
        if self._ended_at is None or self._conduct.delay <= 0:
            return
        self.pausing = True
        try:
            left = self._ended_at + self._conduct.delay - self._clock.monotonic()
            if left > 0 and self._clock.wait(self._control.given_up, left):
                self._control.raise_if_given_up()
        finally:
            self.pausing = False

    def _before_start(self) -> None:
        """A call may have waited for its turn until its window closed. A second attempt belongs to
        a call that has started, and is made."""
        if self._may_wait:
            self._raise_outside_window()
            self._may_wait = False

    def _raise_outside_window(self) -> None:
        if self._conduct.when.waits(self._clock.wall(), self._clock.utc_offset) is not None:
            raise RunStoppedError("the window of the job is closed")

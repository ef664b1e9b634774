"""Writes to a run's folder that are retried while its disk is full or gone."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

from sdwatch.errors import RunGoneError
from sdwatch.policy.failure.lasting import LastingStates, key_of
from sdwatch.spool.run import Run
from sdwatch.system import disk
from sdwatch.system.clock import Clock
from sdwatch.system.log_events import LogEvent, about

log = logging.getLogger("sdwatch.run")

T = TypeVar("T")

STORAGE_PAUSE = 2.0  # seconds between two writes to a disk that is full or gone
_LAST_PAUSE = 0.25  # the same for the last record of a run that is given up
_LAST_LIMIT = 3.0  # seconds for which that is retried


class DiskRefusals:
    """Logs to `to` that a disk refuses something: once, then at growing intervals, and when it is
    over. `refused`, `accepted`: what the two lines start with; why, and how long it lasted,
    follows."""

    def __init__(
        self,
        clock: Clock,
        to: logging.Logger,
        refused: str,
        accepted: str,
        level: int = logging.WARNING,
    ) -> None:
        self._clock = clock
        self._log = to
        self._refused = refused
        self._accepted = accepted
        self._level = level
        self._states = LastingStates()

    def note(self, error: OSError, why: str = "") -> None:
        """Note that the disk has refused it. `why`: in words, where there are better ones."""
        words, now = why or disk.in_words(error), self._clock.monotonic()
        if line := self._states.persists("", key_of(error), words, now):
            event = about(LogEvent.DISK_REFUSES)
            self._log.log(self._level, "%s: %s", self._refused, line, extra=event)

    def are_over(self) -> None:
        """Note that the disk has accepted it."""
        if lasted := self._states.is_over("", self._clock.monotonic()):
            event = about(LogEvent.DISK_ACCEPTS)
            self._log.info("%s, after %s", self._accepted, lasted, extra=event)


class Control(Protocol):
    """How the run is given up from outside. See RunControl."""

    given_up: threading.Event

    def raise_if_given_up(self) -> None: ...


class _NeverGivenUp:
    def __init__(self) -> None:
        self.given_up = threading.Event()

    def raise_if_given_up(self) -> None:
        """Return."""


class PatientDisk:
    """The disk of one run. `refuses`: why it refuses now, or ''. `control`: None for a run that is
    not given up."""

    def __init__(self, run: Run, clock: Clock, control: Control | None = None) -> None:
        self.refuses = ""
        self._run = run
        self._clock = clock
        self._control = control or _NeverGivenUp()
        name = run.run_id
        self._refusals = DiskRefusals(
            clock,
            log,
            f"{name}: the disk refuses",
            f"{name}: the disk accepts it again",
            logging.ERROR,
        )

    def insist(self, effect: Callable[[], T]) -> T:
        """Return what `effect` returns, and retry it while the disk refuses, so that no finished
        generation is lost, and no failure reads as the monitor's own death. Raises RunGoneError,
        and RunCancelledError or RunStoppedError once the run is given up."""
        while True:
            try:
                return self.retry(effect, math.inf)
            except OSError as error:
                if self._run.is_gone:
                    raise RunGoneError(str(self._run.folder)) from error
                self.give_up("the disk did not accept the result")
                self._control.raise_if_given_up()

    def retry(self, effect: Callable[[], T], seconds: float) -> T:
        """Return what `effect` returns, and retry it for so many seconds while the disk refuses.
        Raises OSError after that, and at once if the run is gone or given up."""
        deadline = self._clock.monotonic() + seconds
        while True:
            try:
                done = effect()
            except OSError as error:
                if self._run.is_gone:
                    raise
                self._run.close()  # with nothing open the disk can be unmounted and repaired
                self.refuses = why = disk.refusal(error, self._run.folder)
                self._refusals.note(error, f"{why}; sdwatch keeps retrying")
                left = deadline - self._clock.monotonic()
                pause = min(STORAGE_PAUSE, left)
                if left <= 0 or self._clock.wait(self._control.given_up, pause):
                    raise
            else:
                self.refuses = ""
                self._refusals.are_over()
                return done

    def give_up(self, why: str) -> None:
        """Record that the call under way, if there is one, was given up, so that it does not count
        as cut short by the monitor's own death. Nobody waits long for a run that ends, so a disk
        that refuses is retried for a moment only. Never raises OSError."""
        deadline, pause = self._clock.monotonic() + _LAST_LIMIT, threading.Event()
        while True:
            try:
                self._run.give_up_calls(why)
            except OSError as error:
                if self._run.is_gone or self._clock.monotonic() >= deadline:
                    log.warning(
                        "%s: that its call was given up cannot be recorded: %s",
                        self._run.run_id,
                        disk.in_words(error),
                        extra=about(LogEvent.DISK_REFUSES),
                    )
                    return
                self._clock.wait(pause, _LAST_PAUSE)
            else:
                return

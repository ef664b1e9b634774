"""When the WebUI must pass a self-test before it is ready, and when a self-test is cut short."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from sdwatch.lane.context import LaneContext
from sdwatch.lane.hold import Hold
from sdwatch.lane.self_test import Ended, SelfTest
from sdwatch.policy.failure.diagnosis import Drawn
from sdwatch.system.clock import Clock
from sdwatch.webui.http.attempt import EXIT_WAIT
from sdwatch.webui.http.canary import By, SelfTestFailure
from sdwatch.webui.http.external import ExternalWebUI
from sdwatch.webui.process.process import WebUIProcessManager

STOPS = "sdwatch stops"


class SelfTestGate:
    """For the WebUI of `context`. `is_gone`: returns whether its process has ended; `how_ended`:
    how. `stopping`: set when sdwatch stops."""

    def __init__(
        self,
        context: LaneContext,
        self_test: SelfTest,
        hold: Hold,
        stopping: threading.Event,
        *,
        is_gone: Callable[[], bool],
        how_ended: Callable[[], Ended | None],
    ) -> None:
        self._crashes = context.crashes
        self._clock = context.clock
        self._self_test = self_test
        self._hold = hold
        self._stopping = stopping
        self._is_gone = is_gone
        self._how_ended = how_ended

    @property
    def must_self_test(self) -> bool:
        """Whether the WebUI is ready only after it has passed a self-test."""
        return self._hold.needs_self_test or self._crashes.needs_self_test

    def pass_if_due(self) -> SelfTestFailure | None:
        """Run the self-test if one is due, after a failed canary or what no probe can see. Return
        why it failed, or None. It is a call like any other, so it waits out the cool-down."""
        if not self.must_self_test:
            return None
        if self._clock.wait(self._stopping, self._crashes.remaining()):
            return SelfTestFailure(STOPS, By.NOT_ASKED)
        failure = self._self_test.why_it_failed(self._why_over, self._how_ended)
        if failure is None:
            self._crashes.passed_self_test()
        return failure

    def run(self, why_over: Callable[[], str]) -> SelfTestFailure | None:
        """Run the self-test. Return why it failed, or None. `why_over`: returns why the caller
        does not wait any longer, or ''; a self-test that is cut short so shows nothing."""
        failure = self._self_test.why_it_failed(
            lambda: why_over() or self._why_over(), self._how_ended
        )
        if why_over() or self._stopping.is_set():
            return SelfTestFailure(why_over() or STOPS, By.NOT_ASKED)
        if failure is None:
            self._crashes.passed_self_test()
        return failure

    def can_generate(
        self, stage: str, payload: Mapping[str, Any], why_over: Callable[[], str]
    ) -> Drawn:
        """Return whether the WebUI generates a plain picture as large as this call's."""
        return self._self_test.can_generate(
            stage, payload, lambda: why_over() or self._why_over(), self._how_ended
        )

    def _why_over(self) -> str:
        if self._stopping.is_set():
            return STOPS
        return "the WebUI's process ended" if self._is_gone() else ""


def how_ended(
    process: WebUIProcessManager | ExternalWebUI, clock: Clock, stopping: threading.Event
) -> Ended | None:
    """Return how the process ended, or None if it lives. A connection breaks a moment before the
    end of its process is seen."""
    if isinstance(process, ExternalWebUI):
        return None
    deadline = clock.monotonic() + EXIT_WAIT
    while (exit_seen := process.exit_of(process.incarnation)) is None:
        if clock.monotonic() >= deadline or clock.wait(stopping, 0.05):
            return None if process.is_process_alive() else Ended(None)
    return Ended(exit_seen.code)

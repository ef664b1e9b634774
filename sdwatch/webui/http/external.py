"""An external WebUI: sdwatch never starts or stops it, only asks and waits.

It has what a lane needs of a process, as WebUIProcessManager has (LaneProcess, below).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import psutil

from sdwatch.policy.failure.hold_reason import HoldReason
from sdwatch.policy.failure.lasting import LastingStates
from sdwatch.policy.failure.tail_marks import no_output
from sdwatch.system.clock import Clock
from sdwatch.system.log_events import LogEvent, about
from sdwatch.webui.log.log_reader import LOCAL, READ_LIMIT, LogReader
from sdwatch.webui.log.tail_capture import tail_text
from sdwatch.webui.process.incarnation import WebUIExit
from sdwatch.webui.process.process import WebUIProcessManager
from sdwatch.webui.process.readiness import PROBE_INTERVAL_S, ProbeResult

log = logging.getLogger("sdwatch.webui")

PATIENCE = 10.0
"""Seconds that it gets to come back; then the lane is on hold, and probes at its interval."""


class ExternalWebUI:
    """A WebUI that sdwatch did not start. `probe`: asks its API once. `log_file`: where it writes,
    if this machine can read that, by `log_reader`."""

    last_exit: WebUIExit | None = None  # its end is not visible here

    def __init__(
        self,
        *,
        name: str,
        probe: Callable[[], ProbeResult],
        clock: Clock,
        log_file: Path | None,
        log_reader: LogReader = LOCAL,
    ) -> None:
        self.name = name
        self.last_failure = ""
        self.last_hold_reason = HoldReason("")  # the same, for people
        self.last_probe: ProbeResult | None = None
        self._probe = probe
        self._clock = clock
        self._log_file = log_file
        self._log_reader = log_reader
        self._not_ready = LastingStates()

    @property
    def incarnation(self) -> int:
        """Return 0: its incarnations are unknown."""
        return 0

    def adopt(self, **_: object) -> bool:
        """Return whether it is ready now; there is nothing to adopt."""
        return self._probe_now()

    def restart_and_wait_ready(
        self, timeout_s: float | None = None, give_up: threading.Event | None = None
    ) -> bool:
        """Wait until it answers, for at most PATIENCE seconds: sdwatch cannot restart it."""
        limit = self._clock.monotonic() + min(timeout_s or PATIENCE, PATIENCE)
        pause = give_up or threading.Event()
        while not self._probe_now():
            if self._clock.monotonic() >= limit or self._clock.wait(pause, PROBE_INTERVAL_S):
                self._warn()
                return False
        self._not_ready.is_over("", self._clock.monotonic())
        return True

    def _warn(self) -> None:
        key, now = self.last_hold_reason.key, self._clock.monotonic()
        if line := self._not_ready.persists("", key, self.last_failure, now):
            event = about(LogEvent.WEBUI_NOT_READY, lane=self.name)
            log.warning("%s: not ready: %s", self.name, line, extra=event)

    def is_process_alive(self) -> bool:
        """Return True: its end is not visible here."""
        return True

    @property
    def answers_unusable(self) -> bool:
        """Return whether it answered the last probe that it is unusable."""
        return self.last_probe is not None and self.last_probe.unusable

    def get_tail_logs(self, max_lines: int = 200) -> dict[str, str]:
        """Return the last lines of its `log_file`, or a placeholder that says why there are
        none."""
        path = self._log_file
        if path is None:
            why = no_output("an external WebUI; name its `log_file` in the config to have it here")
            return {"stdout": why, "stderr": why}
        hangs = no_output(f"{path} did not answer within {READ_LIMIT:g} s; does its share hang?")
        return {"log_file": self._log_reader.read(lambda: tail_text(path, max_lines), hangs)}

    def log_paths(self) -> tuple[Path, ...]:
        """Return its log file, if there is one."""
        return (self._log_file,) if self._log_file else ()

    def family(self) -> list[psutil.Process]:
        """Return nothing: its processes, their work and their memory are not visible here."""
        return []

    def cap_logs(self) -> None:
        """Do nothing: its log is its own."""

    def stop(self, **_: object) -> bool:
        """Do nothing: it is never stopped."""
        return True

    def close(self) -> None:
        """Do nothing."""

    def _probe_now(self) -> bool:
        self.last_probe = self._probe()
        if self.last_probe.ready:
            self.last_failure = ""
        else:
            self.last_failure = self.last_probe.reason
            self.last_hold_reason = self.last_probe.hold_reason(managed=False)
        return self.last_probe.ready


LaneProcess: TypeAlias = WebUIProcessManager | ExternalWebUI
"""What a lane has of its WebUI. Neither has to be told from the other; what a lane may do is
`managed` in its context."""

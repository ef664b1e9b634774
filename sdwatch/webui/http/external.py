"""A WebUI that is not ours: never started, never killed, only asked and waited for.

It answers to the same calls as WebUIProcessManager, so that a lane need not know the difference.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

import psutil

from sdwatch.policy.failure.hold_reason import HoldReason, no_answer, seen_by_probe
from sdwatch.system.clock import Clock
from sdwatch.webui.log.tail_capture import tail_text
from sdwatch.webui.process.readiness import PROBE_INTERVAL_S, ProbeResult

log = logging.getLogger("sdwatch.webui")

PATIENCE = 10.0
"""Seconds that it gets to come back; then the lane is on hold, and asks at its health interval."""


class ExternalWebUI:
    """`probe` asks its API once. `log_file`: where it writes, if this machine can read that."""

    def __init__(
        self, *, name: str, probe: Callable[[], ProbeResult], clock: Clock, log_file: Path | None
    ) -> None:
        self.name = name
        self.last_failure = ""
        self.last_hold_reason = HoldReason("")  # the same, as people are told
        self.last_probe: ProbeResult | None = None
        self._probe = probe
        self._clock = clock
        self._log_file = log_file
        self._answers = False

    @property
    def incarnation(self) -> int:
        """Its lives are not ours to count."""
        return 0

    def adopt(self, timeout_s: float | None = None, give_up: threading.Event | None = None) -> bool:
        """Nothing to adopt; whether it is ready now."""
        del timeout_s, give_up
        return self._probe_now()

    def restart_and_wait_ready(
        self, timeout_s: float | None = None, give_up: threading.Event | None = None
    ) -> bool:
        """It cannot be restarted by us: wait until it answers, for as long as PATIENCE lasts."""
        limit = self._clock.monotonic() + min(timeout_s or PATIENCE, PATIENCE)
        pause = give_up or threading.Event()
        while not self._probe_now():
            if self._clock.monotonic() >= limit or self._clock.wait(pause, PROBE_INTERVAL_S):
                log.warning("%s: not ready: %s", self.name, self.last_failure)
                return False
        return True

    def is_process_alive(self) -> bool:
        """Whether it answered when it was last asked."""
        return self._answers

    @property
    def answers_unusable(self) -> bool:
        """Whether it answered when it was last asked that it cannot be used as it is."""
        return self.last_probe is not None and self.last_probe.unusable

    def get_tail_logs(self, max_lines: int = 200) -> dict[str, str]:
        """The last lines of its `log_file`, or a placeholder that says why there are none."""
        if self._log_file is None:
            why = "(an external WebUI; name its log_file in the config to have its last lines here)"
            return {"stdout": why, "stderr": why}
        return {"log_file": tail_text(self._log_file, max_lines)}

    def log_paths(self) -> tuple[Path, ...]:
        """What there is to follow."""
        return (self._log_file,) if self._log_file else ()

    def cpu_and_io(self) -> tuple[float, int]:
        """Its work cannot be seen from here."""
        return 0.0, 0

    def family(self) -> list[psutil.Process]:
        """Nor can its processes."""
        return []

    def rss(self) -> int:
        """Nor its memory."""
        return 0

    def cap_logs(self) -> None:
        """Its log is its own."""

    def stop(self, grace: float | None = None, hurry: threading.Event | None = None) -> bool:
        """Never stopped."""
        del grace, hurry
        return True

    def close(self) -> None:
        """Nothing is held."""

    def _probe_now(self) -> bool:
        self.last_probe = self._probe()
        self._answers = self.last_probe.ready
        if self._answers:
            self.last_failure = ""
        else:
            self.last_failure = reason = self.last_probe.reason
            lack, facts = self.last_probe.lacks, self.last_probe.key
            self.last_hold_reason = (
                seen_by_probe(reason, lack, managed=False, facts=facts)
                if lack
                else no_answer(reason, managed=False, facts=facts)
            )
        return self._answers

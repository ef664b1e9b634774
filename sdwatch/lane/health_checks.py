"""When the WebUI of a lane is asked for its health, and what its answers mean for the lane."""

from __future__ import annotations

import logging

from sdwatch.lane.context import LaneContext
from sdwatch.policy.failure.hold_reason import HoldReason, no_answer, seen_by_probe
from sdwatch.policy.job.catalogue import Kind
from sdwatch.webui.process.readiness import ProbeResult

log = logging.getLogger("sdwatch.supervisor")


class HealthChecks:
    """Of the WebUI of `context`."""

    def __init__(self, context: LaneContext) -> None:
        self._name = context.config.name
        self._health = context.config.health
        self._managed = context.managed
        self._probe = context.probe
        self._clock = context.clock
        self._next = 0.0  # on the monotonic clock
        self._failed = 0  # in a row

    @property
    def is_due(self) -> bool:
        """Whether the next check is due."""
        return self._clock.monotonic() >= self._next

    def defer(self, seconds: float) -> None:
        """Make the next check due in so many seconds."""
        self._next = self._clock.monotonic() + seconds

    def start_incarnation(self) -> None:
        """Forget what was seen of the last incarnation."""
        self._probe.start_incarnation()
        self._failed = 0

    def probe_if_due(self) -> ProbeResult | None:
        """Probe the WebUI if that is due, and schedule the next check; None if it is not due."""
        if not self.is_due:
            return None
        probe = self._probe()
        self.defer(self._health.interval)
        return probe

    def passed(self) -> None:
        """Note that the WebUI is healthy."""
        self._failed = 0

    def is_frozen(self, probe: ProbeResult) -> bool:
        """Count a failed check, and return whether so many failed in a row that the WebUI must be
        restarted (`health.failures` in the config)."""
        self._failed += 1
        log.warning("%s: %s", self._name, probe.reason)
        if self._failed < self._health.failures:
            return False
        self._failed = 0
        return True

    def hold_reason_for(self, probe: ProbeResult, kind: Kind) -> HoldReason:
        """Return why the lane is on hold after this probe. `kind`: of its WebUI."""
        managed, facts = self._managed, probe.key
        if probe.lacks is None:
            return no_answer(probe.reason, managed=managed, facts=facts)
        return seen_by_probe(probe.reason, probe.lacks, managed=managed, kind=kind, facts=facts)

"""What all parts of one lane work with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sdwatch.config import WebUIConfig
from sdwatch.lane.permit import Permit
from sdwatch.policy.failure.hold_reason import NoCall
from sdwatch.policy.failure.reply_checks import Level
from sdwatch.policy.failure.signatures import Signature
from sdwatch.policy.privacy.redaction import Redactor
from sdwatch.system.clock import Clock
from sdwatch.webui.http.client import SDWebUIClient
from sdwatch.webui.http.health import ReadinessProbe
from sdwatch.webui.http.option_leaks import OptionLeaks
from sdwatch.webui.http.remembered import Remembered
from sdwatch.webui.process.crash_history import CrashHistory
from sdwatch.webui.process.host_snapshot import Machine


@dataclass(frozen=True)
class LaneContext:
    """The collaborators of a lane, and what it reports to the monitor.

    `checks`: the level of each finding in a reply. `wake`: called when the lane's readiness has
    changed. `report`: gets lines for people. `may_call`: returns why no call may start on any
    lane, or None. `paused`: returns why only health checks are allowed (a person's hold), or None.
    """

    config: WebUIConfig
    clock: Clock
    client: SDWebUIClient
    probe: ReadinessProbe
    crashes: CrashHistory
    permit: Permit
    machine: Machine
    redactor: Redactor
    remembered: Remembered
    option_leaks: OptionLeaks
    signatures: tuple[Signature, ...]
    checks: Mapping[str, Level]
    wake: Callable[[], None]
    report: Callable[[str], None]
    may_call: Callable[[], NoCall | None]
    paused: Callable[[], NoCall | None]

    @property
    def managed(self) -> bool:
        """Whether sdwatch starts and stops this WebUI."""
        return self.config.command is not None

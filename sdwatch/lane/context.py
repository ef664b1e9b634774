"""The collaborators that all parts of one lane share."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from sdwatch.config import WebUIConfig, secrets_in
from sdwatch.known_signatures import builtin_signatures
from sdwatch.lane.crash_history_file import CrashHistoryFile
from sdwatch.policy.failure.check_levels import LEVELS, Level
from sdwatch.policy.failure.signatures import Signature
from sdwatch.policy.privacy.config_secrets import Secret
from sdwatch.policy.privacy.redaction import Redactor
from sdwatch.system.clock import Clock
from sdwatch.webui.http.found import FoundClient, FoundProbe, client_for
from sdwatch.webui.http.health import ReadinessProbe, asks_for_api
from sdwatch.webui.http.option_leaks import OptionLeaks
from sdwatch.webui.http.remembered import Remembered
from sdwatch.webui.log.log_reader import LogReader
from sdwatch.webui.process.host_snapshot import HostSnapshots


def _nothing(_: str) -> None:
    """Report to nobody."""


@dataclass(frozen=True)
class LaneSettings:
    """What a lane gets from the monitor, beside the config of its WebUI.

    `cooldown`: seconds after each crash in a row. `recovery`: False fails at the first error.
    `may_call`: returns whether a new call may start on any lane. `held_by_person`: returns whether
    only health checks are allowed (a person's hold). `wake`: called when something changed that the
    monitor may act on. `report`: gets lines for people. `signatures`: of known failures; None for
    the built-in ones. `checks`: the level of each finding in a reply.
    `secrets`: others of the config, beside the WebUI's own.
    `hurry`: once it is set, a stop kills the WebUI without its grace time.
    """

    state_dir: Path
    cooldown: Sequence[float]
    clock: Clock
    recovery: bool = True
    may_call: Callable[[], bool] = lambda: True
    held_by_person: Callable[[], bool] = lambda: False
    wake: Callable[[], None] = lambda: None
    report: Callable[[str], None] = _nothing
    signatures: tuple[Signature, ...] | None = None
    checks: Mapping[str, Level] = field(default_factory=lambda: LEVELS)
    secrets: tuple[Secret, ...] = ()
    hurry: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class LaneContext:
    """The collaborators of a lane. `report`: gets lines for people."""

    config: WebUIConfig
    settings: LaneSettings
    clock: Clock
    client: FoundClient
    probe: FoundProbe
    crash_history_file: CrashHistoryFile
    redactor: Redactor
    remembered: Remembered
    option_leaks: OptionLeaks
    signatures: tuple[Signature, ...]
    host_snapshots: HostSnapshots
    log_reader: LogReader

    @property
    def managed(self) -> bool:
        """Return whether sdwatch starts and stops this WebUI."""
        return self.config.command is not None

    def report(self, line: str) -> None:
        """Report a line for people."""
        self.settings.report(f"{self.config.name}: {line}")

    def redact(self, text: str) -> str:
        """Return the text without prompts and secrets."""
        return self.redactor.redact(text)


def context_of(
    config: WebUIConfig, settings: LaneSettings, family: Callable[[], list[psutil.Process]]
) -> LaneContext:
    """Return the collaborators of the lane of this WebUI. `family`: returns its processes."""
    remembered, redactor = Remembered(settings.state_dir / "webui.json"), Redactor()
    client = client_for(
        config,
        settings.state_dir,
        owner=f"sdwatch-{_owner(settings.state_dir)}",
        dialect=remembered.kind.dialect,
    )
    for secret in (*secrets_in(config), *settings.secrets):
        redactor.learn_secret(secret.value, secret.label)
    state_dir, clock = settings.state_dir, settings.clock
    sdapi = ReadinessProbe(
        client.sdapi,
        clock,
        config.health.timeout,
        remembered,
        asked_for_api=asks_for_api(config.command),
    )
    probe = FoundProbe(client, config.health.timeout, sdapi, remembered, redactor.redact)
    signatures = settings.signatures
    return LaneContext(
        config=config,
        settings=settings,
        clock=clock,
        client=client,
        probe=probe,
        crash_history_file=CrashHistoryFile(state_dir / "crashes.jsonl", settings.cooldown, clock),
        redactor=redactor,
        remembered=remembered,
        option_leaks=OptionLeaks(client, state_dir / "leaks.json"),
        signatures=builtin_signatures() if signatures is None else signatures,
        host_snapshots=HostSnapshots(clock, {"state": state_dir}, family),
        log_reader=LogReader(config.name, may_hang=config.command is None),
    )


def _owner(state_dir: Path) -> str:
    """Return what is the same for this lane after each restart, and other for all others, whatever
    WebUI they share."""
    return hashlib.sha256(f"{socket.gethostname()} {state_dir}".encode()).hexdigest()[:12]

"""A lane: one WebUI with its supervisor, its crash history, its log, and the permit for one call.

Runs get from it the permit and the crash-aware call. The monitor gets from it whether a run would
be served now.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sdwatch.config import WebUIConfig, builtin_signatures, secrets_in
from sdwatch.lane.context import LaneContext
from sdwatch.lane.permit import Permit
from sdwatch.lane.supervisor import Supervisor
from sdwatch.policy.failure.cooldown import is_waited_for
from sdwatch.policy.failure.hold_reason import Held, NoCall
from sdwatch.policy.failure.reply_checks import LEVELS, Level
from sdwatch.policy.failure.signatures import Signature
from sdwatch.policy.job.catalogue import Catalogue, Kind
from sdwatch.policy.privacy.redaction import Redactor
from sdwatch.spool.faults import Faults
from sdwatch.system.clock import Clock
from sdwatch.webui.http.api import WebUIAPI
from sdwatch.webui.http.attempt import INTERRUPT_WAIT
from sdwatch.webui.http.client import client_for
from sdwatch.webui.http.external import ExternalWebUI
from sdwatch.webui.http.health import ReadinessProbe, asks_for_api
from sdwatch.webui.http.mailbox import Mailbox
from sdwatch.webui.http.option_leaks import OptionLeaks
from sdwatch.webui.http.remembered import Remembered
from sdwatch.webui.http.roles import Recorder
from sdwatch.webui.process.crash_history import CrashHistory
from sdwatch.webui.process.host_snapshot import Machine
from sdwatch.webui.process.process import WebUIProcessManager

ACTIVE_RUNS = 2
"""While one run's call is under way, one more may decode, write and publish."""


_CHECK_INTERVAL_S = 0.25  # seconds: is a person's hold gone, or is there room on disk?


class Lane:
    """One lane.

    `may_call`: returns why no new call may start on any lane, or None. `paused`: returns why only
    health checks are allowed (a person's hold), or None. `wake`: called when something changed that
    the monitor may act on. `report`: gets lines for people. `signatures`: of known failures; None
    for the built-in ones. `checks`: the level of each finding in a reply.
    """

    def __init__(
        self,
        config: WebUIConfig,
        *,
        state_dir: Path,
        cooldown: Sequence[float],
        recovery: bool,
        clock: Clock,
        may_call: Callable[[], NoCall | None],
        wake: Callable[[], None],
        report: Callable[[str], None] = lambda _: None,
        signatures: tuple[Signature, ...] | None = None,
        checks: Mapping[str, Level] = LEVELS,
        paused: Callable[[], NoCall | None] = lambda: None,
    ) -> None:
        self.name = config.name
        self.managed = config.command is not None
        self.faults = Faults(clock)
        self._recovery = recovery
        self._cooldown = cooldown
        self._context = context = _context(
            config,
            state_dir,
            clock,
            CrashHistory(state_dir / "crashes.jsonl", cooldown, clock),
            Machine(clock, {"state": state_dir}, lambda: self.process.family()),
            builtin_signatures() if signatures is None else signatures,
            checks,
            wake=wake,
            report=lambda line: report(f"{config.name}: {line}"),
            may_call=may_call,
            paused=paused,
        )
        self.redactor = context.redactor
        self.supervisor = Supervisor(context)
        self.process = _process(context, state_dir, self.supervisor)
        self.supervisor.use(self.process)

    def open(self) -> None:
        """Start to supervise the WebUI: adopt or start it, and keep it healthy."""
        self.supervisor.open()

    @property
    def ready(self) -> bool:
        """Return whether a new run would be served now."""
        return self.supervisor.availability.ready and self._context.crashes.remaining() <= 0

    @property
    def hold_reason(self) -> str:
        """Return why the lane is on hold, or ''."""
        return self.supervisor.availability.hold.reason

    @property
    def held(self) -> Held | None:
        """Return the hold with all that people should know of it, or None."""
        return self.supervisor.availability.hold.held

    @property
    def held_since(self) -> float:
        """Return when the hold started, in seconds since the epoch; 0 without a hold."""
        return self.supervisor.availability.hold.since

    @property
    def is_waited_for(self) -> bool:
        """Return whether the lane serves now, or `run --once` waits until its hold ends without a
        person."""
        held, since = self.held, self.held_since
        if held is None:
            return True
        held_for = max(0.0, self._context.clock.wall() - since) if since else 0.0
        in_a_row = self._context.crashes.in_a_row
        return is_waited_for(held.hold_reason.cure, in_a_row, held_for, self._cooldown)

    def release(self) -> None:
        """Release the hold because a person asks for it. A cool-down is still waited out."""
        self.supervisor.release()

    @property
    def catalogue(self) -> Catalogue | None:
        """Return what the WebUI has; None until it has been ready once."""
        return self.supervisor.availability.inventory.catalogue

    def read_again(self, routes: Collection[str]) -> None:
        """Have these lists read again; `catalogue` is another object afterwards."""
        self.supervisor.read_again(routes)

    @contextmanager
    def permit(self, mailbox: Mailbox) -> Iterator[None]:
        """Hold the permit for one call. Waits until the WebUI is ready and the permit is free.
        Raises RunCancelledError, RunStoppedError."""
        self._acquire_when_clean(mailbox)
        try:
            yield
        finally:
            try:
                self.supervisor.call_finished()
            finally:
                self._context.permit.release()
            self.supervisor.check_again()

    def _acquire_when_clean(self, mailbox: Mailbox) -> None:
        """Acquire the permit, check with it that a call may start, and release it if not: so the
        check holds for this call."""
        while True:
            self._context.permit.acquire(mailbox, lambda: self.ready)
            may = False
            try:
                may = not self._context.may_call() and self.supervisor.is_clean()
            finally:
                if not may:
                    self._context.permit.release()
            if may:
                return
            self.supervisor.check_again()
            self._context.clock.wait(mailbox.given_up, _CHECK_INTERVAL_S)

    def api(self, recorder: Recorder, mailbox: Mailbox) -> WebUIAPI:
        """Return the crash-aware call of one run on this lane."""
        return WebUIAPI(
            self._context.client,
            _RunsProcess(self, mailbox),
            recorder,
            observer=self.supervisor,
            mailbox=mailbox,
            recovery=self._recovery,
            managed=self.managed,
            interrupt_wait=min(INTERRUPT_WAIT, self._context.config.stall),
            may_call=self._context.may_call,
            signatures=self._context.signatures,
            machine=self._context.machine,
            checks=self._context.checks,
            catalogue=lambda: self.catalogue,
        )

    def start_stop(self) -> None:
        """Allow no new call. Runs that wait for anything but a reply stop at once."""
        self.supervisor.close()
        self._context.permit.close(stop_holder=self.supervisor.watch is None)
        self._context.client.abandon_probes()

    def finish_stop(self, hurry: threading.Event | None = None) -> None:
        """Stop the WebUI, or leave it to be adopted, after all runs have ended. Once `hurry` is set
        it is killed without its grace time."""
        self.supervisor.join()
        if self._context.config.leave_running:
            self.process.close()
        else:
            self.process.stop(hurry=hurry)
        self._context.client.close()

    def about(self) -> dict[str, Any]:
        """Return which WebUI this is, for a run's manifest."""
        catalogue = self.catalogue
        return {
            "name": self.name,
            "url": self._context.config.url,
            "managed": self.managed,
            "kind": str(catalogue.kind if catalogue else Kind.UNKNOWN),
            "version": self._context.client.version or (catalogue.version if catalogue else ""),
        }

    @property
    def progress(self) -> dict[str, Any]:
        """Return the last /progress of the call in flight; {} without one."""
        watch = self.supervisor.watch
        return watch.progress if watch else {}

    def status(self) -> dict[str, Any]:
        """Return the lane as `status --json` shows it."""
        held = self.held
        return {
            **self.about(),
            "state": str(self.supervisor.availability.state),
            "hold": held.hold_reason.cause if held else "",
            "advice": held.hold_reason.advice if held else "",
            "spent": list(held.hold_reason.failed_runs) if held else [],
            "busy": self._context.permit.taken,
            "incarnation": self.process.incarnation,
            "crashes_in_a_row": self._context.crashes.in_a_row,
            "cooldown_left": round(self._context.crashes.remaining(), 1),
            "last_failure": self.process.last_failure,
            "rss": self.supervisor.recycling.rss,
            "warnings": self.supervisor.warnings.count,
            "last_warning": self.supervisor.warnings.last,
            "progress": self.progress,
        }


class _RunsProcess:
    """The lane's process as a run's call sees it. A restart waits out the cool-down, and ends early
    when the run is given up."""

    def __init__(self, lane: Lane, mailbox: Mailbox) -> None:
        self._lane = lane
        self._mailbox = mailbox

    @property
    def incarnation(self) -> int:
        return self._lane.process.incarnation

    def is_process_alive(self) -> bool:
        return self._lane.process.is_process_alive()

    def get_tail_logs(self, max_lines: int = 200) -> dict[str, str]:
        return self._lane.process.get_tail_logs(max_lines)

    def restart_and_wait_ready(self, timeout_s: float) -> bool:
        del timeout_s  # the lane has its own limit, from the config
        return self._lane.supervisor.bring_up_for(self._mailbox.given_up)


def _context(
    config: WebUIConfig,
    state_dir: Path,
    clock: Clock,
    crashes: CrashHistory,
    machine: Machine,
    signatures: tuple[Signature, ...],
    checks: Mapping[str, Level],
    *,
    wake: Callable[[], None],
    report: Callable[[str], None],
    may_call: Callable[[], NoCall | None],
    paused: Callable[[], NoCall | None],
) -> LaneContext:
    client, redactor = client_for(config), Redactor()
    for secret in secrets_in(config):
        redactor.learn_secret(secret.value, secret.label)
    remembered = Remembered(state_dir / "webui.json")
    probe = ReadinessProbe(
        client,
        clock,
        config.health.timeout,
        remembered,
        asked_for_api=asks_for_api(config.command),
        redact=redactor.redact,
    )
    return LaneContext(
        config=config,
        clock=clock,
        client=client,
        probe=probe,
        crashes=crashes,
        permit=Permit(),
        machine=machine,
        redactor=redactor,
        remembered=remembered,
        option_leaks=OptionLeaks(client, state_dir / "leaks.json"),
        signatures=signatures,
        checks=checks,
        wake=wake,
        report=report,
        may_call=may_call,
        paused=paused,
    )


def _process(
    context: LaneContext, state_dir: Path, supervisor: Supervisor
) -> WebUIProcessManager | ExternalWebUI:
    """Return the process that sdwatch manages, or the external WebUI."""
    config, clock, probe = context.config, context.clock, context.probe
    if config.command is None:
        return ExternalWebUI(name=config.name, probe=probe, clock=clock, log_file=config.log_file)
    return WebUIProcessManager(
        name=config.name,
        command=config.command,
        host=config.host,
        port=config.port,
        state_dir=state_dir,
        clock=clock,
        probe=probe,
        on_exit=supervisor.exited,
        cwd=config.cwd,
        env=config.env,
        start_limit=config.start_limit,
        start_stall=config.stall,
        stop_grace=config.stop_grace,
        log_cap=config.log_cap,
        signatures=context.signatures,
        machine=context.machine,
    )

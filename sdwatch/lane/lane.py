"""A lane: one WebUI with its keeper, its crash history and its log, and the permit for one call.

Runs ask it for the permit and for the crash-aware call; the monitor asks it whether a run would be
served now.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sdwatch.config import WebUIConfig, builtin_signatures, secrets_in
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
from sdwatch.webui.http.api import INTERRUPT_WAIT, WebUIAPI
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


_CHECK_AGAIN = 0.25  # seconds: whether a person's hold is gone, or there is room on disk


class Lane:
    """`may_call` gives the reason why no new call may begin on any lane, or None; `paused` the
    reason why nothing but health checks is to be done, or None (a person's hold). `wake` is called
    when something changed that the monitor may want to act on; `tell` gets a line for people.
    `signatures`: what known failures look like; None for those that sdwatch knows by itself.
    `checks`: what each finding in a reply is."""

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
        tell: Callable[[str], None] = lambda _: None,
        signatures: tuple[Signature, ...] | None = None,
        checks: Mapping[str, Level] = LEVELS,
        paused: Callable[[], NoCall | None] = lambda: None,
    ) -> None:
        self.name = config.name
        self.managed = config.command is not None
        self.redactor = Redactor()
        for secret in secrets_in(config):
            self.redactor.learn_secret(secret.value, secret.label)
        self.faults = Faults(clock)
        self._config = config
        self._recovery = recovery
        self._signatures = builtin_signatures() if signatures is None else signatures
        self._checks = checks
        self._may_call = may_call
        self._clock = clock
        self._cooldown = cooldown
        self._crashes = CrashHistory(state_dir / "crashes.jsonl", cooldown, clock)
        self._permit = Permit()
        self._client = client_for(config)
        remembered = Remembered(state_dir / "webui.json")
        probe = ReadinessProbe(
            self._client,
            clock,
            config.health.timeout,
            remembered,
            asked_for_api=asks_for_api(config.command),
            redact=self.redactor.redact,
        )
        self._machine = Machine(clock, {"state": state_dir}, lambda: self.process.family())
        self.supervisor = Supervisor(
            config,
            client=self._client,
            probe=probe,
            crashes=self._crashes,
            permit=self._permit,
            clock=clock,
            wake=wake,
            tell=lambda what: tell(f"{config.name}: {what}"),
            may_call=may_call,
            paused=paused,
            machine=self._machine,
            signatures=self._signatures,
            redactor=self.redactor,
            option_leaks=OptionLeaks(self._client, state_dir / "leaks.json"),
            remembered=remembered,
            checks=checks,
        )
        self.process = _process(
            config, state_dir, clock, probe, self.supervisor, self._signatures, self._machine
        )
        self.supervisor.use(self.process)

    def open(self) -> None:
        """Begin to keep the WebUI: adopt or start it, and see that it stays well."""
        self.supervisor.open()

    @property
    def ready(self) -> bool:
        """Whether a new run would be served now."""
        return self.supervisor.availability.ready and self._crashes.remaining() <= 0

    @property
    def hold_reason(self) -> str:
        """Why it serves nobody until something changes; '' when it is not on hold."""
        return self.supervisor.availability.hold.reason

    @property
    def held(self) -> Held | None:
        """All of that, for people."""
        return self.supervisor.availability.hold.held

    @property
    def held_since(self) -> float:
        """When that began, on the wall clock; 0 when it is not on hold."""
        return self.supervisor.availability.hold.since

    @property
    def is_waited_for(self) -> bool:
        """Whether it serves now, or `run --once` waits until its hold ends by itself."""
        held, since = self.held, self.held_since
        if held is None:
            return True
        held_for = max(0.0, self._clock.wall() - since) if since else 0.0
        in_a_row = self._crashes.in_a_row
        return is_waited_for(held.hold_reason.cure, in_a_row, held_for, self._cooldown)

    def release(self) -> None:
        """A person says that it is to go on now; a cool-down runs on all the same."""
        self.supervisor.release()

    @property
    def catalogue(self) -> Catalogue | None:
        """What its WebUI has; None until it has been ready for the first time."""
        return self.supervisor.availability.catalogue

    def read_again(self, routes: Collection[str]) -> None:
        """Have these lists read anew; `catalogue` is another one then."""
        self.supervisor.read_again(routes)

    @contextmanager
    def permit(self, mailbox: Mailbox) -> Iterator[None]:
        """The permit for one call; waits until the WebUI is ready and nobody else has it. Raises
        RunCancelledError, RunStoppedError."""
        self._take_when_clean(mailbox)
        try:
            yield
        finally:
            try:
                self.supervisor.call_over()
            finally:
                self._permit.give_back()
            self.supervisor.look_again()

    def _take_when_clean(self, mailbox: Mailbox) -> None:
        """Looked up with the permit, so that it is true of this call; and given back meanwhile."""
        while True:
            self._permit.take(mailbox, lambda: self.ready)
            may = False
            try:
                may = not self._may_call() and self.supervisor.is_clean()
            finally:
                if not may:
                    self._permit.give_back()
            if may:
                return
            self.supervisor.look_again()
            self._clock.wait(mailbox.given_up, _CHECK_AGAIN)

    def api(self, recorder: Recorder, mailbox: Mailbox) -> WebUIAPI:
        """The crash-aware call of one run on this lane."""
        return WebUIAPI(
            self._client,
            _RunsProcess(self, mailbox),
            recorder,
            observer=self.supervisor,
            mailbox=mailbox,
            recovery=self._recovery,
            managed=self.managed,
            interrupt_wait=min(INTERRUPT_WAIT, self._config.stall),
            may_call=self._may_call,
            signatures=self._signatures,
            machine=self._machine,
            checks=self._checks,
            catalogue=lambda: self.catalogue,
        )

    def begin_stop(self) -> None:
        """No new call from now on; a run that waits for anything but a reply stops at once."""
        self.supervisor.close()
        self._permit.close(stop_holder=self.supervisor.watch is None)
        self._client.abandon_probes()

    def end_stop(self, hurry: threading.Event | None = None) -> None:
        """After all runs have ended: stop the WebUI, or leave it to be adopted. Once `hurry` is
        set it is killed without its grace time."""
        self.supervisor.join()
        if self._config.leave_running:
            self.process.close()
        else:
            self.process.stop(hurry=hurry)
        self._client.close()

    def about(self) -> dict[str, Any]:
        """Which WebUI it is, for a run's manifest."""
        catalogue = self.catalogue
        return {
            "name": self.name,
            "url": self._config.url,
            "managed": self.managed,
            "kind": str(catalogue.kind if catalogue else Kind.UNKNOWN),
            "version": self._client.version or (catalogue.version if catalogue else ""),
        }

    @property
    def progress(self) -> dict[str, Any]:
        """What its WebUI last said of the call in flight; {} without one."""
        watch = self.supervisor.watch
        return watch.progress if watch else {}

    def status(self) -> dict[str, Any]:
        """For people and for `status --json`."""
        held = self.held
        return {
            **self.about(),
            "state": str(self.supervisor.availability.state),
            "hold": held.hold_reason.cause if held else "",
            "advice": held.hold_reason.advice if held else "",
            "spent": list(held.hold_reason.failed_runs) if held else [],
            "busy": self._permit.taken,
            "incarnation": self.process.incarnation,
            "crashes_in_a_row": self._crashes.in_a_row,
            "cooldown_left": round(self._crashes.remaining(), 1),
            "last_failure": self.process.last_failure,
            "rss": self.supervisor.recycling.rss,
            "warnings": self.supervisor.warnings.count,
            "last_warning": self.supervisor.warnings.last,
            "progress": self.progress,
        }


class _RunsProcess:
    """The lane's process as a run's call sees it: a restart waits out the cool-down first, and
    ends early when the run is given up."""

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


def _process(
    config: WebUIConfig,
    state_dir: Path,
    clock: Clock,
    probe: ReadinessProbe,
    supervisor: Supervisor,
    signatures: tuple[Signature, ...],
    machine: Machine,
) -> WebUIProcessManager | ExternalWebUI:
    """Ours, or somebody else's."""
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
        signatures=signatures,
        machine=machine,
    )

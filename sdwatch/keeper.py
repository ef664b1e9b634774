"""The keeper of one WebUI: sees that it is ready, on an idle WebUI too, and counts its crashes.

Its thread cares whenever no run has the permit; a run's own call restarts through the same
`bring_up`, so there is one road from a crash to a ready WebUI.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from sdwatch.clock import Clock
from sdwatch.config import WebUIConfig
from sdwatch.errors import WebUIError
from sdwatch.permit import Permit
from sdwatch.policy.lifecycle import Event, State, next_state
from sdwatch.policy.progress import Limits
from sdwatch.policy.verdict import Diagnosis
from sdwatch.webui.client import SDWebUIClient
from sdwatch.webui.crash_history import CrashHistory
from sdwatch.webui.external import ExternalWebUI
from sdwatch.webui.health import CallWatch, ReadinessProbe
from sdwatch.webui.mailbox import Exited, Stalled
from sdwatch.webui.process import WebUIExit, WebUIProcessManager
from sdwatch.webui.readiness import PROBE_EVERY, ProbeResult

log = logging.getLogger("sdwatch.keeper")


class Keeper:
    """Keeps the WebUI of `config`. `wake` is called when the lane's readiness has changed, `tell`
    gets lines for people. `process` is set once, before `open`."""

    def __init__(
        self,
        config: WebUIConfig,
        *,
        client: SDWebUIClient,
        probe: ReadinessProbe,
        crashes: CrashHistory,
        permit: Permit,
        clock: Clock,
        wake: Callable[[], None],
        tell: Callable[[str], None],
    ) -> None:
        self.process: WebUIProcessManager | ExternalWebUI
        self.state = State.DOWN
        self.hold_reason = ""
        self.watch: CallWatch | None = None  # of the POST in flight
        self._config = config
        self._client = client
        self._probe = probe
        self._crashes = crashes
        self._permit = permit
        self._clock = clock
        self._wake = wake
        self._tell = tell
        self._lock = threading.Lock()
        self._ended: WebUIExit | None = None  # an exit that nobody has settled yet
        self._failed_probes = 0
        self._holds_in_a_row = 0
        self._next_probe = 0.0
        self._busy_at: object = None
        self._stopping = threading.Event()
        self._kick = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"keeper-{config.name}")

    def open(self) -> None:
        """Begin to keep: adopt or start it."""
        self._thread.start()

    def close(self) -> None:
        """Stop keeping; the process is left as it is."""
        self._stopping.set()
        self._kick.set()

    def join(self) -> None:
        """Wait until the keeper has ended."""
        if self._thread.ident is not None:
            self._thread.join()
        self._apply(Event.STOP)

    @property
    def _generation(self) -> int:
        return self.process.generation

    @property
    def _managed(self) -> bool:
        return self._config.command is not None

    @property
    def ready(self) -> bool:
        """Whether a call may be sent, as far as the WebUI is concerned."""
        return self.state is State.READY and self._ended is None and not self._stopping.is_set()

    # -- what a call says (see api.Keeper); the caller has the permit

    def sending(self, stage: str) -> None:
        """A POST goes out: watch it from here on."""
        config = self._config
        self.watch = CallWatch(
            self._client,
            self._clock,
            Limits(config.stall, config.load_limit, config.call_limit),
            stage=stage,
            timeout=config.health.timeout,
            work=self.process.cpu_and_io,
            logs=self.process.log_paths(),
        )
        self._next_probe = self._clock.monotonic() + PROBE_EVERY

    def given_back(self) -> None:
        """The run gave the permit back; what happened to the WebUI meanwhile is the keeper's."""
        self.watch = None
        if not self.ready:
            self._kick.set()

    def succeeded(self) -> None:
        """A call succeeded."""
        self._holds_in_a_row = 0
        self._crashes.succeeded()

    def crashed(self, diagnosis: Diagnosis) -> None:
        """The WebUI must be restarted; its cool-down begins now."""
        entry = self._crashes.crashed(str(diagnosis))
        self.watch = None
        self._ended = None
        self._apply(Event.CRASHED)
        self._tell(f"{diagnosis}; nothing is sent to it for {entry:g} s")

    def hold(self, reason: str) -> None:
        """Nothing can be sent to it for now; the oftener in a row, the longer."""
        self.watch = None
        self._holds_in_a_row += 1
        self._next_probe = self._clock.monotonic() + self._crashes.entry(self._holds_in_a_row)
        self.hold_reason = reason
        self._apply(Event.HOLD)
        self._wake()

    def bring_up(self, give_up: threading.Event) -> bool:
        """Wait out the cool-down, then restart and wait until ready. The caller has the permit.
        False: `hold_reason` says why, or somebody gave up waiting."""
        if self._stopping.is_set() or self._clock.wait(give_up, self._crashes.remaining()):
            return False
        self._apply(Event.START)
        self._crashes.started(self._generation + 1 if self._managed else 0)
        ready = self.process.restart_and_wait_ready(self._config.start_limit, give_up)
        self._ended = None
        self._apply(Event.READY if ready else Event.START_FAILED)
        if ready:
            self.hold_reason = ""
            self._tell_ready()
        elif not give_up.is_set():
            self._crashes.crashed("failed start")
            self.hold_reason = self.process.last_failure
        self._wake()
        return ready

    def _tell_ready(self, how: str = "") -> None:
        if not self._managed:  # neither adopted nor numbered
            self._tell("ready")
        else:
            self._tell(", ".join(filter(None, ["ready", how, f"generation {self._generation}"])))

    # -- the thread

    def _keep(self) -> None:
        try:
            self._adopt()
            while not self._stopping.is_set():
                self._kick.wait(self._pause())
                self._kick.clear()
                self._care()
        except Exception:
            # A lane without a keeper would stay for ever as it is.
            log.exception("%s: the keeper broke", self._config.name)
            self.hold_reason = "sdwatch itself broke: see its log, and restart it"
            self.state = State.STOPPED
            self._wake()

    def _adopt(self) -> None:
        """Ours and well from before is adopted, instead of loading the model again."""
        if not self.process.adopt():
            return
        self._end_abandoned_generation()
        self._apply(Event.START)
        self._apply(Event.READY)
        self._tell_ready("adopted as it was")
        self._wake()

    def _end_abandoned_generation(self) -> None:
        """A client that goes away does not cancel its generation (measured): what the last
        monitor left running is interrupted, so that the next call does not queue behind it."""
        if self._managed and self._position() is not None:
            self._client.interrupt()

    def _pause(self) -> float:
        """Seconds until the next look, if nothing is announced before."""
        if self._permit.taken:
            return PROBE_EVERY
        return 0.0 if self.state in (State.DOWN, State.COOLING_DOWN) else PROBE_EVERY

    def _care(self) -> None:
        if (watch := self.watch) is not None:
            self._look_at_call(watch)
        elif self._permit.take_for_keeping():
            try:
                self._ensure_ready()
            finally:
                self._permit.give_back()

    def _look_at_call(self, watch: CallWatch) -> None:
        if self._clock.monotonic() < self._next_probe:
            return
        reason = watch.look()
        self._next_probe = self._clock.monotonic() + PROBE_EVERY
        if reason and self.watch is watch:
            self.watch = None  # said once
            self._permit.tell(Stalled(reason))

    def _ensure_ready(self) -> None:
        """One round of care, with the permit."""
        if self.state is State.READY:
            self._check_health()
        if self.state is State.ON_HOLD:
            self._try_again()
        elif self.state is not State.READY:
            self.bring_up(self._stopping)

    def _check_health(self) -> None:
        """Dead or frozen is noticed while nothing is queued, too."""
        if self._is_gone():
            self.crashed(Diagnosis.CRASH)
        elif (probe := self._probe_when_due()) is None:
            return
        elif probe.unusable:
            self.hold(probe.reason)
        elif probe.ready:
            self._failed_probes = 0
            self.process.cap_logs()
        else:
            self._failed_probes += 1
            log.warning("%s: %s", self._config.name, probe.reason)
            if self._failed_probes >= self._config.health.failures:
                self._failed_probes = 0
                self.crashed(Diagnosis.STUCK)

    def _try_again(self) -> None:
        """On hold: has what was wrong gone away?"""
        if self._is_gone():
            self.crashed(Diagnosis.CRASH)
        elif (probe := self._probe_when_due()) is None or self._somebody_generates():
            return
        elif probe.ready:
            self.hold_reason = ""
            self._apply(Event.READY)
            self._wake()
        else:
            self.hold_reason = probe.reason

    def _is_gone(self) -> bool:
        return self._ended is not None or (self._managed and not self.process.is_process_alive())

    def _probe_when_due(self) -> ProbeResult | None:
        if self._clock.monotonic() < self._next_probe:
            return None
        probe = self._probe()
        self._next_probe = self._clock.monotonic() + self._config.health.interval
        return probe

    def _somebody_generates(self) -> bool:
        """Busy is only what moves: a failed upscale leaves /progress set for ever (measured)."""
        before, self._busy_at = self._busy_at, self._position()
        return self._busy_at is not None and self._busy_at != before

    def _position(self) -> object:
        """Where a running generation is; None where none is."""
        try:
            progress = self._client.progress(self._config.health.timeout)
        except WebUIError:
            return None
        state = progress.get("state")
        return (progress.get("progress"), state) if _job(state) else None

    # -- what the process says

    def exited(self, ended: WebUIExit) -> None:
        """From the process's own waiter thread, as soon as a generation has ended."""
        if ended.expected:
            return
        self._ended = ended
        self._permit.tell(Exited(ended.generation, ended.code))
        self._kick.set()

    def _apply(self, event: Event) -> None:
        with self._lock:
            self.state = next_state(self.state, event)
        self._permit.changed()


def _job(state: object) -> bool:
    return isinstance(state, dict) and bool(state.get("job"))

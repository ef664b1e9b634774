"""The keeper of one WebUI: sees that it is ready, on an idle WebUI too, and counts its crashes.

Its thread cares whenever no run has the permit; a run that has it, and whose call crashed, asks
for the same `_bring_up`, so there is one road from a crash to a ready WebUI, and one thread on it.
What is on the WebUI's side of a call is told here; why it is on hold, what was proven of it and how
worn it is are nouns of their own (hold, proof, wear).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any

from sdwatch.clock import Clock, join
from sdwatch.config import WebUIConfig
from sdwatch.hold import Hold
from sdwatch.permit import Permit
from sdwatch.policy.catalogue import Catalogue
from sdwatch.policy.lifecycle import Event, State, next_state
from sdwatch.policy.progress import Limits
from sdwatch.policy.success import Finding
from sdwatch.policy.verdict import Diagnosis
from sdwatch.proof import Proof
from sdwatch.warnings_told import WarningsTold
from sdwatch.wear import Wear
from sdwatch.webui.call_watch import CallWatch
from sdwatch.webui.canary import Canary
from sdwatch.webui.catalogue import CatalogueReader
from sdwatch.webui.client import SDWebUIClient
from sdwatch.webui.crash_history import CrashHistory
from sdwatch.webui.external import ExternalWebUI
from sdwatch.webui.health import ReadinessProbe
from sdwatch.webui.leaks import Leaks
from sdwatch.webui.machine import Machine
from sdwatch.webui.mailbox import Exited, Stalled
from sdwatch.webui.occupancy import Occupancy
from sdwatch.webui.process import WebUIExit, WebUIProcessManager
from sdwatch.webui.readiness import PROBE_EVERY, ProbeResult

log = logging.getLogger("sdwatch.keeper")

FAILED_CANARY = "failed canary"
GIVEN_UP = "given up"
_NO_START = "failed start"

_LOOK_EVERY = 0.1  # seconds: whether a run that waits was given up


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
        machine: Machine | None = None,
    ) -> None:
        self.process: WebUIProcessManager | ExternalWebUI
        self.state = State.DOWN
        self.hold = Hold(clock)
        self.watch: CallWatch | None = None  # of the POST in flight
        self.catalogue: Catalogue | None = None  # of the last generation that was ready
        self._config = config
        self._client = client
        self._probe = probe
        self._crashes = crashes
        self._permit = permit
        self._clock = clock
        self._wake = wake
        self._tell = tell
        self._machine = machine
        # Of `state` and `watch`: the keeper's thread writes them, and the run that has the permit.
        self._lock = threading.Lock()
        self._ended_generation = -1  # the last that ended without being asked to
        self._asked: _Asked | None = None
        self._failed_probes = 0
        self._next_probe = 0.0
        self._occupancy = Occupancy(client, config.health.timeout)
        self._stopping = threading.Event()
        self._kick = threading.Event()
        self._lists = CatalogueReader(client, config.health.timeout, self._stopping.is_set)
        self._lists_asked: set[str] = set()
        canary = Canary(client, may_interrupt=self._managed)
        self._proof = Proof(canary, self._new_watch)
        self._log: CallWatch | None = None  # of the last POST, also when it is over
        self._sent_at = 0.0
        self.wear = Wear(config, Leaks(client), lambda: self.process.rss())
        self.warnings = WarningsTold(tell)
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
            join(self._thread)
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
        well = self.state is State.READY and self._ended_generation != self._generation
        return well and not self.wear.worn_out and not self._stopping.is_set()

    # -- what a call says (see api.Keeper); the caller has the permit

    def is_clean(self) -> bool:
        """For who has just got the permit: whether nothing of an earlier call is left, one that was
        given up included, of which nobody waited for the end."""
        self.warn("a call that was given up", self.after_call())
        return not self.wear.worn_out

    def before_call(self, payload: Mapping[str, Any]) -> None:
        """A POST is about to go out; another attempt of the same call may have gone before."""
        self.wear.before_call(payload, self._generation)

    def after_call(self) -> tuple[Finding, ...]:
        """The call is settled; what the WebUI kept of it, now undone."""
        return self.wear.settle(self._generation)

    def warn(self, job: str, warnings: tuple[Finding, ...]) -> None:
        """Something that a person should know: counted for status, and told once for each job."""
        self.warnings.add(job, warnings)

    def sending(self, stage: str) -> None:
        """A POST goes out: watch it from here on."""
        self.wear.sending()
        self._sent_at = self._clock.monotonic()
        self._log = self._new_watch(stage)
        self._set_watch(self._log)

    def call_log(self) -> tuple[str, ...]:
        """The WebUI's lines since the last POST went out, oldest first."""
        return self._log.lines() if self._log is not None else ()

    def call_over(self) -> None:
        """The call is settled, and the permit about to be given back."""
        self.wear.look()
        if self.state is State.READY:  # else a hold has its own time
            self._next_probe = self._clock.monotonic() + PROBE_EVERY
        self._set_watch(None)

    def look_again(self) -> None:
        """The permit was given back: what happened to the WebUI meanwhile is the keeper's."""
        if not self.ready:
            self._kick.set()

    def succeeded(self, stage: str, payload: Mapping[str, Any]) -> None:
        """A call succeeded."""
        self.hold.succeeded()
        self._crashes.succeeded()
        self._proof.succeeded(stage, payload, self._clock.monotonic() - self._sent_at)

    def crashed(self, diagnosis: Diagnosis) -> None:
        """The WebUI must be restarted; its cool-down begins now."""
        self._set_watch(None)
        entry = self._crashes.crashed(str(diagnosis))
        self._apply(Event.CRASHED)
        self._tell(f"{diagnosis}; nothing is sent to it for {entry:g} s")

    def put_on_hold(self, reason: str, *, until_idle: bool = False) -> None:
        """Nothing can be sent to it for now. See roles.Keeper. No probe sees what a call has found
        wrong, so a canary goes before the next call."""
        self._hold_for(self.hold.begin(reason, until_idle=until_idle, to_be_proven=not until_idle))

    def release(self) -> None:
        """A person says that it is to go on; from any thread. A cool-down runs on all the same."""
        self.hold.release()
        self._next_probe = 0.0
        self._kick.set()

    def read_again(self, routes: Collection[str]) -> None:
        """Read these lists anew, soon; from any thread. `wake` is called when it is done."""
        with self._lock:
            self._lists_asked |= set(routes)
        self._kick.set()

    def bring_up_for(self, give_up: threading.Event) -> bool:
        """For the run that has the permit: have the WebUI brought up, and wait for that. False:
        it did not become ready, or `give_up` was set; then the keeper goes on with it."""
        return self._ask(_Asked(False, give_up)) == ""

    def prove(self, give_up: threading.Event) -> str:
        """For the run that has the permit: put the WebUI to the proof. See roles.Keeper."""
        return self._ask(_Asked(True, give_up))

    def is_a_jobs_own(self, message: str) -> bool:
        """Whether this failure was proven to be a job's own, and needs no more proof."""
        return self._proof.is_a_jobs_own(message, self._generation)

    def blamed(self, job: str, run: str, message: str, crashes: int, died: bool) -> None:
        """This failure was proven to be a job's own: its crashes lengthen no cool-down."""
        self._crashes.forgive(crashes)
        if runs := self._proof.blamed(job, run, message, self._generation, died):
            reason = (
                f"{len(runs)} different jobs in a row crashed it, though it draws the canary: "
                "perhaps it is not the jobs. To put them back: sdwatch retry " + " ".join(runs)
            )
            if self.state is not State.READY:
                self.wear.wear_out("the last job may have left it broken")
            self.hold.say(reason)
            self._look_again_in(self._crashes.longest)

    def _hold_for(self, in_a_row: int) -> None:
        """It is on hold; the oftener in a row, the longer until it is looked at again."""
        self._look_again_in(self._crashes.entry(in_a_row))

    def _look_again_in(self, seconds: float) -> None:
        self._set_watch(None)
        self._next_probe = self._clock.monotonic() + seconds
        self._apply(Event.NOT_USABLE)
        self._wake()

    def _ask(self, asked: _Asked) -> str:
        self._asked = asked
        self._kick.set()
        while not asked.done.wait(_LOOK_EVERY):
            # Its canary must be off the WebUI before the permit is given back.
            if (asked.given_up or self._stopping.is_set()) and not asked.sends:
                return GIVEN_UP
        return asked.unwell

    def _new_watch(self, stage: str) -> CallWatch:
        config = self._config
        return CallWatch(
            self._client,
            self._clock,
            Limits(config.stall, config.load_limit, config.call_limit),
            stage=stage,
            timeout=config.health.timeout,
            work=self.process.cpu_and_io,
            logs=self.process.log_paths(),
        )

    def _set_watch(self, watch: CallWatch | None) -> None:
        with self._lock:
            self.watch = watch

    # -- the thread

    def _keep(self) -> None:
        self._unless_broken(self._adopt)
        while not self._stopping.is_set():
            self._kick.wait(self._pause())
            self._kick.clear()
            self._unless_broken(self._read_lists_again)
            self._unless_broken(self._care)

    def _unless_broken(self, act: Callable[[], None]) -> None:
        """The thread's outer edge. A lane without a keeper would stay for ever as it is, so the
        keeper goes on after a mistake of its own."""
        try:
            act()
        except Exception as error:
            log.exception("%s: the keeper broke, and goes on", self._config.name)
            if self.state is State.STARTING:
                self._apply(Event.START_FAILED)
            if self.state is not State.READY:
                self.hold.say(f"sdwatch itself broke: {error!r}")
            self._wake()
            self._clock.wait(self._stopping, PROBE_EVERY)

    def _adopt(self) -> None:
        """Ours and well from before is adopted, instead of loading the model again."""
        if not self.process.adopt(give_up=self._stopping):
            return
        self._interrupt_what_was_left()
        self._apply(Event.START)
        if unwell := self._doubt():
            self._apply(Event.START_FAILED)
            self._failed(unwell, FAILED_CANARY)
            return
        self._read_catalogue()
        self._apply(Event.READY)
        self._tell_ready("adopted as it was")
        self._wake()

    def _bring_up(self) -> bool:
        """Wait out the cool-down, then restart and wait until ready. False: `hold.reason` says
        why, or sdwatch stops. The keeper or a run that waits for it has the permit."""
        if self._clock.wait(self._stopping, self._crashes.remaining()):
            return False
        self._probe.begin_generation()
        self._failed_probes = 0
        self.wear.begin_generation()
        self._apply(Event.START)
        self._crashes.started(self._generation + 1 if self._managed else 0)
        ready = self.process.restart_and_wait_ready(self._config.start_limit, self._stopping)
        unwell = self._doubt() if ready else ""
        well = ready and not unwell
        if well:
            self._read_catalogue()
        self._apply(Event.READY if well else Event.START_FAILED)
        if well:
            self.hold.end()
            self._tell_ready()
        else:
            self._failed(unwell or self.process.last_failure, FAILED_CANARY if ready else _NO_START)
        self._wake()
        return well

    def _failed(self, reason: str, kind: str) -> None:
        """It is of no use as it is: the cool-down begins, and the lane is on hold."""
        if self._stopping.is_set():
            return
        self._crashes.crashed(kind)
        self.hold.say(reason)

    # -- the proof

    def _doubt(self) -> str:
        """After a failed canary it is ready only when one has passed: why that failed, or ''. It
        is a call like any other, and waits out the cool-down."""
        if self._crashes.last_kind != FAILED_CANARY:
            return ""
        if self._clock.wait(self._stopping, self._crashes.remaining()):
            return "sdwatch stops"
        unwell = self._proof.why_unwell(self._why_over)
        return unwell.reason if unwell else ""

    def _prove(self, asked: _Asked) -> str:
        """For a run whose call failed twice: why the WebUI is unwell, or ''."""
        if self.state is State.READY and self._is_gone():
            self.crashed(Diagnosis.CRASH)
        if self.state is not State.READY and not self._bring_up():
            return self.hold.reason or "it could not be brought up"
        asked.sends = True
        if asked.given_up:
            return GIVEN_UP
        unwell = self._proof.why_unwell(lambda: GIVEN_UP if asked.given_up else self._why_over())
        if unwell is None or asked.given_up:
            return GIVEN_UP if asked.given_up else ""
        self._fail_proof(unwell.reason)
        return unwell.reason

    def _fail_proof(self, unwell: str) -> None:
        if self._stopping.is_set():
            return
        self._apply(Event.CRASHED)
        self._failed(unwell, FAILED_CANARY)
        self._tell(f"{unwell}; nothing is sent to it for {self._crashes.remaining():g} s")
        self._wake()

    def _why_over(self) -> str:
        """Why a proof that is under way needs no more waiting for, or ''."""
        if self._stopping.is_set():
            return "sdwatch stops"
        return "the WebUI's process ended" if self._is_gone() else ""

    # -- what it has

    def _read_catalogue(self) -> None:
        """Before it is ready for runs, so that no job is claimed without. What is not answered in
        time is not known."""
        self.catalogue = catalogue = self._lists.read()
        for route, why in catalogue.missing.items():
            log.info("%s: no %s to check jobs against: %s", self._config.name, route, why)

    def _read_lists_again(self) -> None:
        with self._lock:
            routes, self._lists_asked = self._lists_asked, set()
        if routes and self.catalogue is not None:
            self.catalogue = self._lists.read_again(self.catalogue, routes)
            self._wake()

    def _tell_ready(self, how: str = "") -> None:
        if not self._managed:  # neither adopted nor numbered
            self._tell("ready")
        else:
            self._tell(", ".join(filter(None, ["ready", how, f"generation {self._generation}"])))

    def _interrupt_what_was_left(self) -> None:
        """A client that goes away does not cancel what it asked for (measured): the picture that
        the last monitor left behind is interrupted, so that no call queues behind it."""
        if self._managed and self._occupancy.seen:
            self._client.interrupt()

    def _pause(self) -> float:
        """Seconds until the next look, if nothing is announced before."""
        if (watch := self.watch) is not None:
            return max(0.0, min(PROBE_EVERY, watch.next_look - self._clock.monotonic()))
        down = self.state in (State.DOWN, State.COOLING_DOWN)
        return 0.0 if down and not self._permit.taken else PROBE_EVERY

    def _care(self) -> None:
        """One round: what a run asked for, the call in flight, or the idle WebUI."""
        if self._machine is not None:
            self._machine.look()
        if (asked := self._asked) is not None:
            self._asked = None
            try:
                asked.unwell = self._prove(asked) if asked.prove else self._brought_up()
            finally:
                asked.done.set()
        elif (watch := self.watch) is not None:
            self._look_at_call(watch)
        elif self._permit.take_for_keeping():
            try:
                self._ensure_ready()
            finally:
                self._permit.give_back()

    def _brought_up(self) -> str:
        return "" if self._bring_up() else self.hold.reason or "it could not be brought up"

    def _look_at_call(self, watch: CallWatch) -> None:
        if not watch.is_due:
            return
        self.process.cap_logs()  # a queue that never rests must not let a flood through
        self.wear.look_at_memory()
        reason = watch.look()
        with self._lock:
            # Under the lock: the call may be over by now, and the next one's watch in its place.
            if reason and self.watch is watch:
                self.watch = None  # said once
                self._permit.tell(Stalled(reason))

    def _ensure_ready(self) -> None:
        """One round of care for a WebUI that no run has."""
        if self.state is State.READY:
            self._check_health()
        if self.state is State.READY and self.wear.worn_out:
            self._recycle()
        if self.state is State.NOT_USABLE:
            self._try_again()
        elif self.state is not State.READY:
            self._bring_up()

    def _recycle(self) -> None:
        """End it in order and start it anew, which is no crash."""
        self._crashes.recycled(self._generation, self.wear.worn_out)
        self._tell(f"recycled: {self.wear.worn_out}")
        self._apply(Event.RECYCLED)

    def _check_health(self) -> None:
        """Dead or frozen is noticed while nothing is queued, too."""
        if self._is_gone():
            self.crashed(Diagnosis.CRASH)
        elif (probe := self._probe_when_due()) is None:
            return
        elif probe.unusable:
            self._hold_for(self.hold.begin(probe.reason))
        elif probe.ready:
            self._failed_probes = 0
            self.process.cap_logs()
            self.wear.look_at_memory()
        else:
            self._failed_probes += 1
            log.warning("%s: %s", self._config.name, probe.reason)
            if self._failed_probes >= self._config.health.failures:
                self._failed_probes = 0
                self.crashed(Diagnosis.STUCK)

    def _try_again(self) -> None:
        """It could not be used: has what was wrong gone away?"""
        if self._is_gone():
            self.crashed(Diagnosis.CRASH)
        elif (probe := self._probe_when_due()) is None:
            return
        elif self._occupancy.look(still_counts=self.hold.until_idle):
            self.hold.say_again()
        elif not probe.ready:
            self.hold.say(probe.reason)
        else:
            self._go_on_if_well()

    def _go_on_if_well(self) -> None:
        """Its probe is answered; what a call has found wrong only the canary can see."""
        unwell = self._proof.why_unwell(self._why_over) if self.hold.to_be_proven else None
        if unwell is None:
            self.hold.end()
            self._read_catalogue()
            self._apply(Event.READY)
            self._wake()
        elif unwell.busy:
            self._hold_for(self.hold.begin(unwell.reason, to_be_proven=True))
        else:
            self._fail_proof(unwell.reason)

    def _is_gone(self) -> bool:
        if not self._managed:
            return False
        ended = self._ended_generation == self._generation
        return ended or not self.process.is_process_alive()

    def _probe_when_due(self) -> ProbeResult | None:
        if self._clock.monotonic() < self._next_probe:
            return None
        probe = self._probe()
        self._next_probe = self._clock.monotonic() + self._config.health.interval
        return probe

    # -- what the process says

    def exited(self, ended: WebUIExit) -> None:
        """From the process's own waiter thread, as soon as a generation has ended."""
        if ended.expected:
            return
        self._ended_generation = ended.generation
        self._permit.tell(Exited(ended.generation, ended.code))
        self._kick.set()

    def _apply(self, event: Event) -> None:
        with self._lock:
            self.state = next_state(self.state, event)
        self._permit.changed()


class _Asked:
    """A run's wish that the WebUI be brought up, or with `prove` put to the proof; `unwell` is the
    answer once it is `done`: '' or a reason. `sends`: from here on it is on the WebUI."""

    def __init__(self, prove: bool, give_up: threading.Event) -> None:
        self.done = threading.Event()
        self.prove = prove
        self.sends = False
        self.unwell = "sdwatch itself broke on it"
        self._give_up = give_up

    @property
    def given_up(self) -> bool:
        """Whether the run waits for it no longer."""
        return self._give_up.is_set()

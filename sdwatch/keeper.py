"""The keeper of one WebUI: sees that it is ready, on an idle WebUI too, and counts its crashes.

Its thread cares whenever no run has the permit; a run that has it, and whose call crashed, asks
for the same `_bring_up`, so there is one road from a crash to a ready WebUI, and one thread on it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any

from sdwatch.clock import Clock, join
from sdwatch.config import WebUIConfig
from sdwatch.errors import WebUIError
from sdwatch.permit import Permit
from sdwatch.policy.blame import Blame
from sdwatch.policy.catalogue import Catalogue
from sdwatch.policy.lifecycle import Event, State, next_state
from sdwatch.policy.progress import Limits
from sdwatch.policy.success import Finding
from sdwatch.policy.verdict import Diagnosis
from sdwatch.webui.canary import SIDE, Asked, Canary, payload
from sdwatch.webui.catalogue import CatalogueReader
from sdwatch.webui.client import SDWebUIClient
from sdwatch.webui.crash_history import CrashHistory
from sdwatch.webui.external import ExternalWebUI
from sdwatch.webui.health import CallWatch, ReadinessProbe
from sdwatch.webui.leaks import Leaks
from sdwatch.webui.machine import Machine
from sdwatch.webui.mailbox import Exited, Stalled
from sdwatch.webui.process import WebUIExit, WebUIProcessManager
from sdwatch.webui.readiness import PROBE_EVERY, ProbeResult

log = logging.getLogger("sdwatch.keeper")

FAILED_CANARY = "failed canary"
_NO_START = "failed start"

_LOOK_EVERY = 0.1  # seconds: whether a run that waits was given up
_MOST_TOLD = 1000  # warnings remembered, so that each is told once
_SHORT_ENOUGH = 60.0  # seconds: a call that took longer is not repeated as a proof


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
        self.held_since = 0.0  # on the wall clock; 0 while it is not on hold
        self._hold_reason = ""
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
        self._holds_in_a_row = 0
        self._next_probe = 0.0
        self._busy_at: object = None
        self._until_idle = ""  # why nothing is sent while a generation is to be seen there
        self._stopping = threading.Event()
        self._kick = threading.Event()
        self._canary = Canary(client, may_interrupt=self._managed)
        self._lists = CatalogueReader(client, config.health.timeout, self._stopping.is_set)
        self._lists_asked: set[str] = set()
        self._last_good: Asked | None = None
        self._blame = Blame()
        self._log: CallWatch | None = None  # of the last POST, also when it is over
        self._sent_at = 0.0
        self._leaks = Leaks(client)
        self._worn_out = ""  # why it is to be recycled before the next call
        self._calls = 0  # of this generation
        self.rss = 0  # bytes, when it was last looked at
        self.warnings = 0
        self.last_warning = ""
        self._told: set[tuple[str, str]] = set()
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
    def hold_reason(self) -> str:
        """Why nobody is served until something changes; '' when it is not on hold."""
        return self._hold_reason

    @hold_reason.setter
    def hold_reason(self, reason: str) -> None:
        self.held_since = (self.held_since or self._clock.wall()) if reason else 0.0
        self._hold_reason = reason

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
        return well and not self._worn_out and not self._stopping.is_set()

    # -- what a call says (see api.Keeper); the caller has the permit

    def is_clean(self) -> bool:
        """For who has just got the permit: whether nothing of an earlier call is left, one that was
        given up included, of which nobody waited for the end."""
        self.warn("a call that was given up", self.after_call())
        return not self._worn_out

    def before_call(self, payload: Mapping[str, Any]) -> None:
        """A POST is about to go out; another attempt of the same call may have gone before."""
        if self._config.undo_overrides:
            self._settled(self._leaks.before(payload, self._generation))

    def after_call(self) -> tuple[Finding, ...]:
        """The call is settled; what the WebUI kept of it, now undone."""
        return self._settled(self._leaks.settle(self._generation))

    def warn(self, job: str, warnings: tuple[Finding, ...]) -> None:
        """Something that a person should know: counted for status, and told once for each job."""
        for finding in warnings:
            self.warnings += 1
            self.last_warning = f"{job}: {finding.words}"
            if (job, finding.words) not in self._told:
                self._told = self._told if len(self._told) < _MOST_TOLD else set()
                self._told.add((job, finding.words))
                self._tell(self.last_warning)

    def _settled(self, kept: tuple[list[str], list[str]]) -> tuple[Finding, ...]:
        undone, left = kept
        found = []
        if undone:
            words = f"the WebUI kept {', '.join(undone)} after the call; put back as it was"
            found.append(Finding("leak", words))
        if left:
            how = "it is recycled" if self._managed else "it is not ours to restart"
            words = f"the WebUI kept {', '.join(left)} after the call, and cannot undo it; {how}"
            found.append(Finding("leak", words))
            self._wear_out(f"it kept {', '.join(left)} of a job")
        return tuple(found)

    def sending(self, stage: str) -> None:
        """A POST goes out: watch it from here on."""
        self._calls += 1
        self._sent_at = self._clock.monotonic()
        self._log = self._new_watch(stage)
        self._set_watch(self._log)

    def call_log(self) -> tuple[str, ...]:
        """The WebUI's lines since the last POST went out, oldest first."""
        return self._log.lines() if self._log is not None else ()

    def call_over(self) -> None:
        """The call is settled, and the permit about to be given back."""
        self._look_how_worn()
        if self.state is State.READY:  # else a hold has its own time
            self._next_probe = self._clock.monotonic() + PROBE_EVERY
        self._set_watch(None)

    def look_again(self) -> None:
        """The permit was given back: what happened to the WebUI meanwhile is the keeper's."""
        if not self.ready:
            self._kick.set()

    def succeeded(self, stage: str, payload: Mapping[str, Any]) -> None:
        """A call succeeded."""
        self._holds_in_a_row = 0
        self._crashes.succeeded()
        self._blame.succeeded()
        if self._clock.monotonic() - self._sent_at <= _SHORT_ENOUGH:
            self._last_good = Asked(stage, payload, "a repeat of the last good call", False)

    def crashed(self, diagnosis: Diagnosis) -> None:
        """The WebUI must be restarted; its cool-down begins now."""
        self._set_watch(None)
        entry = self._crashes.crashed(str(diagnosis))
        self._apply(Event.CRASHED)
        self._tell(f"{diagnosis}; nothing is sent to it for {entry:g} s")

    def hold(self, reason: str, *, until_idle: bool = False) -> None:
        """Nothing can be sent to it for now; the oftener in a row, the longer. See roles.Keeper."""
        self._holds_in_a_row += 1
        self._until_idle = reason if until_idle else ""
        self._hold_for(reason, self._crashes.entry(self._holds_in_a_row))

    def release(self) -> None:
        """A person says that it is to go on; from any thread. A cool-down runs on all the same."""
        self._until_idle = ""
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
        return self._ask(_Asked(prove=False), give_up) == ""

    def prove(self, give_up: threading.Event) -> str:
        """For the run that has the permit: put the WebUI to the proof. See roles.Keeper."""
        return self._ask(_Asked(prove=True), give_up)

    def is_a_jobs_own(self, message: str) -> bool:
        """Whether this failure was proven to be a job's own, and needs no more proof."""
        return self._blame.is_a_jobs_own(message, self._generation)

    def blamed(self, job: str, run: str, message: str, crashes: int, died: bool) -> None:
        """This failure was proven to be a job's own: its crashes lengthen no cool-down."""
        self._crashes.forgive(crashes)
        self._blame.blame(job, run, message, self._generation, died)
        if runs := self._blame.take_suspects():
            reason = (
                f"{len(runs)} different jobs in a row crashed it, though it draws the canary: "
                "perhaps it is not the jobs. To put them back: sdwatch retry " + " ".join(runs)
            )
            self._hold_for(reason, self._crashes.longest)

    def _hold_for(self, reason: str, seconds: float) -> None:
        self._set_watch(None)
        self._next_probe = self._clock.monotonic() + seconds
        self.hold_reason = reason
        self._apply(Event.NOT_USABLE)
        self._wake()

    def _ask(self, asked: _Asked, give_up: threading.Event) -> str:
        self._asked = asked
        self._kick.set()
        while not asked.done.wait(_LOOK_EVERY):
            if give_up.is_set() or self._stopping.is_set():
                return "given up"
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
                self.hold_reason = f"sdwatch itself broke: {error!r}"
            self._wake()
            self._clock.wait(self._stopping, PROBE_EVERY)

    def _adopt(self) -> None:
        """Ours and well from before is adopted, instead of loading the model again."""
        if not self.process.adopt(give_up=self._stopping):
            return
        self._end_abandoned_generation()
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
        """Wait out the cool-down, then restart and wait until ready. False: `hold_reason` says
        why, or sdwatch stops. The keeper or a run that waits for it has the permit."""
        if self._clock.wait(self._stopping, self._crashes.remaining()):
            return False
        self._probe.begin_generation()
        self._failed_probes = 0
        self._worn_out, self._calls = "", 0
        self._apply(Event.START)
        self._crashes.started(self._generation + 1 if self._managed else 0)
        ready = self.process.restart_and_wait_ready(self._config.start_limit, self._stopping)
        unwell = self._doubt() if ready else ""
        well = ready and not unwell
        if well:
            self._read_catalogue()
        self._apply(Event.READY if well else Event.START_FAILED)
        if well:
            self.hold_reason = ""
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
        self.hold_reason = reason

    # -- the canary

    def _doubt(self) -> str:
        """After a failed canary it is ready only when one has passed: why that failed, or ''."""
        return self._send_canary() if self._crashes.last_kind == FAILED_CANARY else ""

    def _prove(self) -> str:
        """For a run whose call failed twice: why the WebUI is unwell, or ''."""
        if (self.state is not State.READY or self._is_gone()) and not self._bring_up():
            return self.hold_reason or "it could not be brought up"
        if unwell := self._send_canary():
            self._apply(Event.CRASHED)
            self._failed(unwell, FAILED_CANARY)
            self._tell(f"{unwell}; nothing is sent to it for {self._crashes.remaining():g} s")
            self._wake()
        return unwell

    def _send_canary(self) -> str:
        """Why it is unwell, or ''."""
        tiny = Asked("txt2img", payload(), f"the canary ({SIDE}x{SIDE}, one step)", True)
        for asked in filter(None, (tiny, self._last_good)):
            watch = self._new_watch(asked.stage)
            if unwell := self._canary.ask(asked, lambda: self._why_not_wait(watch)):  # noqa: B023
                return unwell
        return ""

    def _why_not_wait(self, watch: CallWatch) -> str:
        if self._stopping.is_set():
            return "sdwatch stops"
        if self._is_gone():
            return "the WebUI's process ended"
        return watch.look() if self._clock.monotonic() >= watch.next_look else ""

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

    def _end_abandoned_generation(self) -> None:
        """A client that goes away does not cancel its generation (measured): what the last
        monitor left running is interrupted, so that the next call does not queue behind it."""
        if self._managed and self._position() is not None:
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
                asked.unwell = self._prove() if asked.prove else self._brought_up()
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
        return "" if self._bring_up() else self.hold_reason or "it could not be brought up"

    def _look_at_call(self, watch: CallWatch) -> None:
        if self._clock.monotonic() < watch.next_look:
            return
        self.process.cap_logs()  # a queue that never rests must not let a flood through
        self.rss = self.process.rss()
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
        if self.state is State.READY and self._worn_out:
            self._recycle()
        if self.state is State.NOT_USABLE:
            self._try_again()
        elif self.state is not State.READY:
            self._bring_up()

    # -- recycling: ended in order and started anew, which is no crash

    def _wear_out(self, reason: str) -> None:
        """No call goes out before it is recycled. What is not ours is left as it is."""
        if self._managed:
            self._worn_out = self._worn_out or reason

    def _look_how_worn(self) -> None:
        """After a call: has this generation had all the calls, or all the memory, that it may?"""
        config = self._config
        if config.max_calls is not None and self._calls >= config.max_calls:
            self._wear_out(f"it has made {self._calls} calls, and max_calls is {config.max_calls}")
        if config.max_rss is not None:
            self.rss = self.process.rss()
            if self.rss > config.max_rss:
                had, may = self.rss // 10**6, config.max_rss // 10**6
                self._wear_out(f"it holds {had} MB of memory, and max_rss is {may} MB")

    def _recycle(self) -> None:
        self._crashes.recycled(self._generation, self._worn_out)
        self._tell(f"recycled: {self._worn_out}")
        self._apply(Event.RECYCLED)

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
            self.rss = self.process.rss()
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
        elif self._somebody_generates():
            self.hold_reason = self._until_idle or self.hold_reason
        elif probe.ready:
            self.hold_reason = self._until_idle = ""
            self._read_catalogue()
            self._apply(Event.READY)
            self._wake()
        else:
            self.hold_reason = probe.reason

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

    def _somebody_generates(self) -> bool:
        """Busy is only what moves: a failed upscale leaves /progress set for ever (measured). But
        what held up a call of ours may hang, and is waited for until it is gone."""
        before, self._busy_at = self._busy_at, self._position()
        moves_or_holds = self._busy_at != before or bool(self._until_idle)
        return self._busy_at is not None and moves_or_holds

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
        self._ended_generation = ended.generation
        self._permit.tell(Exited(ended.generation, ended.code))
        self._kick.set()

    def _apply(self, event: Event) -> None:
        with self._lock:
            self.state = next_state(self.state, event)
        self._permit.changed()


class _Asked:
    """A run's wish that the WebUI be brought up, or with `prove` put to the proof; `unwell` is the
    answer once it is `done`: '' or a reason."""

    def __init__(self, prove: bool) -> None:
        self.done = threading.Event()
        self.prove = prove
        self.unwell = "sdwatch itself broke on it"


def _job(state: object) -> bool:
    return isinstance(state, dict) and bool(state.get("job"))

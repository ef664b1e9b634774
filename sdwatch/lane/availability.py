"""The upkeep of one WebUI: from down to ready, and back to ready after whatever happened to it.

There is one road from a crash to a ready WebUI, `bring_up`. It is walked on the keeper's thread,
with the WebUI's permit: the keeper's own, or that of the run that waits for it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sdwatch.config import WebUIConfig
from sdwatch.lane.hold import Hold
from sdwatch.lane.recycling import Recycling
from sdwatch.lane.self_test import Ended, SelfTest
from sdwatch.policy.failure.cooldown import asked_again_after
from sdwatch.policy.failure.diagnosis import Diagnosis, Drawn
from sdwatch.policy.failure.error_lines import lines_that_matter
from sdwatch.policy.failure.hold_reason import (
    Cure,
    HoldReason,
    NoCall,
    broken_here,
    doubted_jobs,
    no_answer,
    seen_by_probe,
    unproven,
)
from sdwatch.policy.failure.lifecycle import Event, State, next_state
from sdwatch.policy.failure.reply_checks import Finding, failed_extensions
from sdwatch.policy.job.catalogue import Catalogue, Kind
from sdwatch.policy.privacy.cuts import shortened
from sdwatch.policy.privacy.redaction import MOST_AT_ONCE
from sdwatch.system.clock import Clock
from sdwatch.webui.http.attempt import EXIT_WAIT
from sdwatch.webui.http.canary import By, SelfTestFailure
from sdwatch.webui.http.catalogue import CatalogueReader
from sdwatch.webui.http.client import SDWebUIClient
from sdwatch.webui.http.external import ExternalWebUI
from sdwatch.webui.http.health import ReadinessProbe
from sdwatch.webui.http.occupancy import Occupancy
from sdwatch.webui.http.remembered import Remembered
from sdwatch.webui.log.tail_capture import first_lines
from sdwatch.webui.process.crash_history import CrashHistory, Fell
from sdwatch.webui.process.process import WebUIProcessManager
from sdwatch.webui.process.readiness import PROBE_EVERY, ProbeResult

log = logging.getLogger("sdwatch.keeper")

_SCHEMA_LOOKS_AT_START = 2
_SCHEMA_LOOKS_WHILE_IDLE = 3
_SCHEMA_PAUSE = 0.5
"""Seconds: routes that are still being added are there by then (measured with SD.Next)."""

STOPS = "sdwatch stops"


class Availability:
    """Of the WebUI of `config`. `stopping` is set when sdwatch stops; `changed` is called after
    each change of `state`, `wake` when the lane's readiness is another; `tell` gets lines for
    people, `warn` what of a start they should know; `redact` takes prompts out of what the WebUI
    said. `may_call`: why no call may begin, or None; `paused`: why nothing but a health check
    may be done, or None (a person's hold). `process` is set once, before anything else."""

    def __init__(
        self,
        config: WebUIConfig,
        *,
        client: SDWebUIClient,
        probe: ReadinessProbe,
        crashes: CrashHistory,
        recycling: Recycling,
        self_test: SelfTest,
        clock: Clock,
        stopping: threading.Event,
        changed: Callable[[], None],
        wake: Callable[[], None],
        tell: Callable[[str], None],
        warn: Callable[[str, tuple[Finding, ...]], None],
        may_call: Callable[[], NoCall | None],
        paused: Callable[[], NoCall | None],
        redact: Callable[[str], str],
        remembered: Remembered,
    ) -> None:
        self.process: WebUIProcessManager | ExternalWebUI
        self.state = State.DOWN
        self.hold = Hold(clock)
        self.catalogue: Catalogue | None = None  # of the last generation that was ready
        self.ended_incarnation = -1  # the last that ended without being asked to
        self._config = config
        self._client = client
        self._probe = probe
        self._crashes = crashes
        self._recycling = recycling
        self._self_test = self_test
        self._clock = clock
        self._stopping = stopping
        self._changed = changed
        self._wake = wake
        self._tell = tell
        self._warn = warn
        self._may_call = may_call
        self.paused = paused
        self._redact = redact
        self._lists = CatalogueReader(
            client, config.health.timeout, stopping.is_set, remembered, self._is_idle
        )
        self._cannot: dict[str, str] = {}  # stages, and why: as calls of this life have shown
        self._useless: dict[str, str] = {}  # upscalers, and why
        self._remembered = remembered
        self._schema_looks = 0
        self._occupancy = Occupancy(client, config.health.timeout, clock)
        self._failed_probes = 0
        self._next_probe = 0.0
        self._nothing_runs = False  # on hold since a start found it not usable, and ended
        self._unusable_starts = 0  # in a row

    @property
    def _managed(self) -> bool:
        return self._config.command is not None

    @property
    def kind(self) -> Kind:
        """Which WebUI it is, or was in an earlier life, as far as that is known."""
        return self.catalogue.kind if self.catalogue is not None else self._remembered.kind

    @property
    def ready(self) -> bool:
        """Whether a call may be sent."""
        well = self.state is State.READY and self.ended_incarnation != self.process.incarnation
        sound = not self._recycling.due and not self._crashes.suspects
        return well and sound and not self._stopping.is_set()

    @property
    def is_gone(self) -> bool:
        """Whether its process is ours, and has ended."""
        if not self._managed:
            return False
        ended = self.ended_incarnation == self.process.incarnation
        return ended or not self.process.is_process_alive()

    def apply(self, event: Event) -> None:
        """It happened: another state. Raises LifecycleError where that cannot be."""
        self.state = next_state(self.state, event)
        self._changed()

    # -- the road to ready

    def adopt(self) -> None:
        """Ours and well from before is adopted, instead of loading the model again."""
        if not self.process.adopt(give_up=self._stopping):
            if self.process.answers_unusable:
                self.apply(Event.START)
                self._found_not_usable(self.process.last_hold_reason)
            return
        self._interrupt_what_was_left()
        self.apply(Event.START)
        self._come_up("adopted as it was")

    def bring_up(self) -> SelfTestFailure | None:
        """Wait out the cool-down, then restart and wait until ready: None, or why it is not. While
        it is `paused` nothing is started."""
        if self._clock.wait(self._stopping, self._crashes.remaining()):
            return SelfTestFailure(STOPS, By.NOT_ASKED)
        if why := self.paused():
            return SelfTestFailure(why.text, By.NOT_ASKED)
        self._nothing_runs = False
        before = self.process.incarnation
        self._probe.start_incarnation()
        self._schema_looks = 0
        self._cannot, self._useless = {}, {}
        self._failed_probes = 0
        self._recycling.start_incarnation()
        self.apply(Event.START)
        self._crashes.started(self.process.incarnation + 1 if self._managed else 0)
        started = self.process.restart_and_wait_ready(self._config.start_limit, self._stopping)
        if started:
            self._warn_of_the_start()
            return self._come_up()
        hold_reason = self.process.last_hold_reason
        has_lived = not self._managed or self.process.incarnation != before
        if hold_reason.cure is Cure.PERSON:
            self._found_not_usable(hold_reason, has_output=has_lived)
        else:
            self.apply(Event.START_FAILED)
            self._failed(hold_reason, Fell.NO_START, has_output=has_lived)
            self._wake()
        return SelfTestFailure(self._redact(hold_reason.cause), By.NOT_ASKED)

    def _warn_of_the_start(self) -> None:
        """Extensions that this life of it has not loaded. One that was adopted was told of."""
        if self._managed:
            begin = [line for path in self.process.log_paths() for line in first_lines(path)]
            found = (each for each in failed_extensions(begin, {}) if each.of_start)
            self._warn(f"generation {self.process.incarnation}", tuple(found))

    def _come_up(self, how: str = "") -> SelfTestFailure | None:
        """It answers: it is ready, unless it is doubted. None, or why it is not."""
        self._unusable_starts = 0
        if self.must_be_proven and (why := self.paused()):
            self._wait_to_be_proven()
            return SelfTestFailure(why.text, By.NOT_ASKED)
        self_test_failure = self._doubt()
        if self_test_failure is None:
            self._read_lists()
            self.apply(Event.READY)
            self.hold.end()
            self._tell_ready(how)
            self._wake()
            self._hold_if_suspected()
            return None
        return self._take(self_test_failure, Event.START_FAILED)

    def _found_not_usable(self, hold_reason: HoldReason, *, has_output: bool = True) -> None:
        """A start found that only a person can cure it, which is no crash. What answers is asked
        again, and left running; where nothing runs, the start is tried again."""
        self._nothing_runs = self._managed and not self.process.answers_unusable
        self._unusable_starts += 1
        if not self._stopping.is_set():
            self.hold.say(self._with_output(hold_reason) if has_output else hold_reason, anew=True)
        starts_again = asked_again_after(self._unusable_starts)
        self._hold_for(starts_again if self._nothing_runs else self._config.health.interval)

    def _wait_to_be_proven(self) -> None:
        """It answers, but its proof must wait for a person's hold to end."""
        self.hold.to_be_proven = True
        if self.hold.held is None:
            self.hold.say(unproven())
        self._hold_for(0.0)

    @property
    def must_be_proven(self) -> bool:
        """Whether it is ready only once it has passed a self-test."""
        return self.hold.to_be_proven or self._crashes.doubted

    def look_after(self) -> None:
        """One round for a WebUI that no run has."""
        if self.state is State.READY:
            self._check_health()
        if self.state is State.READY and self._recycling.due and not self._may_call():
            self._recycle()
        if self.state is State.NOT_USABLE:
            self._try_again()
        elif self.state is not State.READY:
            self.bring_up()

    def rest(self) -> None:
        """It has just answered a call: no probe is needed for a moment. A hold has its own time."""
        if self.state is State.READY:
            self._next_probe = self._clock.monotonic() + PROBE_EVERY

    def broke(self, error: Exception) -> None:
        """A mistake of sdwatch itself left it in the middle."""
        if self.state is State.STARTING:
            self._crashes.crashed(Fell.NO_START)
            self.apply(Event.START_FAILED)
        if self.state is not State.READY:
            self.hold.say(broken_here(repr(error)))
        self._wake()

    # -- what went wrong

    def crashed(self, diagnosis: Diagnosis, why: str = "") -> None:
        """It must be restarted; its cool-down begins now. `why`: what was seen, in words."""
        entry = self._crashes.crashed(diagnosis)
        self.apply(Event.CRASHED)
        because = f": {self._redact(why)}" if why else ""
        told = f"{diagnosis}{because}; nothing is sent to it for {entry:g} s"
        self.hold.remember(told)
        self._tell(told)

    def put_on_hold(
        self, hold_reason: HoldReason, *, still_counts_for: float = 0.0, to_be_proven: bool = False
    ) -> None:
        """Nothing can be sent to it for now; the oftener in a row, the longer: what waits for
        others along the cool-down, else at a pace by which a cure is soon seen. See Hold."""
        told = self._with_output(hold_reason)
        in_a_row = self.hold.begin(
            told, still_counts_for=still_counts_for, to_be_proven=to_be_proven
        )
        waits = self._crashes.entry if told.cure is Cure.TIME else asked_again_after
        self._hold_for(waits(in_a_row))

    def doubt_the_jobs(self, runs: Sequence[str]) -> None:
        """These were spent in a row on a WebUI that died each time."""
        self._crashes.suspected(runs)
        if self.state is State.READY:  # else the last of them made a restart due
            self._hold_if_suspected()

    def release(self) -> None:
        """A person says that it is to go on; from any thread. A cool-down runs on all the same."""
        self.hold.release()
        self._self_test.begin_anew()
        self._crashes.trusted()
        self._next_probe = 0.0

    def run_self_test(self, why_over: Callable[[], str]) -> SelfTestFailure | None:
        """Why it fails its self-test. It must be ready; a self-test that is over for another reason
        than its own end (see `why_over`) condemns nothing."""
        if why := self.paused():
            return SelfTestFailure(why.text, By.NOT_ASKED)
        over = self._why_over
        self_test_failure = self._self_test.why_it_failed(
            lambda: why_over() or over(), self._how_ended
        )
        if why_over() or self._stopping.is_set():
            return SelfTestFailure(why_over() or STOPS, By.NOT_ASKED)
        if self_test_failure is None:
            self._crashes.proven_well()
            return None
        return self._take(self_test_failure)

    def draws(
        self,
        stage: str,
        payload: Mapping[str, Any],
        why_over: Callable[[], str],
        *,
        keeps_memory: bool,
    ) -> Drawn:
        """Whether it generates a plain picture as large as this call's; only for what people are
        advised. It must be ready. `keeps_memory`: a failure of that size has made it unusable
        before, so that it is recycled after another."""
        if self.state is not State.READY or self.paused():
            return Drawn.NOT_ASKED
        over = self._why_over
        drawn = self._self_test.draws(stage, payload, lambda: why_over() or over(), self._how_ended)
        if keeps_memory and drawn is not Drawn.CAN:
            self._recycling.make_due("a picture for advice may have left it unusable")
        return drawn

    def _take(
        self, self_test_failure: SelfTestFailure, event: Event = Event.CRASHED
    ) -> SelfTestFailure:
        """It did not pass: waited for where it has no time. Else its cool-down begins; it is on
        hold only where no restart is left to cure it: it is fresh, or not ours."""
        if self_test_failure.by is By.NO_TIME:
            self.put_on_hold(self_test_failure.told, to_be_proven=True)
            return self_test_failure
        if self._stopping.is_set():
            return SelfTestFailure(STOPS, By.NOT_ASKED)
        fresh = self._recycling.is_fresh
        self.apply(event)
        again = self._managed and not fresh
        failed_fresh = self.process.incarnation if fresh else 0
        self._failed(
            self_test_failure.told,
            Fell.FAILED_SELF_TEST,
            holds=not again,
            failed_fresh=failed_fresh,
        )
        self._tell(
            f"{self_test_failure.reason}; nothing is sent for {self._crashes.remaining():g} s"
        )
        self._wake()
        return replace(
            self_test_failure, reason=self._redact(self_test_failure.reason), again=again
        )

    def _hold_if_suspected(self) -> None:
        if runs := self._crashes.suspects:
            self.hold.say(doubted_jobs(runs), anew=True)
            self._hold_for(self._crashes.suspicion_left())

    def _hold_for(self, seconds: float) -> None:
        self._next_probe = self._clock.monotonic() + seconds
        self.apply(Event.NOT_USABLE)
        self._wake()

    def _failed(
        self,
        hold_reason: HoldReason,
        kind: Fell,
        *,
        has_output: bool = True,
        holds: bool = True,
        failed_fresh: int = 0,
    ) -> None:
        """It is unusable as it is: the cool-down begins, and the lane is on hold unless it is
        restarted first."""
        if self._stopping.is_set():
            return
        self._self_test.forget_whose()
        self._crashes.crashed(kind, failed_fresh=failed_fresh)
        if holds:
            self.hold.say(self._with_output(hold_reason) if has_output else hold_reason, anew=True)
        else:
            self.hold.remember(self._redact(hold_reason.cause))

    def _with_output(self, hold_reason: HoldReason) -> HoldReason:
        """What it printed goes with it, and no prompt in either."""
        printed = self._redact(
            shortened("\n".join(self.process.get_tail_logs().values()), MOST_AT_ONCE)
        )
        lines = tuple(lines_that_matter(printed))
        return replace(hold_reason, cause=self._redact(hold_reason.cause), lines=lines)

    def _doubt(self) -> SelfTestFailure | None:
        """After a failed canary, and what no probe can see, it is ready only when a canary has
        passed: why that failed. It is a call like any other, and waits out the cool-down."""
        if not self.must_be_proven:
            return None
        if self._clock.wait(self._stopping, self._crashes.remaining()):
            return SelfTestFailure(STOPS, By.NOT_ASKED)
        self_test_failure = self._self_test.why_it_failed(self._why_over, self._how_ended)
        if self_test_failure is None:
            self._crashes.proven_well()
        return self_test_failure

    def _why_over(self) -> str:
        """Why a proof that is under way needs no more waiting for, or ''."""
        if self._stopping.is_set():
            return STOPS
        return "the WebUI's process ended" if self.is_gone else ""

    def _how_ended(self) -> Ended | None:
        """How its process ended, if it has. A connection breaks a moment before that is seen."""
        process = self.process
        if isinstance(process, ExternalWebUI):
            return None
        deadline = self._clock.monotonic() + EXIT_WAIT
        while (exit_seen := process.exit_of(process.incarnation)) is None:
            if self._clock.monotonic() >= deadline or self._clock.wait(self._stopping, 0.05):
                return Ended(None) if self.is_gone else None
        return Ended(exit_seen.code)

    # -- while it is idle

    def _check_health(self) -> None:
        """Dead or frozen is noticed while nothing is queued, too."""
        if self.is_gone:
            self._died_by_itself()
        elif (probe := self._probe_when_due()) is None:
            return
        elif probe.lacks:
            self.put_on_hold(self._seen_by(probe))
        elif probe.ready:
            self._failed_probes = 0
            self.process.cap_logs()
            self._recycling.look_at_memory()
            self._finish_lists()
        elif self._is_frozen(probe):
            self.crashed(Diagnosis.STUCK, probe.reason)

    def _try_again(self) -> None:
        """It could not be used: has what was wrong gone away?"""
        if self._nothing_runs:
            if self._clock.monotonic() >= self._next_probe:
                self.bring_up()
        elif self.is_gone:
            self._died_by_itself()
        elif (probe := self._probe_when_due()) is None:
            return
        elif self._occupancy.look(still_counts_for=self.hold.still_counts_for):
            self.hold.say_again()
        elif self._managed and not (probe.ready or probe.unusable) and self._is_frozen(probe):
            self.crashed(Diagnosis.STUCK, probe.reason)
        elif not probe.ready:
            self._say_if_new(self._seen_by(probe))
        elif not (self.must_be_proven and self._may_call()):
            self._go_on_if_well()

    def _seen_by(self, probe: ProbeResult) -> HoldReason:
        """Why it cannot be used, as a probe finds."""
        if probe.lacks is None:
            return no_answer(probe.reason, managed=self._managed, facts=probe.key)
        return seen_by_probe(
            probe.reason, probe.lacks, managed=self._managed, kind=self.kind, facts=probe.key
        )

    def _is_frozen(self, probe: ProbeResult) -> bool:
        """No answer once more: so often in a row that it must be restarted?"""
        self._failed_probes += 1
        log.warning("%s: %s", self._config.name, probe.reason)
        if self._failed_probes < self._config.health.failures:
            return False
        self._failed_probes = 0
        return True

    def _say_if_new(self, hold_reason: HoldReason) -> None:
        """It is looked at every few seconds, and its output read only where something changed."""
        if self.hold.held is None or hold_reason.key != self.hold.held.hold_reason.key:
            self.hold.say(self._with_output(hold_reason))

    def _go_on_if_well(self) -> None:
        """Its probe is answered; what a call has found wrong only the canary can see."""
        self_test_failure = self._doubt()
        if self_test_failure is None:
            self._unusable_starts = 0
            self.hold.end()
            self._read_lists()
            self.apply(Event.READY)
            self._wake()
            self._hold_if_suspected()
        else:
            self._take(self_test_failure)

    def _died_by_itself(self) -> None:
        self._self_test.forget_whose()
        self.crashed(Diagnosis.CRASH)

    def _probe_when_due(self) -> ProbeResult | None:
        if self._clock.monotonic() < self._next_probe:
            return None
        probe = self._probe()
        self._next_probe = self._clock.monotonic() + self._config.health.interval
        return probe

    def _recycle(self) -> None:
        """End it in order and start it anew, which is no crash."""
        self._crashes.recycled(self.process.incarnation, self._recycling.due)
        self._tell(f"recycled: {self._recycling.due}")
        self.apply(Event.RECYCLED)

    def _interrupt_what_was_left(self) -> None:
        """A client that goes away does not cancel what it asked for (measured): the picture that
        the last monitor left behind is interrupted, so that no call queues behind it."""
        if self._managed and self._occupancy.seen:
            self._client.interrupt()

    # -- what it has

    def read_lists_again(self, routes: Collection[str]) -> None:
        """These anew, once they have been read."""
        if routes and self.catalogue is not None:
            self.catalogue = self._lists.read_again(self.catalogue, routes)
            self._wake()

    def cannot(self, stage: str, upscaler: str, why: str) -> None:
        """A call has shown that this life of it cannot do `stage`, with this upscaler or, '', at
        all: no later job is to find that out after its first stages."""
        known = self._useless if upscaler else self._cannot
        known[upscaler or stage] = why
        self._add_what_was_learned()
        self._wake()

    def _add_what_was_learned(self) -> None:
        if (catalogue := self.catalogue) is not None and (self._cannot or self._useless):
            cannot, useless = {**catalogue.cannot, **self._cannot}, dict(self._useless)
            self.catalogue = replace(catalogue, cannot=cannot, useless=useless)

    def _is_idle(self) -> bool:
        return not self._occupancy.seen

    def _read_lists(self) -> None:
        """Before it is ready for runs, so that no job is claimed without. What is not answered in
        time is not known."""
        self.catalogue = catalogue = self._lists.read()
        for _ in range(_SCHEMA_LOOKS_AT_START):
            if not self._lists.unfinished or self._clock.wait(self._stopping, _SCHEMA_PAUSE):
                break
            self.catalogue = catalogue = self._lists.read()
        self._add_what_was_learned()
        for route, why in catalogue.missing.items():
            log.info("%s: no %s to check jobs against: %s", self._config.name, route, why)

    def _finish_lists(self) -> None:
        """A schema that could not be read when it came up is asked for again, a few times: each
        failure leaves a traceback in the WebUI's log."""
        if not self._lists.unfinished or self._schema_looks >= _SCHEMA_LOOKS_WHILE_IDLE:
            return
        self._schema_looks += 1
        self._read_lists()
        self._wake()

    def _tell_ready(self, how: str = "") -> None:
        if not self._managed:  # neither adopted nor numbered
            self._tell("ready")
        else:
            words = ["ready", how, f"generation {self.process.incarnation}"]
            self._tell(", ".join(filter(None, words)))

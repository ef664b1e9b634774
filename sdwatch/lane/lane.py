"""A lane: one WebUI with the loop that decides about it, its crash history and its log.

Runs get from it the crash-aware call. The monitor gets from it whether a run would be served now.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from sdwatch.config import WebUIConfig
from sdwatch.lane.context import LaneContext, LaneSettings, context_of
from sdwatch.lane.hold_view import held_of
from sdwatch.lane.loop import LaneLoop
from sdwatch.policy.failure.hold_reason import Held, NoCall
from sdwatch.policy.failure.ledger import LeftCall
from sdwatch.policy.failure.lifecycle import State
from sdwatch.policy.job.calls.catalogue import Catalogue
from sdwatch.policy.kinds.unknown import UNKNOWN
from sdwatch.policy.lane.events import CallsAllowed, Released
from sdwatch.policy.lane.freeing import waits_for_gpu
from sdwatch.policy.lane.instant import Instant
from sdwatch.policy.lane.lane_hold import is_waited_for
from sdwatch.policy.lane.state import CallPhase, RecycleLimits, Setup
from sdwatch.policy.lane.turn import INTERRUPT_WAIT, stop_limit
from sdwatch.spool.recorder import Faults
from sdwatch.system.clock import join
from sdwatch.webui.http.api import WebUIAPI
from sdwatch.webui.http.external import ExternalWebUI, LaneProcess
from sdwatch.webui.http.roles import CallSettings, Recorder
from sdwatch.webui.http.run_control import RunControl
from sdwatch.webui.process.incarnation import ProcessSettings, WebUIExit
from sdwatch.webui.process.process import WebUIProcessManager

ACTIVE_RUNS = 2
"""While one run's call is under way, one more may decode, write and publish."""


_MUST_START = (State.DOWN, State.STARTING, State.COOLING_DOWN)


class Lane:
    """One WebUI, that of `config`, with all that supervises it and sends to it."""

    def __init__(self, config: WebUIConfig, settings: LaneSettings) -> None:
        self.name = config.name
        self.managed = config.command is not None
        self.tags, self.box = config.tags, ""
        self.alike = f"lane {config.name}"
        self.faults = Faults(settings.clock)
        self._context = context = context_of(config, settings, lambda: self.process.family())
        self.redactor = context.redactor
        self.process = process_of(context, self._exited)
        self._call_settings = CallSettings(
            setup=_setup(context),
            signatures=context.signatures,
            host_snapshots=context.host_snapshots,
            checks=settings.checks,
            catalogue=lambda: self.catalogue,
            about=self.about,
            may_call=settings.may_call,
        )
        self.loop = LaneLoop(context, self.process, self._call_settings)
        self._allowed = CallsAllowed()

    def _exited(self, ended: WebUIExit) -> bool:
        return self.loop.exited(ended)

    def open(self, left: Iterable[LeftCall] = ()) -> None:
        """Start to supervise the WebUI: adopt or start it, and keep it healthy. `left`: the calls
        that a death left in flight, on all lanes."""
        self.loop.open(left)

    @property
    def ready(self) -> bool:
        """Return whether a new run would be served now."""
        clock = self._context.clock
        now = Instant(clock.wall(), clock.boot_time(), clock.boot_id())
        return self.loop.state.is_sound(now)

    @property
    def hold_reason(self) -> str:
        """Return why the lane is on hold, or ''."""
        shown = self.loop.shown
        return shown.cause if shown else ""

    @property
    def held(self) -> Held | None:
        """Return the hold with all that people should know of it, or None."""
        loop = self.loop
        return held_of(loop.state.hold, loop.shown, self._context.redact)

    @property
    def held_since(self) -> float:
        """Return when the hold started, in seconds since the epoch; 0 without a hold."""
        return self.loop.state.hold.since

    @property
    def is_waited_for(self) -> bool:
        """Return whether the lane serves now, or `run --once` waits until its hold ends without a
        person."""
        state = self.loop.state
        reason, since = state.hold.reason, state.hold.since
        if reason is None:
            return True
        held_for = max(0.0, self._context.clock.wall() - since) if since else 0.0
        cooldown = self._context.settings.cooldown
        return is_waited_for(reason.cure, state.history.in_a_row, held_for, cooldown)

    @property
    def movable(self) -> frozenset[str]:
        """Return the runs that wait here for their turn while the WebUI must be started first, and
        whose call has not failed yet: nothing binds these to this lane."""
        state = self.loop.state
        if state.life not in _MUST_START:
            return frozenset()
        waiting = (call for call in state.calls if call.phase is CallPhase.WAITING)
        return frozenset(call.request.run for call in waiting if not call.ledger.attempts)

    def release(self) -> None:
        """Release the hold because a person asks for it. A cool-down is still waited out."""
        self.loop.tell(Released())

    def allow_calls(
        self, no_call: NoCall | None, persons_hold: NoCall | None, *, frees: bool = False
    ) -> None:
        """Note why no call may start on any lane, and why only health checks are allowed (a
        person's hold); None where they are. `frees`: the GPU is wanted for something else."""
        allowed = CallsAllowed(no_call is None, persons_hold is not None, frees)
        state = self.loop.state
        # A run, or a start, may have found a reason that has passed since.
        differs = state.no_call is allowed.allowed or state.frees is not frees
        differs = differs or state.held_by_person is not allowed.held_by_person
        if allowed != self._allowed or differs:
            self._allowed = allowed
            self.loop.tell(allowed)

    @property
    def catalogue(self) -> Catalogue | None:
        """Return what the WebUI has; None until it has been ready once."""
        return self.loop.effects.inventory.catalogue

    @property
    def incarnation(self) -> int:
        """Return the number of the current incarnation."""
        return self.process.incarnation

    def read_again(self, routes: Collection[str]) -> None:
        """Have these lists read again; `catalogue` is another object afterwards."""
        self.loop.read_again(routes)

    def api(self, recorder: Recorder, control: RunControl) -> WebUIAPI:
        """Return the crash-aware call of one run on this lane."""
        return WebUIAPI(
            self._context.client,
            self.process,
            recorder,
            control=control,
            settings=self._call_settings,
            loop=self.loop,
        )

    def start_stop(self) -> None:
        """Allow no new call. Runs that wait for anything but a reply stop at once."""
        self.loop.stop()
        self._context.client.abandon_probes()

    def finish_stop(self) -> None:
        """Stop the WebUI, or leave it to be adopted, after all runs have ended."""
        join(self.loop.thread)
        self._context.crash_history_file.flush()
        if self._context.config.leave_running:
            self.process.close()
        else:
            self.process.stop(hurry=self._context.settings.hurry)
        self._context.client.close()
        self._context.log_reader.close()

    def about(self) -> dict[str, Any]:
        """Return which WebUI this is, for a run's manifest."""
        catalogue = self.catalogue
        return {
            "name": self.name,
            "url": self._context.config.url,
            "managed": self.managed,
            "kind": str(catalogue.kind if catalogue else UNKNOWN),
            "version": self._context.client.version or (catalogue.version if catalogue else ""),
        }

    @property
    def progress(self) -> dict[str, Any]:
        """Return the last /progress of the call in flight; {} without one."""
        watch = self.loop.samples.watch
        return watch.progress if watch else {}

    def status(self) -> dict[str, Any]:
        """Return the lane as `status --json` shows it."""
        held, state = self.held, self.loop.state
        clock = self._context.clock
        now = Instant(clock.wall(), clock.boot_time(), clock.boot_id())
        serves = state.served is not None and state.served.phase is not CallPhase.WAITING
        return {
            **self.about(),
            "state": str(state.life),
            "hold": held.hold_reason.cause if held else "",
            "advice": held.hold_reason.advice if held else "",
            "failed_runs": list(held.hold_reason.failed_runs) if held else [],
            "busy": serves or state.busy is not None,
            "incarnation": self.process.incarnation,
            "crashes_in_a_row": state.history.in_a_row,
            "cooldown_left": round(state.history.remaining(now), 1),
            "last_crash": state.history.crashes[-1].kind if state.history.crashes else "",
            "last_failure": self.process.last_failure,
            "restarts": dict(self._context.crash_history_file.restarts),
            "gpu": state.freed.value or (_NOT_STARTED if waits_for_gpu(state) else ""),
            "rss": state.use.rss,
            "warnings": self.loop.warnings.count,
            "last_warning": self.loop.warnings.last,
            "progress": self.progress,
        }


_NOT_STARTED = "it is started when a job may start"


def _setup(context: LaneContext) -> Setup:
    config = context.config
    return Setup(
        managed=context.managed,
        recovery=context.settings.recovery,
        leaves_running=config.leave_running,
        health_interval=config.health.interval,
        health_failures=config.health.failures,
        stall=config.stall,
        call_limit=config.call_limit,
        interrupt_wait=min(INTERRUPT_WAIT, config.stall),
        stop_limit=stop_limit(config.stop_grace),
        recycling=RecycleLimits(config.max_calls, config.max_rss),
    )


def process_of(context: LaneContext, on_exit: Callable[[WebUIExit], bool]) -> LaneProcess:
    """Return the process that sdwatch manages, or the external WebUI."""
    config, clock, probe = context.config, context.clock, context.probe
    if config.command is None:
        return ExternalWebUI(
            name=config.name,
            probe=probe,
            clock=clock,
            log_file=config.log_file,
            log_reader=context.log_reader,
        )
    settings = ProcessSettings(
        name=config.name,
        command=config.command,
        host=config.host,
        port=config.port,
        state_dir=context.settings.state_dir,
        cwd=config.cwd,
        env=config.env,
        start_limit=config.start_limit,
        start_stall=config.stall,
        stop_grace=config.stop_grace,
        log_cap=config.log_cap,
        signatures=context.signatures,
        host_snapshots=context.host_snapshots,
        kind=lambda: context.remembered.kind,
    )
    return WebUIProcessManager(settings, clock=clock, probe=probe, on_exit=on_exit)

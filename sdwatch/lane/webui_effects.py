"""What takes long with a WebUI: start, stop, probe, self-test. Each returns the event of its end.

The lane's helper does it, one after the other, but for what belongs to a POST: `before_post`, and
`clean_up` after each call that went out, run on the poster. The prober uses `inventory` to read
lists again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace

from sdwatch.lane.call_warnings import findings_of_start, leaks_found
from sdwatch.lane.context import LaneContext
from sdwatch.lane.inventory import Inventory
from sdwatch.lane.printed import PrintedLines
from sdwatch.lane.self_test import SelfTest, SelfTestSettings
from sdwatch.policy.failure.lasting import LastingStates
from sdwatch.policy.failure.ledger import LeftCall
from sdwatch.policy.failure.matching import poisons
from sdwatch.policy.failure.reply_checks import Finding
from sdwatch.policy.kinds.kind import Dialect
from sdwatch.policy.lane.effects import (
    Adopt,
    AskForHold,
    BringBack,
    FreeGpu,
    Probe,
    ReadLists,
    RunSelfTest,
    RunSizeTest,
    Start,
    StopTree,
)
from sdwatch.policy.lane.events import (
    CheckpointBack,
    CleanedUp,
    Freeing,
    GpuFreed,
    Health,
    HoldChecked,
    LaneEvent,
    ListsRead,
    ProbeAnswered,
    SelfTestAnswered,
    SelfTestEnd,
    SizeTestAnswered,
    Started,
    StartFailed,
    TreeStopped,
)
from sdwatch.policy.lane.turn import EXIT_WAIT, INTERRUPT_WAIT
from sdwatch.system import disk
from sdwatch.system.log_events import LogEvent, about
from sdwatch.webui.http.call import CallHandle
from sdwatch.webui.http.canary import Canary, Post
from sdwatch.webui.http.external import LaneProcess
from sdwatch.webui.http.health import is_generating, position_of
from sdwatch.webui.process import process_tree
from sdwatch.webui.process.incarnation import WebUIExit
from sdwatch.webui.process.readiness import ProbeResult

log = logging.getLogger("sdwatch.lane")

_RSS_EVERY_S = 30.0

_UNLOADED = "unloaded"
"""In the state folder while the checkpoint is unloaded: the WebUI may outlive the monitor."""


@dataclass(frozen=True)
class Signals:
    """Set from other threads. `cut`: nobody waits for what is under way; `stopping`: sdwatch stops;
    `hurry`: the WebUI is killed without its grace time."""

    cut: threading.Event
    stopping: threading.Event
    hurry: threading.Event


class WebUIEffects:
    """The slow effects on the WebUI of `context`. `post`: has a POST sent by the thread for them.
    `warn`: gets the findings of a start that a person should know."""

    def __init__(
        self,
        context: LaneContext,
        process: LaneProcess,
        printed: PrintedLines,
        signals: Signals,
        post: Post,
        warn: Callable[[str, tuple[Finding, ...]], None],
    ) -> None:
        self.inventory = Inventory(context, signals.stopping, self._may_try)
        self.left_calls: Collection[LeftCall] = ()
        """The calls that an earlier monitor has left in flight on this lane."""
        self._context = context
        self._config = context.config
        self._printed = printed
        self._process = process
        self._signals = signals
        self._warn = warn
        self._not_ready = LastingStates()
        self._next_rss = 0.0
        self._left_settings: tuple[str, ...] = ()  # by an earlier call
        self._unloaded = context.settings.state_dir / _UNLOADED
        self._self_test = SelfTest(
            Canary(
                context.client,
                may_interrupt=context.managed,
                post=post,
                one_colour_fails=context.settings.checks.get("one_colour", "fail") == "fail",
            ),
            printed.watch,
            context.redactor,
            SelfTestSettings(
                context.signatures,
                context.managed,
                context.config.self_test_limit,
                lambda: self.inventory.kind,
            ),
            context.clock,
        )

    # -- start and stop

    def adopt(self, effect: Adopt) -> LaneEvent:
        """Adopt a healthy process of an earlier monitor instead of loading the model again, once
        what that monitor left behind has ended. A checkpoint that it had unloaded is brought back,
        on a person's hold only at its end."""
        process = self._process
        if process.adopt(give_up=self._signals.cut):
            in_doubt = self._context.managed and not (self._end_orphan() and self._seems_sound())
            unloaded = not in_doubt and disk.exists(self._unloaded)
            if unloaded and not (effect.reads and self._context.settings.held_by_person()):
                self.bring_back(BringBack())
                unloaded = False
            started = self._started(effect.reads and not in_doubt, adopted=True)
            return replace(started, in_doubt=in_doubt, unloaded=unloaded)
        answers, reason = process.answers_unusable, process.last_hold_reason
        asks = not (answers or self._signals.cut.is_set())  # a stop starts nothing
        held = self._context.settings.held_by_person() if asks else None
        return StartFailed(reason, process.incarnation, answers=answers, held_by_person=held)

    def _end_orphan(self) -> bool:
        """Return whether nothing is left of what an earlier monitor sent that could be in the way.
        A prompt in a queue is none: its run takes the result, and without one it is cancelled
        before the next is sent."""
        context, config = self._context, self._config
        if context.client.dialect is Dialect.PROMPTS:
            return True
        from sdwatch.lane.orphan import end_orphan  # only what an earlier monitor left needs it

        return end_orphan(
            context.client,
            context.clock,
            self._signals.cut,
            timeout=self._timeout,
            patience=min(INTERRUPT_WAIT, config.stall),
            limit=config.call_limit,
        )

    def wait_for_interrupted(self, over: Callable[[], bool]) -> None:
        """Wait until the generation of a call that was given up has ended, or `over` returns true;
        not for somebody else's."""
        context = self._context
        if context.client.dialect is Dialect.PROMPTS or not context.managed:
            return
        from sdwatch.lane.orphan import wait_for_interrupted  # only after an interrupt

        wait_for_interrupted(
            context.client,
            context.clock,
            lambda: bool(over() or self._why_over()),
            timeout=self._timeout,
            limit=self._config.stall / 2,  # one that hangs is for the next call to find
        )

    def _seems_sound(self) -> bool:
        """Return whether the log of the call that the earlier monitor left in flight says nothing
        else: nobody was there to read it, and a WebUI that cannot generate still answers."""
        for left in self.left_calls:
            if left.incarnation == self._process.incarnation:
                log = self._printed.new_log(left.log_offset)
                if log.says_that_worker_ended() or poisons(log.lines(), self._context.signatures):
                    return False
        return True

    def start(self, effect: Start) -> LaneEvent:
        """Start the WebUI, or wait for an external one."""
        process = self._process
        before = process.incarnation
        self._context.host_snapshots.sample()  # how much memory was left, should it end at once
        self._context.probe.start_incarnation()
        self.inventory.start_incarnation()
        self._forget_unloading()
        self._next_rss = 0.0
        if process.restart_and_wait_ready(self._config.start_limit, self._signals.cut):
            if self._context.managed:
                found = findings_of_start(process.log_paths())
                self._warn(f"incarnation {process.incarnation}", found)
            return self._started(effect.reads)
        return StartFailed(
            process.last_hold_reason,
            process.incarnation,
            answers=process.answers_unusable,
            has_printed=not self._context.managed or process.incarnation != before,
        )

    def _started(self, reads: bool, *, adopted: bool = False) -> Started:
        if reads:
            self.inventory.read()
        return Started(self._process.incarnation, adopted, reads)

    def ask_for_hold(self, _: AskForHold) -> HoldChecked:
        """Return whether there is a person's hold. On a share this may take a while."""
        return HoldChecked(self._context.settings.held_by_person())

    def stop_tree(self, effect: StopTree) -> LaneEvent:
        """Stop the process tree."""
        held_by_person = self._context.settings.held_by_person() if effect.unless_held else None
        if held_by_person:
            return TreeStopped(held_by_person=True)
        gone = self._process.stop(hurry=self._signals.hurry)
        return TreeStopped(None if gone else self._process.last_hold_reason, held_by_person)

    # -- the GPU

    def free_gpu(self, _: FreeGpu) -> LaneEvent:
        """Unload the checkpoint, if this kind can and nobody uses the WebUI."""
        if not self._is_idle():
            return GpuFreed(Freeing.BUSY)
        if not self.inventory.kind.unloads:
            return GpuFreed(Freeing.CANNOT)
        with suppress(OSError):  # for a monitor that adopts it after our death
            disk.touch(self._unloaded)
        unloads = self._context.client.unload_checkpoint(self._config.load_limit)
        return GpuFreed(Freeing.UNLOADED if unloads else Freeing.CANNOT)

    def bring_back(self, _: BringBack) -> LaneEvent:
        """Load the checkpoint again where the next call would not."""
        client, limit = self._context.client, self._config.load_limit
        failed = self.inventory.kind.must_load_again and not client.reload_checkpoint(limit)
        if not failed:
            self._forget_unloading()
        return CheckpointBack(failed)

    def _forget_unloading(self) -> None:
        with suppress(OSError):
            disk.remove(self._unloaded)

    # -- questions

    def probe(self, effect: Probe) -> LaneEvent:
        """Check the health."""
        self._context.host_snapshots.sample()
        result = self._context.probe()
        position = position_of(self._context.client, self._timeout) if effect.occupancy else None
        rss = 0
        self._note(result)
        if result.ready:
            self._process.cap_logs()
            rss = self._rss_if_due()
            if not effect.occupancy:
                self.inventory.read_rest()
        reason = result.hold_reason(managed=self._context.managed, kind=self.inventory.kind)
        return ProbeAnswered(_health_of(result), reason, position, result.reason, rss)

    def read_lists(self, _: ReadLists) -> LaneEvent:
        """Read what the WebUI has."""
        self.inventory.read()
        return ListsRead()

    def _note(self, result: ProbeResult) -> None:
        """Log that the WebUI does not answer as it should: once, and then ever more seldom."""
        name, now = self._config.name, self._context.clock.monotonic()
        if result.ready:
            self._not_ready.is_over(name, now)
        elif line := self._not_ready.persists(name, result.key, result.reason, now):
            log.warning("%s: %s", name, line, extra=about(LogEvent.WEBUI_NOT_READY))

    @property
    def _timeout(self) -> float:
        return self._config.health.timeout

    def _is_idle(self) -> bool:
        return not is_generating(self._context.client, self._timeout)

    def _may_try(self) -> bool:
        """Return whether a trial call may be sent: an adopted WebUI is read on a hold, too."""
        return not self._context.settings.held_by_person() and self._is_idle()

    # -- around calls

    def before_post(self, handle: CallHandle) -> None:
        """Note what a call overrides, before it is sent."""
        if self._config.undo_overrides:
            undone = self._context.option_leaks.before_call(
                handle.call.payload, self._process.incarnation
            )
            self._left_settings = tuple(undone[1])

    def clean_up(self) -> CleanedUp:
        """Undo what the WebUI kept of the last call."""
        undone, left = self._context.option_leaks.undo(self._process.incarnation)
        found = leaks_found(undone, left, managed=self._context.managed)
        all_left, self._left_settings = (*self._left_settings, *left), ()
        return CleanedUp(all_left, self._rss_if_due(), found)

    def _rss_if_due(self) -> int:
        """Return the memory of the process tree, 0 where it was not measured: that reads the table
        of all processes (3 ms), so without a limit in the config it is done seldom."""
        now = self._context.clock.monotonic()
        if self._config.max_rss is None and now < self._next_rss:
            return 0
        self._next_rss = now + _RSS_EVERY_S
        return process_tree.rss(self._process.family())

    # -- self-tests

    def self_test(self, effect: RunSelfTest) -> LaneEvent:
        """Canary, then a plain picture. One that is cut short shows nothing."""
        failure, refused = self._self_test.why_it_failed(
            effect.good, self._why_over, self._how_ended
        )
        if self._signals.cut.is_set():
            return SelfTestAnswered(SelfTestEnd.NOT_RUN)
        if failure is None:
            return SelfTestAnswered(SelfTestEnd.PASSED, refused_checkpoint=refused)
        return SelfTestAnswered(failure.shows, failure.as_hold_reason, refused)

    def size_test(self, handle: CallHandle, effect: RunSizeTest) -> LaneEvent:
        """Generate a plain picture of the failed call's size."""
        call = handle.call
        result = self._self_test.size_test(
            call.stage, call.payload, self._why_over, self._how_ended, largest=effect.largest
        )
        return SizeTestAnswered(result)

    def _why_over(self) -> str:
        if self._signals.cut.is_set():
            return "given up"
        gone = self._context.managed and not self._process.is_process_alive()
        return "the WebUI's process ended" if gone else ""

    def _how_ended(self) -> WebUIExit | None:
        """Return how the process ended, or None if it lives. A connection breaks a moment before
        the end of its process is seen; the waiter reports it to the loop, not to the helper, so
        this looks for it."""
        process, clock = self._process, self._context.clock
        if not self._context.managed:
            return None
        deadline = clock.monotonic() + EXIT_WAIT
        while (exit_seen := process.last_exit) is None:
            if clock.monotonic() >= deadline or clock.wait(self._signals.cut, 0.05):
                return None if process.is_process_alive() else WebUIExit(process.incarnation, None)
        return exit_seen


def _health_of(probe: ProbeResult) -> Health:
    if probe.ready:
        return Health.READY
    return Health.LACKS if probe.unusable else Health.FAILED

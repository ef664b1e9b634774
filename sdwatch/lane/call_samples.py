"""The samples of the POST in flight: its progress and the work of the WebUI's process."""

from __future__ import annotations

from collections.abc import Callable

from sdwatch.lane.context import LaneContext
from sdwatch.lane.printed import PrintedLines
from sdwatch.lane.worker import Worker
from sdwatch.policy.lane.events import DeadlinePassed, LaneEvent, Stalled
from sdwatch.policy.lane.state import CallPhase, LaneState
from sdwatch.webui.http.call import CallHandle, Sent
from sdwatch.webui.http.call_watch import CallWatch
from sdwatch.webui.http.external import LaneProcess
from sdwatch.webui.process.readiness import PROBE_INTERVAL_S


class CallSamples:
    """Takes the samples on the thread `prober`, and reports a stall to the loop."""

    def __init__(
        self,
        printed: PrintedLines,
        process: LaneProcess,
        context: LaneContext,
        prober: Worker,
        tell: Callable[[LaneEvent], None],
    ) -> None:
        self.watch: CallWatch | None = None  # of the POST in flight
        self._watched: tuple[int, int] = (0, 0)  # call and number of that POST
        self._prompts: frozenset[str] = frozenset()  # the ids of what it may wait for
        self._samples = False  # a sample is under way
        self._printed = printed
        self._webui = process
        self._context = context
        self._prober = prober
        self._tell = tell

    def start(self, handle: CallHandle, sent: Sent) -> None:
        """Watch this POST, which goes out now."""
        self._watched = handle.id, sent.number
        waits_for = handle.prompt
        ids = (waits_for.id, *(each.id for each in waits_for.before)) if waits_for else ()
        self._prompts = frozenset(ids)
        self.watch = self._printed.watch_job(handle.call.stage)

    def end(self) -> None:
        """Nothing is in flight."""
        self.watch = None

    def until_next(self, state: LaneState) -> float | None:
        """Return the seconds until the call in flight is sampled, None for not at all."""
        served = state.served
        if self._samples or served is None or served.phase is not CallPhase.SENT:
            return None
        watch = self.watch
        if watch is None:  # it is about to go out
            return PROBE_INTERVAL_S
        return max(0.0, watch.next_sample - self._context.clock.monotonic())

    def take_if_due(self) -> None:
        """Have a sample taken if it is time for it."""
        watch = self.watch
        if watch is not None and watch.is_due and not self._samples:
            self._samples = True
            watch.wait_for_next()  # also if this sample breaks
            self._prober.do(lambda: self._sample(watch), lambda _: self._sampled())

    def _sample(self, watch: CallWatch) -> None:
        self._context.host_snapshots.sample()
        self._webui.cap_logs()  # a queue that never rests must not let a flood through
        call, number = self._watched
        reason = watch.sample()
        if reason and self.watch is watch:
            self.watch = None  # reported once
            ours = watch.job in self._prompts
            others = bool(self._prompts and watch.job) and not ours and watch.generates
            self._tell(Stalled(call, number, reason, watch.probes, ours, others))
        self._sampled()

    def _sampled(self) -> None:
        self._samples = False
        self._tell(DeadlinePassed())

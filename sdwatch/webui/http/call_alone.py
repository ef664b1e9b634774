"""A call without a lane: the machine decides on the thread of the call itself.

Only for programs and tests that use WebUIAPI without a lane. The monitor's runs always have one.
"""

from __future__ import annotations

import queue

from sdwatch.policy.failure.hold_reason import Cure, HoldReason
from sdwatch.policy.lane.effects import (
    Abandon,
    LetGo,
    NoteCannot,
    Notify,
    SaveCrashHistory,
    Start,
    StopTree,
    ToRun,
)
from sdwatch.policy.lane.events import Cancelled, LaneEvent, Started, StartFailed, TreeStopped
from sdwatch.policy.lane.state import new_call_alone
from sdwatch.system.clock import Clock, SystemClock
from sdwatch.webui.http.call import CallHandle
from sdwatch.webui.http.call_loop import CallLoop
from sdwatch.webui.http.roles import CallSettings, Client, SupervisedProcess

_RESTART_LIMIT_S = 3600.0


class CallAlone(CallLoop):
    """Decides about the calls of one WebUI that has no lane: nobody tests it, and a restart is
    `process.restart_and_wait_ready`."""

    def __init__(
        self,
        client: Client,
        process: SupervisedProcess,
        settings: CallSettings,
        clock: Clock | None = None,
    ) -> None:
        state = new_call_alone(settings.setup, process.incarnation)
        super().__init__(client, process, settings, clock or SystemClock(), state)
        self._performers |= {
            Start: self._start,
            StopTree: self._stop_tree,
            SaveCrashHistory: self._ignore,
            Notify: self._ignore,
            NoteCannot: self._ignore,
            LetGo: self._ignore,
        }

    def register(self, handle: CallHandle) -> None:
        """Make the call known. Nobody has watched the WebUI since the last one, so it is taken for
        ready."""
        super().register(handle)
        self.state = new_call_alone(self._settings.setup, self._process.incarnation)

    def tell(self, event: LaneEvent) -> None:
        """Note what happened. Its own thread may be in the POST that is no longer wanted."""
        super().tell(event)
        handle = self._handles.get(event.call) if isinstance(event, Cancelled) else None
        if handle is not None and handle.sent is not None and handle.sent.is_under_way:
            self._abandon(Abandon(handle.id))

    def next_for(self, handle: CallHandle, _: float | None) -> ToRun | None:
        """Drive the machine until there is a message to the run. While it sends a POST, no time
        limit ends that."""
        while True:
            try:
                return handle.inbox.get_nowait()
            except queue.Empty:
                self._take()

    def _start(self, _: Start) -> None:
        if self._process.restart_and_wait_ready(_RESTART_LIMIT_S):
            self.tell(Started(self._process.incarnation))
        else:
            reason = HoldReason("the WebUI did not start", cure=Cure.RESTART)
            self.tell(StartFailed(reason, self._process.incarnation))

    def _stop_tree(self, _: StopTree) -> None:
        """A restart stops what is left."""
        self.tell(TreeStopped())

    def _ignore(self, effect: object) -> None:
        """Nobody keeps a history, reports to people, or helps."""

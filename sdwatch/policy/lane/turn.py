"""One turn of the machine: the state as it becomes, and the effects so far.

Only `step` makes turns, so that the machine is a pure function outside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sdwatch.policy.failure.lifecycle import LifeEvent, next_state
from sdwatch.policy.lane.crash_history import CrashHistory, HistoryRecord
from sdwatch.policy.lane.effects import Answer, CallEnd, Effect, SaveCrashHistory
from sdwatch.policy.lane.instant import Instant
from sdwatch.policy.lane.state import CallPhase, LaneCall, LaneState

EXIT_WAIT = 1.0
"""Seconds by which the end of a process may follow that of its connection, or precede it."""

CONNECT_WAIT = 15.0
"""Seconds until a POST that was abandoned says whether it ever had a connection; the client does
not try longer for one."""

READ_WAIT = 60.0
"""Seconds for decoding and checking a reply that was complete when its process ended."""

TRACEBACK_WAIT = 1.0
"""Seconds to wait after a reply for its traceback."""

INTERRUPT_WAIT = 10.0
"""Seconds that an interrupt gets to free a stuck call."""

EXPLAIN_WAIT = 15.0
"""Seconds for the evidence of a failure, which takes one or two; then it is written without what
the WebUI printed. Longer than a log that hangs is waited for, so that the rest is not lost, too."""

STOP_MARGIN = 20.0
"""Seconds that a slow effect gets in a stop, beside the grace time of the WebUI."""

AFTER_ANSWER = 2.0
"""Seconds until the first health check after a call or a start, which has just shown the health."""


def stop_limit(grace: float) -> float:
    """Return how long a slow effect is waited for in a stop. `grace`: of its WebUI, to exit."""
    return grace + STOP_MARGIN


def longest_end(grace: float) -> float:
    """Return the seconds in which a lane ends once its calls have no more time, whatever hangs: the
    evidence of a call, with and then without its log, or what it left; then its process."""
    return max(2 * EXPLAIN_WAIT, stop_limit(grace)) + stop_limit(grace)


def _changed(state: LaneState, fields: Mapping[str, Any]) -> LaneState:
    """Do what `replace` does. That gives each of 35 fields to the constructor, ten times in a step,
    and takes most of a step's time (measured: 14 us, this 1 us)."""
    if unknown := fields.keys() - vars(state).keys():
        raise TypeError(f"a lane's state has no {', '.join(unknown)}")
    changed = object.__new__(LaneState)
    vars(changed).update(vars(state), **fields)
    return changed


class Turn:
    """`state` is replaced during the turn. `now`: the time of its event. `may_start`: that event
    says that there is no person's hold, so a start may follow at once."""

    def __init__(self, state: LaneState, now: Instant) -> None:
        self.state = state
        self.now = now
        self.may_start = False
        self.effects: list[Effect] = []

    def do(self, *effects: Effect) -> None:
        """Have these effects performed, in order."""
        self.effects += effects

    def change(self, **fields: Any) -> None:
        """Change fields of the state."""
        self.state = _changed(self.state, fields)

    def note_hold(self, held_by_person: bool | None) -> None:
        """Note whether there is a person's hold, as was just asked; None where nobody asked."""
        if held_by_person is not None:
            self.change(held_by_person=held_by_person)
            self.may_start = not held_by_person

    def change_life(self, event: LifeEvent) -> None:
        """Change the state of the WebUI. Raises LifecycleError if the table has no such row."""
        self.change(life=next_state(self.state.life, event))

    def write(self, changed: tuple[CrashHistory, HistoryRecord | None]) -> None:
        """Change the crash history, and have its record saved."""
        history, record = changed
        self.change(history=history)
        if record is not None:
            self.do(SaveCrashHistory(record))

    def move(
        self, call: LaneCall, phase: CallPhase, seconds: float | None = None, **more: Any
    ) -> LaneCall:
        """Move a call to a phase, with a deadline in so many seconds, or None. Return it."""
        deadline = float("inf") if seconds is None else self.now.boot + seconds
        return self.put(replace(call, phase=phase, deadline=deadline, **more))

    def put(self, call: LaneCall) -> LaneCall:
        """Replace a call by its new value. Return it."""
        calls = self.state.calls
        self.change(calls=tuple(call if each.id == call.id else each for each in calls))
        return call

    def drop(self, call: LaneCall) -> None:
        """Remove a call: its run no longer waits."""
        state = self.state
        self.change(
            calls=tuple(each for each in state.calls if each.id != call.id),
            unrecorded=state.unrecorded - {call.id},
        )

    def answer(self, call: LaneCall, end: CallEnd) -> None:
        """Answer a call. Nothing more follows for its run."""
        self.drop(call)
        self.do(Answer(call.id, end))

    def check_in(self, seconds: float) -> None:
        """Make the next health check due in so many seconds."""
        self.change(next_check=self.now.boot + seconds)

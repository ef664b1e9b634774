"""The events of the monitor's log, and what its lines are about.

Every line has an event from one list, so that programs need not read its text, and names the run,
the call, the attempt, the lane and the incarnation that it is about, where there is one. What a
whole thread works on is bound once (`bound`), everything else is given with the line (`about`).
Never a prompt: of a call a line has names and numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from types import MappingProxyType


class LogEvent(StrEnum):
    """What a line of the log says happened."""

    REPORT = "report"
    """What people were told and no other event names."""
    WARNING = "warning"

    RUN_STARTED = "run_started"
    RUN_RESUMED = "run_resumed"
    RUN_SUSPENDED = "run_suspended"
    RUN_DONE = "run_done"
    RUN_FAILED = "run_failed"
    RUN_CANCELLED = "run_cancelled"
    RUN_GONE = "run_gone"
    """Somebody removed its folder."""
    RUN_TAKEN_OVER = "run_taken_over"
    RUN_REMOVED = "run_removed"
    """By `retention:`."""
    RUN_NOT_REMOVED = "run_not_removed"
    RUN_NOT_RESUMED = "run_not_resumed"
    """What lies in working/ is left as it is."""
    JOB_STILL_WRITTEN = "job_still_written"
    CANCEL_NOT_TAKEN = "cancel_not_taken"

    CALL_STARTED = "call_started"
    RESULT_TAKEN = "result_taken"
    """That of an earlier prompt; nothing was sent."""
    CALL_FINISHED = "call_finished"
    CALL_REFUSED = "webui_call_failed"
    """A POST failed; `call_failed` follows once it is known why."""
    CALL_FAILED = "call_failed"
    SELF_TEST_DONE = "self_test_done"
    SELF_TEST_FAILED = "self_test_failed"

    WEBUI_STARTED = "webui_started"
    WEBUI_ADOPTED = "webui_adopted"
    WEBUI_READY = "webui_ready"
    WEBUI_NOT_READY = "webui_not_ready"
    WEBUI_CRASHED = "webui_crashed"
    WEBUI_RECYCLED = "webui_recycled"
    GPU_FREED = "gpu_freed"
    """For a hold with `free: true`, or at the end of a window; or why it cannot be."""
    WEBUI_UNKNOWN = "webui_unknown"
    """Something about it could not be asked."""
    HOLD = "hold"
    """A lane, or all of them: why no call starts, and that it is over."""
    PROCESS_NOT_CONTAINED = "process_not_contained"

    DISK_REFUSES = "disk_refuses"
    DISK_ACCEPTS = "disk_accepts"
    FILE_UNREADABLE = "file_unreadable"
    WATCH_LOST = "watch_lost"
    WORKER_LOST = "worker_lost"
    """The id or the runs of this worker are gone or taken over."""

    SESSION_END_UNSEEN = "session_end_unseen"
    EXPRESSION_DROPPED = "expression_dropped"
    BROKER_FOUND = "broker_found"
    BROKER_LOST = "broker_lost"
    RUN_HANDED_OVER = "run_handed_over"
    RUN_TAKEN_BACK = "run_taken_back"
    RUN_WITHDRAWN = "run_withdrawn"
    MESSAGE_HEALED = "message_healed"
    INTERNAL_ERROR = "internal_error"


FACTS = ("run", "call", "attempt", "lane", "incarnation")
"""What a line may be about. `run`: the run's id; `call`: `stage.number`; `attempt`: which POST of
the call, from 1; `lane`: a WebUI's name; `incarnation`: which life of its process, from 1."""

FOR_PROGRAMS = frozenset({LogEvent.CALL_REFUSED})
"""Warnings that are not shown to people, because another line explains them."""

_bound: ContextVar[Mapping[str, object]] = ContextVar("_bound", default=MappingProxyType({}))


def about(event: LogEvent, **facts: object) -> dict[str, object]:
    """Return the `extra` of a line of the log. `facts`: those of FACTS, and names and numbers of
    its own."""
    return {"event": event, **facts}


@contextmanager
def bound(**facts: object) -> Iterator[None]:
    """Bind facts to what this thread logs meanwhile. `event`: for a line that has none. A callable
    is called for each line; None takes a fact back."""
    token = _bound.set({**_bound.get(), **facts})
    try:
        yield
    finally:
        _bound.reset(token)


def bind(**facts: object) -> None:
    """Bind facts until the `bound` around this ends; for the life of the thread without one."""
    _bound.set({**_bound.get(), **facts})


def bound_facts() -> dict[str, object]:
    """Return what is bound in this thread, as it is now."""
    facts = {name: fact() if callable(fact) else fact for name, fact in _bound.get().items()}
    return {name: fact for name, fact in facts.items() if fact is not None}

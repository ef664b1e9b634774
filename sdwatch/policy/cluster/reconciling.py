"""Which messages for boxes are stuck or left over. Pure.

A work queue can lose sight of a message: it is in the stream, and no consumer is given it
(nats-server#7680). The log decides what a message is for, so a message may be removed and sent once
more at any time: it only says to a box that it should look at a log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sdwatch.policy.cluster.run_log import Phase, RunLog


@dataclass(frozen=True, slots=True)
class WorkMessage:
    """A message in the stream. `waited`: seconds for which the dispatcher has seen it there while
    the box answered and had a free place."""

    seq: int
    box: str
    run: str
    epoch: int
    waited: float = 0.0


def reconcile(
    messages: list[WorkMessage], logs: Mapping[str, RunLog], stuck_after: float
) -> list[tuple[WorkMessage, bool]]:
    """Return the messages to remove, each with whether it is to be sent again: it is stuck, while
    nobody waits for the others. `logs`: of all runs that are out, by run; a run that is not in it
    is not out. `stuck_after`: seconds."""
    found = []
    for message in messages:
        log = logs.get(message.run)
        if log is None or not _is_for(log, message):
            found.append((message, False))
        elif log.phase is Phase.GRANTED and message.waited >= stuck_after:
            found.append((message, True))
    return found


def _is_for(log: RunLog, message: WorkMessage) -> bool:
    if log.phase is Phase.NONE or log.epoch < message.epoch:
        return True  # it is about to be granted, or read late
    return log.is_held and (log.epoch, log.box) == (message.epoch, message.box)

"""Finds what is stuck or left over at the broker, now and then: messages that no box is given, logs
and objects of runs that are published."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from nats.js.errors import NotFoundError

from sdwatch.cluster.broker import Broker
from sdwatch.policy.cluster import names
from sdwatch.policy.cluster.dispatching import WorkMessage, reconcile
from sdwatch.policy.cluster.run_log import RunLog, with_entry
from sdwatch.policy.queue.run_names import is_run_id
from sdwatch.spool.folders import Spool
from sdwatch.system import disk
from sdwatch.system.log_events import LogEvent, about

log = logging.getLogger("sdwatch.cluster")

_UNKNOWN_FOR = 600.0
"""Seconds after which the lists of a box that does not show itself are removed."""


class Reconciler:
    """Of one dispatcher. A run that has a file in the folder `closing` may have something at the
    broker: once it is no longer in working/, the dispatcher closes its log and removes all of it.
    """

    def __init__(self, broker: Broker, spool: Spool, closing: Path, stuck_after: float) -> None:
        self._broker = broker
        self._spool = spool
        self._closing = closing
        self._stuck_after = stuck_after
        self._waits: dict[int, float] = {}  # since when a message waits, by its sequence
        self._listed = False
        self._unknown: dict[str, float] = {}  # boxes with lists: since when nobody knows them

    def look(
        self,
        now: float,
        out: Mapping[str, RunLog],
        takers: Collection[str],
        copies: Collection[str] = (),
        boxes: Collection[str] | None = None,
    ) -> None:
        """Heal what is found. `now` in seconds on the monotonic clock; `out`: the logs of the runs
        that this dispatcher follows; `takers`: boxes that answer and have a free place; `copies`:
        of runs, that boxes have; `boxes`: all that are known, None where that is not known. Raises
        BrokerGoneError, OSError."""
        if boxes is not None:
            self._forget_boxes(now, boxes)
        for run in (self._known() | set(copies)) - out.keys():
            if self.is_published(run):
                disk.touch(self._closing / run)
        messages = [self._with_wait(now, message, takers) for message in self._messages()]
        there = {message.seq for message in messages}
        self._waits = {seq: at for seq, at in self._waits.items() if seq in there}
        logs = dict(out)
        for message in messages:
            if message.run not in logs and not self.is_published(message.run):
                logs[message.run] = self.log_of(message.run)
        for message, is_stuck in reconcile(messages, logs, self._stuck_after):
            what = "is stuck" if is_stuck else "is for nothing"
            event = about(LogEvent.MESSAGE_HEALED, run=message.run)
            log.warning("%s: the message for %s %s", message.run, message.box, what, extra=event)
            self._broker.withdraw_offer(message.box, message.run)
            if is_stuck:
                self._broker.offer(message.box, message.run, message.epoch)
        for run in out.keys() - {message.run for message in messages}:
            if out[run].is_held:
                self._broker.offer(out[run].box, run, out[run].epoch)

    def _known(self) -> set[str]:
        """Return the runs that the broker has objects of, and the first time those that have a log
        of more than one entry, which is not closed: of closed ones there may be a million, which
        takes the broker a minute."""
        kept = [(names.FILES, f"{names.OBJECTS}.", 0)]
        if not self._listed:
            kept.append((names.RUNS, names.run_subject(""), 1))
        tokens = {
            subject.removeprefix(start).partition(".")[0]
            for stream, start, most in kept
            for subject, count in self._broker.subjects(stream, f"{start}>").items()
            if count > most
        }
        self._listed = True
        return set(filter(is_run_id, map(names.text_of, tokens)))

    def _messages(self) -> list[WorkMessage]:
        found = []
        for subject in self._broker.subjects(names.WORK, names.work_subject("*", "*")):
            with suppress(ValueError, KeyError, TypeError):
                if (message := self._broker.message(names.WORK, subject)) is None:
                    continue
                said = json.loads(message.data or b"")
                run, box, seq = str(said["run"]), subject.split(".")[2], int(message.seq or 0)
                if is_run_id(run):
                    found.append(WorkMessage(seq, box, run, int(said["epoch"])))
        return found

    def _forget_boxes(self, now: float, boxes: Collection[str]) -> None:
        """Remove the lists of boxes that nobody knows any more, and their consumer. A box stores
        its lists before it shows itself for the first time."""
        stream, start = f"KV_{names.LISTS}", names.key_subject(names.LISTS, "")
        kept = self._broker.subjects(stream, f"{start}>")
        stored = {subject.removeprefix(start).partition(".")[0] for subject in kept}
        unknown = stored - set(boxes)
        self._unknown = {box: self._unknown.get(box, now) for box in unknown}
        for box in [box for box in unknown if now - self._unknown[box] >= _UNKNOWN_FOR]:
            self._broker.purge(stream, f"{start}{box}.>")
            with suppress(NotFoundError):
                consumer = names.consumer_of(box)
                self._broker.ask(lambda js, c=consumer: js.delete_consumer(names.WORK, c))  # type: ignore[misc]
            log.info("%s: forgotten", box, extra=about(LogEvent.MESSAGE_HEALED))

    def _with_wait(self, now: float, message: WorkMessage, takers: Collection[str]) -> WorkMessage:
        if message.box not in takers:
            self._waits.pop(message.seq, None)
            return message
        since = self._waits.setdefault(message.seq, now)
        return replace(message, waited=now - since)

    def log_of(self, run: str) -> RunLog:
        """Return a run's log, as the broker has it. Raises BrokerGoneError."""
        found = RunLog()
        for seq, entry in self._broker.entries_after(run, 0):
            found, _counts = with_entry(found, seq, entry)
        return found

    def is_published(self, run: str) -> bool:
        """Return whether a run is in done/ or failed/. Raises OSError."""
        return any(disk.exists(parent / run) for parent in (self._spool.done, self._spool.failed))

    def is_at_work(self, run: str) -> bool:
        """Return whether any worker has a run in working/. Raises OSError."""
        workers = disk.folders_in(self._spool.working.parent)
        return any(disk.exists(worker / run) for worker in workers)

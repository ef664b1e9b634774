"""A box: takes runs from the dispatcher, has the monitor of this machine do them, and stores what
comes of it. It only reads the folders of runs that the monitor works on."""

from __future__ import annotations

import hashlib
import logging
import queue
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sdwatch.cluster.box_notices import ContactLines
from sdwatch.cluster.broker import (
    Broker,
    BrokerGoneError,
    Lease,
    LogMovedError,
)
from sdwatch.cluster.objects import MissingObjectError
from sdwatch.cluster.run_copy import RunCopy
from sdwatch.cluster.run_files import evidence_in, fetch_run, store_files
from sdwatch.cluster.showing import Showing
from sdwatch.errors import RunStoppedError
from sdwatch.monitor.work import Parts, Work
from sdwatch.policy.cluster import holding, names
from sdwatch.policy.cluster.entries import (
    MOST_INLINE,
    Accepted,
    BoxEnd,
    Ended,
    Entry,
    LinesStored,
)
from sdwatch.policy.cluster.holding import LocalRun, box_step
from sdwatch.policy.cluster.lines import files_named, text_of
from sdwatch.policy.cluster.names import Times
from sdwatch.policy.cluster.run_log import Phase, RunLog, with_entry, with_entry_for_box
from sdwatch.policy.queue.control import CANCEL
from sdwatch.policy.queue.run_names import is_run_id
from sdwatch.spool.manifest import read_about
from sdwatch.spool.recorder import Witness
from sdwatch.spool.run import Run
from sdwatch.system import disk, renames
from sdwatch.system.clock import join
from sdwatch.system.log_events import LogEvent, about

log = logging.getLogger("sdwatch.cluster")

PAUSE = 0.3  # seconds between two rounds
_SOON = 1.0  # seconds at least between two times that the box shows itself
_AGAIN = 5.0  # seconds between two looks of a call that waits for the broker
_NOT_AGAIN = "the broker is gone; a call that was sent before is sent again once it answers"
LOOKS_FOR = 1.0  # seconds in which a box asks for runs and reads logs, after something was said
_HANGS_AFTER = 60.0  # seconds without a round of the monitor: then no lease is renewed


@dataclass
class _Held:
    """A run that this box has, or is to get."""

    run: str
    lease: Lease
    copy: RunCopy
    run_log: RunLog = field(default_factory=RunLog)
    store: str = ""  # of the broker, where the log was read
    adopted: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Of the box's and the run's thread."""


class Box(Witness):
    """A box of the cluster whose broker is at `url`. Its name is this machine's worker id."""

    def __init__(self, url: str, times: Times = Times()) -> None:  # noqa: B008 - it is frozen
        self.name = ""
        self._times = times
        self._url = url
        self._stop = threading.Event()
        self._held: dict[str, _Held] = {}
        self._arrived: queue.SimpleQueue[Path] = queue.SimpleQueue()
        self._given_back: frozenset[str] = frozenset()  # runs that no WebUI here may continue
        self._answers = True  # the broker, when it was asked last
        self._round_at = 0.0  # the monitor's last, on the monotonic clock
        self._shown_at = self._renewed_at = self._looked_at = -1e9
        self._heard_at = -1e9  # when something was said of runs for this box
        self._threads = [
            threading.Thread(target=self._live, args=(do,), name=f"cluster-{name}", daemon=True)
            for name, do in (("box", self._round), ("beat", self._beat))
        ]

    # -- called by the monitor

    def open(self, parts: Parts, work: Work) -> None:
        """Start. What was held before is found again."""
        del work  # the dispatcher gives it
        self._parts = parts
        self.name = parts.state.worker.strip("-") or "box"  # a subject's part: no `-` first
        self._broker = Broker(self._url, f"box {self.name}", self._times, self._hinted)
        self._contact = ContactLines(self._broker, parts.reports.line)
        self._showing = Showing(parts, self._broker, self.name)
        parts.gate.ordered = self._showing.persons_hold
        self._notes = parts.state.root / "cluster"
        disk.ensure_folder(self._notes)
        for run in [entry.name for entry in disk.entries(self._notes) if is_run_id(entry.name)]:
            copy = RunCopy(parts.spool, run)
            self._held[run] = _Held(run, Lease(run), copy, adopted=True)
        parts.runs.witness = self
        self._broker.listen(
            *self._showing.subjects,
            names.look_subject(self.name),
            names.work_subject(self.name, "*"),
        )
        self._broker.open()
        for thread in self._threads:
            thread.start()

    def give_work(self, most: int, *, may_call: bool) -> None:
        """Hand the monitor the runs that arrived, and note what this machine has."""
        del most
        self._contact.look()
        parts = self._parts
        with suppress(queue.Empty):
            while True:
                parts.suspended.add(self._arrived.get_nowait())
                self._parts.wake()
        self._give_back()
        self._showing.note(self._held.keys(), may_call=may_call)
        self._round_at = self._parts.clock.monotonic()

    def _give_back(self) -> None:
        """Have no lane here continue a run while all are on hold: it goes elsewhere."""
        parts = self._parts
        if not self._broker.is_up or not all(lane.hold_reason for lane in parts.lanes):
            return
        for waits in parts.suspended.due():
            held = self._held.get(waits.folder.name)
            if held is not None and held.adopted and held.run_log.is_held:
                parts.suspended.remove(waits.folder)
                self._given_back |= {held.run}

    def may_have_work(self) -> bool:
        """Return whether the dispatcher may give it more: nobody knows, and nobody waits for it."""
        return False

    def _hinted(self, subject: str) -> None:
        """Note what was said; '': the broker answers again."""
        of_runs = subject.startswith(("sdwatch.look.", "sdwatch.work."))
        if of_runs or not subject:
            self._heard_at = self._parts.clock.monotonic()
        if not of_runs:
            self._showing.hear(subject)

    def close(self) -> None:
        """Stop; what is held stays in its folders, and its leases run out if nobody returns."""
        self._stop.set()
        for thread in self._threads:
            join(thread, 5.0)
        self._broker.close()

    def status(self) -> dict[str, Any]:
        """Return how this machine belongs to the cluster."""
        return {
            "box": self.name,
            "broker": "" if self._broker.is_up else self._broker.why_down,
            "held": sorted(self._held),
        }

    # -- what a POST waits for

    def may_start(self, run: Run, sent: int) -> None:
        """While the broker is gone only a call that was never sent may be sent: nobody else would
        know of another attempt, if this machine died of it. Raises RunStoppedError."""
        if sent and run.ledger.handed_over.received and not self._is_heard:
            raise RunStoppedError(_NOT_AGAIN)

    def started(self, run: Run, sent: int) -> None:
        """Return once the broker has the start of a call, or is gone. Raises RunStoppedError where
        the run was taken back, or the broker is gone and the call was sent before."""
        held = self._held.get(run.run_id)
        epoch = run.ledger.handed_over.epoch
        if held is None or not run.ledger.handed_over.received:
            return
        try:
            with held.lock:
                local = self._continue(held, read_first=not held.run_log.seq)
                known = held.run_log
            if known.is_held and (known.box, known.epoch) == (self.name, epoch):
                if local is not None and known.lines >= local.lines:
                    return
            elif known.phase is not Phase.NONE:
                raise RunStoppedError("the run was taken back")
        except BrokerGoneError as error:
            self._answers = False
            log.info("%s", error, extra=about(LogEvent.BROKER_LOST))
        if sent:
            raise RunStoppedError(_NOT_AGAIN)

    @property
    def _is_heard(self) -> bool:
        return self._answers and self._broker.is_up

    def pause(self, run_id: str) -> float:
        """Return in how many seconds a run that was stopped may resume."""
        return 0.0 if self._is_heard or run_id not in self._held else _AGAIN

    # -- its threads: one shows the box and renews its leases, also while the other is busy with
    #    files for longer than a lease

    def _live(self, do: Callable[[], None]) -> None:
        while not self._stop.is_set():
            try:
                if self._broker.is_up and self._round_at and not self._hangs:
                    do()
            except BrokerGoneError as error:
                self._answers = False
                log.info("%s", error, extra=about(LogEvent.BROKER_LOST))
            except OSError as error:
                log.warning("%s", disk.in_words(error), extra=about(LogEvent.DISK_REFUSES))
            except Exception:
                # The threads' outer edge: what is held is kept, and asked about again.
                log.exception("internal error", extra=about(LogEvent.INTERNAL_ERROR))
            self._parts.clock.wait(self._stop, PAUSE)

    @property
    def _hangs(self) -> bool:
        return self._parts.clock.monotonic() - self._round_at > _HANGS_AFTER

    def _beat(self) -> None:
        now = self._parts.clock.monotonic()
        since = now - self._shown_at
        if since >= self._times.beat or (since >= _SOON and self._showing.has_news):
            self._showing.show()
            self._shown_at = now
        if now - self._renewed_at >= self._times.renew:
            for held in list(self._held.values()):
                self._broker.renew(held.lease)
            self._renewed_at = now

    def _round(self) -> None:
        # What is said is said before it is stored, and may be lost.
        now = self._parts.clock.monotonic()
        looks = now - self._heard_at < LOOKS_FOR or now - self._looked_at >= self._times.beat
        if looks:
            self._receive()
            self._looked_at = now
        for held in list(self._held.values()):
            with held.lock:
                self._continue(held, read_first=looks or not held.run_log.seq)
        self._answers = True

    def _receive(self) -> None:
        """Get messages: new ones while there is a place, and those of runs that are held, whose
        lease was lost on the way."""
        without = sum(
            held.run_log.is_held and held.lease.message is None for held in self._held.values()
        )
        free = self._showing.places - len(self._held)
        if free + without <= 0:
            return
        for lease in self._broker.lease(self.name, max(1, min(free + without, 10)), PAUSE):
            if not is_run_id(lease.run):
                self._broker.acknowledge(lease)
            elif (held := self._held.get(lease.run)) is not None:
                held.lease = lease
            else:
                disk.touch(self._notes / lease.run)
                copy = RunCopy(self._parts.spool, lease.run)
                self._held[lease.run] = _Held(lease.run, lease, copy)

    def _continue(self, held: _Held, *, read_first: bool = True) -> LocalRun | None:
        """Do what is to be done about one run; return what its copy said last. Raises
        BrokerGoneError, OSError."""
        local = None
        for _ in range(20):
            if read_first:
                self._read_log(held)
            read_first = True
            local = self._look(held)
            action = box_step(self.name, held.run_log, local)
            try:
                if not self._perform(held, action, local):
                    break
            except LogMovedError:
                continue
            except (MissingObjectError, ValueError) as error:
                log.warning("%s: %s", held.run, error, extra=about(LogEvent.RUN_NOT_RESUMED))
                break
            read_first = False  # what was appended is read
        return local

    def _look(self, held: _Held) -> LocalRun | None:
        local = held.copy.look()
        if local is not None and local.ended is None and held.run in self._given_back:
            return replace(local, ended=BoxEnd.GIVEN_BACK)
        return local

    def _read_log(self, held: _Held) -> None:
        if held.store != self._broker.store:
            held.store, held.run_log = self._broker.store, RunLog()
        for seq, entry in self._broker.entries_after(held.run, held.run_log.seq):
            held.run_log = with_entry_for_box(held.run_log, seq, entry)

    def _append(self, held: _Held, entry: Entry) -> None:
        """Append to a run's log, and read that. Raises LogMovedError, BrokerGoneError."""
        seq = self._broker.append(held.run, entry, held.run_log.seq)
        held.run_log, _ = with_entry(held.run_log, seq, entry)

    def _perform(self, held: _Held, action: holding.BoxAction, local: LocalRun | None) -> bool:
        """Do it; return whether something more may follow at once."""
        folder = held.copy.folder
        if isinstance(action, holding.Fetch):
            self._fetch(held, action)
        elif isinstance(action, Accepted):
            self._append(held, action)
        elif isinstance(action, holding.Store):
            self._store(held, action)
        elif isinstance(action, holding.StoreEnd):
            self._end(held, action, folder)
        elif isinstance(action, holding.Acknowledge):
            self._broker.acknowledge(held.lease)
            return False
        elif isinstance(action, holding.Withdraw):
            self._withdraw(held, folder, local)
            return False
        else:
            if local is None:  # the message was for nothing
                self._forget(held)
            elif held.run_log.is_held and not held.adopted and folder is not None:
                held.adopted = True
                self._arrived.put(folder)
                self._parts.wake()
            return False
        return True

    def _fetch(self, held: _Held, action: holding.Fetch) -> None:
        spool = self._parts.spool
        temporary = spool.working / f".{held.run}.fetch"
        if disk.exists(temporary):
            disk.remove_tree(temporary)
        try:
            fetch_run(self._broker, held.run, action.manifest, temporary)
        except (MissingObjectError, ValueError) as error:
            log.warning("%s: %s", held.run, error, extra=about(LogEvent.RUN_NOT_RESUMED))
            # What is gone or damaged is stored again for whoever gets the run next.
            gone = isinstance(error, MissingObjectError)
            outcome = BoxEnd.GIVEN_BACK if gone else BoxEnd.REFUSED
            self._append(held, Accepted(action.epoch))
            self._append(held, Ended(action.epoch, outcome, 0, (), {"box": self.name}))
            if disk.exists(temporary):
                disk.remove_tree(temporary)
            return
        run = Run(temporary, self._parts.clock)
        run.record("received", epoch=action.epoch)
        run.close()
        identity = renames.identity_of(disk.look_at(temporary))
        renames.rename(temporary, spool.working / held.run, identity)
        disk.sync_folder(spool.working)
        held.adopted = False
        event = about(LogEvent.RUN_HANDED_OVER, run=held.run, epoch=action.epoch)
        log.info("%s: received, epoch %d", held.run, action.epoch, extra=event)

    def _store(self, held: _Held, action: holding.Store) -> None:
        """Store lines with the files that they name. An image that is dropped meanwhile is recorded
        as dropped before it goes: then the lines are read again."""
        folder = held.copy.folder
        assert folder is not None
        while True:
            lines = held.copy.lines_from(action.first)
            wanted = files_named(lines)
            stored = store_files(self._broker, held.run, folder, wanted)
            if len(stored) == len(wanted) or lines == held.copy.lines_from(action.first):
                break
        text = text_of(lines)
        if len(text) <= MOST_INLINE:
            digest, inline = hashlib.sha256(text).hexdigest(), text.decode("ascii")
        else:
            digest, inline = self._broker.objects.store(held.run, text), ""
        files = tuple(stored)
        self._append(
            held, LinesStored(action.epoch, action.first, len(lines), digest, files, inline)
        )

    def _end(self, held: _Held, action: holding.StoreEnd, folder: Path | None) -> None:
        files, webui = [], None
        if folder is not None:
            files = store_files(self._broker, held.run, folder, evidence_in(folder))
            webui = read_about(folder).get("webui")
        said = {str(k): v for k, v in webui.items()} if isinstance(webui, Mapping) else {}
        said["box"] = self.name
        self._append(held, Ended(action.epoch, action.outcome, action.lines, tuple(files), said))

    def _withdraw(self, held: _Held, folder: Path | None, local: LocalRun | None) -> None:
        """Have the monitor end the run, then remove the box's copy of it."""
        if folder is None or local is None:
            self._forget(held)
        elif local.ended is not None or not held.adopted:  # the monitor no longer, or never, had it
            disk.remove_tree(folder)
            self._forget(held)
        elif not disk.exists(folder / CANCEL):
            disk.touch(folder / CANCEL)
            event = about(LogEvent.RUN_WITHDRAWN, run=held.run, epoch=local.epoch)
            log.warning("%s: no longer this box's run; it is cancelled here", held.run, extra=event)
            self._parts.wake()

    def _forget(self, held: _Held) -> None:
        if held.run_log.is_held and held.run_log.box == self.name:
            held.adopted = False
            self._given_back -= {held.run}
            return  # it was handed to this box again
        self._given_back -= {held.run}
        disk.remove(self._notes / held.run)
        self._held.pop(held.run, None)

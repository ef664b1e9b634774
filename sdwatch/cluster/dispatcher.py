"""The dispatcher: gives jobs of the shared inbox to boxes, beside the lanes of its own machine."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sdwatch.cluster.broker import Broker, BrokerGoneError, LogMovedError
from sdwatch.cluster.reconciler import Reconciler
from sdwatch.cluster.remote_run import ANY_BOX, BoxLane, Helpers, RemoteRun
from sdwatch.monitor.partner import Surroundings
from sdwatch.monitor.placement import WaitingJob
from sdwatch.monitor.suspended import SuspendedRun
from sdwatch.policy.cluster import dispatching, names
from sdwatch.policy.cluster.choosing import BoxCard, card_of, fits, in_turn
from sdwatch.policy.cluster.dispatching import HandOver, Wish, dispatcher_step
from sdwatch.policy.cluster.entries import Closed, TakenBack, TakenFor
from sdwatch.policy.cluster.names import Times
from sdwatch.policy.cluster.run_log import Phase, RunLog
from sdwatch.policy.job.job import Job
from sdwatch.policy.job.run_names import is_run_id
from sdwatch.spool.arrival import Arrival
from sdwatch.spool.run import Run
from sdwatch.system import disk
from sdwatch.system.clock import join
from sdwatch.system.log_events import LogEvent, about
from sdwatch.webui.http.run_control import RunControl

log = logging.getLogger("sdwatch.cluster")

_PAUSE = 1.0  # seconds between two looks at the boxes
_OBJECTS = "closing"


@dataclass
class _Seen:
    """A box as it showed itself last. `at`: when its number last grew, on the monotonic clock."""

    number: int
    card: BoxCard
    at: float


@dataclass
class _Boxes:
    """All boxes, by name. Made by the watching thread, read by the main thread."""

    seen: dict[str, _Seen] = field(default_factory=dict)
    drained: frozenset[str] = frozenset()


class Dispatcher:
    """The dispatcher of the cluster whose broker is at `url`."""

    def __init__(self, url: str, times: Times = Times()) -> None:  # noqa: B008 - it is frozen
        self._times = times
        self._broker = Broker(url, "dispatcher", times, self._hinted)
        self._boxes = _Boxes()
        self._remote: dict[str, RemoteRun] = {}
        self._excluded: set[tuple[str, str]] = set()  # run and box
        self._stop = threading.Event()
        self._store = ""
        self._up_since = 0.0
        self._reconciled_at = -1e9
        self._thread = threading.Thread(target=self._live, name="cluster-watch", daemon=True)

    # -- called by the monitor

    def open(self, surroundings: Surroundings) -> None:
        """Start. Runs that are out are followed again from the next round on."""
        self._around = around = surroundings
        self._closing = around.state.root / _OBJECTS
        disk.ensure_folder(self._closing)
        self._reconciler = Reconciler(self._broker, around.spool, self._closing, self._times.stuck)
        self._helpers = Helpers(
            self._broker,
            around.clock,
            around.settings,
            around.parts.lanes[0],
            lambda run, box: self._excluded.add((run, box)),
        )
        around.parts.placement.elsewhere = self._may_take
        self._broker.listen()
        self._broker.open()
        self._thread.start()

    def give_work(self, *, may_call: bool) -> None:
        """Follow the runs that are out, and give each box what it has places for."""
        parts = self._around.parts
        self._remote = {run: r for run, r in self._remote.items() if run in parts.runs.ids}
        for suspended in parts.suspended.due():
            if box := suspended.out_on:
                self._start(suspended, box)
        if not may_call or not self._broker.is_up:
            return
        for box in in_turn(self._free()):
            if (chosen := self._next_for(box)) is not None:
                self._start(chosen, box)

    def close(self) -> None:
        """Stop. The boxes continue with what they have."""
        self._stop.set()
        join(self._thread, 5.0)
        self._broker.close()

    def status(self) -> dict[str, Any]:
        """Return the boxes, and what is on them."""
        now, seen = self._around.clock.monotonic(), dict(self._boxes.seen)
        out: dict[str, list[str]] = {}
        for run, remote in dict(self._remote).items():
            out.setdefault(remote.box, []).append(run)
        return {
            "broker": "" if self._broker.is_up else self._broker.why_down,
            "boxes": {
                name: {
                    "answers": now - box.at < self._times.silent,
                    "drained": name in self._boxes.drained,
                    "places": box.card.places,
                    "runs": sorted(out.get(name, [])),
                }
                for name, box in sorted(seen.items())
            },
        }

    # -- placement, on the main thread

    def _live_boxes(self) -> dict[str, BoxCard]:
        now = self._around.clock.monotonic()
        return {
            name: box.card
            for name, box in dict(self._boxes.seen).items()
            if now - box.at < self._times.silent and name not in self._boxes.drained
        }

    def _free(self) -> dict[str, tuple[int, int]]:
        """Return how many runs each box has from here, and how many it has places for."""
        counts = {name: (0, card.places) for name, card in self._live_boxes().items()}
        for remote in self._remote.values():
            if remote.box in counts:
                runs, places = counts[remote.box]
                counts[remote.box] = runs + 1, places
        return counts

    def _may_take(self, offered: WaitingJob) -> bool:
        """Return whether some box may be able to do a job that no lane here can do."""
        run = offered.source.rpartition("/")[2]
        cards = self._live_boxes()
        return any(
            not self._excludes(run, name) and _can_do(card, offered.job)
            for name, card in cards.items()
        )

    def _excludes(self, run: str, box: str) -> bool:
        return not self._excluded.isdisjoint({(run, box), (run, ANY_BOX)})

    def _next_for(self, box: str) -> SuspendedRun | Arrival | None:
        parts, card = self._around.parts, self._boxes.seen[box].card

        def fits_suspended(waits: SuspendedRun) -> bool:
            if waits.out_on or not parts.schedule.may_resume(waits):
                return False
            return not self._excludes(waits.folder.name, box) and _can_do(card, waits.job)

        if (waits := parts.suspended.first(fits_suspended)) is not None:
            return waits
        return parts.intake.first(
            lambda arrival: parts.schedule.may_start(arrival) and _can_do(card, arrival.job)
        )

    def _start(self, chosen: SuspendedRun | Arrival, box: str) -> None:
        parts = self._around.parts
        resumed, run = False, None
        if isinstance(chosen, Arrival):
            run = parts.intake.claim(chosen)
        else:
            resumed, run = True, parts.ends.resume(chosen)
        if run is None:
            return
        disk.touch(self._closing / run.run_id)
        control = RunControl()
        remote = RemoteRun(run, box, control, self._helpers)
        self._remote[run.run_id] = remote
        parts.reports.started(run, resumed=resumed)
        parts.runs.start_with(run, BoxLane(box), control, remote)

    # -- the thread that watches the boxes

    def _hinted(self, subject: str) -> None:
        for run, remote in list(self._remote.items()):
            if subject in ("", names.run_subject(run)):
                remote.hint.set()
        if subject.startswith("$KV"):
            self._around.wake()

    def _live(self) -> None:
        while not self._stop.is_set():
            try:
                if self._broker.is_up:
                    self._watch()
                else:
                    self._store = ""
            except (BrokerGoneError, LogMovedError) as error:
                self._store = ""
                log.info("%s", error, extra=about(LogEvent.BROKER_LOST))
            except OSError as error:
                log.warning("%s", disk.in_words(error), extra=about(LogEvent.DISK_REFUSES))
            except Exception:
                # The thread's outer edge: the next round looks again.
                log.exception("internal error", extra=about(LogEvent.INTERNAL_ERROR))
            self._around.clock.wait(self._stop, _PAUSE)

    def _watch(self) -> None:
        now = self._around.clock.monotonic()
        if self._store != self._broker.store:  # it was away: nobody could show himself
            self._store, self._up_since = self._broker.store, now
        cards = self._broker.boxes()
        orders = self._broker.orders()
        seen = dict(self._boxes.seen)
        for name, (number, card) in cards.items():
            before = seen.get(name)
            if before is None or before.number != number:
                # What was shown before this start may be old: it must be shown once more.
                at = now if before is not None else now - self._times.silent
                seen[name] = _Seen(number, card_of(card), at)
        drained = {name for name, (_, order) in orders.items() if order.get("drain") is True}
        self._boxes = _Boxes(seen, frozenset(drained))
        for box in {remote.box for remote in list(self._remote.values())}:
            self._look_after(box, now)
        if now - self._reconciled_at >= self._times.stuck / 2:
            self._reconciled_at = now
            out = {run: remote.log for run, remote in list(self._remote.items())}
            self._reconciler.look(now, out, self._takers(out), _copies(cards.values()))
        if not self._around.spool.is_gone:
            for entry in disk.entries(self._closing):
                if is_run_id(entry.name) and entry.name not in self._remote:
                    self._close_log(entry.name)

    def _takers(self, out: Mapping[str, RunLog]) -> set[str]:
        """Return the boxes that answer and have a place for one run more than they accepted."""
        accepted = Counter(log.box for log in out.values() if log.phase is Phase.ACCEPTED)
        boxes = self._live_boxes()
        return {name for name, card in boxes.items() if accepted[name] < card.places}

    def _look_after(self, box: str, now: float) -> None:
        """Take back what a silent box no longer has a lease for."""
        seen = self._boxes.seen.get(box)
        silent = now - max(self._up_since, seen.at if seen else 0.0)
        if silent < self._times.silent:
            return
        for lease in self._broker.lease(box, 10, _PAUSE):
            if (remote := self._remote.get(lease.run)) is not None:
                remote.take_back(TakenFor.LEASE_LOST)
            else:
                self._broker.acknowledge(lease)
        if silent < self._times.silent + 2 * self._times.lease:
            return
        for run, remote in list(self._remote.items()):  # its message is lost, or stuck
            if remote.box == box and not self._broker.is_offered(box, run):
                remote.take_back(TakenFor.STUCK)
            elif remote.box == box:
                self._broker.withdraw_offer(box, run)

    def _close_log(self, run: str) -> None:
        """Close the log of a run that is published, or removed by a person, and remove what the
        broker has of it."""
        look = self._reconciler
        if not look.is_published(run) and look.is_at_work(run):
            return
        journal = HandOver(self._epoch_of(run))
        for _ in range(10):
            found = look.log_of(run)
            action = dispatcher_step(found, journal, Wish(published=True))
            if isinstance(action, dispatching.TakeBack):
                self._broker.append(run, TakenBack(action.epoch, action.because), found.seq)
            elif isinstance(action, dispatching.Close):
                self._broker.append(run, Closed(action.epoch), found.seq)
            else:
                break
        if found.box:
            self._broker.withdraw_offer(found.box, run)
        self._broker.objects.remove(run)
        if found.seq:
            self._broker.forget_log(run, 1)
        disk.remove(self._closing / run)

    def _epoch_of(self, run: str) -> int:
        """Return the newest epoch that the published run's journal knows; 1 where it is gone: that
        or another, it is over."""
        for parent in (self._around.spool.done, self._around.spool.failed):
            if disk.exists(parent / run):
                return Run(parent / run, self._around.clock).ledger.handed_over.epoch or 1
        return 1


def _copies(cards: Iterable[tuple[int, Mapping[str, Any]]]) -> set[str]:
    """Return the runs that boxes show as copies of theirs."""
    shown = [card.get("copies") for _, card in cards]
    return {str(run) for runs in shown if isinstance(runs, list) for run in runs if _is_run(run)}


def _is_run(name: object) -> bool:
    return isinstance(name, str) and is_run_id(name)


def _can_do(card: BoxCard, job: object) -> bool:
    return isinstance(job, Job) and fits(card, job)

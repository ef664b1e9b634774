"""The dispatcher: gives jobs of the shared inbox to boxes, beside the lanes of its own machine."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

from sdwatch.cluster.board import Board
from sdwatch.cluster.box_notices import BoxNotices
from sdwatch.cluster.boxes import Boxes, LaneOfBox
from sdwatch.cluster.broker import Broker, BrokerGoneError, LogMovedError
from sdwatch.cluster.reconciler import Reconciler
from sdwatch.cluster.remote_run import BoxLane, Helpers, RemoteRun
from sdwatch.monitor.suspended import SuspendedRun
from sdwatch.monitor.work import Parts, Work
from sdwatch.policy.cluster import names
from sdwatch.policy.cluster.dispatching import Wish, dispatcher_step
from sdwatch.policy.cluster.entries import Closed, TakenBack, TakenFor
from sdwatch.policy.cluster.names import Times
from sdwatch.policy.cluster.run_log import Phase, RunLog, with_entry
from sdwatch.policy.failure.ledger import HandedOver
from sdwatch.policy.job.job import Job
from sdwatch.policy.privacy.redaction import Redactor
from sdwatch.policy.queue.run_names import is_run_id
from sdwatch.policy.queue.schedule import left_loaded, needed_first
from sdwatch.policy.report.envelope import job_envelope
from sdwatch.spool.arrival import Arrival
from sdwatch.spool.recorder import Faults
from sdwatch.spool.run import Run
from sdwatch.system import disk
from sdwatch.system.clock import join
from sdwatch.system.log_events import LogEvent, about
from sdwatch.webui.http.run_control import RunControl

log = logging.getLogger("sdwatch.cluster")

_PAUSE = 1.0  # seconds between two looks at the boxes
_AT_ONCE = 0.1  # seconds for what is there
_OBJECTS = "closing"


class Dispatcher:
    """The dispatcher of the cluster whose broker is at `url`."""

    def __init__(self, url: str, times: Times = Times()) -> None:  # noqa: B008 - it is frozen
        self._times = times
        self._broker = Broker(url, "dispatcher", times, self._hinted)
        self._board = Board(self._broker)
        self._remote: dict[str, RemoteRun] = {}
        self._ended: dict[str, RunLog] = {}  # as they were read last
        self._lane_of: dict[str, str] = {}  # of a box, by run
        self._loaded: dict[str, tuple[int, str]] = {}  # by lane: as its box said it last
        self._stop = threading.Event()
        self._looked_after: dict[str, float] = {}  # when, by box
        self._closes_more = False  # logs of runs that have ended
        self._store = ""
        self._up_since = 0.0
        self._reconciled_at = -1e9
        self._thread = threading.Thread(target=self._live, name="cluster-watch", daemon=True)

    # -- called by the monitor

    def open(self, parts: Parts, work: Work) -> None:
        """Start. Runs that are out are followed again from the next round on."""
        self._parts, self._work = parts, work
        self._opened_at = parts.clock.monotonic()
        self._boxes = Boxes(parts.clock.monotonic, self._times)
        self._notices = BoxNotices(parts.reports.notice, parts.clock)
        self._closing = parts.state.root / _OBJECTS
        disk.ensure_folder(self._closing)
        self._reconciler = Reconciler(self._broker, parts.spool, self._closing, self._times.stuck)
        self._helpers = Helpers(
            self._broker,
            parts.clock,
            parts.settings,
            Redactor(),
            Faults(parts.clock),
            lambda run, box, why: parts.placement.note_refusal(f"working/{run}", box, why),
        )
        parts.placement.remote = lambda: self._boxes.lanes
        self._broker.listen(names.run_subject("") + ">")
        self._broker.open()
        self._thread.start()

    def give_work(self, most: int, *, may_call: bool) -> None:
        """Follow the runs that are out, and give each lane of each box runs until it has `most`, or
        as many as it takes."""
        parts = self._parts
        there = parts.runs.ids
        for run in self._remote.keys() - there:
            self._ended[run] = self._remote[run].run_log
        self._remote = {run: r for run, r in self._remote.items() if run in there}
        for suspended in parts.suspended.due():
            if box := suspended.out_on:
                self._start(suspended, box)
        for remote in self._remote.values():
            if remote.is_offered and self._boxes.takes_none(remote.box):
                remote.want_back(TakenFor.GIVEN_BACK)
        self._count()
        down = "" if self._broker.is_up else self._broker.why_down
        self._notices.report(self._boxes, down, parts.placement.without_tags())
        if not may_call or not self._broker.is_up:
            return
        self._end_refused()
        waits = any(not suspended.out_on for suspended in parts.suspended.due())
        if not waits and parts.intake.first(parts.later_jobs.may_start) is None:
            return
        for lane in sorted(self._boxes.lanes or (), key=lambda lane: self._boxes.runs[lane.box]):
            self._note_loaded(lane)
            while lane.serves and self._boxes.runs[lane.name] < min(most, lane.shown.places):
                if not self._give(lane):
                    break

    def close(self) -> None:
        """Stop. The boxes continue with what they have."""
        self._stop.set()
        join(self._thread, 5.0)
        self._broker.close()

    def may_have_work(self) -> bool:
        """Return whether a box has a run from here, or may get one: after the start nobody knows
        for a moment which boxes there are."""
        if self._remote or self._parts.clock.monotonic() - self._opened_at < self._times.silent:
            return True
        parts, lanes = self._parts, [o for o in self._boxes.lanes or () if o.serves]
        if self._work.waits_for(lanes) is not None:
            return True
        return any(
            parts.placement.can_do(lane, waits) for waits in parts.suspended for lane in lanes
        )

    def status(self) -> dict[str, Any]:
        """Return the boxes, and what is on them."""
        out: dict[str, list[str]] = {}
        for run, remote in dict(self._remote).items():
            out.setdefault(remote.box, []).append(run)
        down = "" if self._broker.is_up else self._broker.why_down
        return {"broker": down, "boxes": self._boxes.status(out)}

    # -- placement, on the main thread

    def _count(self) -> None:
        """Count the runs of each lane, and of each box. Where nobody knows on which lane of its box
        one is, it is on the first."""
        first = {lane.box: lane.name for lane in reversed(self._boxes.lanes or ())}
        runs: Counter[str] = Counter()
        for run, remote in self._remote.items():
            if not remote.publishing:
                runs[self._lane_of.get(run) or first.get(remote.box, "")] += 1
                runs[remote.box] += 1
        self._boxes.runs = runs
        self._lane_of = {run: lane for run, lane in self._lane_of.items() if run in self._remote}

    def _note_loaded(self, lane: LaneOfBox) -> None:
        """Note what is loaded there, whenever its box says something new."""
        says = lane.shown.life, lane.shown.loaded
        if self._loaded.get(lane.name) != says:
            self._loaded[lane.name] = says
            self._parts.affinity.note_loaded(lane, lane.shown.loaded)

    def _give(self, lane: LaneOfBox) -> bool:
        """Give a lane the run or the job that it gets next; return whether there was one."""
        parts, affinity = self._parts, self._parts.affinity

        def may_resume(waits: SuspendedRun) -> bool:
            if waits.out_on or not parts.later_jobs.may_resume(waits):
                return False
            return waits.job is not None and parts.placement.can_do(lane, waits)

        suspended = parts.suspended.first(may_resume)
        in_line = None if suspended else self._work.next_for(lane)
        chosen = suspended if in_line is None else in_line.job
        job = None if chosen is None else chosen.job
        if chosen is None or not isinstance(job, Job):
            return False
        if self._boxes.runs[lane.name]:
            needs = needed_first(job)
            if not affinity.may_join(lane, chosen.source, needs, job.priority):
                return False
        if (run := self._start(chosen, lane.box)) is not None:
            self._lane_of[run] = lane.name
            self._boxes.runs.update((lane.name, lane.box))
            passed = in_line.passed if in_line else ()
            affinity.started(run, lane, left_loaded(job), passed, job.priority)
        return True

    def _end_refused(self) -> None:
        """End the runs that all boxes and lanes refuse, of those that no lane here would resume."""
        parts = self._parts
        if parts.lanes:
            return
        for waits in parts.suspended.due():
            if waits.out_on or (refusal := parts.placement.refusal(waits)) is None:
                continue
            if (run := parts.without_lane.resume(waits)) is not None:
                parts.without_lane.end(run, job_envelope(refusal))

    def _start(self, chosen: SuspendedRun | Arrival, box: str) -> str | None:
        """Follow a run on a box; return its id, None where it cannot start now."""
        parts = self._parts
        resumed, run = False, None
        if isinstance(chosen, Arrival):
            run = parts.intake.claim(chosen)
        else:
            resumed, run = True, parts.without_lane.resume(chosen)
        if run is None:
            return None
        disk.touch(self._closing / run.run_id)
        control = RunControl()
        remote = RemoteRun(run, box, control, self._helpers)
        self._remote[run.run_id] = remote
        parts.reports.started(run, resumed=resumed)
        parts.runs.start_with(run, BoxLane(box), control, remote)
        return run.run_id

    # -- the thread that watches the boxes

    def _hinted(self, subject: str) -> None:
        if not subject:
            for remote in list(self._remote.values()):
                remote.hint.set()
        elif followed := self._remote.get(names.text_of(subject.rpartition(".")[2])):
            followed.hint.set()

    def _live(self) -> None:
        while not self._stop.is_set():
            self._closes_more = False
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
            self._parts.clock.wait(self._stop, 0.0 if self._closes_more else _PAUSE)

    def _watch(self) -> None:
        now = self._parts.clock.monotonic()
        if self._store != self._broker.store:  # it was away: nobody could show himself
            self._store, self._up_since = self._broker.store, now
        if self._boxes.look(self._board):
            self._parts.wake()
        self._look_after_boxes(now)
        if now - self._reconciled_at >= self._times.stuck / 2:
            self._reconciled_at = now
            out = {run: remote.run_log for run, remote in list(self._remote.items())}
            takers, copies = self._takers(out), self._copies()
            self._reconciler.look(now, out, takers, copies, self._boxes.seen.keys())
        self._closes_more = not self._parts.spool.is_gone and self._close_logs()

    def _close_logs(self) -> bool:
        """Close the logs of runs that have ended, for a second: then the boxes are looked at again.
        Return whether some are left."""
        began = self._parts.clock.monotonic()
        for entry in disk.entries(self._closing):
            if self._parts.clock.monotonic() - began >= _PAUSE:
                return True
            if is_run_id(entry.name) and entry.name not in self._remote:
                self._close_log(entry.name)
        return False

    def _copies(self) -> set[str]:
        """Return the runs that boxes show as theirs."""
        shown = {run for seen in self._boxes.seen.values() for run in seen.shown.copies}
        return set(filter(is_run_id, shown))

    def _takers(self, out: Mapping[str, RunLog]) -> set[str]:
        """Return the boxes that answer and have a place for one run more than they accepted."""
        accepted = Counter(log.box for log in out.values() if log.phase is Phase.ACCEPTED)
        places: Counter[str] = Counter()
        for lane in self._boxes.lanes or ():
            if lane.serves:
                places[lane.box] += lane.shown.places
        return {box for box, free in places.items() if accepted[box] < free}

    def _look_after_boxes(self, now: float) -> None:
        """Look after the boxes that have runs, for a second, those first that waited longest: while
        many are silent, the others must not seem so."""
        boxes = {remote.box for remote in list(self._remote.values())}
        self._looked_after = {box: self._looked_after.get(box, 0.0) for box in boxes}
        for box in sorted(boxes, key=self._looked_after.__getitem__):
            if self._parts.clock.monotonic() - now >= _PAUSE:
                return
            self._look_after(box, now)
            self._looked_after[box] = now

    def _look_after(self, box: str, now: float) -> None:
        """Take back what a silent box no longer has a lease for."""
        seen = self._boxes.seen.get(box)
        silent = now - max(self._up_since, seen.at if seen else 0.0)
        if silent < self._times.silent:
            return
        for lease in self._broker.lease(box, 10, _AT_ONCE):
            if (remote := self._remote.get(lease.run)) is not None:
                remote.want_back(TakenFor.LEASE_LOST)
            else:
                self._broker.acknowledge(lease)
        if silent < self._times.silent + 2 * self._times.lease:
            return
        for run, remote in list(self._remote.items()):  # its message is lost, or stuck
            if remote.box == box and not self._broker.is_offered(box, run):
                remote.want_back(TakenFor.STUCK)
            elif remote.box == box:
                self._broker.withdraw_offer(box, run)

    def _close_log(self, run: str) -> None:
        """Close the log of a run that is published, or removed by a person, and remove what the
        broker has of it."""
        look = self._reconciler
        if not look.is_published(run) and look.is_at_work(run):
            return
        journal = HandedOver(self._epoch_of(run))
        found = self._ended.pop(run, None) or look.log_of(run)
        for _ in range(10):
            entry = dispatcher_step(found, journal, Wish(published=True))
            if not isinstance(entry, TakenBack | Closed):
                break
            found, _counts = with_entry(found, self._broker.append(run, entry, found.seq), entry)
            if found.box:
                self._broker.say(names.look_subject(found.box))
        if found.box:
            self._broker.withdraw_offer(found.box, run)
        self._broker.objects.remove(run)
        if found.seq:
            self._broker.forget_log(run, 1)
        disk.remove(self._closing / run)

    def _epoch_of(self, run: str) -> int:
        """Return the newest epoch that the published run's journal knows; 1 where it is gone: that
        or another, it is over."""
        for parent in (self._parts.spool.done, self._parts.spool.failed):
            if disk.exists(parent / run):
                return Run(parent / run, self._parts.clock).ledger.handed_over.epoch or 1
        return 1

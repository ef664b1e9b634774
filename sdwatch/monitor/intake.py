"""The intake of jobs: scan the inbox when it is due, order what waits, and claim it."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Container, Iterator, Mapping
from heapq import nsmallest
from itertools import chain, islice, takewhile
from typing import Any

from sdwatch.config import Config
from sdwatch.errors import JobError
from sdwatch.monitor.later_jobs import LaterJobs
from sdwatch.monitor.suspended import REFUSAL_PASSES, REFUSED_FOR
from sdwatch.policy.failure.lasting import LastingStates, Recurring, key_of
from sdwatch.policy.job.calls.call_sizes import KnownSizes, listed_sizes
from sdwatch.policy.privacy.printable import printable
from sdwatch.spool import archive
from sdwatch.spool.arrival import Arrival
from sdwatch.spool.folders import Spool
from sdwatch.spool.inbox import Inbox
from sdwatch.spool.patient_disk import DiskRefusals
from sdwatch.spool.run import Run
from sdwatch.spool.watch import InboxWatch
from sdwatch.system import disk
from sdwatch.system.clock import Clock

log = logging.getLogger("sdwatch.monitor")

_SCAN_SHARE, _LONG_PAUSE = 5, 5.0
"""The next scan starts this many times as long after the start of the last one as that took: a
large inbox takes long. So does the next round of reading what has settled. A pause of more than so
many seconds is no longer than the scan: where each file takes 10 ms, as on a slow share, a scan of
a dozen jobs takes 6 s."""

_PAUSES_WHILE_WAITING = 0.05, 1.0
"""The shortest and the longest pause between two scans while something is arriving; otherwise a
quarter of `settle`."""

_ROUND = 0.05
"""Seconds for which jobs are read, and then their names looked up, before the lanes get work."""


_SHOWN = 50
"""Of so many jobs of the queue the heartbeat says more than that they wait."""


class Intake:
    """The inbox of `spool`. `wake`: called from the watch's thread when a scan is due. `report`:
    gets lines for people. The rest is for the main thread."""

    def __init__(
        self,
        spool: Spool,
        config: Config,
        *,
        clock: Clock,
        wake: Callable[[], None],
        report: Callable[[str], None],
    ) -> None:
        self._spool = spool
        self._clock = clock
        self._wake = wake
        self._report = report
        self._settle = config.settle
        self._scan_interval = config.scan_interval
        self._by_events = config.watch == "events"
        self._inbox = Inbox(
            spool.inbox,
            config.settle,
            config.arrival_timeout,
            clock,
            config.unfinished_timeout,
            config.rules,
            on_share=not self._by_events,
        )
        self._unscanned = DiskRefusals(
            clock, log, "the inbox cannot be read", "the inbox can be read again"
        )
        self._watch = InboxWatch(spool.inbox, self._hint, self._inbox.renamed_in)
        self._unasked: deque[Arrival] = deque()  # whether a lane can do it
        self.scans = 0
        self._scan_wanted = True
        self._scanned_at, self._took = -math.inf, 0.0  # the last scan
        self._round_not_before = 0.0
        self._refusals = LastingStates()
        # Whoever exchanges a folder for a link again and again must not fill the log.
        self._named, self._unreadable = Recurring(), Recurring()
        self._sizes = KnownSizes()
        self._refused: dict[str, float] = {}  # source -> when it may be claimed again

    def open(self) -> None:
        """Start to watch the inbox."""
        if self._by_events:
            self._watch.start()

    def close(self) -> None:
        """Stop watching."""
        self._watch.stop()

    def scan(self) -> None:
        """Scan if it is due, and list what has settled."""
        self._inbox.take_settled()
        now = self._clock.monotonic()
        if now >= self._next_scan():
            self._scan(now)

    def _next_scan(self) -> float:
        """Return when the next scan is due: when there was a hint, or the interval has passed, but
        never so often that scanning takes most of the time."""
        pause, took = self._scan_interval, self._took
        if self._scan_wanted:
            pause = 0.0
        elif self._inbox.has_waiting:
            shortest, longest = _PAUSES_WHILE_WAITING
            pause = min(pause, longest, max(shortest, self._settle / 4))
        # Without a job that can be claimed no lane has to wait for the scan.
        share = _SCAN_SHARE if self._inbox.ready or self._inbox.unread else 1
        due = self._scanned_at + max(pause, min(share * took, took + max(took, _LONG_PAUSE)))
        settles_at = self._inbox.settles_at
        return settles_at if due < settles_at < due + took else due

    def is_empty_now(self) -> bool:
        """Scan now, and return whether there is nothing to claim and nothing arriving."""
        self._scan(self._clock.monotonic())
        if found := self.ready or bool(self._without_webui()):
            self._wake()
        return not (found or self.settling)

    @property
    def sources(self) -> Container[str]:
        """What the last scan found."""
        return self._inbox.sources

    def _scan(self, now: float) -> None:
        if self._by_events:
            self._watch.keep(now)
        self._scan_wanted = False
        try:
            self._inbox.scan()
        except OSError as error:
            self._inbox.note_waiting("inbox", f"cannot be read: {disk.in_words(error)}")
            self._unscanned.note(error)
        else:
            self._unscanned.are_over()
        self.scans += 1
        self._report_refused(now)
        self._report_unreadable()
        self._unreadable.forget(now, but=self._inbox.sources)
        for source, why in self._inbox.ignored.items():
            if self._named.is_new(source, now):
                self._report(f"{printable(source)}: {why}")
        self._named.forget(now)
        self._scanned_at, self._took = now, self._clock.monotonic() - now

    def _report_unreadable(self) -> None:
        """Report once what cannot be read, by a scan or later."""
        now = self._clock.monotonic()
        new = {each for each in self._inbox.for_a_person if self._unreadable.is_new(each, now)}
        for source, why in self._inbox.reasons() if new else ():
            if source in new:
                self._report(f"{printable(source)}: {why}")

    def _report_refused(self, now: float) -> None:
        """Say in `waiting` what could not be claimed a short while ago. What was refused longer ago
        is asked about again: nobody was, while it was refused."""
        over = {source for source, until in self._refused.items() if until <= now}
        if over:
            self._refused = {s: until for s, until in self._refused.items() if s not in over}
            self._unasked += (a for a in self._inbox.ready if a.source in over)
        for source in self._refused:
            if source in self._inbox.sources:
                self._inbox.note_waiting(source, "cannot be claimed yet; sdwatch keeps trying")

    def pause(self) -> float:
        """Return the seconds until there is something to do here, if nothing happens before."""
        now = self._clock.monotonic()
        due = min(self._next_scan(), max(self._inbox.settles_at, now + _PAUSES_WHILE_WAITING[0]))
        if self._inbox.unread or self._unasked:
            due = min(due, self._round_not_before)
        return max(0.0, due - now)

    @property
    def has_jobs(self) -> bool:
        """Return whether anything is in the inbox that may become a run."""
        return bool(self._inbox.ready or self._inbox.unread or self._inbox.has_waiting)

    @property
    def ready(self) -> bool:
        """Return whether a job can be claimed."""
        return self.first(lambda _: True) is not None

    @property
    def settling(self) -> bool:
        """Return whether something is arriving. What cannot be read or claimed waits for a person,
        and does not count; a claim may be refused for a moment."""
        now = self._clock.monotonic()
        refused = {s for s in self._refused if self._refusals.lasts(s, REFUSAL_PASSES, now)}
        left_alone = self._inbox.for_a_person | refused
        coming = any(source not in left_alone for source, _ in self._inbox.reasons())
        return coming or self._scan_wanted or self._inbox.unread > 0

    @property
    def startable(self) -> Iterator[Arrival]:
        """Yield, in order, what can be claimed and was read."""
        waits = (a for a in self._inbox.ready if a.needs_webui)
        return (a for a in waits if a.source not in self._refused)

    def first(self, fits: Callable[[Arrival], bool]) -> Arrival | None:
        """Return the first arrival, in order, that fits. What is unread counts as priority 0, and
        what comes first by that is read now, for a round."""
        self._inbox.read_to_first()
        return next(filter(fits, self.startable), None)

    def in_line(self, fits: Callable[[Arrival], bool]) -> Iterator[Arrival]:
        """Yield, in order, the arrivals that fit; see `first`."""
        self._inbox.read_to_first()
        return filter(fits, self.startable)

    def claim(self, arrival: Arrival) -> Run | None:
        """Claim an arrival; None where it was removed meanwhile, or cannot be claimed now."""
        self._inbox.take(arrival)
        try:
            run = archive.claim(arrival, self._spool, self._clock)
        except OSError as error:
            # Each attempt has a run, and so a path, of its own.
            working, now = self._spool.working, self._clock.monotonic()
            why = disk.refusal(error, working, named=False)
            if line := self._refusals.persists(arrival.source, key_of(error), why, now):
                self._report(f"{printable(arrival.source)}: cannot be claimed: {line}")
            self._refused[arrival.source] = self._clock.monotonic() + REFUSED_FOR
            why = f"cannot be claimed: {disk.refusal(error, working)}"
            self._inbox.note_waiting(arrival.source, why)
            self._spool.repair()
            return None
        self._refused.pop(arrival.source, None)
        self._refusals.is_over(arrival.source, self._clock.monotonic())
        return run

    def claim_without_lane(
        self, refusal: Callable[[Arrival], JobError | None], *, again: bool
    ) -> list[tuple[Run, JobError | None]]:
        """Claim what needs no WebUI: with the error, jobs that cannot be parsed or that no WebUI
        can do; with None, jobs that were cancelled while they waited. `refusal`: asked for each job
        once; for all of them `again` if an answer may have changed. It takes no longer than a
        round, and the others are asked in the next ones."""
        self._note_news()
        if again:
            self._unasked = deque(self._inbox.ready)
        began = self._clock.monotonic()
        ends: list[tuple[Arrival, JobError | None]] = []
        if began >= self._round_not_before:
            ends += self._ask(refusal, began + _ROUND)
            took = self._clock.monotonic() - began
            self._round_not_before = began + _SCAN_SHARE * took
        ends += [(arrival, arrival.error) for arrival in self._without_webui()]
        claimed = []
        for arrival, error in ends:
            # One that was refused before may have been asked twice.
            if arrival.is_listed and (run := self.claim(arrival)) is not None:
                claimed.append((run, None if arrival.cancelled else error))
        return claimed

    def _without_webui(self) -> list[Arrival]:
        """Return what ends at once; it comes first in the order."""
        ends = takewhile(lambda arrival: not arrival.needs_webui, self._inbox.ready)
        return [arrival for arrival in ends if arrival.source not in self._refused]

    def _ask(
        self, refusal: Callable[[Arrival], JobError | None], until: float
    ) -> list[tuple[Arrival, JobError | None]]:
        """Read and ask, as long as there is time. Return what no WebUI can do."""
        refused: list[tuple[Arrival, JobError | None]] = []
        while True:
            while self._unasked and self._clock.monotonic() < until:
                arrival = self._unasked.popleft()
                if not (arrival.is_listed and arrival.needs_webui):
                    continue
                if arrival.source not in self._refused and (error := refusal(arrival)) is not None:
                    refused.append((arrival, error))
            left = until - self._clock.monotonic()
            if self._unasked or not self._inbox.unread or left <= 0:
                return refused
            self._inbox.read_for(left)
            self._note_news()

    def _note_news(self) -> None:
        """Ask about what has become ready, and report what cannot be read."""
        self._unasked += self._inbox.newly_ready()
        self._report_unreadable()

    def status(
        self, suspended: int, unfit: Mapping[str, str], later_jobs: LaterJobs
    ) -> dict[str, Any]:
        """Return what waits, and why, for the heartbeat. `suspended`: runs that wait in working/;
        `unfit`: sources that no lane can serve yet, with the reason."""
        until = [
            (waits.until, i, a)
            for i, a in enumerate(self._inbox.ready)
            if (waits := later_jobs.waits(a.when)) is not None
        ]
        for_time = [a for _, _, a in nsmallest(_SHOWN, until)]
        timed = {a.source: later_jobs.why(a.when) for a in for_time}
        others = {source: why for source, why in unfit.items() if source not in timed}
        waiting = islice(chain(timed.items(), others.items(), self._inbox.reasons()), 50)
        may_start = (a for a in self._inbox.ready if a.needs_webui and later_jobs.may_start(a))
        soon = list(islice(may_start, _SHOWN))
        first = [*soon, *for_time][:_SHOWN]
        queued = len(self._inbox.ready) - len(self._without_webui()) + self._inbox.unread
        ignored = self._inbox.ignored
        return {
            "queued": queued + suspended,
            "next": [arrival.source for arrival in soon[:20]],
            "queue": [{**_queued(a, self._sizes), **later_jobs.status(a.when)} for a in first],
            "waiting": dict(waiting),
            "waiting_count": len(until) + len(others) + self._inbox.waiting_count,
            "waiting_for_time": len(until),
            "ignored": dict(islice(ignored.items(), 20)),
            "ignored_count": len(ignored),
        }

    def _hint(self) -> None:
        """Scan soon. Called from the watch's thread."""
        self._scan_wanted = True
        self._wake()


def _queued(arrival: Arrival, known: KnownSizes) -> dict[str, Any]:
    """Return a job of the queue for the heartbeat. `arrived`: its mtime; `calls`: how many it will
    need, and `sizes` how large they are, None and none where it is no longer kept in memory;
    `points`: None for a job without points."""
    job = arrival.parsed
    sizes = known.of(job) if job else {}
    return {
        "source": arrival.source,
        "priority": arrival.priority,
        "arrived": arrival.mtime,
        "calls": round(sum(sizes.values())) if job else None,
        "points": len(job.points) if job and job.points.are_several else None,
        "sizes": listed_sizes(sizes),
    }

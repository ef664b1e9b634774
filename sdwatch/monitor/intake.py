"""The intake of jobs: when the inbox is scanned, what waits in it in which order, and the claim."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sdwatch.config import Config
from sdwatch.errors import JobError
from sdwatch.lane.suspended import REFUSED_FOR
from sdwatch.policy.failure.lasting import Lasting, key_of
from sdwatch.policy.privacy.printable import printable
from sdwatch.spool import archive
from sdwatch.spool.archive import Spool
from sdwatch.spool.heartbeat import INTERVAL
from sdwatch.spool.inbox import Arrival, Inbox
from sdwatch.spool.run import Run
from sdwatch.spool.watch import InboxWatch
from sdwatch.system import disk
from sdwatch.system.clock import Clock

_SCAN_SHARE = 5
"""The next scan waits this many times as long as the last one took: a large inbox takes long."""


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
        self._watch = InboxWatch(spool.inbox, self._hint, self._inbox.renamed_in)
        self._arrivals: list[Arrival] = []
        self._without_webui: list[Arrival] = []
        self.sources: set[str] = set()  # claimable at the last scan
        self._scan_wanted = True
        self._next_scan = self._scan_not_before = 0.0
        self._refusals = Lasting()
        self._named: set[str] = set()  # looks like a job, and was reported
        self._refused: dict[str, float] = {}  # source -> when it may be claimed again

    def open(self) -> None:
        """Start to watch the inbox."""
        if self._by_events:
            self._watch.start()

    def close(self) -> None:
        """Stop watching."""
        self._watch.stop()

    def scan(self) -> None:
        """Scan if there was a hint, or the interval has passed; never so often that scanning takes
        most of the time."""
        now = self._clock.monotonic()
        wanted = self._scan_wanted or self._inbox.waiting or now >= self._next_scan
        if wanted and now >= self._scan_not_before:
            self._scan(now)

    def is_empty_now(self) -> bool:
        """Scan now, and return whether there is nothing to claim and nothing arriving."""
        self._scan(self._clock.monotonic())
        if found := bool(self._arrivals or self._without_webui):
            self._wake()
        return not (found or self.settling)

    def _scan(self, now: float) -> None:
        self._scan_wanted = False
        before = set(self._inbox.unreadable)
        try:
            found = [a for a in self._inbox.scan() if not self._is_refused(a.source, now)]
            self._arrivals = [a for a in found if a.needs_webui]
            self._without_webui = [a for a in found if not a.needs_webui]
        except OSError as error:
            self._inbox.waiting["inbox"] = f"cannot be read: {error}"
        self.sources = {arrival.source for arrival in self._arrivals}
        for source in self._inbox.unreadable - before:
            self._report(f"{printable(source)}: {self._inbox.waiting[source]}")
        for source, why in self._inbox.ignored.items():
            if source not in self._named:
                self._report(f"{printable(source)}: {why}")
        self._named = set(self._inbox.ignored)
        took = self._clock.monotonic() - now
        self._next_scan = now + self._scan_interval
        self._scan_not_before = now + _SCAN_SHARE * took

    def pause(self) -> float:
        """Return the seconds until the next scan is due, if nothing happens before."""
        if self._scan_wanted:
            return max(0.0, self._scan_not_before - self._clock.monotonic())
        if self._inbox.waiting:
            return min(INTERVAL, max(0.05, self._settle / 4))
        return INTERVAL

    @property
    def ready(self) -> bool:
        """Return whether a job can be claimed."""
        return bool(self._arrivals)

    @property
    def settling(self) -> bool:
        """Return whether something is arriving. What cannot be read or claimed waits for a person,
        and does not count."""
        coming = self._inbox.waiting.keys() - self._inbox.unreadable - self._refused.keys()
        return bool(coming or self._scan_wanted)

    def first(self, fits: Callable[[Arrival], bool]) -> Arrival | None:
        """Return the first arrival, in order, that fits."""
        return next(filter(fits, self._arrivals), None)

    def claim(self, arrival: Arrival) -> Run | None:
        """Claim an arrival; None where it was removed meanwhile."""
        self._arrivals.remove(arrival)
        return self._claim(arrival)

    def claim_without_lane(
        self, refusal: Callable[[Arrival], JobError | None] | None
    ) -> list[tuple[Run, JobError | None]]:
        """Claim what needs no WebUI: with the error, jobs that cannot be parsed or that no WebUI
        can do; with None, jobs that were cancelled while they waited. `refusal`: None where nothing
        has changed."""
        claimed = []
        asked = self._arrivals if refusal else []
        refused = [(a, error) for a in asked if refusal and (error := refusal(a)) is not None]
        for arrival, _ in refused:
            self._arrivals.remove(arrival)
        wrong = [(a, a.job if isinstance(a.job, JobError) else None) for a in self._without_webui]
        self._without_webui = []
        for arrival, error in [*wrong, *refused]:
            if (run := self._claim(arrival)) is not None:
                claimed.append((run, None if arrival.cancelled else error))
        return claimed

    def status(self, suspended: int, unfit: Mapping[str, str]) -> dict[str, Any]:
        """Return what waits, and why, for the heartbeat. `suspended`: runs that wait in working/;
        `unfit`: sources that no lane can serve yet, with the reason."""
        waiting = {**self._inbox.waiting, **unfit}
        return {
            "queued": len(self._arrivals) + suspended,
            "next": [arrival.source for arrival in self._arrivals[:20]],
            "waiting": dict(list(waiting.items())[:50]),
        }

    def _claim(self, arrival: Arrival) -> Run | None:
        try:
            run = archive.claim(arrival, self._spool, self._clock)
        except OSError as error:
            # Each attempt has a run, and so a path, of its own.
            working, now = self._spool.working, self._clock.monotonic()
            why = disk.refusal(error, working, named=False)
            if line := self._refusals.goes_on(arrival.source, key_of(error), why, now):
                self._report(f"{printable(arrival.source)}: cannot be claimed: {line}")
            self._refused[arrival.source] = self._clock.monotonic() + REFUSED_FOR
            self._inbox.waiting[arrival.source] = (
                f"cannot be claimed: {disk.refusal(error, working)}"
            )
            self._spool.repair()
            return None
        self._refused.pop(arrival.source, None)
        self._refusals.is_over(arrival.source, self._clock.monotonic())
        return run

    def _is_refused(self, source: str, now: float) -> bool:
        """Return whether claiming it failed a short while ago; then it is not yet retried."""
        refused = now < self._refused.get(source, 0.0)
        if refused:
            self._inbox.waiting[source] = "cannot be claimed yet; sdwatch keeps trying"
        return refused

    def _hint(self) -> None:
        """Scan soon. Called from the watch's thread."""
        self._scan_wanted = True
        self._wake()

"""What comes in: when the inbox is scanned, what waits in it in which order, and the claim."""

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
"""A scan of a large inbox takes its time: this many times as long passes before the next."""


class Intake:
    """The inbox of `spool`. `wake` is called, from the watch's thread, when it is worth a look;
    `say` gets a line for people. All else is for the main thread."""

    def __init__(
        self,
        spool: Spool,
        config: Config,
        *,
        clock: Clock,
        wake: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        self._spool = spool
        self._clock = clock
        self._wake = wake
        self._say = say
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
        self.sources: set[str] = set()  # of what could be claimed at the last scan
        self._scan_wanted = True
        self._next_scan = self._scan_not_before = 0.0
        self._refusals = Lasting()
        self._named: set[str] = set()  # what looks as if a job was meant, once it was said
        self._refused: dict[str, float] = {}  # sources that could not be claimed; until when

    def open(self) -> None:
        """Begin to watch."""
        if self._by_events:
            self._watch.start()

    def close(self) -> None:
        """End watching."""
        self._watch.stop()

    def scan(self) -> None:
        """Scan on a hint, and every so often without one; never so often that it is all we do."""
        now = self._clock.monotonic()
        wanted = self._scan_wanted or self._inbox.waiting or now >= self._next_scan
        if wanted and now >= self._scan_not_before:
            self._scan(now)

    def is_empty_now(self) -> bool:
        """Scan, due or not: whether there is nothing to be claimed, and nothing arriving."""
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
            self._say(f"{printable(source)}: {self._inbox.waiting[source]}")
        for source, why in self._inbox.ignored.items():
            if source not in self._named:
                self._say(f"{printable(source)}: {why}")
        self._named = set(self._inbox.ignored)
        took = self._clock.monotonic() - now
        self._next_scan = now + self._scan_interval
        self._scan_not_before = now + _SCAN_SHARE * took

    def pause(self) -> float:
        """Seconds until the next scan is due, if nothing happens before."""
        if self._scan_wanted:
            return max(0.0, self._scan_not_before - self._clock.monotonic())
        if self._inbox.waiting:
            return min(INTERVAL, max(0.05, self._settle / 4))
        return INTERVAL

    @property
    def ready(self) -> bool:
        """Whether a job can be claimed."""
        return bool(self._arrivals)

    @property
    def settling(self) -> bool:
        """Whether something is arriving. What cannot be read, or claimed, waits for somebody to do
        something about it."""
        coming = self._inbox.waiting.keys() - self._inbox.unreadable - self._refused.keys()
        return bool(coming or self._scan_wanted)

    def first(self, fits: Callable[[Arrival], bool]) -> Arrival | None:
        """The first in order that fits."""
        return next(filter(fits, self._arrivals), None)

    def claim(self, arrival: Arrival) -> Run | None:
        """Claim one of them; None where it was taken away meanwhile."""
        self._arrivals.remove(arrival)
        return self._claim(arrival)

    def claim_without_lane(
        self, refusal: Callable[[Arrival], JobError | None] | None
    ) -> list[tuple[Run, JobError | None]]:
        """Claim what needs no WebUI: jobs that cannot be parsed, or that no WebUI can do, with the
        error; and those that were cancelled while they waited, with None. `refusal`: None where
        it has no news."""
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
            # Each try is for a run, and so a path, of its own.
            working, now = self._spool.working, self._clock.monotonic()
            why = disk.refusal(error, working, named=False)
            if line := self._refusals.goes_on(arrival.source, key_of(error), why, now):
                self._say(f"{printable(arrival.source)}: cannot be claimed: {line}")
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
        """Whether it could not be claimed a short while ago; then it is not yet tried again."""
        refused = now < self._refused.get(source, 0.0)
        if refused:
            self._inbox.waiting[source] = "cannot be claimed yet; it is tried again"
        return refused

    def _hint(self) -> None:
        """From the watch's thread."""
        self._scan_wanted = True
        self._wake()

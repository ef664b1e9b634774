"""Scan the inbox for jobs that are ready to be claimed.

Watch events are only hints that say `scan now`; the scan finds the truth. A job is complete enough
to be claimed when all of this holds:

1. It has settled: size and mtime have not changed for the settle time on the monotonic clock, for a
   job folder those of its whole tree; or a hint said that it was renamed into place
   (`take_settled`, `_came_whole`). On a share the opened file is asked, not the listing.
2. It can be read, and its content is here and not online only (`_note_unreadable`, `_not_local`).
3. No other program has one of its files open for writing (JobReader).
4. A job folder has its job file and all images that it names, or the arrival timeout is over.
5. It does not read like a file whose end is missing, or `unfinished_timeout` is over
   (`_is_unfinished`).

There may be 100,000 of them. Of each a scan checks the name and the status only. What has settled
is read in rounds, in the order in which it would be claimed; until then it counts as priority 0. It
is checked once more just before, so that no whole scan has to pass between settling and the claim.
"""

from __future__ import annotations

import heapq
import math
import os
import stat
import sys
import threading
from bisect import insort
from collections import deque
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

from sdwatch import system
from sdwatch.errors import JobError
from sdwatch.policy.job.job import Job
from sdwatch.policy.job.stage.confinement import JobRules
from sdwatch.policy.queue.schedule import Place, needed_first, place_in_order
from sdwatch.spool.arrival import Arrival
from sdwatch.spool.candidates import FoundJob, candidates
from sdwatch.spool.fingerprint import fingerprint_from
from sdwatch.spool.job_file import NOT_LOCAL, unreadable
from sdwatch.spool.job_reader import JobReader, NotYet, has_grown, which_file
from sdwatch.system import disk
from sdwatch.system.clock import Clock

_READING = 0.1
"""Seconds of one round. Reading many files takes time."""

_JOBS_KEPT = 300
"""Of so many that were read last the parsed job is kept, several kilobytes each; of all others only
what orders them. They are parsed again if somebody asks for it."""

_TEXT_KEPT = 32_000_000
"""And only as long as all of these have no more characters of lists of prompts with them."""

_STILL_ARRIVING = "still arriving"

_since = attrgetter("since")


class _Files:
    """The sources of those that are files."""

    def __init__(self, seen: dict[str, Arrival]) -> None:
        self._seen = seen

    def __contains__(self, source: object) -> bool:
        arrival = self._seen.get(source)  # type: ignore[call-overload]  # it is a source
        return arrival is not None and not arrival.is_folder


@dataclass
class Inbox:
    """The inbox: the folder `root`. Seconds: `settle`; `arrival_timeout`, for images that are
    missing; `unfinished_timeout`, without a change, for a file that looks as if it was still being
    written. `rules`: what jobs may do. `on_share`: listings may be old ones."""

    root: Path
    settle: float
    arrival_timeout: float
    clock: Clock
    unfinished_timeout: float = 0.0
    rules: JobRules = field(default_factory=JobRules)
    on_share: bool = False
    for_a_person: set[str] = field(default_factory=set)
    """Those that wait and cannot be read, and will not be until somebody does something."""
    ignored: dict[str, str] = field(default_factory=dict)
    """What is not a job and looks like a mistake, by its path, with the reason."""

    def __post_init__(self) -> None:
        self._reader = JobReader(self.rules, self.arrival_timeout)
        self._seen: dict[str, Arrival] = {}
        self._renamed_in: set[Path] = set()
        self._lock = threading.Lock()
        self._scans = 0
        self._kept: deque[tuple[Arrival, int]] = deque()  # with their jobs, and their texts
        self._text_kept = 0
        self._reasons: dict[str, str] = {}  # why those wait that are in no list, by source
        self._settling: deque[Arrival] = deque()  # the one that settles next first
        self._unread: list[Place] = []  # have settled; a heap of their places
        self.ready: list[Arrival] = []
        """What has settled and was read, in the order of the claims."""
        self._news: list[Arrival] = []

    @property
    def sources(self) -> Container[str]:
        """What the last scan found."""
        return self._seen.keys()

    @property
    def unread(self) -> int:
        """How many have settled and were not read yet."""
        return len(self._unread)

    # -- what waits

    def reasons(self) -> Iterator[tuple[str, str]]:
        """Yield what is not ready, with the reason, one by one: it may be 100,000."""
        yield from self._reasons.items()
        for arrival in self._settling:
            yield arrival.source, _STILL_ARRIVING

    @property
    def has_waiting(self) -> bool:
        """Return whether anything is not ready."""
        return bool(self._settling or self._reasons)

    @property
    def waiting_count(self) -> int:
        """Return how many are not ready."""
        return len(self._settling) + len(self._reasons)

    @property
    def settles_at(self) -> float:
        """Return when the next one has settled, on the monotonic clock; infinity if none is
        settling."""
        return self._settling[0].since + self.settle if self._settling else math.inf

    def note_waiting(self, source: str, why: str) -> None:
        """Note, until the next scan, why one waits that is ready."""
        self._reasons[source] = why

    # -- scans

    def renamed_in(self, path: Path) -> None:
        """Note from any thread that this path was renamed into place, so it is whole."""
        with self._lock:
            self._renamed_in.add(path)

    def scan(self) -> list[Arrival]:
        """Scan the whole inbox, and read for a round. Return what is ready, in the order of the
        claims. Raises OSError if the folder itself cannot be read."""
        with self._lock:
            renamed_in, self._renamed_in = self._renamed_in, set()
        self._reasons.clear()
        self.for_a_person.clear()
        self.ignored.clear()
        self._scans += 1
        seen: dict[str, Arrival] = {}
        known = _Files(self._seen)
        for found in candidates(self.root, self._closed, self._ignore, self._not_local, known):
            if (arrival := self._noticed(found)) is None:
                continue
            if renamed_in and found.path in renamed_in:
                self._came_whole(arrival)
            if arrival.marker != found.marker:  # it has another place now
                arrival.marker, arrival.is_listed = found.marker, False
            seen[arrival.source] = arrival  # its text, so that the new one is not kept too
        self._seen = seen
        self._list_found()
        self.read_for(_READING)
        return list(self.ready)

    def _noticed(self, found: FoundJob) -> Arrival | None:
        """Return the arrival that it is, a new one if it has changed; None if it cannot be looked
        at, or is gone: claimed by another monitor, or removed, a moment ago."""
        source, status = found.source, found.status
        try:
            if isinstance(status, OSError):
                raise status
            tree = fingerprint_from(found.path, status) if stat.S_ISDIR(status.st_mode) else ()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._note_unreadable(source, error)
            return None
        arrival = self._seen.get(source)
        as_before = arrival is not None and arrival.defaults == found.defaults
        if arrival is None or not as_before or not arrival.is_as(status, tree):
            # The time when its status was read, not when the scan began: that may take long.
            now = self.clock.monotonic()
            earlier, arrival = arrival, Arrival(self, source, status, tree, now, found.defaults)
            arrival.first = earlier.first if earlier else now
        arrival.scan = self._scans
        return arrival

    def _came_whole(self, arrival: Arrival) -> None:
        """Note that it was renamed into place; an earlier scan may have been quicker than the
        hint. Explorer's "New Text Document.txt" is empty when it gets a job's name, and is edited
        then."""
        if any(size for _, _, size, _ in arrival.fingerprint):
            arrival.since = min(arrival.since, self.clock.monotonic() - self.settle)
            arrival.is_whole = True

    def _list_found(self) -> None:
        """Drop from the lists what the last scan did not find, and let the others settle."""
        for arrival in self.ready:
            arrival.is_listed &= arrival.scan == self._scans
        self.ready = [arrival for arrival in self.ready if arrival.is_listed]
        unread = [place for place in self._unread if self._is_listed(place)]
        if len(unread) < len(self._unread):
            heapq.heapify(unread)
            self._unread = unread
        unlisted = (arrival for arrival in self._seen.values() if not arrival.is_listed)
        self._settling = deque(sorted(unlisted, key=_since))
        self.take_settled()

    def _is_listed(self, place: Place) -> bool:
        arrival = self._seen.get(place[-1])
        return arrival is not None and arrival.is_listed

    def take_settled(self) -> None:
        """List what has settled by now. It is checked again when it is read."""
        now = self.clock.monotonic()
        while self._settling and now - self._settling[0].since >= self.settle:
            arrival = self._settling.popleft()
            if not self._is_unfinished(arrival, now):
                self._list(arrival)

    def _list(self, arrival: Arrival) -> None:
        arrival.is_listed = True
        if arrival.is_read:
            insort(self.ready, arrival, key=place_in_order)
            self._news.append(arrival)
        else:
            heapq.heappush(self._unread, place_in_order(arrival))

    def newly_ready(self) -> list[Arrival]:
        """Return what came into `ready` since the last call."""
        news, self._news = self._news, []
        return news

    def take(self, arrival: Arrival) -> None:
        """Drop one that is being claimed. The next scan lists it again if it is still there."""
        arrival.is_listed = False
        self.ready.remove(arrival)

    # -- reading

    def read_for(self, seconds: float) -> None:
        """Read what has settled, for so many seconds."""
        until = self.clock.monotonic() + seconds
        while self._unread:
            self._read_next()
            if self.clock.monotonic() >= until:
                break

    def read_to_first(self) -> None:
        """Read what comes before the first that is ready, for a round at most."""
        until = self.clock.monotonic() + _READING
        while self._unread and self._is_next_unread() and self.clock.monotonic() < until:
            self._read_next()

    def _is_next_unread(self) -> bool:
        first = next((a for a in self.ready if a.needs_webui), None)
        return first is None or self._unread[0] < place_in_order(first)

    def _read_next(self) -> None:
        """Read the first that is unread. It is `ready` then, or waits."""
        *_, source = heapq.heappop(self._unread)
        known = self._seen[source]
        known.is_listed = False
        if (arrival := self._looked_at_again(known)) is None:
            return
        now = self.clock.monotonic()
        if self.on_share and has_grown(arrival):
            arrival.since = now
        if now - arrival.since < self.settle:
            self._settling.append(arrival)
            return
        self._parse(arrival, now)
        if arrival.is_read and not self._is_unfinished(arrival, now):
            self._list(arrival)

    def _looked_at_again(self, known: Arrival) -> Arrival | None:
        """Return it, or what it has become since the scan; None if it cannot be looked at, or is
        gone."""
        path = known.path
        status: os.stat_result | OSError
        try:
            status = disk.look_at(path)
            if system.is_link(status):
                return None  # the next scan says so
        except FileNotFoundError:
            return None
        except OSError as error:
            status = error
        found = FoundJob(path.parent, path.name, known.source, status, known.marker, known.defaults)
        if (arrival := self._noticed(found)) is not None:
            arrival.marker = known.marker
            self._seen[known.source] = arrival
        return arrival

    def parsed_again(self, arrival: Arrival) -> Job | JobError | None:
        """Return the job of one that was read before; None where it cannot be read now, or is no
        longer what it was: the next scan says so."""
        try:
            job = self._read(arrival, late=True)
        except (JobError, OSError):
            return None
        return job if isinstance(job, Job) else None

    def _parse(self, arrival: Arrival, now: float) -> None:
        """Parse the job; if it is not ready after all, the reason is in `reasons`."""
        source, late = arrival.source, now - arrival.first >= self.arrival_timeout
        if arrival.missing and not late:
            self.note_waiting(source, f"waits for {', '.join(arrival.missing)}")
            return
        try:
            job = self._read(arrival, late)
        except JobError as error:
            # Its traceback would keep the frame of this scan, and so all that it found.
            arrival.error, arrival.is_read = error.with_traceback(None), True
        except FileNotFoundError:
            self.note_waiting(source, "its job file is gone")
        except OSError as error:
            which = which_file(arrival, error)
            if late:  # it stays unreadable: it fails, if it can be moved
                arrival.error = unreadable(source, f"{which}cannot be read: {error.strerror}")
                arrival.is_read = True
            else:
                self._note_unreadable(source, error, which)
        else:
            if isinstance(job, Job):
                arrival.job_priority, arrival.is_read = job.priority, True
                arrival.when, needs = job.conduct.when, needed_first(job)
                arrival.needs = needs and sys.intern(needs)  # thousands need the same

    def _read(self, arrival: Arrival, late: bool) -> Job | None:
        """Return the job, and keep it; None if it is not ready after all. Raises JobError,
        OSError."""
        quiet = self.clock.monotonic() - arrival.since
        job = self._reader.read(arrival, late=late, quiet=quiet)
        if isinstance(job, NotYet):
            arrival.missing = job.missing
            self.note_waiting(arrival.source, job.why)
            if job.for_a_person:
                self.for_a_person.add(arrival.source)
            return None
        arrival.parsed = job
        self._kept.append((arrival, job.sources.kept))
        self._text_kept += job.sources.kept
        while len(self._kept) > _JOBS_KEPT or (
            len(self._kept) > 1 and self._text_kept > _TEXT_KEPT
        ):
            forgotten, text = self._kept.popleft()
            self._text_kept -= text
            forgotten.parsed = None
        return job

    def _is_unfinished(self, arrival: Arrival, now: float) -> bool:
        """Return whether it reads like a file whose end is missing, and may still come."""
        wrong = arrival.error
        if wrong is None or not wrong.unfinished or arrival.is_whole:
            return False
        left = arrival.since + self.unfinished_timeout - now
        if left <= 0:
            return False
        problem = wrong.problems[0].located(arrival.source)
        self.note_waiting(
            arrival.source, f"looks unfinished; fails in {left:.0f} s unless it changes: {problem}"
        )
        return True

    # -- what a scan finds and cannot use

    def _note_unreadable(self, source: str, error: OSError, which: str = "") -> None:
        self.for_a_person.add(source)
        self.note_waiting(source, f"{which}cannot be read yet: {error.strerror}")

    def _ignore(self, path: Path, why: str) -> None:
        self.ignored[path.relative_to(self.root).as_posix()] = why

    def _not_local(self, path: Path) -> None:
        """Let a job wait whose content is in a cloud: opening it would download it."""
        source = path.relative_to(self.root).as_posix()
        self.note_waiting(source, NOT_LOCAL)
        self.for_a_person.add(source)

    def _closed(self, folder: Path, error: OSError) -> None:
        self._note_unreadable(folder.relative_to(self.root).as_posix() + "/", error)

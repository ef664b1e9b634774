"""Read how a spool stands from its files: another client of the folder, on any machine that sees
it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sdwatch import __version__
from sdwatch.policy.page.expected import RunTimes, Sizes, expect, history_of
from sdwatch.policy.page.from_status import (
    active_cards,
    box_cards,
    broker_down,
    lane_cards,
    monitor_card,
    next_jobs,
    queue_of,
    remarks_of,
    sizes_of,
    totals_of,
    waiting_of,
)
from sdwatch.policy.page.night import counts_of
from sdwatch.policy.page.overview import (
    ActiveCard,
    LeftBehind,
    Overview,
    Presence,
    QueuedJob,
    Totals,
)
from sdwatch.policy.page.times import wall_of
from sdwatch.spool.call_times import MOST_RUNS
from sdwatch.spool.candidates import candidates
from sdwatch.spool.folders import Spool, runs_in
from sdwatch.spool.heartbeat import (
    UNREADABLE,
    is_certainly_here,
    is_dead_here,
    read_heartbeats,
    watched_for,
)
from sdwatch.spool.shown_runs import EndedRuns, WorkingRuns
from sdwatch.system import disk
from sdwatch.system.clock import Clock, SystemClock

_DONE, _FAILED, _QUEUE, _ACTIVE, _REMARKS = 24, 8, 50, 20, 20
"""How many of each are shown. The page is written every few seconds, and read on a phone."""

_READING = 0.5
"""Seconds of one `read` for runs that ended before it started to look: on a share there may be a
second for each, and the rest of the page must not wait for them."""


@dataclass
class _Watched:
    """`beat`: the last count and process; `since`: when it came, on our monotonic clock; `moved`:
    it has moved since we first saw it."""

    beat: object
    since: float
    moved: bool = False


class PresenceWatch:
    """Finds out whether the monitor of a heartbeat is alive, for whoever reads it again and again:
    clocks of two machines are never compared, so what counts is whether it moves."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._watched: dict[str, _Watched] = {}

    def of(self, beat: Mapping[str, Any]) -> Presence:
        """Return whether the monitor of a heartbeat, read just now, is alive."""
        if UNREADABLE in beat:
            return Presence.NOT_KNOWN
        if is_dead_here(beat):
            return Presence.GONE
        worker, now = str(beat.get("worker")), self._clock.monotonic()
        count = beat.get("beat"), beat.get("pid")
        watched = self._watched.get(worker)
        if watched is None or watched.beat != count:
            watched = self._watched[worker] = _Watched(count, now, moved=watched is not None)
        if now - watched.since > watched_for(beat):
            return Presence.GONE  # or frozen
        return Presence.RUNNING if watched.moved or is_certainly_here(beat) else Presence.NOT_KNOWN


_SHARE, _PAUSE = 10, 5.0
"""It is listed again after so many times as long as the last time took, and not before so many
seconds have passed."""


@dataclass(frozen=True)
class Listed:
    """`queue`: the jobs, oldest first: nobody has read their priority; `ignored`: what looks like a
    job and is not, with the reason."""

    queue: tuple[QueuedJob, ...] = ()
    ignored: dict[str, str] = field(default_factory=dict)


class InboxListing:
    """The inbox of `spool`, listed now and then. For one thread."""

    def __init__(self, spool: Spool, clock: Clock) -> None:
        self._spool = spool
        self._clock = clock
        self._listed = Listed()
        self._again_at: float | None = None

    def listed(self) -> Listed:
        """Return what lies there, a few seconds old at most; nothing where it cannot be read."""
        now = self._clock.monotonic()
        if self._again_at is None or now >= self._again_at:
            self._listed = self._list()
            took = self._clock.monotonic() - now
            self._again_at = now + max(_PAUSE, _SHARE * took)
        return self._listed

    def _list(self) -> Listed:
        ignored: dict[str, str] = {}

        def add(path: Path, why: str) -> None:
            ignored[path.relative_to(self._spool.inbox).as_posix()] = why

        try:
            if not disk.is_folder(self._spool.inbox):
                return Listed()
            found = list(candidates(self._spool.inbox, ignored=add))
        except OSError:
            return Listed()
        jobs = [
            QueuedJob(each.source, arrived_at=each.status.st_mtime)
            for each in found
            if isinstance(each.status, os.stat_result) and not each.marker
        ]
        return Listed(tuple(sorted(jobs, key=lambda job: (job.arrived_at, job.source))), ignored)


class OverviewReader:
    """Reads the spool at `root` again and again, for one thread. It remembers what never changes
    (runs that have ended), and watches heartbeats of other machines: whether they move shows only
    after a while."""

    def __init__(self, root: Path, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._spool = Spool(root, "")
        self._done = EndedRuns(self._spool.done, self._clock)
        self._failed = EndedRuns(self._spool.failed, self._clock)
        self._presence = PresenceWatch(self._clock)
        self._inbox = InboxListing(self._spool, self._clock)
        self._beats: list[dict[str, Any]] = []
        self._under_way = WorkingRuns()
        self._history = RunTimes()
        self._history_of: object = None

    def read(self, own: Mapping[str, Any] | None = None, *, patient: bool = False) -> Overview:
        """Return how the spool stands now. `own`: the monitor's own status with its `worker`,
        newer than its heartbeat; None for everybody else. `patient`: all runs of the night are
        read, however long that takes. A share that is gone is `gone`; what cannot be read is in
        `problems`. Never raises OSError."""
        problems: list[str] = []
        is_gone = self._spool.is_gone
        if not is_gone:
            for ended in (self._done, self._failed):
                try:
                    ended.refresh(math.inf if patient else _READING)
                except OSError as error:
                    problems.append(f"Cannot be read: {disk.in_words(error)}")
        status, presence = ({**own}, Presence.RUNNING) if own is not None else self._monitor()
        working = self._working()
        self._under_way.follow(run for runs in working.values() for run in runs)
        now = self._clock.wall()
        runs_on = presence in (Presence.RUNNING, Presence.NOT_KNOWN)
        base = Overview(
            spool=self._spool.root.name,  # a path may have a person's name in it
            made_at=now,
            monitor=monitor_card(status, presence),
            version=__version__,
            utc_offset=time.localtime(now).tm_gmtoff,
            gone=is_gone,
            hold_file=self._hold_file(),
            problems=tuple(problems),
            **self._ended(now, wall_of(status.get("at")) if runs_on else None),
        )
        if runs_on:
            return self._with_monitor(base, status, working)
        return self._without_monitor(base, working)

    def _ended(self, now: float, lost_until: float | None) -> dict[str, Any]:
        """Return what ended. `lost_until`: see counts_of."""
        done, failed = self._done, self._failed
        is_whole = done.is_whole and failed.is_whole
        return {
            "done": tuple(run.card for run in done.newest(_DONE)),
            "failed": tuple(run.card for run in failed.newest(_FAILED)),
            "counts": counts_of(
                [*done.all_read(), *failed.all_read()],
                now,
                under_way=self._under_way.losses,
                lost_until=lost_until,
                whole=is_whole,
            ),
            "totals": Totals(done=len(done), failed=len(failed)),
        }

    def _with_monitor(
        self, base: Overview, status: Mapping[str, Any], working: Mapping[str, list[Path]]
    ) -> Overview:
        history, totals = self._what_calls_took(), base.totals
        found = replace(
            base,
            lanes=lane_cards(status),
            boxes=box_cards(status),
            broker_down=broker_down(status),
            active=active_cards(status)[:_ACTIVE],
            queue=queue_of(status, history),
            next=next_jobs(status),
            waiting=waiting_of(status)[:_REMARKS],
            near_misses=remarks_of(status.get("ignored", {}))[:_REMARKS],
            totals=totals_of(status, done=totals.done, failed=totals.failed),
            left_behind=self._left_behind(base.monitor.worker, working),
        )
        return expect(found, history, self._left_of(found.active, sizes_of(status)))

    def _what_calls_took(self) -> RunTimes:
        """Return the history. It is remembered until something ends."""
        ended = [*self._done.newest(MOST_RUNS), *self._failed.newest(MOST_RUNS)]
        known = ([run.card.run_id for run in ended], self._under_way.finished)
        if known != self._history_of:
            ended.sort(key=lambda run: run.card.ended_at or 0.0, reverse=True)
            self._history = history_of(ended[:MOST_RUNS], self._under_way.calls)
            self._history_of = known
        return self._history

    def _left_of(
        self, active: Iterable[ActiveCard], sizes: Mapping[str, Sizes]
    ) -> dict[str, Sizes]:
        """Return the sizes with their numbers of calls; of suspended runs without those that are
        finished, in proportion."""
        found = dict(sizes)
        for run in active:
            if not run.lane and (all_calls := sum(sizes.get(run.run_id, {}).values())):
                left = max(0.0, 1 - self._under_way.finished.get(run.run_id, 0) / all_calls)
                found[run.run_id] = {s: count * left for s, count in sizes[run.run_id].items()}
        return found

    def _without_monitor(self, base: Overview, working: Mapping[str, list[Path]]) -> Overview:
        """Return what waits while nobody works on the spool."""
        runs = self._orphans(working)
        listing = self._inbox.listed()
        totals = replace(
            base.totals,
            queued=len(listing.queue),
            suspended=len(runs),
            near_misses=len(listing.ignored),
        )
        return replace(
            base,
            active=tuple(runs[:_ACTIVE]),
            queue=listing.queue[:_QUEUE],
            near_misses=remarks_of(listing.ignored)[:_REMARKS],
            totals=totals,
        )

    def _monitor(self) -> tuple[dict[str, Any], Presence]:
        """Return the status of the monitor that works here, else of the one that did last; and
        whether it still does."""
        self._beats = read_heartbeats(self._spool.root)
        beats = [(beat, self._presence.of(beat)) for beat in self._beats]
        if not beats:
            return {}, Presence.STOPPED
        return min(beats, key=lambda each: (_RANK[each[1]], str(each[0].get("worker"))))

    def _left_behind(
        self, worker: str, working: Mapping[str, list[Path]]
    ) -> tuple[LeftBehind, ...]:
        """Return the other workers that have runs in working/."""
        hosts = {str(b.get("worker")): str(b.get("host", "")) for b in self._beats}
        return tuple(
            LeftBehind(name, hosts.get(name, ""), len(runs))
            for name, runs in working.items()
            if runs and name != worker
        )

    def _working(self) -> dict[str, list[Path]]:
        """Return the runs in working/, by their worker."""
        try:
            workers = runs_in(self._spool.root / "working")
            return {worker.name: runs_in(worker) for worker in workers}
        except OSError:
            return {}

    def _orphans(self, working: Mapping[str, list[Path]]) -> list[ActiveCard]:
        """Return all runs in working/: nobody works on them now."""
        return [
            ActiveCard(
                run_id=run.name,
                folder=f"working/{run.parent.name}/{run.name}",
                source=self._under_way.source_of(run),
                doing="resumes when sdwatch starts again",
            )
            for runs in working.values()
            for run in runs
        ]

    def _hold_file(self) -> str:
        try:
            found = self._spool.hold_file()
        except OSError:
            return ""
        return found.name if found is not None else ""


_RANK = {Presence.RUNNING: 0, Presence.NOT_KNOWN: 1, Presence.GONE: 2}

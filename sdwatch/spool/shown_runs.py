"""The runs of a spool for the page: those that have ended, which never change, so that each is read
once; and those in working/, whose journals are read as they grow."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sdwatch.policy.failure.ledger import seconds_of
from sdwatch.policy.job.calls.estimate import CallTimes, TimedCall
from sdwatch.policy.job.calls.payload import point_of
from sdwatch.policy.page.night import HOURS, EndedRun, Loss, losses_in
from sdwatch.policy.page.overview import EndedCard, Thumbnail
from sdwatch.policy.page.times import wall_of
from sdwatch.policy.queue.run_names import FILES, IMAGES
from sdwatch.spool.call_times import MOST_CALLS, timed_calls
from sdwatch.spool.diagnostics import ENVELOPE, WHY
from sdwatch.spool.failed_points import envelope_of, failed_points_in, first_line
from sdwatch.spool.journal import record_in
from sdwatch.spool.manifest import MANIFEST
from sdwatch.spool.run import JOURNAL, Run
from sdwatch.spool.thumbnails import THUMBNAILS, thumbnail_name
from sdwatch.system import EntryKind, disk
from sdwatch.system.clock import Clock
from sdwatch.system.line_follower import LineFollower

MOST_READ = 2000
"""Of one folder: a run in 20 s, for a night. Of the others it counts only that they are there."""

_ALWAYS_READ = 48
"""The newest are read, however old they are: the page shows them, and they are the history."""

_LISTED_AGAIN = 60.0
"""Seconds after which a folder is listed although its mtime has not moved: on some file systems
that has only seconds."""

_LONGEST_LINE = 400  # characters
_MOST_POINTS = 12  # that failed, of each run; WHY.txt and error.json have more


class EndedRuns:
    """The runs in `folder`, which is done/ or failed/ of a spool, newest first. For one thread."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._names: list[str] = []  # newest first
        self._read: dict[str, EndedRun] = {}
        self._unread: list[str] = []  # newest last
        self._mtime = -1
        self._listed_at = 0.0

    def __len__(self) -> int:
        return len(self._names)

    @property
    def is_whole(self) -> bool:
        """Return whether all were read that count."""
        return not self._unread

    def newest(self, most: int) -> list[EndedRun]:
        """Return the runs that ended last, newest first."""
        by_end = sorted(self._read.values(), key=lambda run: run.card.ended_at or 0.0)
        return by_end[-most:][::-1]

    def all_read(self) -> Iterable[EndedRun]:
        """Return all that were read."""
        return self._read.values()

    def refresh(self, seconds: float) -> None:
        """List what is new, and read of it for at most so many seconds; the next time continues.
        Raises OSError for the folder itself."""
        self._list()
        until = time.monotonic() + seconds
        while self._unread:
            name = self._unread.pop()
            self._read[name] = read_ended(self._folder / name, self._folder.name, self._clock)
            if time.monotonic() >= until:
                return

    def _list(self) -> None:
        now = self._clock.monotonic()
        try:
            mtime = disk.look_at(self._folder).st_mtime_ns
            if mtime == self._mtime and now - self._listed_at < _LISTED_AGAIN:
                return
            found = disk.names_by_kind(self._folder)[EntryKind.FOLDER]
        except FileNotFoundError:
            mtime, found = -1, []
        names = sorted((name for name in found if not name.startswith(".")), reverse=True)
        there, known = set(names), set(self._names)
        self._read = {name: run for name, run in self._read.items() if name in there}
        new = [name for name in names if name not in known]
        if not known:
            new = list(self._of_the_night(new))
        left = [name for name in self._unread if name in there]
        self._unread = sorted({*left, *new[:MOST_READ]})
        self._names, self._mtime, self._listed_at = names, mtime, now

    def _of_the_night(self, names: list[str]) -> Iterator[str]:
        """Yield the newest, and those that may have ended in the night: a run's name says when it
        was claimed. What was claimed a day before it may have ended in it."""
        since = datetime.fromtimestamp(self._clock.wall() - 3600 * (HOURS + 24), UTC)
        stamp = since.strftime("%Y%m%d-%H%M%S")
        yield from (name for n, name in enumerate(names) if n < _ALWAYS_READ or name >= stamp)


def read_ended(folder: Path, parent: str, clock: Clock) -> EndedRun:
    """Return a run that has ended, as far as it can be read. `parent`: done or failed. Never raises
    OSError: whatever somebody did to one run, the others are shown."""
    place = f"{parent}/{folder.name}"
    try:
        run = Run(folder, clock)
        records = run.records
        names = {entry.name for entry in disk.entries(folder)}
    except OSError:
        return EndedRun(EndedCard(folder.name, place, why="this run cannot be read"))
    envelope = envelope_of(folder) if ENVELOPE in names else {}
    started, ended = _times(run, records)
    calls = [call for call in run.ledger.calls.values() if call.images is not None]
    points = {point_of(name) for name, call in run.ledger.calls.items() if call.images is not None}
    failed = failed_points_in(envelope)
    finished = [record for record in records if record["event"] == "call_finished"]
    card = EndedCard(
        run_id=folder.name,
        folder=place,
        outcome=run.ledger.ended,
        source=run.source,
        ended_at=ended,
        seconds=round(ended - started, 1) if started and ended else None,
        images=sum(not image.grid for call in calls for image in call.pictures),
        files=tuple(f"{place}/{FILES}/{file.name}" for call in calls for file in call.files),
        points=len(points - {0}),
        points_failed=len(failed),
        failed_points=tuple(failed[:_MOST_POINTS]),
        thumbnails=tuple(_thumbnails(folder, place)) if THUMBNAILS in names else (),
        warnings=sum(_warnings(record) for record in finished) + bool(run.ledger.outputs_refused),
        why=_why(folder) if WHY in names else "",
        diagnosis=str(envelope.get("diagnosis", "")),
        blame=str(envelope.get("blame", "")),
        explained=WHY in names,
        documented=MANIFEST in names,
    )
    seconds = sum(map(seconds_of, finished))
    return EndedRun(card, tuple(timed_calls(finished)), seconds, losses_in(records))


def _times(run: Run, records: Sequence[Mapping[str, Any]]) -> tuple[float | None, float | None]:
    ends = [record for record in records if record["event"] == "ended"]
    ended = wall_of(ends[-1].get("at")) if ends else None
    return wall_of(run.ledger.claimed.get("at")), ended


def _warnings(record: Any) -> int:
    found = record.get("warnings")
    return len(found) if isinstance(found, list) else 0


def _thumbnails(folder: Path, place: str) -> Iterator[Thumbnail]:
    """Yield the thumbnails that are there, with their images, by name."""
    try:
        images = sorted(entry.name for entry in disk.entries(folder / IMAGES))
        small = {entry.name for entry in disk.entries(folder / THUMBNAILS)}
    except OSError:
        return
    for image in images:
        if (name := thumbnail_name(image)) in small:
            yield Thumbnail(f"{place}/{THUMBNAILS}/{name}", f"{place}/{IMAGES}/{image}")


def _why(folder: Path) -> str:
    """Return the first line of WHY.txt."""
    try:
        return first_line(disk.read(folder / WHY).decode("utf-8", "replace"), _LONGEST_LINE)
    except OSError:
        return ""


class _Story:
    """What the journal of one run says so far. `source`: the job's path in the inbox; `finished`:
    how many of its calls are."""

    def __init__(self, folder: Path) -> None:
        self._lines = LineFollower(folder / JOURNAL)
        self.source = ""
        self.finished = 0
        self.losses: tuple[Loss, ...] = ()
        self.calls: deque[TimedCall] = deque(maxlen=MOST_CALLS)  # the last ones, newest first

    def follow(self) -> None:
        records = [record for line in self._lines.poll() if (record := record_in(line))]
        for record in records:
            if record["event"] == "claimed":
                self.source = str(record.get("source", ""))
        finished = [record for record in records if record["event"] == "call_finished"]
        self.finished += len(finished)
        self.calls.extendleft(reversed(timed_calls(finished)))
        self.losses = losses_in(records, self.losses)


class WorkingRuns:
    """The runs in the folders that `follow` names. For one thread. What cannot be read is left
    out."""

    def __init__(self) -> None:
        self._stories: dict[Path, _Story] = {}

    def follow(self, folders: Iterable[Path]) -> None:
        """Read what is new in the journals of these runs, and forget all others."""
        self._stories = {each: self._stories.get(each) or _Story(each) for each in folders}
        for story in self._stories.values():
            story.follow()

    def source_of(self, folder: Path) -> str:
        """Return where in the inbox a run came from; '' if unknown."""
        story = self._stories.get(folder)
        return story.source if story else ""

    @property
    def finished(self) -> dict[str, int]:
        """Return how many calls of each run are finished, by run_id."""
        return {folder.name: story.finished for folder, story in self._stories.items()}

    @property
    def losses(self) -> list[Loss]:
        """Return the crashes during their calls."""
        return [loss for story in self._stories.values() for loss in story.losses]

    @property
    def calls(self) -> CallTimes:
        """Return what their last calls took, those of the newest run first."""
        newest = sorted(self._stories, key=lambda folder: folder.name, reverse=True)
        return CallTimes(call for folder in newest for call in self._stories[folder].calls)

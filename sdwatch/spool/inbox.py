"""Scan the inbox for jobs that are ready to be claimed.

Watch events are only hints that say `scan now`; the scan finds the truth. A job is ready when
its size and mtime have not changed for the settle time on the monotonic clock, or at once if a
hint said that it was renamed into place.
"""

from __future__ import annotations

import stat
import threading
from dataclasses import dataclass, field
from pathlib import Path

from sdwatch import system
from sdwatch.errors import JobError
from sdwatch.policy.job.confinement import JobRules
from sdwatch.policy.job.job import Job, image_names, parse_job
from sdwatch.policy.job.job_images import on_disk, several_on_disk
from sdwatch.policy.job.schedule import in_order
from sdwatch.policy.privacy.printable import printable
from sdwatch.spool.candidates import FoundJob, candidates
from sdwatch.spool.fingerprint import (
    TOO_DEEP,
    Fingerprint,
    fingerprint_from,
    folder_files,
    fresh_size,
    is_too_deep,
    placeholders,
)
from sdwatch.spool.inside import size_of_arrived
from sdwatch.spool.job_file import NOT_LOCAL, job_file_in
from sdwatch.spool.run import read_bounded, unreadable
from sdwatch.system import disk, renames
from sdwatch.system.clock import Clock
from sdwatch.system.links import FileIdentity

# Seconds: parsing many files takes time; the rest of a burst waits for the next scan.
_PARSING = 0.5


@dataclass(frozen=True)
class Arrival:
    """A job that is ready to be claimed. `path`: its file, or its folder, which is `identity`;
    `source`: relative to the inbox; `job`: parsed, or the error that says why it cannot be;
    `marker`: the name of the file beside it by which somebody cancelled it, or ""."""

    path: Path
    source: str
    mtime: float
    fingerprint: Fingerprint
    job: Job | JobError
    identity: FileIdentity
    is_folder: bool = False
    marker: str = ""

    @property
    def cancelled(self) -> bool:
        """Whether somebody cancelled it while it waited."""
        return bool(self.marker)

    @property
    def priority(self) -> int:
        """The job's priority; one that cannot be parsed comes first, since it fails at once."""
        return self.job.priority if isinstance(self.job, Job) else 1_000_000

    @property
    def needs_webui(self) -> bool:
        """False for a job that cannot be parsed or was cancelled: it ends at once."""
        return isinstance(self.job, Job) and not self.cancelled


@dataclass
class _Seen:
    """What earlier scans know of one path."""

    path: Path
    source: str
    identity: FileIdentity
    fingerprint: Fingerprint
    since: float
    first: float
    whole: bool = False  # renamed into place: it is as it was meant to be
    parsed: Job | JobError | None = None
    missing: tuple[str, ...] = ()


@dataclass
class Inbox:
    """The folder `root`. Seconds: `settle`; `arrival_timeout`, for images that are missing;
    `unfinished_timeout`, without a change, for a file that looks as if it was still being written.
    `rules`: what jobs may do. `on_share`: listings may be old ones."""

    root: Path
    settle: float
    arrival_timeout: float
    clock: Clock
    unfinished_timeout: float = 0.0
    rules: JobRules = field(default_factory=JobRules)
    on_share: bool = False
    waiting: dict[str, str] = field(default_factory=dict)
    """What is not ready, by source, with the reason; as of the last scan."""
    unreadable: set[str] = field(default_factory=set)
    """Those of `waiting` that cannot be read, and will not be until somebody does something."""
    ignored: dict[str, str] = field(default_factory=dict)
    """What is not a job and looks like a mistake, by its path, with the reason."""

    def __post_init__(self) -> None:
        self._seen: dict[str, _Seen] = {}
        self._renamed_in: set[Path] = set()
        self._lock = threading.Lock()

    def renamed_in(self, path: Path) -> None:
        """Note from any thread that this path was renamed into place, so it is whole."""
        with self._lock:
            self._renamed_in.add(path)

    def scan(self) -> list[Arrival]:
        """Scan the whole inbox, and return what is ready, in the order of the claims. Raises
        OSError if the folder itself cannot be read."""
        with self._lock:
            renamed_in, self._renamed_in = self._renamed_in, set()
        now = self.clock.monotonic()
        self.waiting.clear()
        self.unreadable.clear()
        self.ignored.clear()
        seen: dict[str, _Seen] = {}
        ready: list[Arrival] = []
        self._parsing_left = _PARSING
        for found in candidates(self.root, self._closed, self._ignore, self._not_local):
            arrival = self._look_at(found, now, renamed_in, seen)
            if arrival is not None:
                ready.append(arrival)
        self._seen = seen
        return in_order(ready)

    def _look_at(
        self, found: FoundJob, now: float, renamed_in: set[Path], seen: dict[str, _Seen]
    ) -> Arrival | None:
        source, status = found.source, found.status
        known = self._seen.get(source)
        path = known.path if known else found.path
        whole = path in renamed_in
        try:
            if isinstance(status, OSError):
                raise status
            identity, fingerprint = renames.identity_of(status), fingerprint_from(path, status)
        except FileNotFoundError:
            return None  # claimed by another monitor, or removed, a moment ago
        except OSError as error:
            self._unreadable(source, error)
            return None
        known = self._known(known, path, source, identity, fingerprint, now, whole)
        seen[source] = known
        if not self._has_settled(known, now):
            self.waiting[source] = "still arriving"
            return None
        if known.parsed is None:
            self._parse(path, source, known, late=now - known.first >= self.arrival_timeout)
        if known.parsed is None or self._is_unfinished(known, now):
            return None
        return Arrival(
            path,
            source,
            max(entry[3] for entry in fingerprint) / 1e9,
            fingerprint,
            known.parsed,
            identity,
            stat.S_ISDIR(status.st_mode),
            found.marker,
        )

    def _known(
        self,
        known: _Seen | None,
        path: Path,
        source: str,
        identity: FileIdentity,
        fingerprint: Fingerprint,
        now: float,
        whole: bool,
    ) -> _Seen:
        """Return what is known of a path after this scan. `whole`: it was renamed into place."""
        # Explorer's "New Text Document.txt" is empty when it gets a job's name; it is edited then.
        whole = whole and any(size for _, _, size, _ in fingerprint)
        if known is None or known.fingerprint != fingerprint or known.identity != identity:
            since = now - self.settle if whole else now
            first = known.first if known else now
            return _Seen(path, source, identity, fingerprint, since, first, whole)
        if whole:  # an earlier scan was quicker than the hint
            known.since = min(known.since, now - self.settle)
            known.whole = True
        return known

    def _has_settled(self, known: _Seen, now: float) -> bool:
        """Return whether it has not changed for the settle time; on a share the server is asked,
        too."""
        if now - known.since < self.settle:
            return False
        if known.parsed is None and self.on_share and self._has_grown(known.path, known):
            known.since = now
            return False
        return True

    def _is_unfinished(self, known: _Seen, now: float) -> bool:
        """Return whether it reads like a file whose end is missing, and may still come."""
        wrong = known.parsed
        if not isinstance(wrong, JobError) or not wrong.unfinished or known.whole:
            return False
        left = known.since + self.unfinished_timeout - now
        if left <= 0:
            return False
        problem = wrong.problems[0].located(known.source)
        why = f"looks unfinished; fails in {left:.0f} s unless it changes: {problem}"
        self.waiting[known.source] = why
        return True

    def _has_grown(self, path: Path, known: _Seen) -> bool:
        """Return whether it is larger than a listing of the share says, which may be outdated:
        for an open file the server itself is asked."""
        sizes = {name: size for name, _, size, _ in known.fingerprint}
        try:
            return any(fresh_size(path / name) != size for name, size in sizes.items())
        except OSError:
            return False  # reported when it is read

    def _parse(self, path: Path, source: str, known: _Seen, late: bool) -> None:
        """Parse the job; if it is not ready after all, the reason is in `waiting`. `late`:
        images that a job folder names and that are missing are no longer waited for."""
        if known.missing and not late:
            self.waiting[source] = f"waits for {', '.join(known.missing)}"
            return
        if self._parsing_left <= 0:
            self.waiting[source] = "will be read at the next scan"
            return
        began = self.clock.monotonic()
        try:
            known.parsed = self._read(path, source, known, late)
        except JobError as error:
            known.parsed = error
        except FileNotFoundError:
            self.waiting[source] = "its job file is gone"
        except OSError as error:
            if late:  # it stays unreadable: it fails, if it can be moved
                why = f"{_which(path, error)}cannot be read: {error.strerror}"
                known.parsed = unreadable(source, why)
            else:
                self._unreadable(source, error, _which(path, error))
        finally:
            self._parsing_left -= self.clock.monotonic() - began

    def _unreadable(self, source: str, error: OSError, which: str = "") -> None:
        self.unreadable.add(source)
        self.waiting[source] = f"{which}cannot be read yet: {error.strerror}"

    def _ignore(self, path: Path, why: str) -> None:
        self.ignored[path.relative_to(self.root).as_posix()] = why

    def _not_local(self, path: Path) -> None:
        """Let a job wait whose content is in a cloud: opening it would download it."""
        source = path.relative_to(self.root).as_posix()
        self.waiting[source] = NOT_LOCAL
        self.unreadable.add(source)

    def _closed(self, folder: Path, error: OSError) -> None:
        self._unreadable(folder.relative_to(self.root).as_posix() + "/", error)

    def _read(self, path: Path, source: str, known: _Seen, late: bool) -> Job | None:
        file, there = path, None
        if disk.is_folder(path):
            there = folder_files(path)
            if (job_file := job_file_in(path)) is None:
                self.waiting[source] = "its job file is gone"
                return None
            file = job_file
            if is_too_deep(path):
                raise unreadable(source, TOO_DEEP)
        if self._is_held(source, file, known):
            return None
        data = read_bounded(file, source)
        stem = path.name if there is not None else path.stem
        if there is not None:
            job = parse_job(data, source, _AnyName(), stem, rules=self.rules)
            named = {name for stage in job.stages for name in image_names(stage)}
            missing = sorted(name for name in named if _is_missing(name, there))
            elsewhere = placeholders(path) if missing else frozenset()
            if online := [name for name in missing if on_disk(name, elsewhere) in elsewhere]:
                self.waiting[source] = f"{', '.join(online)} {NOT_LOCAL}"  # however long that takes
                self.unreadable.add(source)
                return None
            if missing and not late:
                known.missing = tuple(missing)
                self.waiting[source] = f"waits for {', '.join(missing)}"
                return None
            if any(self._is_held(source, path / on_disk(n, there), known) for n in sorted(named)):
                return None
        return parse_job(
            data,
            source,
            there,
            stem,
            rules=self.rules,
            look=lambda name: size_of_arrived(path, name, self.rules.max_image),
        )

    def _is_held(self, source: str, file: Path, known: _Seen) -> bool:
        """Return whether a program has a file of this job open for writing. After the arrival
        timeout without a change it counts only where it blocks the claim."""
        if not system.is_still_written(file):
            return False
        quiet = self.clock.monotonic() - known.since
        if quiet >= self.arrival_timeout and not system.WRITERS_BLOCK_CLAIMS:
            return False
        self.waiting[source] = f"another program is still writing {printable(file.name)}"
        return True


def _is_missing(name: str, there: frozenset[str]) -> bool:
    """Return whether an image may still come. If several may be meant, none is waited for."""
    return on_disk(name, there) not in there and not several_on_disk(name, there)


def _which(path: Path, error: OSError) -> str:
    """Return which file of a job folder it is, to start a sentence; nothing for a single file."""
    if not error.filename or not disk.is_folder(path):
        return ""
    return f"{printable(str(error.filename))} "


class _AnyName(frozenset[str]):
    """Pretends that every image is there, to read which ones a job names."""

    def __contains__(self, name: object) -> bool:
        return True

"""The inbox: what lies in it, what of it is a job, and what is ready to be claimed.

Watch events are only hints that say `scan now`; the scan finds the truth. A job is ready when
size and mtime have equalled their own last values for the settle time on the monotonic clock, or
at once where a hint said that it was renamed into place.
"""

from __future__ import annotations

import os
import re
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sdwatch import system
from sdwatch.errors import JobError
from sdwatch.policy.job.confinement import JobRules
from sdwatch.policy.job.control import cancelled_by
from sdwatch.policy.job.job import Job, image_names, parse_job
from sdwatch.policy.job.job_images import on_disk, several_on_disk
from sdwatch.policy.job.near_miss import JOB_EXTENSIONS, PICTURE_EXTENSIONS, why_not_a_job
from sdwatch.policy.job.schedule import in_order
from sdwatch.policy.privacy.printable import printable
from sdwatch.spool.fingerprint import (
    DEEPEST,
    TOO_DEEP,
    Fingerprint,
    folder_files,
    fresh_size,
    is_too_deep,
    placeholders,
    signature_from,
)
from sdwatch.spool.inside import size_of_arrived
from sdwatch.spool.job_file import NOT_LOCAL, has_job_elsewhere, job_file_in
from sdwatch.spool.run import read_bounded, unreadable
from sdwatch.system import Entry, Kind, disk
from sdwatch.system.clock import Clock
from sdwatch.system.links import FileIdentity

# Temporary names of editors, browsers, sync tools and operating systems: never jobs.
_TEMPORARY_PREFIXES = (".", "~", "_tmp", "(a document being saved by")
_TEMPORARY_ENDINGS = (
    ".tmp", ".temp", ".part", ".partial", ".crdownload", ".download", ".filepart", ".swp", ".swx",
    ".bak", "~", ".lock", ".!sync", ".bts", ".sync", ".syncthing.yaml", ".goutputstream",
    ".opdownload", ".aria2", ".!qb", ".!ut", ".ffs_tmp", "___jb_tmp___", "___jb_old___",
    "zone.identifier",
)  # fmt: skip
_SYSTEM_NAMES = (
    "desktop.ini", "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "lost+found",
    "system volume information", "$recycle.bin",
    "@eadir", "@recycle", "#recycle", "#snapshot", "@tmp", "__macosx", "network trash folder",
    "temporary items",
)  # fmt: skip

# An alternate data stream that became a file of its own, as WSL and copies to other systems leave
# it: `castle.yaml:Zone.Identifier`. For the colon SMB clients and servers also write U+F03A (as
# Services for UNIX, WSL, Cygwin) or U+F022 (as Services for Macintosh, Samba's catia and fruit).
_STREAM = re.compile(r"\.(?:ya?ml|json|png|jpe?g|webp|txt)[:\uf03a\uf022]\S", re.IGNORECASE)
# Emacs saves `#castle.yaml#` of itself; TextEdit and others write `castle.yaml.sb-1a2b3c4d-XyZ123`.
_SAVING = re.compile(r"#.+#|.+\.sb-[0-9a-f]{8}-\w{6}", re.IGNORECASE)

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
        """The job's own; one that cannot be parsed goes first, since it fails at once."""
        return self.job.priority if isinstance(self.job, Job) else 1_000_000

    @property
    def needs_webui(self) -> bool:
        """Not if it cannot be parsed, or was cancelled: then it ends at once."""
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
    """What is there and not ready, by source, with the reason; as of the last scan."""
    unreadable: set[str] = field(default_factory=set)
    """Those of `waiting` that cannot be read, and will not be until somebody does something."""
    ignored: dict[str, str] = field(default_factory=dict)
    """What is there, is no job and looks as if one was meant, by its path, with the reason."""

    def __post_init__(self) -> None:
        self._seen: dict[str, _Seen] = {}
        self._renamed_in: set[Path] = set()
        self._lock = threading.Lock()

    def renamed_in(self, path: Path) -> None:
        """A hint from any thread: this path was renamed into place, so it is whole."""
        with self._lock:
            self._renamed_in.add(path)

    def scan(self) -> list[Arrival]:
        """Look at the whole inbox; what is ready, in the order in which it is to be claimed.
        Raises OSError where the folder itself cannot be read."""
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
        self, found: Candidate, now: float, renamed_in: set[Path], seen: dict[str, _Seen]
    ) -> Arrival | None:
        source, status = found.source, found.status
        known = self._seen.get(source)
        path = known.path if known else found.path
        whole = path in renamed_in
        try:
            if isinstance(status, OSError):
                raise status
            identity, fingerprint = disk.identity_of(status), signature_from(path, status)
        except FileNotFoundError:
            return None  # claimed by another, or taken away, in this moment
        except OSError as error:
            self._unreadable(source, error)
            return None
        # Explorer's "New Text Document.txt" is empty when it gets a job's name; it is edited then.
        whole = whole and any(size for _, _, size, _ in fingerprint)
        if known is None or known.fingerprint != fingerprint or known.identity != identity:
            since = now - self.settle if whole else now
            first = known.first if known else now
            known = _Seen(path, source, identity, fingerprint, since, first, whole)
        elif whole:  # an earlier scan was quicker than the hint
            known.since = min(known.since, now - self.settle)
            known.whole = True
        seen[source] = known
        if now - known.since < self.settle:
            self.waiting[source] = "still arriving"
            return None
        if known.parsed is None and self.on_share and self._has_grown(path, known):
            known.since = now
            self.waiting[source] = "still arriving"
            return None
        if known.parsed is None:
            self._parse(path, source, known, late=now - known.first >= self.arrival_timeout)
        if known.parsed is None or self._is_unfinished(known, now):
            return None
        mtime = max(entry[3] for entry in fingerprint) / 1e9
        return Arrival(
            path,
            source,
            mtime,
            fingerprint,
            known.parsed,
            identity,
            stat.S_ISDIR(status.st_mode),
            found.marker,
        )

    def _is_unfinished(self, known: _Seen, now: float) -> bool:
        """Whether it reads as a file of which the rest is still to come, and may come."""
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
        """Whether it is larger than a listing of the share says, which may be an old one: of an
        opened file the server itself is asked."""
        sizes = {name: size for name, _, size, _ in known.fingerprint}
        try:
            return any(fresh_size(path / name) != size for name, size in sizes.items())
        except OSError:
            return False  # told when it is read

    def _parse(self, path: Path, source: str, known: _Seen, late: bool) -> None:
        """Read the job; where it is not ready after all, the reason stands in `waiting`. `late`:
        images that a job folder names and that are not there are not waited for any more."""
        if known.missing and not late:
            self.waiting[source] = f"waits for {', '.join(known.missing)}"
            return
        if self._parsing_left <= 0:
            self.waiting[source] = "its turn to be read comes with the next scan"
            return
        began = self.clock.monotonic()
        try:
            known.parsed = self._read(path, source, known, late)
        except JobError as error:
            known.parsed = error
        except FileNotFoundError:
            self.waiting[source] = "its job file has gone away"
        except OSError as error:
            if late:  # nobody will: it fails, if it can be moved
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
        """A job of which the content is in a cloud is not opened: that would download it."""
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
                self.waiting[source] = "its job file has gone away"
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
        """Whether some program has a file of this job open to write to it. One that has not done so
        for the arrival timeout has forgotten it, which matters only where it blocks the claim."""
        if not system.is_still_written(file):
            return False
        quiet = self.clock.monotonic() - known.since
        if quiet >= self.arrival_timeout and not system.WRITERS_BLOCK_CLAIMS:
            return False
        self.waiting[source] = f"another program still writes {printable(file.name)}"
        return True


def _is_missing(name: str, there: frozenset[str]) -> bool:
    """Whether an image may still come. Where several may be meant, none is waited for."""
    return on_disk(name, there) not in there and not several_on_disk(name, there)


def _which(path: Path, error: OSError) -> str:
    """Which file of a job folder it is, as the begin of a sentence; nothing for a single file."""
    if not error.filename or not disk.is_folder(path):
        return ""
    return f"{printable(str(error.filename))} "


class _AnyName(frozenset[str]):
    """As if every image were there: for reading which ones a job names."""

    def __contains__(self, name: object) -> bool:
        return True


def is_temporary(name: str) -> bool:
    """Whether a name is one that editors, browsers, sync tools or systems give to what is not
    finished, or not a document at all."""
    low = name.lower()
    return (
        low.startswith(_TEMPORARY_PREFIXES)
        or low.endswith(_TEMPORARY_ENDINGS)
        or low in _SYSTEM_NAMES
        or _STREAM.search(low) is not None
        or _SAVING.fullmatch(low) is not None
    )


@dataclass(frozen=True)
class Candidate:
    """A job file or job folder that a scan found. `source`: relative to the inbox; `status`: as it
    lies there, or why it cannot be looked at; `marker`: the name of the file beside it
    by which somebody cancelled it, or ''."""

    folder: Path
    name: str
    source: str
    status: os.stat_result | OSError
    marker: str

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.folder / self.name


def candidates(
    root: Path,
    closed: Callable[[Path, OSError], None] = lambda *_: None,
    ignored: Callable[[Path, str], None] = lambda *_: None,
    not_local: Callable[[Path], None] = lambda *_: None,
) -> Iterator[Candidate]:
    """Job files and job folders below `root`. Symbolic links are never followed. A sub-folder that
    vanishes, or is closed to us, which `closed` is told, does not spoil the rest; nor does what
    looks as if a job was meant, of which `ignored` is told with the reason. `not_local` is told of
    jobs whose file is not on this machine. Raises OSError for `root` itself."""
    pending = [(root, 0)]
    while pending:
        folder, depth = pending.pop()
        try:
            entries = disk.entries(folder)
            markers = _markers(entries)
            others = [entry for entry in entries if entry.name not in markers.values()]
            jobs, folders = _sorted_out(folder, depth, others, ignored, not_local)
            # All at once: the way to the folder is walked once, and not for each of them.
            statuses = disk.statuses(folder, jobs)
        except FileNotFoundError:
            if folder == root:
                raise
            continue
        except OSError as error:
            if folder == root:
                raise
            closed(folder, error)
            continue
        pending += [(folder / name, depth + 1) for name in folders]
        above = "" if folder == root else f"{folder.relative_to(root).as_posix()}/"
        for name, status in statuses.items():
            yield Candidate(folder, name, above + name, status, markers.get(name.lower(), ""))


def _sorted_out(
    folder: Path,
    depth: int,
    entries: list[Entry],
    ignored: Callable[[Path, str], None],
    not_local: Callable[[Path], None],
) -> tuple[list[str], list[str]]:
    """The names of those that are jobs, and of the folders to be looked into."""
    jobs: list[str] = []
    folders: list[str] = []
    for entry in entries:
        name, kind = entry
        if is_temporary(name):
            continue
        if kind is Kind.FOLDER:
            if job_file_in(folder / name) is not None:
                jobs.append(name)
            elif has_job_elsewhere(folder / name):
                not_local(folder / name)
            elif depth < DEEPEST:
                folders.append(name)
            else:
                ignored(folder / name, f"more than {DEEPEST} folders deep; move it up")
        elif kind is Kind.PLACEHOLDER and _is_job(name):
            not_local(folder / name)
        elif depth == 0 and name.lower().endswith(PICTURE_EXTENSIONS):
            why = "a picture is no job; `sdwatch submit` makes one of its settings"
            ignored(folder / name, why)
        elif why := _why_no_job(entry):
            ignored(folder / name, why)
        elif name.lower().endswith(JOB_EXTENSIONS):
            jobs.append(name)
    return jobs, folders


def _markers(entries: list[Entry]) -> dict[str, str]:
    """The files by which people cancel jobs that wait, by the job's name in lower case. As the
    listing says: to ask for each would take a share as long as to look at all jobs."""
    files = (entry.name for entry in entries if entry.kind is not Kind.FOLDER)
    return {job: name for name in files if (job := cancelled_by(name))}


def _is_job(name: str) -> bool:
    return name.lower().endswith(JOB_EXTENSIONS) and not why_not_a_job(name)


def _why_no_job(entry: Entry) -> str:
    """Of what is not a folder: why it is not taken for a job, where somebody may think it is."""
    if entry.kind is Kind.LINK:
        return "a link is never followed; put the file or folder itself here"
    if entry.kind in (Kind.FILE, Kind.PLACEHOLDER):
        return why_not_a_job(entry.name)
    return "not a plain file" if entry.name.lower().endswith(JOB_EXTENSIONS) else ""

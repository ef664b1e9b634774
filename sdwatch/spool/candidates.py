"""Find what in the inbox is a job file or a job folder, and what only looks like one."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sdwatch.policy.job.files.near_miss import (
    DEFAULTS,
    JOB_EXTENSIONS,
    PICTURE_EXTENSIONS,
    why_not_a_job,
)
from sdwatch.policy.queue.control import cancelled_by
from sdwatch.spool.fingerprint import DEEPEST
from sdwatch.spool.job_file import has_job_elsewhere, job_file_in
from sdwatch.system import EntryKind, disk

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


def is_temporary(name: str) -> bool:
    """Return whether editors, browsers, sync tools or systems give this name to what is
    unfinished, or not a document at all."""
    low = name.lower()
    return (
        low.startswith(_TEMPORARY_PREFIXES)
        or low.endswith(_TEMPORARY_ENDINGS)
        or low in _SYSTEM_NAMES
        or _STREAM.search(low) is not None
        or _SAVING.fullmatch(low) is not None
    )


@dataclass(slots=True)
class FoundJob:
    """A job file or job folder that a scan found. `source`: relative to the inbox; `status`: as it
    lies there, or why that cannot be read; `marker`: the name of the file beside it
    by which somebody cancelled it, or ''; `defaults`: the fingerprint of each `_defaults.yaml`
    above it, one object for all jobs of a folder."""

    folder: Path
    name: str
    source: str
    status: os.stat_result | OSError
    marker: str
    defaults: tuple[object, ...] = ()

    @property
    def path(self) -> Path:
        """Return its file or folder."""
        return self.folder / self.name


def candidates(
    root: Path,
    closed: Callable[[Path, OSError], None] = lambda *_: None,
    ignored: Callable[[Path, str], None] = lambda *_: None,
    not_local: Callable[[Path], None] = lambda *_: None,
    known: Container[str] = (),
) -> Iterator[FoundJob]:
    """Yield the job files and job folders below `root`. Links are never followed. Raises OSError
    for `root` itself.

    `closed` gets each sub-folder that we may not read; one that vanishes is skipped. `ignored`
    gets what looks like a mistake, with the reason. `not_local` gets jobs whose file is not on
    this machine. `known`: sources of job files that an earlier call found: their names are not
    examined again."""
    pending: list[tuple[Path, int, tuple[object, ...]]] = [(root, 0, ())]
    while pending:
        folder, depth, defaults = pending.pop()
        above = "" if folder == root else f"{folder.relative_to(root).as_posix()}/"
        try:
            names = disk.names_by_kind(folder)
            defaults = _with_defaults_of(folder, names, defaults)
            markers = _markers(names)
            jobs, folders = _sorted_out(
                folder, depth, above, _entries(names, markers), ignored, not_local, known
            )
            del names
            pending += [(folder / name, depth + 1, defaults) for name in folders]
            # The way to the folder is walked once for many of them.
            for part in _in_parts(jobs):
                for name, status in disk.statuses(folder, part).items():
                    marker = markers.get(name.lower(), "")
                    yield FoundJob(folder, name, above + name, status, marker, defaults)
        except FileNotFoundError:
            if folder == root:
                raise
        except OSError as error:
            if folder == root:
                raise
            closed(folder, error)


def _with_defaults_of(
    folder: Path, names: Mapping[EntryKind, list[str]], above: tuple[object, ...]
) -> tuple[object, ...]:
    """Return the fingerprints of the `_defaults.yaml` above and in a folder."""
    if DEFAULTS not in names[EntryKind.FILE]:
        return above
    status = disk.statuses(folder, [DEFAULTS]).get(DEFAULTS)
    if not isinstance(status, os.stat_result):
        return above
    return (*above, (status.st_ino, status.st_size, status.st_mtime_ns))


def _in_parts(names: list[str]) -> Iterator[list[str]]:
    return (names[start : start + _AT_ONCE] for start in range(0, len(names), _AT_ONCE))


_AT_ONCE = 1000
"""The status of a file takes half a kilobyte, as long as it is needed."""


def _entries(
    names: Mapping[EntryKind, list[str]], markers: Mapping[str, str]
) -> Iterator[tuple[str, EntryKind]]:
    """Yield what is not a marker."""
    taken = set(markers.values())
    return ((name, kind) for kind in EntryKind for name in names[kind] if name not in taken)


def _sorted_out(
    folder: Path,
    depth: int,
    above: str,
    entries: Iterable[tuple[str, EntryKind]],
    ignored: Callable[[Path, str], None],
    not_local: Callable[[Path], None],
    known: Container[str],
) -> tuple[list[str], list[str]]:
    """Return the names of those that are jobs, and of the folders to search."""
    jobs: list[str] = []
    folders: list[str] = []
    for name, kind in entries:
        if kind is EntryKind.FILE and above + name in known:
            jobs.append(name)
            continue
        if is_temporary(name) or name == DEFAULTS:
            continue
        if kind is EntryKind.FOLDER:
            if job_file_in(folder / name) is not None:
                jobs.append(name)
            elif has_job_elsewhere(folder / name):
                not_local(folder / name)
            elif depth < DEEPEST:
                folders.append(name)
            else:
                ignored(folder / name, f"more than {DEEPEST} folders deep; move it up")
        elif kind is EntryKind.PLACEHOLDER and _is_job(name):
            not_local(folder / name)
        elif depth == 0 and name.lower().endswith(PICTURE_EXTENSIONS):
            why = "a picture is not a job; `sdwatch submit` makes one from its settings"
            ignored(folder / name, why)
        elif why := _why_no_job(name, kind):
            ignored(folder / name, why)
        elif name.lower().endswith(JOB_EXTENSIONS):
            jobs.append(name)
    return jobs, folders


def _markers(names: Mapping[EntryKind, list[str]]) -> dict[str, str]:
    """Return the files by which people cancel jobs that wait, by the job's name in lower case.
    Taken from the listing: to ask a share for each would take as long as to check all jobs."""
    files = (name for kind in EntryKind if kind is not EntryKind.FOLDER for name in names[kind])
    return {job: name for name in files if (job := cancelled_by(name))}


def _is_job(name: str) -> bool:
    return name.lower().endswith(JOB_EXTENSIONS) and not why_not_a_job(name)


def _why_no_job(name: str, kind: EntryKind) -> str:
    """Return why an entry that is not a folder is not a job, if somebody may think that it is."""
    if kind is EntryKind.LINK:
        return "a link is never followed; put the file or folder itself here"
    if kind in (EntryKind.FILE, EntryKind.PLACEHOLDER):
        return why_not_a_job(name)
    return "not a plain file" if name.lower().endswith(JOB_EXTENSIONS) else ""

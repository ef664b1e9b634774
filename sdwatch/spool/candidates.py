"""Find what in the inbox is a job file or a job folder, and what only looks like one."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sdwatch.policy.job.control import cancelled_by
from sdwatch.policy.job.near_miss import JOB_EXTENSIONS, PICTURE_EXTENSIONS, why_not_a_job
from sdwatch.spool.fingerprint import (
    DEEPEST,
)
from sdwatch.spool.job_file import has_job_elsewhere, job_file_in
from sdwatch.system import Entry, EntryKind, disk

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


@dataclass(frozen=True)
class FoundJob:
    """A job file or job folder that a scan found. `source`: relative to the inbox; `status`: as it
    lies there, or why that cannot be read; `marker`: the name of the file beside it
    by which somebody cancelled it, or ''."""

    folder: Path
    name: str
    source: str
    status: os.stat_result | OSError
    marker: str

    @property
    def path(self) -> Path:
        """Its file or folder."""
        return self.folder / self.name


def candidates(
    root: Path,
    closed: Callable[[Path, OSError], None] = lambda *_: None,
    ignored: Callable[[Path, str], None] = lambda *_: None,
    not_local: Callable[[Path], None] = lambda *_: None,
) -> Iterator[FoundJob]:
    """Yield the job files and job folders below `root`. Links are never followed. Raises OSError
    for `root` itself.

    `closed` gets each sub-folder that we may not read; one that vanishes is skipped. `ignored`
    gets what looks like a mistake, with the reason. `not_local` gets jobs whose file is not on
    this machine."""
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
            yield FoundJob(folder, name, above + name, status, markers.get(name.lower(), ""))


def _sorted_out(
    folder: Path,
    depth: int,
    entries: list[Entry],
    ignored: Callable[[Path, str], None],
    not_local: Callable[[Path], None],
) -> tuple[list[str], list[str]]:
    """Return the names of those that are jobs, and of the folders to search."""
    jobs: list[str] = []
    folders: list[str] = []
    for entry in entries:
        name, kind = entry
        if is_temporary(name):
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
        elif why := _why_no_job(entry):
            ignored(folder / name, why)
        elif name.lower().endswith(JOB_EXTENSIONS):
            jobs.append(name)
    return jobs, folders


def _markers(entries: list[Entry]) -> dict[str, str]:
    """Return the files by which people cancel jobs that wait, by the job's name in lower case.
    Taken from the listing: to ask a share for each would take as long as to check all jobs."""
    files = (entry.name for entry in entries if entry.kind is not EntryKind.FOLDER)
    return {job: name for name in files if (job := cancelled_by(name))}


def _is_job(name: str) -> bool:
    return name.lower().endswith(JOB_EXTENSIONS) and not why_not_a_job(name)


def _why_no_job(entry: Entry) -> str:
    """Return why an entry that is not a folder is not a job, if somebody may think that it is."""
    if entry.kind is EntryKind.LINK:
        return "a link is never followed; put the file or folder itself here"
    if entry.kind in (EntryKind.FILE, EntryKind.PLACEHOLDER):
        return why_not_a_job(entry.name)
    return "not a plain file" if entry.name.lower().endswith(JOB_EXTENSIONS) else ""

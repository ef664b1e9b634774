"""Find a run or a job by its name: whole, by its start, or by a unique part of it."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from sdwatch.errors import NotFoundError
from sdwatch.policy.queue.run_names import NO_NAME, slug_of
from sdwatch.spool.candidates import candidates
from sdwatch.spool.folders import Spool, runs_in
from sdwatch.system import disk

T = TypeVar("T")

_SHOWN = 8


def working_runs(spool: Spool) -> dict[str, Path]:
    """Return the runs in working/ of all workers, by run id."""
    workers = runs_in(spool.root / "working")
    return {run.name: run for worker in workers for run in runs_in(worker)}


def archived_runs(folder: Path) -> dict[str, Path]:
    """Return the runs in done/ or failed/, by run id."""
    return {run.name: run for run in runs_in(folder)}


def all_runs(spool: Spool) -> dict[str, Path]:
    """Return the runs in working/, done/ and failed/, by run id."""
    return working_runs(spool) | archived_runs(spool.done) | archived_runs(spool.failed)


def waiting_jobs(spool: Spool) -> dict[str, Path]:
    """Return the jobs in the inbox, by their path in it."""
    if not disk.is_folder(spool.inbox):
        return {}
    return {found.source: found.path for found in candidates(spool.inbox)}


def run_named(name: str) -> str:
    """Return the run id that a person means: `failed/RUN` works like RUN, and so does `.` in its
    folder."""
    return Path(name).resolve().name


def find(name: str, among: Mapping[str, T], where: str) -> T:
    """Return what `name` means: the same name, else one that starts with it, else one that has
    it in its name; else the same in small letters and composed form, or as the job's name is
    written in its run's id. Raises NotFoundError where nothing fits or more than one."""
    fitting: list[str] = []
    for fits in _FITS:
        fitting = [known for known in among if fits(known, name)]
        if fitting:
            break
    if not fitting:
        raise NotFoundError(f"there is no {name!r} in {where}; `sdwatch list` shows what is there")
    if len(fitting) > 1:
        raise NotFoundError(f"{name!r} is ambiguous; it matches:\n{_some(fitting)}")
    return among[fitting[0]]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold())


_FITS: tuple[Callable[[str, str], bool], ...] = (
    lambda known, name: known in (name, f"{name}.yaml", f"{name}.yml"),
    str.startswith,
    lambda known, name: name in known,
    lambda known, name: _folded(name) in _folded(known),
    lambda known, name: NO_NAME != slug_of(name) in known,
)


def _some(names: Iterable[str]) -> str:
    names = sorted(names)
    more = [f"  … and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return "\n".join([*(f"  {name}" for name in names[:_SHOWN]), *more])


def near_misses(spool: Spool) -> dict[str, str]:
    """Return what in the inbox is not a job and looks like a mistake: the reason, by its path."""
    found: dict[str, str] = {}

    def ignored(path: Path, why: str) -> None:
        found[path.relative_to(spool.inbox).as_posix()] = why

    if disk.is_folder(spool.inbox):
        for _ in candidates(spool.inbox, ignored=ignored):
            pass
    return found

"""Which file or folder of the spool a URL's path means."""

from __future__ import annotations

from pathlib import Path

from sdwatch.errors import NotFoundError
from sdwatch.policy.job.stage.confinement import DEVICE
from sdwatch.spool.folders import Spool, runs_in
from sdwatch.system import disk

_FOLDERS = ("done", "failed", "working")
_LONGEST, _DEEPEST = 1024, 12
_NEVER = frozenset('\\:*?"<>|')
"""In no name of ours; Windows gives each a meaning: a separator, a drive or a stream, a pattern."""


def checked_name(path: str) -> str:
    """Return the path of a run's file or folder, relative to the spool and with `/`. Raises
    NotFoundError for all that may mean anything else. What lies there is not looked at: that no
    link is followed is for whoever opens it (spool/inside.py)."""
    parts = path.removesuffix("/").split("/")
    if parts[0] not in _FOLDERS or len(path) > _LONGEST or not 2 <= len(parts) <= _DEEPEST:
        raise NotFoundError("there is no such file in done/, failed/ or working/")
    for part in parts:
        _check(part)
    return "/".join(parts)


def _check(part: str) -> None:
    """Check one name. One that starts with a dot is temporary, or none of ours."""
    is_odd = not part.isprintable() or _NEVER & set(part) or part != part.strip()
    is_odd = is_odd or "/" in part or len(part) > _LONGEST
    if not part or part[0] == "." or part[-1] == "." or is_odd or DEVICE.fullmatch(part):
        raise NotFoundError("there is no file of such a name")


def ended_run(spool: Spool, run_id: str) -> Path:
    """Return the folder of a run in done/ or failed/. Raises NotFoundError, OSError."""
    _check(run_id)
    return _first((spool.failed / run_id, spool.done / run_id), run_id, "done/ or failed/")


def working_run(spool: Spool, run_id: str) -> Path:
    """Return the folder of a run in working/, of any worker. Raises NotFoundError, OSError."""
    _check(run_id)
    workers = runs_in(spool.root / "working")
    return _first(tuple(worker / run_id for worker in workers), run_id, "working/")


def _first(folders: tuple[Path, ...], run_id: str, where: str) -> Path:
    found = next((folder for folder in folders if disk.is_folder(folder)), None)
    if found is None:
        raise NotFoundError(f"there is no run {run_id} in {where}; it may have moved a moment ago")
    return found


def waiting_job(spool: Spool, source: str) -> Path:
    """Return the path of a job in the inbox. Raises NotFoundError, OSError."""
    parts = source.split("/")
    if len(source) > _LONGEST or len(parts) > _DEEPEST:
        raise NotFoundError("there is no such job in the inbox")
    for part in parts:
        if not part or part in (".", "..") or "\0" in part or "\\" in part or ":" in part[1:2]:
            raise NotFoundError("there is no such job in the inbox")
    path = spool.inbox.joinpath(*parts)
    if not disk.exists(path):
        raise NotFoundError(f"{source} no longer waits in the inbox; it may have started")
    return path

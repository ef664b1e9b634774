"""The identity of our processes: what is recorded of them, and how they are found again.

A process is ours if its recorded pid, start mark and boot id match, if its environment has the
incarnation's token, if it is in the session that the recorded process leads, or if it descends from
such a process. A process that leaves the session, clears its environment and outlives its parent is
not found. The intent is written before the spawn, so that after a kill -9 between the two the token
still finds the process.
"""

from __future__ import annotations

import json
import logging
import os
import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import get_type_hints

import psutil

from sdwatch import system
from sdwatch.system import disk, psutil_race, renames
from sdwatch.system.log_events import LogEvent, about

log = logging.getLogger("sdwatch.webui")

TOKEN_NAME = "SDWATCH_TOKEN"


@dataclass(frozen=True)
class ProcessIdentity:
    """One incarnation of a WebUI. Pids are 0 and marks "" until they are known."""

    incarnation: int
    token: str
    boot_id: str
    program: str  # without its arguments: they may hold a password
    pid: int = 0
    start_mark: str = ""
    listener_pid: int = 0
    listener_mark: str = ""
    session: int = 0  # also the pid of its first process, which may be dead
    session_mark: str = ""  # of that process
    numbering: str = ""  # see system.numbering; when that process was last known to have its number

    @property
    def job_name(self) -> str:
        """Return the name of the Windows Job Object, by which the next monitor opens it."""
        return f"sdwatch-{self.token}"


def intend(state_dir: Path, boot_id: str, program: str) -> ProcessIdentity:
    """Record that the next incarnation is about to be spawned. Raises OSError."""
    identity = ProcessIdentity(_last_incarnation(state_dir) + 1, uuid.uuid4().hex, boot_id, program)
    save(state_dir, identity)
    return identity


def save(state_dir: Path, identity: ProcessIdentity) -> None:
    """Write it to identity.json, and sync. Raises OSError."""
    disk.write_json(state_dir / "identity.json", asdict(identity))
    disk.sync_folder(state_dir)


def save_or_warn(state_dir: Path, identity: ProcessIdentity, name: str) -> None:
    """Save it; where the disk refuses, only log that: the intent is on disk, and its token still
    finds the process. `name`: of the WebUI."""
    try:
        save(state_dir, identity)
    except OSError as error:
        what = (name, identity.pid, disk.in_words(error))
        log.warning("%s: pid %d cannot be saved: %s", *what, extra=about(LogEvent.DISK_REFUSES))


def load(state_dir: Path) -> ProcessIdentity | None:
    """Return the last one saved, or None. An unreadable file is renamed."""
    path = state_dir / "identity.json"
    try:
        record = json.loads(disk.read(path))
        if isinstance(record, dict) and "generation" in record:  # its name until 0.1.0
            record["incarnation"] = record.pop("generation")
        return _checked(ProcessIdentity(**record))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        _set_aside(path, error)
        return None


def log_paths(state_dir: Path, incarnation: int) -> tuple[Path, Path]:
    """Return where an incarnation's stdout and stderr go."""
    stem = f"incarnation-{incarnation:06d}"
    earlier = f"gen-{incarnation:06d}"  # its name until 0.1.0; who runs may still write there
    if (state_dir / f"{earlier}.stdout.log").exists():
        stem = earlier
    return state_dir / f"{stem}.stdout.log", state_dir / f"{stem}.stderr.log"


def newest_logs(state_dir: Path) -> tuple[Path, ...]:
    """Return the logs of the last incarnation, for read-only use; () where there was none."""
    last = max((number for _, number in _logs(state_dir)), default=0)
    return log_paths(state_dir, last) if last else ()


def remove_old_logs(state_dir: Path, incarnation: int, keep: int) -> None:
    """Remove the output of all but the last `keep` incarnations up to `incarnation`."""
    for path, number in _logs(state_dir):
        if number <= incarnation - keep:
            disk.remove(path)


def all_logs(state_dir: Path) -> list[Path]:
    """Return the output of all incarnations."""
    return [path for path, _ in _logs(state_dir)]


def old_logs(state_dir: Path) -> list[Path]:
    """Return the output of all incarnations but the last."""
    logs = _logs(state_dir)
    last = max((number for _, number in logs), default=0)
    return [path for path, number in logs if number != last]


def rooted(identity: ProcessIdentity, pid: int) -> ProcessIdentity:
    """Return the identity with this root, which lives. The root's session becomes the
    incarnation's, unless another one is known."""
    mark = system.start_mark(pid) or ""
    identity = replace(identity, pid=pid, start_mark=mark)
    if identity.session not in (0, pid) or system.session_of(pid) != pid:
        return identity
    return replace(identity, session=pid, session_mark=mark, numbering=system.numbering())


def processes(identity: ProcessIdentity, logs: Sequence[Path] = ()) -> list[psutil.Process]:
    """Return all living processes of this incarnation, without zombies. Reads every environment.
    `logs`: where it prints."""
    found = [*recorded(identity), *session(identity, logs)]
    for pid in psutil.pids():
        if pid != os.getpid() and system.environ_has(pid, TOKEN_NAME, identity.token):
            found += _process(pid)
    return with_descendants(found)


def family(identity: ProcessIdentity) -> list[psutil.Process]:
    """Return the recorded processes and their descendants: cheap, but without those that were
    reparented."""
    return with_descendants(recorded(identity))


def recorded(identity: ProcessIdentity) -> list[psutil.Process]:
    """Return the root and the listener, if they live."""
    if identity.boot_id != system.boot_id():
        return []
    pairs = {identity.pid: identity.start_mark, identity.listener_pid: identity.listener_mark}
    found: list[psutil.Process] = []
    for pid, mark in pairs.items():
        if pid and system.start_mark(pid) == mark:
            found += _process(pid)
    return living(found)


def session(identity: ProcessIdentity, logs: Sequence[Path] = ()) -> list[psutil.Process]:
    """Return the living processes in the incarnation's session that are this user's.

    A session's number is that of its first process, and is taken until its last member has ended
    (credentials(7): nobody can join from outside). So the session is the incarnation's while that
    first process exists, even dead but not reaped. After that it is as long as the number cannot
    have been used again, or if one of the members prints to `logs`. A process older than the first
    one is never a member.
    """
    if not identity.session or identity.boot_id != system.boot_id():
        return []
    mark = system.start_mark(identity.session)
    if mark not in (None, identity.session_mark):
        return []  # the number is a stranger's: all members had ended before
    members = living(
        process
        for process in system.session_members(identity.session)
        if float(system.start_mark(process.pid) or 0) >= float(identity.session_mark or "inf")
    )
    is_ours = (
        mark is not None
        or system.is_same_round(identity.numbering)
        or any(system.prints_to(process, logs) for process in members)
    )
    return members if is_ours else []


def with_descendants(roots: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Return `roots` and all their descendants, each once, without the dead and without us."""
    found: dict[int, psutil.Process] = {}
    for root in roots:
        if root.pid in found:
            continue  # a descendant of one before it
        found[root.pid] = root
        try:
            children = psutil_race.ask(root.children, recursive=True)
            found.update((child.pid, child) for child in children)
        except psutil.Error:
            continue  # gone meanwhile
    found.pop(os.getpid(), None)
    return living(found.values())


def living(found: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Return those that exist and are not zombies. A pid that was reused counts as dead."""
    return [process for process in found if is_living(process)]


def is_living(process: psutil.Process) -> bool:
    """Return whether it exists and is not a zombie. See `living`."""
    try:
        is_there = psutil_race.ask(process.is_running)
        dead = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        return is_there and psutil_race.ask(process.status) not in dead
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _checked(identity: ProcessIdentity) -> ProcessIdentity:
    """Return the identity. Raises ValueError where a field is not what `save` writes."""
    for name, kind in get_type_hints(ProcessIdentity).items():
        value = getattr(identity, name)
        if type(value) is not kind or (kind is int and value < 0):
            raise ValueError(f"{name} is {value!r:.40}")
    if not identity.token:  # every process without a token would be ours
        raise ValueError("the token is empty")
    return identity


def _set_aside(path: Path, error: Exception) -> None:
    why = disk.in_words(error)
    aside = path.with_name(f"identity.unreadable-{uuid.uuid4().hex[:8]}.json")
    try:
        renames.rename(path, aside)
    except OSError as refusal:
        log.warning(
            "%s cannot be read (%s) nor set aside: %s",
            path,
            why,
            disk.in_words(refusal),
            extra=about(LogEvent.FILE_UNREADABLE),
        )
    else:
        log.warning(
            "%s cannot be read (%s): set aside as %s",
            path,
            why,
            aside.name,
            extra=about(LogEvent.FILE_UNREADABLE),
        )


def _process(pid: int) -> list[psutil.Process]:
    try:
        return [psutil_race.ask(psutil.Process, pid)]
    except psutil.Error:
        return []


def _last_incarnation(state_dir: Path) -> int:
    """Return its number, from the record or, where that was lost, from the logs: no number is used
    twice."""
    identity = load(state_dir)
    numbers = [number for _, number in _logs(state_dir)]
    return max([identity.incarnation if identity else 0, *numbers])


def _logs(state_dir: Path) -> list[tuple[Path, int]]:
    matches = ((path, _LOG_NAME.match(path.name)) for path in state_dir.glob("*.log"))
    return [(path, int(match[1])) for path, match in matches if match]


_LOG_NAME = re.compile(r"(?:incarnation|gen)-(\d+)\.")

"""The local state folder: what belongs to this machine and not to the jobs.

The single-instance lock, the worker's id, the logs, and a folder for each WebUI.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import socket
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from sdwatch import system
from sdwatch.errors import AlreadyRunningError, SpoolError
from sdwatch.system import disk, patience, renames
from sdwatch.system.log_events import LogEvent, about

log = logging.getLogger("sdwatch.state")

_LONGEST_NAME = "-" * 90  # characters of the longest path in it, with some to spare
_WORKER = re.compile(r"[a-z0-9-]{1,60}")


class StateFolder:
    """The folder `root`, held by this process until `release`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        disk.keep_private(root)
        self._lock = FileLock(root / "lock", mode=0o600)

    def hold(self) -> None:
        """Take the lock. Raises AlreadyRunningError naming the holder, SpoolError."""
        if why := system.too_long_for_programs(self.root / _LONGEST_NAME):
            raise SpoolError(
                f"{self.root}: this state folder cannot be used, because the path of a WebUI's log "
                f"in it {why}. Give `state` in the config a shorter path"
            )
        try:
            disk.ensure_folder(self.root)
            self._lock.acquire(timeout=0)
            owner = f"process {os.getpid()} on {socket.gethostname()}\n"
            with patience.patiently(
                lambda: open(self.root / "holder", "w", opener=disk.opener)
            ) as holder:
                holder.write(owner)
        except Timeout:
            owner = self._said_in("holder") or "it could not be named"
            raise AlreadyRunningError(
                f"another monitor already runs on {self.root}: {owner}. "
                "`sdwatch status` shows what it does; stop it before starting another"
            ) from None
        except OSError as error:
            why = disk.in_words(error)
            raise SpoolError(f"{self.root}: the state folder cannot be used: {why}") from error

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()

    @property
    def worker(self) -> str:
        """Return this worker's id: made once, then kept. Start-up recovery touches its runs only.

        It names a folder in working/, so whatever else the file holds is set aside, and another
        id made. Raises SpoolError.
        """
        path = self.root / "worker"
        try:
            return self._known_worker(path) or _new_worker(path)
        except OSError as error:
            why = disk.in_words(error)
            raise SpoolError(f"{path}: the worker's id cannot be kept: {why}") from error

    @property
    def known_worker(self) -> str:
        """Return this worker's id; '' before its first start, or where it cannot be read. Changes
        nothing."""
        return self._said_in("worker")

    @property
    def log_file(self) -> Path:
        """Return the path of the monitor's own log."""
        return self.root / "sdwatch.log"

    @property
    def status_file(self) -> Path:
        """Return the path of a copy of the heartbeat."""
        return self.root / "status.json"

    def knows(self, spool: Path) -> bool:
        """Return whether this worker has worked on that spool before; it has from now on."""
        path, name = self.root / "spool", disk.encoded(str(spool))
        try:
            known = disk.read(path) == name
        except OSError:
            known = False
        if not known:
            with suppress(OSError):  # then it is made again at the next start
                disk.write(path, name)
        return known

    def webui(self, name: str) -> Path:
        """Return the folder of one WebUI: identity, crash history, output. Raises SpoolError."""
        folder = self.root / f"webui-{name}"
        try:
            disk.ensure_folder(folder)
        except OSError as error:
            reason = f"{folder}: the folder of a WebUI cannot be made: {disk.in_words(error)}"
            raise SpoolError(reason) from error
        return folder

    def _known_worker(self, path: Path) -> str:
        """Return what was kept; "" where nothing was, or was set aside. Raises OSError."""
        try:
            kept = disk.read(path).decode("ascii").strip()
            reason = "it is not an id"
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            kept, reason = "", disk.in_words(error)
        if _WORKER.fullmatch(kept):
            return kept
        aside = path.with_name(f"worker.unreadable-{secrets.token_hex(4)}")
        renames.rename(path, aside)
        log.warning(
            "%s cannot be used (%s): set aside as %s. A new id is made; runs that the former one "
            "has in working/ are left alone",
            path,
            reason,
            aside.name,
            extra=about(LogEvent.WORKER_LOST),
        )
        return ""

    def _said_in(self, name: str) -> str:
        """Return what a file says; '' where it cannot be read."""
        try:
            return disk.read(self.root / name).decode("utf-8", "replace").strip()
        except OSError:
            return ""


def json_log(file: Path) -> Path:
    """Return the path of the same log as JSON lines."""
    return file.with_suffix(".jsonl")


def _new_worker(path: Path) -> str:
    """Make a worker id and write it to `path`. Raises OSError."""
    host = re.sub(r"[^a-z0-9]", "-", socket.gethostname().lower())[:30]
    worker = f"{host}-{secrets.token_hex(3)}"
    disk.write(path, worker.encode())
    disk.sync_folder(path.parent)  # a worker that forgot its name would leave its runs alone
    return worker

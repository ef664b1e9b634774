"""What belongs to this machine and not to the jobs: the local state folder.

The single-instance lock, the worker's id, the logs, and a folder for each WebUI.
"""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path

from filelock import FileLock, Timeout

from sdwatch import disk
from sdwatch.errors import AlreadyRunningError, SpoolError


class State:
    """The folder `root`, held by this process until `release`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = FileLock(root / "lock")

    def hold(self) -> None:
        """Take the lock. Raises AlreadyRunningError naming the holder, SpoolError."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
            (self.root / "holder").write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
        except Timeout:
            raise AlreadyRunningError(
                f"another monitor already runs on {self.root}: {self._holder()}. "
                "`sdwatch status` shows what it does; stop it before starting another"
            ) from None
        except OSError as error:
            raise SpoolError(f"{self.root}: the state folder cannot be used: {error}") from error

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()

    @property
    def worker(self) -> str:
        """This worker's id: made once, then kept. Start-up recovery touches its runs only."""
        path = self.root / "worker"
        try:
            if known := path.read_text().strip():
                return known
        except FileNotFoundError:
            pass
        host = "".join(c if c.isalnum() else "-" for c in socket.gethostname().lower())[:30]
        worker = f"{host}-{secrets.token_hex(3)}"
        disk.write(path, worker.encode())
        return worker

    @property
    def log_file(self) -> Path:
        """The monitor's own log."""
        return self.root / "sdwatch.log"

    def webui(self, name: str) -> Path:
        """The folder of one WebUI: identity, crash history, output."""
        folder = self.root / f"webui-{name}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _holder(self) -> str:
        try:
            return (self.root / "holder").read_text().strip()
        except OSError:
            return "it could not be named"

"""Managers of the fake WebUI, and what tests ask about its processes."""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from sdwatch.system.clock import SystemClock
from sdwatch.webui.process.incarnation import ProcessSettings, WebUIExit
from sdwatch.webui.process.process import WebUIProcessManager
from sdwatch.webui.process.process_identity import is_living
from sdwatch.webui.process.readiness import ProbeResult
from tests.support.helpers import KILL, free_port, is_console

if sys.platform == "win32":
    import win32job

    from sdwatch.system import windows_processes

FAKE = Path(__file__).with_name("fake_webui.py")


def probe_of(port: int) -> ProbeResult:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=1):
            return ProbeResult(True, "")
    except OSError as error:
        return ProbeResult(False, f"not yet: {error}")


@dataclass
class Setup:
    """A state folder and a port, with as many managers as a test wants on them."""

    state_dir: Path
    port: int = field(default_factory=free_port)
    exits: list[WebUIExit] = field(default_factory=list)
    managers: list[WebUIProcessManager] = field(default_factory=list)

    def command(self, *modes: str) -> list[str]:
        return [sys.executable, str(FAKE), str(self.port), *modes]

    def manager(self, *modes: str, command: list[str] | None = None) -> WebUIProcessManager:
        made = WebUIProcessManager(
            ProcessSettings(
                name="fake",
                command=command or self.command(*modes),
                port=self.port,
                state_dir=self.state_dir,
                stop_grace=2.0,
            ),
            clock=SystemClock(),
            probe=lambda: probe_of(self.port),
            on_exit=self.exits.append,
        )
        self.managers.append(made)
        return made

    def ready(self, *modes: str, command: list[str] | None = None) -> WebUIProcessManager:
        made = self.manager(*modes, command=command)
        made.start()
        assert made.wait_ready(30), made.last_failure
        return made


@contextmanager
def setup_in(folder: Path) -> Iterator[Setup]:
    setup = Setup(folder / "state")
    try:
        yield setup
    finally:
        for manager in setup.managers:
            manager.stop(grace=0)


def members(session: int) -> list[int]:
    """The pids of a session, on Windows of the job object with this process, as the system has
    them. Consoles are no part of it."""
    if sys.platform == "win32":
        return sorted(pid for pid in _in_job_with(session) if _is_alive(pid))
    return sorted(pid for pid in psutil.pids() if _session_of(pid) == session and _is_alive(pid))


def _in_job_with(pid: int) -> list[int]:
    for job in windows_processes._jobs.values():  # type: ignore[attr-defined]
        pids = win32job.QueryInformationJobObject(job, win32job.JobObjectBasicProcessIdList)
        if pid in pids:
            return [each for each in pids if not is_console(psutil.Process(each))]
    return []


def pids_of(manager: WebUIProcessManager) -> list[int]:
    """All that the manager knows as its WebUI's."""
    return [process.pid for process in manager.processes() if not is_console(process)]


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if _is_alive(pid)]


def _is_alive(pid: int) -> bool:
    try:
        return is_living(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return False


def root_pid(manager: WebUIProcessManager) -> int:
    return min(manager.processes(), key=lambda p: (p.create_time(), p.pid)).pid


def kill(pid: int, number: int = KILL) -> None:
    psutil.Process(pid).send_signal(number)

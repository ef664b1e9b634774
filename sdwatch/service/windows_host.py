"""The host of a service on Windows: the service manager starts it, and it starts the monitor.

pywin32's framework, in python.exe: pythonservice.exe finds no virtual environment (pywin32#2157,
#2660), and programs that the monitor starts with its own Python would be pythonservice.exe. The
monitor is a process of its own, so that it is stopped by a Ctrl-Break, as on a console, and so that
what ends it does not end the process that reports it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sdwatch import system
from sdwatch.service.manager import ServiceState
from sdwatch.service.supervision import Reported, ServiceEnd, Supervision, ending_of, reported
from sdwatch.service.windows_plan import HostSettings, in_words
from sdwatch.system.clock import SystemClock
from sdwatch.system.service_notifier import ADDRESS

assert sys.platform == "win32"

import pywintypes  # noqa: E402
import servicemanager  # noqa: E402
import win32api  # noqa: E402
import win32job  # noqa: E402
import win32service  # noqa: E402
import win32serviceutil  # noqa: E402
import winerror  # noqa: E402

from sdwatch.service.windows_registry import read_settings  # noqa: E402
from sdwatch.system.windows_processes import open_log  # noqa: E402

ACCEPTED = win32service.SERVICE_ACCEPT_STOP | win32service.SERVICE_ACCEPT_PRESHUTDOWN
"""Not SHUTDOWN: a service that takes part in the preshutdown is stopped by then, and for what comes
later there are a few seconds for all of them (Microsoft, HandlerEx)."""

_ROUND_S = 1.0  # a stop and the monitor's end are noticed at once
_WAIT_HINT_S = 20.0
"""Seconds until the next report at the latest, as the service manager is promised."""

LOG_CAP = 4_000_000  # bytes; the monitor's own log has the rest
_job_api: Any = win32job  # its type stubs say that its functions return nothing
_service_api: Any = servicemanager
_kept: list[object] = []  # handles that are closed by the end of this process


class ServiceHost(win32serviceutil.ServiceFramework):
    """The service, as Windows sees it. pywin32 makes one, on a thread of the service manager."""

    _svc_name_ = ""  # set by `main`
    _svc_display_name_ = "sdwatch"
    settings: HostSettings

    def __init__(self, args: Sequence[str]) -> None:
        self._changed = threading.Event()
        self._asked = False
        self._lock = threading.Lock()
        self._state = win32service.SERVICE_START_PENDING
        super().__init__(args)

    def GetAcceptedControls(self) -> int:  # noqa: N802
        """Return what Windows may ask for."""
        return ACCEPTED

    def SvcStop(self) -> None:  # noqa: N802
        """Stop cleanly; on a thread of the service manager."""
        self._asked = True
        self._report(win32service.SERVICE_STOP_PENDING)
        self._changed.set()

    def SvcOther(self, control: int) -> None:  # noqa: N802
        """Stop cleanly before the machine shuts down."""
        if control == win32service.SERVICE_CONTROL_PRESHUTDOWN:
            self.SvcStop()

    def SvcInterrogate(self) -> None:  # noqa: N802
        """Report the state again: pywin32 would say that a service runs which stops."""
        self._report(self._state)

    def SvcRun(self) -> None:  # noqa: N802
        """Run the monitor to its end. When this returns, pywin32 reports that the service has
        stopped."""
        try:
            code = self._supervise()
        except Exception as error:  # noqa: BLE001 - the service thread's outer edge
            self._note(servicemanager.LogErrorMsg, f"the service failed: {error!r}")
            os._exit(1)
        stops = self._state == win32service.SERVICE_STOP_PENDING  # also by a file in the spool
        ending = ending_of(code, asked=stops, not_restarted=self.settings.not_restarted)
        if ending is ServiceEnd.STOPPED:
            self._note(servicemanager.LogInfoMsg, f"stopped ({in_words(code)})")
            self._report(win32service.SERVICE_STOP_PENDING)
            return
        if ending is ServiceEnd.NEEDS_A_PERSON:
            words = f"the monitor ended with {in_words(code)}: a restart cannot help"
            self._note(servicemanager.LogErrorMsg, words)
            self._report(win32service.SERVICE_STOPPED, code=code)
        else:
            words = f"the monitor ended with {in_words(code)}; Windows restarts it"
            self._note(servicemanager.LogErrorMsg, words)
        os._exit(1)  # no later report, by which this would have been a clean stop

    def _supervise(self) -> int:
        """Start the monitor, follow it, and return its exit code. Raises OSError."""
        Path(self.settings.log).parent.mkdir(parents=True, exist_ok=True)
        with ReportSocket() as reports:
            monitor = MonitorProcess(self.settings, reports.address, self._changed.set)
            self._note(servicemanager.LogInfoMsg, f"the monitor is process {monitor.pid}")
            clock = SystemClock()
            supervision = Supervision(
                self.settings.watchdog, self.settings.stop_limit, clock.monotonic()
            )
            while monitor.exit_code is None:
                self._changed.wait(_ROUND_S)
                self._changed.clear()
                due = supervision.look(reports.read(), asked=self._asked, now=clock.monotonic())
                self._report(_STATES[due.state])
                if due.ask:
                    monitor.ask_to_stop()
                if due.kill is not None:
                    self._note(servicemanager.LogWarningMsg, due.kill.value)
                    monitor.kill()
                bound_log(Path(self.settings.log))
            return monitor.exit_code

    def _report(self, state: int, *, code: int = 0) -> None:
        """Report a state, on any thread. A service that stops does not run again."""
        with self._lock:
            if self._state != win32service.SERVICE_STOP_PENDING or state in _LAST:
                self._state = state
                error = winerror.ERROR_SERVICE_SPECIFIC_ERROR if code else 0
                self.ReportServiceStatus(state, int(_WAIT_HINT_S * 1000), error, code)

    def _note(self, log_event: Any, words: str) -> None:
        """Write it to the event log, and to the file that has what the monitor prints. What cannot
        be written is not a failure of the service."""
        with suppress(pywintypes.error):  # the event log is full, or switched off
            log_event(f"{self._svc_name_}: {words}")
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} service {self._svc_name_}: {words}"
        with suppress(OSError), open(open_log(Path(self.settings.log)), "ab") as log:
            log.write(f"{line}\n".encode("utf-8", "replace"))


_LAST = (win32service.SERVICE_STOP_PENDING, win32service.SERVICE_STOPPED)
_STATES = {
    ServiceState.STARTING: win32service.SERVICE_START_PENDING,
    ServiceState.RUNNING: win32service.SERVICE_RUNNING,
    ServiceState.STOPPING: win32service.SERVICE_STOP_PENDING,
}


class MonitorProcess:
    """The monitor as a child process. `address`: where it reports to. `ended`: called at its end,
    on a thread of its own. Raises OSError."""

    def __init__(self, settings: HostSettings, address: str, ended: Any) -> None:
        self.exit_code: int | None = None
        self._ended = ended
        env = {**os.environ, "PYTHONUTF8": "1", ADDRESS: address}
        if settings.program != settings.command[0]:
            # So the base Python has the virtual environment, as by its redirector; it removes the
            # variable (CPython, PC/venvlauncher.c, multiprocessing/popen_spawn_win32.py).
            env["__PYVENV_LAUNCHER__"] = settings.command[0]
        with open(open_log(Path(settings.log)), "ab") as log:
            self._process = subprocess.Popen(
                settings.command,
                executable=settings.program,
                cwd=settings.folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A console without a window, and a group: a Ctrl-Break can reach it there.
                creationflags=subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW,
            )
        self.pid = self._process.pid
        threading.Thread(target=self._wait, name="monitor", daemon=True).start()

    def ask_to_stop(self) -> None:
        """Send Ctrl-Break, which takes a moment and happens elsewhere."""
        threading.Thread(
            target=system.ask_to_end, args=((), self.pid, ""), name="stop", daemon=True
        ).start()

    def kill(self) -> None:
        """End it now."""
        self._process.kill()

    def _wait(self) -> None:
        self.exit_code = self._process.wait() & 0xFFFF_FFFF
        self._ended()


class ReportSocket:
    """Where the monitor reports to: a port of this machine."""

    def __enter__(self) -> ReportSocket:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        host, port = self._socket.getsockname()
        self.address = f"{host}:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def read(self) -> Reported:
        """Return what has come since the last time."""
        datagrams: list[bytes] = []
        try:
            while len(datagrams) < 100:
                datagrams.append(self._socket.recv(4096))
        except OSError:  # no more; or one that was too long
            pass
        return reported(datagrams)


def bound_log(log: Path) -> None:
    """Empty the file in place once it is large: its writer has it open."""
    with suppress(OSError):  # held for a moment: the next round tries again
        if log.stat().st_size > LOG_CAP:
            os.truncate(log, 0)


def end_children_with_us() -> None:
    """Let the monitor end when this process does, however that ends: else it would be in the way of
    the next one, and nobody would stop it. Its WebUIs may leave the job, and live on."""
    job = _job_api.CreateJobObject(None, "")
    kind = win32job.JobObjectExtendedLimitInformation
    limits = _job_api.QueryInformationJobObject(job, kind)
    limits["BasicLimitInformation"]["LimitFlags"] = (
        win32job.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE | win32job.JOB_OBJECT_LIMIT_BREAKAWAY_OK
    )
    _job_api.SetInformationJobObject(job, kind, limits)
    _job_api.AssignProcessToJobObject(job, win32api.GetCurrentProcess())
    _kept.append(job)


def main(arguments: Sequence[str]) -> None:
    """Host the service with this name: what the service manager starts. With no name, do nothing:
    an installation tries by this whether the host can load what it needs."""
    if not arguments:
        return
    name = arguments[0]
    ServiceHost._svc_name_ = name
    ServiceHost.settings = read_settings(name)
    servicemanager.Initialize(name, servicemanager.__file__)
    servicemanager.PrepareToHostSingle(ServiceHost)
    end_children_with_us()
    _service_api.StartServiceCtrlDispatcher()

"""The monitor as the child of a service's host, without a service manager: Windows only."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from sdwatch import system
from sdwatch.service.windows_plan import HostSettings
from sdwatch.system.interpreter import base_python
from tests.functional.cli import _env
from tests.support.helpers import is_console, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "win32", reason="Windows' own processes")

if sys.platform == "win32":
    import servicemanager
    import win32job
    import win32service

    from sdwatch.service.windows_host import (
        LOG_CAP,
        MonitorProcess,
        ReportSocket,
        ServiceHost,
        bound_log,
    )
    from sdwatch.system.windows_processes import open_log

ROOT = Path(__file__).parents[2]
SHOW = (
    "import os, sys;"
    "print(sys.prefix, sys.executable, sys.flags.utf8_mode, '__PYVENV_LAUNCHER__' in os.environ)"
)
REPORT = (
    "from sdwatch.system.service_notifier import ServiceNotifier;"
    "notifier = ServiceNotifier.from_environment();"
    "notifier.alive('idle'); notifier.stopping(70)"
)
WAIT = (
    "import time; from sdwatch.system import signals;"
    "signals.catch(lambda number, _: signals.end(7, signals.in_words(number)));"
    "print('ready', flush=True); time.sleep(100)"
)
# A host that dies, its child, and a WebUI of that: which is started as sdwatch starts one.
HOST = """
import subprocess, sys, time
from sdwatch.service.windows_host import end_children_with_us
end_children_with_us()
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
time.sleep(100)
"""
CHILD = """
import os, pathlib, subprocess, sys, time
from sdwatch import system
wait = [sys.executable, "-c", "import time; time.sleep(100)"]
here = pathlib.Path.cwd()
webui = system.spawn(
    wait, cwd=None, env=dict(os.environ), stdout=here / "out", stderr=here / "err", job_name="t"
)
helper = subprocess.Popen(wait)
(here / "pids.tmp").write_text(f"{os.getpid()} {helper.pid} {webui.pid}")
(here / "pids.tmp").rename(here / "pids")
time.sleep(100)
"""


def settings(folder: Path, *command: str) -> HostSettings:
    return HostSettings(
        program=base_python(),
        command=command,
        config="",
        state=str(folder),
        folder=str(ROOT),
        log=str(folder / "service.log"),
        watchdog=600.0,
        stop_limit=10.0,
        not_restarted=(),
    )


class Child:
    """A process that is run as the monitor is, and its log."""

    def __init__(self, folder: Path, *command: str, address: str = "") -> None:
        self._log = folder / "service.log"
        self.process = MonitorProcess(settings(folder, *command), address, lambda: None)

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def code(self) -> int:
        wait_until(lambda: self.process.exit_code is not None, 60, "it ended")
        assert self.process.exit_code is not None
        return self.process.exit_code


@pytest.fixture
def venv(tmp_path: Path) -> str:
    """The python.exe of a virtual environment; no copy of the redirector is needed."""
    root = tmp_path / "virtual environment"
    (root / "Scripts").mkdir(parents=True)
    home = Path(base_python()).parent
    (root / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n")
    (root / "Lib" / "site-packages").mkdir(parents=True)
    return str(root / "Scripts" / "python.exe")


def test_a_virtual_environment_needs_no_second_process(tmp_path: Path, venv: str) -> None:
    child = Child(tmp_path, venv, "-c", SHOW)
    assert child.code() == 0
    prefix = Path(venv).parents[1]
    assert child.log.split("\n")[0].strip() == f"{prefix} {venv} 1 False"


def test_it_is_asked_to_stop_by_ctrl_break(tmp_path: Path) -> None:
    child = Child(tmp_path, sys.executable, "-c", WAIT)
    wait_until(lambda: "ready" in child.log, 60, "it waits")
    own = psutil.Process(child.process.pid).children(recursive=True)
    assert all(is_console(each) for each in own)
    child.process.ask_to_stop()
    assert child.code() == 7
    assert "sdwatch: Ctrl-" in child.log


def test_it_reports_to_its_host(tmp_path: Path) -> None:
    with ReportSocket() as reports:
        assert reports.read().alive is False
        child = Child(tmp_path, sys.executable, "-c", REPORT, address=reports.address)
        assert child.code() == 0, child.log
        seen = reports.read()
    assert (seen.ready, seen.alive, seen.stop_limit) == (True, True, 70.0)


def test_its_exit_code_is_as_windows_writes_it(tmp_path: Path) -> None:
    child = Child(tmp_path, sys.executable, "-c", "import os; os._exit(-1073741819)")
    assert child.code() == 0xC0000005


def test_a_large_log_is_emptied_under_its_writer(tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    with open(open_log(log), "ab") as writer:
        writer.write(b"x" * (LOG_CAP + 1))
        writer.flush()
        bound_log(log)
        writer.write(b"the next line\n")
    assert log.read_bytes() == b"the next line\n"


def test_the_job_of_a_webui_is_the_same_in_all_sessions(tmp_path: Path) -> None:
    """A service is in another session than its user, and either may be the next monitor."""
    name = f"sdwatch-test-{uuid.uuid4().hex}"
    out, err = tmp_path / "out", tmp_path / "err"
    wait = [sys.executable, "-c", "import time; time.sleep(100)"]
    env = dict(os.environ)
    webui = system.spawn(wait, cwd=None, env=env, stdout=out, stderr=err, job_name=name)
    try:
        job: Any = win32job.OpenJobObject(win32job.JOB_OBJECT_ALL_ACCESS, False, f"Global\\{name}")
        kind = win32job.JobObjectBasicProcessIdList
        assert win32job.QueryInformationJobObject(job, kind) == (webui.pid,)
    finally:
        system.kill([webui.pid], name)
    assert webui.wait(20) is not None


@pytest.fixture
def framework(monkeypatch: pytest.MonkeyPatch) -> tuple[ServiceHost, list[tuple[int, ...]]]:
    """The service as pywin32 makes it, and the statuses that it reports; in no service."""
    reported: list[tuple[int, ...]] = []
    monkeypatch.setattr(servicemanager, "RegisterServiceCtrlHandler", lambda *_: 1)
    monkeypatch.setattr(servicemanager, "SetEventSourceName", lambda *_: None)
    monkeypatch.setattr(win32service, "SetServiceStatus", lambda _, status: reported.append(status))
    return ServiceHost(["sdwatch"]), reported


@pytest.mark.parametrize("control", ["SERVICE_CONTROL_STOP", "SERVICE_CONTROL_PRESHUTDOWN"])
def test_a_stop_and_a_shutdown_are_the_same_and_a_question_in_between_does_not_undo_them(
    framework: tuple[ServiceHost, list[tuple[int, ...]]], control: str
) -> None:
    service, reported = framework
    for each in (control, "SERVICE_CONTROL_INTERROGATE", "SERVICE_CONTROL_INTERROGATE"):
        service.ServiceCtrlHandlerEx(getattr(win32service, each), 0, None)
    states, checkpoints = [status[1] for status in reported], [status[5] for status in reported]
    assert states == [win32service.SERVICE_STOP_PENDING] * 3
    assert checkpoints == [1, 2, 3], "each report says that it goes forward"
    assert {status[2] for status in reported} == {
        win32service.SERVICE_ACCEPT_STOP | win32service.SERVICE_ACCEPT_PRESHUTDOWN
    }


@pytest.fixture
def host(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", HOST, CHILD], cwd=tmp_path, env=_env())
    yield process
    process.kill()
    process.wait()


def test_the_monitor_ends_with_its_host_and_the_webui_does_not(
    tmp_path: Path, host: subprocess.Popen[bytes]
) -> None:
    wait_until((tmp_path / "pids").exists, 60, "all run")
    monitor, helper, webui = (
        psutil.Process(int(pid)) for pid in (tmp_path / "pids").read_text().split()
    )
    try:
        host.kill()
        wait_until(lambda: not (monitor.is_running() or helper.is_running()), 20, "they ended")
        assert webui.is_running()
    finally:
        webui.kill()

"""A service of Windows, by the real service control manager: installed, started, killed, stopped in
the middle of a call, uninstalled. On Windows it needs an administrator.

Wine's service manager restarts no service: `Installed.restart_as_windows_does` is a small runner
that does it in its place, by the settings that Windows goes by.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from sdwatch import cli
from sdwatch.cli.shared.exit_codes import ExitCode
from tests.functional.cli import drop, heartbeat, make_spool
from tests.support.helpers import free_port, wait_until

pytestmark = [
    pytest.mark.skipif(sys.platform != "win32", reason="Windows' own service manager"),
    pytest.mark.timeout(900),
]

if sys.platform == "win32":
    import winreg

    import win32file
    import win32service

    from sdwatch.service import windows_control as control
    from sdwatch.service import windows_registry
    from sdwatch.service.manager import ServiceState

HANGS = Path(__file__).parents[1] / "service" / "hangs.py"
STARTS = 60.0
LONG = 60  # steps of 0.3 s: a call that is surely under way when it is looked for
EVENTS = r"SYSTEM\CurrentControlSet\Services\EventLog\Application"


class Installed:
    """A service on a spool of its own. `name`: its option --name."""

    def __init__(self, root: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self.short = name
        self.name = f"sdwatch-{name}"
        self._capsys = capsys

    def command(self, action: str, *more: str) -> tuple[int, str]:
        """Run `sdwatch service`: its exit code, and what it printed."""
        self._capsys.readouterr()
        config = str(self.root / "sdwatch.yaml")
        words = ["service", action, "--name", self.short, "--config", config, *more]
        code = cli.main(words)
        return code, "".join(self._capsys.readouterr())

    def does(self, action: str, *more: str) -> str:
        """Run it, which succeeds; what it printed."""
        code, printed = self.command(action, *more)
        assert code == ExitCode.OK, printed + self.log
        return printed

    @property
    def log(self) -> str:
        """What the service printed."""
        path = self.root / "state" / "service.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def shown(self) -> control.ServiceView:
        """How the service manager shows it."""
        with control.opened(self.name, control.LOOK) as handle:
            return control.shown(handle)

    def accepted(self) -> int:
        """What it may be asked for now."""
        with control.opened(self.name, control.LOOK) as handle:
            status: Any = win32service.QueryServiceStatusEx(handle)
            return int(status["ControlsAccepted"])

    def second_setting(self, kind: int) -> Any:
        """What was set by ChangeServiceConfig2."""
        with control.opened(self.name, control.LOOK) as handle:
            return win32service.QueryServiceConfig2(handle, kind)

    def monitor(self) -> psutil.Process:
        """The monitor, by its heartbeat."""
        return psutil.Process(heartbeat(self.root)["pid"])

    def webui(self) -> psutil.Process:
        """The WebUI that runs."""
        (path,) = self.root.glob("state/webui-*/identity.json")
        return psutil.Process(json.loads(path.read_text())["pid"])

    def wait_for_call(self) -> None:
        """Wait until a call is under way."""
        wait_until(
            lambda: any(r["calling"] for r in heartbeat(self.root).get("runs", [])),
            STARTS,
            "a call is under way",
        )

    def wait_for_done(self, count: int) -> None:
        """Wait until so many jobs are in done/."""
        done = self.root / "done"
        wait_until(lambda: len(list(done.iterdir())) == count, 2 * STARTS, "they are done")
        assert not list((self.root / "failed").iterdir())

    def events(self) -> list[str]:
        """The events in the journals of the runs under way."""
        journals = self.root.glob("working/*/*/journal.jsonl")
        lines = [line for path in journals for line in path.read_text().splitlines()]
        return [str(json.loads(line)["event"]) for line in lines]

    def recover(self) -> None:
        """Let it be restarted after it has failed, and wait for that."""
        self.restart_as_windows_does()
        wait_until(lambda: self.shown().state is ServiceState.RUNNING, STARTS, "it runs again")

    def restart_as_windows_does(self) -> None:
        """Do what Windows does by the settings of the service, and wine's service manager does not:
        start it again, because it ended without having reported that."""
        wait_until(lambda: self.shown().state is ServiceState.WAITS_TO_RESTART, 60, "it ended")
        recovery = self.second_setting(win32service.SERVICE_CONFIG_FAILURE_ACTIONS)
        kind, _ = recovery["Actions"][0]
        assert kind == win32service.SC_ACTION_RESTART
        with control.opened(self.name, win32service.SERVICE_START) as handle, control.calling():
            win32service.StartService(handle, None)


@pytest.fixture
def service(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Installed]:
    make_spool(tmp_path, "--step-time", "0.3")
    found = Installed(tmp_path, f"test-{os.getpid()}-{free_port()}", capsys)
    yield found
    print(found.log)
    if control.exists(found.name):
        assert found.command("uninstall")[0] == ExitCode.OK


def event_sources() -> list[str]:
    with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, EVENTS) as key:
        return [winreg.EnumKey(key, number) for number in range(winreg.QueryInfoKey(key)[0])]


def test_the_service_is_as_it_was_printed(service: Installed) -> None:
    printed = service.does("install", "--print")
    steps = service.does("install", "--dry-run")
    assert steps.count("would: ") == 4
    assert not control.exists(service.name)
    assert service.does("install").count("done: ") == 4

    settings = windows_registry.read_settings(service.name)
    assert settings.to_json() in printed
    assert settings.watchdog == 600
    assert settings.command[0] == sys.executable
    assert Path(settings.config) == service.root / "sdwatch.yaml"
    with control.opened(service.name, control.LOOK) as handle:
        kind, start, _, command, _, _, _, account, shown = win32service.QueryServiceConfig(handle)
    assert kind == win32service.SERVICE_WIN32_OWN_PROCESS
    assert start == win32service.SERVICE_AUTO_START
    assert account == "LocalSystem"
    assert shown == service.name
    assert f"command:      {command}\n" in printed
    assert "python.exe" in command
    assert "pythonservice" not in command

    recovery = service.second_setting(win32service.SERVICE_CONFIG_FAILURE_ACTIONS)
    assert [tuple(each) for each in recovery["Actions"]] == [
        (win32service.SC_ACTION_RESTART, 10_000),
        (win32service.SC_ACTION_RESTART, 30_000),
        (win32service.SC_ACTION_RESTART, 60_000),
    ]
    assert recovery["ResetPeriod"] == 3600
    assert not service.second_setting(win32service.SERVICE_CONFIG_FAILURE_ACTIONS_FLAG)
    assert service.second_setting(win32service.SERVICE_CONFIG_DELAYED_AUTO_START_INFO)
    waits = service.second_setting(win32service.SERVICE_CONFIG_PRESHUTDOWN_INFO)
    assert waits == settings.stop_limit * 1000
    about = service.second_setting(win32service.SERVICE_CONFIG_DESCRIPTION)
    assert str(service.root) in about
    assert service.name in event_sources()

    code, printed = service.command("install")
    assert code == ExitCode.ERROR
    assert f"the name {service.name} is taken" in printed
    service.does("uninstall")
    assert not control.exists(service.name)
    assert service.name not in event_sources()
    code, printed = service.command("start")
    assert code == ExitCode.NOT_FOUND
    assert f"there is no service {service.name}" in printed
    assert service.command("status")[0] == ExitCode.NOT_FOUND
    code, printed = service.command("install", "--user")
    assert code == ExitCode.ERROR
    assert "leave out --user" in printed


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[str]:
    """A drive that `subst` made: this logon has it, and no service."""
    free = next(f"{c}:" for c in "QRSTUVWX" if not Path(f"{c}:\\").exists())
    win32file.DefineDosDevice(0, free, str(tmp_path))
    yield free
    win32file.DefineDosDevice(2, free, str(tmp_path))  # DDD_REMOVE_DEFINITION


def test_a_drive_that_only_this_logon_has_is_refused(service: Installed, drive: str) -> None:
    config = service.root / "sdwatch.yaml"
    spools = [f"{drive}\\spool", "A:\\none"]
    for spool in spools:
        values = {**json.loads(config.read_text()), "spool": spool}
        config.write_text(json.dumps(values))
        code, printed = service.command("install")
        assert code == ExitCode.ERROR
        assert f"a service does not have the drive {spool[:2]}" in printed
    assert not control.exists(service.name)


@pytest.mark.parametrize(
    "step",
    [
        "sdwatch.service.windows_registry.write_settings",
        "sdwatch.service.windows_service.second_settings",
        "sdwatch.service.windows_registry.add_event_source",
    ],
)
@pytest.mark.parametrize("failure", [PermissionError(13, "it is read-only"), KeyboardInterrupt()])
def test_a_half_done_installation_is_undone(
    service: Installed, monkeypatch: pytest.MonkeyPatch, step: str, failure: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(step, fail)
    code, printed = service.command("install")
    is_error = isinstance(failure, OSError)
    assert code == (ExitCode.ERROR if is_error else ExitCode.INTERRUPTED)
    assert ("what was done before is undone" in printed) == is_error
    assert not control.exists(service.name)
    assert service.name not in event_sources()


def test_an_uninstallation_that_fails_half_way_can_be_repeated(
    service: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> None:
        raise PermissionError(13, "it is read-only")

    service.does("install")
    with monkeypatch.context() as patched:
        patched.setattr("sdwatch.service.windows_registry.remove_event_source", fail)
        code, printed = service.command("uninstall")
    assert code == ExitCode.ERROR
    assert "undone" not in printed
    service.does("uninstall")
    assert not control.exists(service.name)
    assert service.name not in event_sources()


def test_a_service_of_another_program_is_left_alone(service: Installed) -> None:
    with control.manager(win32service.SC_MANAGER_CREATE_SERVICE) as manager, control.calling():
        made = win32service.CreateService(
            manager, service.name, service.name, win32service.SERVICE_ALL_ACCESS,
            win32service.SERVICE_WIN32_OWN_PROCESS, win32service.SERVICE_DEMAND_START,
            win32service.SERVICE_ERROR_NORMAL, "other.exe", None, False, None, None, None,
        )  # fmt: skip
    try:
        for action in ("start", "stop", "uninstall", "logs"):
            code, printed = service.command(action)
            assert code == ExitCode.NOT_FOUND
            assert "was not installed by sdwatch" in printed
        assert control.exists(service.name)
    finally:
        win32service.DeleteService(made)
        win32service.CloseServiceHandle(made)


def test_no_job_is_lost_whatever_is_killed_and_a_stop_leaves_no_process(
    service: Installed,
) -> None:
    service.does("install")
    service.does("start")
    assert service.accepted() == (
        win32service.SERVICE_ACCEPT_STOP | win32service.SERVICE_ACCEPT_PRESHUTDOWN
    )
    drop(service.root, "castle.yaml", f"prompt: a castle\nsteps: {LONG}\n")
    service.wait_for_call()
    host, monitor, webui = psutil.Process(service.shown().pid), service.monitor(), service.webui()
    assert monitor.ppid() == host.pid
    assert monitor.cmdline()[0] == webui.cmdline()[0] == sys.executable

    monitor.kill()  # the host notices, and ends without reporting it; the WebUI lives on
    wait_until(lambda: not host.is_running(), 60, "the host ended")
    assert "waiting to be restarted" in service.does("status")
    service.recover()
    wait_until(lambda: heartbeat(service.root).get("pid") not in (None, monitor.pid), STARTS)
    assert service.webui() == webui, "the WebUI was adopted"

    drop(service.root, "bridge.yaml", f"prompt: a bridge\nsteps: {LONG}\n")
    host, monitor = psutil.Process(service.shown().pid), service.monitor()
    host.kill()  # the monitor must not outlive it: nobody would stop that one
    wait_until(lambda: not monitor.is_running(), 60, "the monitor ended with its host")
    assert webui.is_running()
    service.recover()
    service.wait_for_done(2)

    drop(service.root, "tower.yaml", f"prompt: a tower\nsteps: {20 * LONG}\n")
    service.wait_for_call()
    host, monitor, webui = psutil.Process(service.shown().pid), service.monitor(), service.webui()
    service.does("stop")
    assert service.shown().state is ServiceState.STOPPED
    assert not [each for each in (monitor, webui) if each.is_running()]
    wait_until(lambda: not host.is_running(), 20, "the host ends once it has reported that")
    assert "call_failed" not in service.events(), "its attempt was not used up"
    assert "stopped (exit code 0)" in service.does("logs")

    service.does("start")
    assert cli.main(["stop", "--config", str(service.root / "sdwatch.yaml")]) == ExitCode.OK
    wait_until(lambda: service.shown().is_stopped, STARTS, "the file in the spool stopped it")
    assert service.shown().state is ServiceState.STOPPED, "and Windows does not restart it"

    service.does("start")
    monitor, host = service.monitor(), psutil.Process(service.shown().pid)
    monitor.kill()
    wait_until(lambda: not host.is_running(), 60, "the host ended")
    starts = service.log.count("the monitor is process")
    windows = threading.Timer(2.0, service.restart_as_windows_does)  # whatever is asked until then
    windows.start()
    service.does("uninstall")
    windows.join()
    assert service.log.count("the monitor is process") == starts + 1, "that one was stopped, too"
    assert not control.exists(service.name)


def test_a_monitor_that_hangs_is_killed_and_the_service_restarted(service: Installed) -> None:
    order = service.root / "hang"
    service.does("install")
    settings = windows_registry.read_settings(service.name)
    command = (sys.executable, str(HANGS), settings.config, str(order))
    short = dataclasses.replace(settings, watchdog=60.0, command=command)
    windows_registry.write_settings(service.name, short)
    service.does("start")
    drop(service.root, "castle.yaml", f"prompt: a castle\nsteps: {20 * LONG}\n")
    service.wait_for_call()
    webui = service.webui()

    def is_replaced(monitor: psutil.Process, host: psutil.Process) -> None:
        wait_until(lambda: not host.is_running(), 120, "the host noticed that, and ended")
        assert not monitor.is_running()
        service.recover()
        wait_until(lambda: heartbeat(service.root).get("pid") not in (None, monitor.pid), STARTS)
        assert service.webui() == webui, "the WebUI was adopted"

    # Its main loop never returns; its heartbeat beats on.
    monitor, host = service.monitor(), psutil.Process(service.shown().pid)
    order.touch()
    wait_until(lambda: not order.exists(), 60, "the loop hangs")
    is_replaced(monitor, host)

    monitor, host = service.monitor(), psutil.Process(service.shown().pid)
    monitor.suspend()  # no thread of it moves
    is_replaced(monitor, host)
    assert service.log.count("has not moved for longer than its limit") == 2
    service.wait_for_call()
    service.does("stop")
    assert not webui.is_running()
    assert "call_failed" not in service.events(), "its attempt was not used up"


def test_a_restart_that_fails_does_not_say_that_the_stop_is_undone(service: Installed) -> None:
    service.does("install")
    service.does("start")
    config = service.root / "sdwatch.yaml"
    config.write_text(config.read_text().replace("cooldown", "cooldwon"))
    code, printed = service.command("restart")
    assert code == ExitCode.ERROR
    assert f"it ended with exit code {ExitCode.BAD_CONFIG:d}, which needs a person" in printed
    assert "undone" not in printed


def test_an_end_that_needs_a_person_is_reported_and_not_restarted(service: Installed) -> None:
    service.does("install")
    config = service.root / "sdwatch.yaml"
    config.write_text(config.read_text().replace("cooldown", "cooldwon"))
    code, printed = service.command("start")
    assert code == ExitCode.ERROR
    assert f"it ended with exit code {ExitCode.BAD_CONFIG:d}, which needs a person" in printed
    assert service.shown().state is ServiceState.FAILED
    assert "cooldown" in service.does("logs"), "what was wrong is in its log"
    service.does("stop")  # a stopped service is stopped

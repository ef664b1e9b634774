"""Windows: a service of the service control manager.

What each setting does is in Microsoft's documents of ChangeServiceConfig2 and HandlerEx; why it is
set so is beside it. windows_host.py is what the service runs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sdwatch
from sdwatch.errors import NoServiceError, ServiceError
from sdwatch.service.definition import WATCHDOG_S, Scope, ServiceDefinition
from sdwatch.service.leftovers import end_leftovers
from sdwatch.service.manager import ServiceManager, ServiceState, ServiceStatus, Step
from sdwatch.service.windows_plan import (
    FAILURES_COUNT_FOR_S,
    RESTART_AFTER_S,
    HostSettings,
    command_line,
    host_command,
    in_words,
    is_of_the_store,
)
from sdwatch.system import disk
from sdwatch.system.interpreter import base_python

assert sys.platform == "win32"

import win32file  # noqa: E402
import win32service  # noqa: E402
import winerror  # noqa: E402

from sdwatch.service import windows_control as control  # noqa: E402
from sdwatch.service import windows_registry  # noqa: E402

_STARTS_FOR_S = 150.0  # more than the host allows its monitor, and Windows its host
_BESIDES_S = 60.0  # for a stop: more than its own limit
_LOG = "service.log"

_RECOVERY = {
    "ResetPeriod": FAILURES_COUNT_FOR_S,
    "RebootMsg": None,
    "Command": None,
    "Actions": [(win32service.SC_ACTION_RESTART, after * 1000) for after in RESTART_AFTER_S],
}


class WindowsService(ServiceManager):
    """The service `name` of this machine."""

    def __init__(self, name: str, scope: Scope) -> None:
        if scope is Scope.USER:
            raise ServiceError(
                "on Windows a service belongs to the machine: leave out --user. The account that "
                "it runs as is set in services.msc, under Log On"
            )
        self.name = name

    def document(self, service: ServiceDefinition) -> str:
        settings = _settings(service)
        after = ", ".join(map(str, RESTART_AFTER_S))
        never = ", ".join(map(str, service.not_restarted))
        lines = (
            f"service:      {self.name}, in a process of its own",
            f"command:      {self._command(settings)}",
            "start:        automatic, delayed",
            "account:      LocalSystem; services.msc, under Log On, sets another",
            f"recovery:     restarted {after} s after a failure, counted for "
            f"{FAILURES_COUNT_FOR_S} s; not after a clean stop, or exit code {never}",
            f"preshutdown:  the shutdown of Windows waits up to {service.stop_limit:.0f} s",
            f"event log:    Application, source {self.name}",
            f"registry:     {windows_registry.where(self.name)}:",
            f"  {settings.to_json()}",
        )
        return "".join(f"{line}\n" for line in lines)

    def install(self, service: ServiceDefinition) -> Sequence[Step]:
        with control.manager(win32service.SC_MANAGER_CREATE_SERVICE):  # it is allowed
            if control.exists(self.name):
                raise ServiceError(
                    f"the name {self.name} is taken: remove that service with `sdwatch service "
                    "uninstall` if it is an earlier installation, or choose another --name"
                )
        _is_for_all_sessions(service)
        settings = _settings(service)
        _loads(settings)
        return (
            Step(f"create the service {self.name}", lambda: self._create(settings), self._delete),
            # By this `uninstall` knows it as ours, even where we are killed after it.
            Step(
                f"write {windows_registry.where(self.name)}",
                lambda: windows_registry.write_settings(self.name, settings),
            ),
            Step(
                "set its description, its delayed start, its restart after a failure, and what a "
                "shutdown waits for",
                lambda: self._configure(service),
            ),
            Step(
                f"add the source {self.name} to the event log",
                lambda: windows_registry.add_event_source(self.name),
                lambda: windows_registry.remove_event_source(self.name),
            ),
        )

    def uninstall(self) -> Sequence[Step]:
        settings = self._changeable()
        return (
            *self._stopped(settings),
            Step(
                f"end the WebUIs that it left running, by {settings.state}",
                lambda: end_leftovers(Path(settings.state)),
            ),
            Step(
                f"remove the source {self.name} from the event log",
                lambda: windows_registry.remove_event_source(self.name),
            ),
            # Last: until then, what failed half way can be repeated.
            Step(f"remove the service {self.name}", self._delete),
        )

    def start(self) -> Sequence[Step]:
        self._changeable()
        return (Step(f"start the service {self.name}", self._start),)

    def stop(self) -> Sequence[Step]:
        return self._stopped(self._changeable())

    def status(self) -> ServiceStatus:
        if not control.exists(self.name):
            return ServiceStatus(ServiceState.NOT_INSTALLED)
        with control.opened(self.name, control.LOOK) as service, control.calling():
            shown = control.shown(service)
            config = win32service.QueryServiceConfig(service)
        return ServiceStatus(
            shown.state,
            pid=shown.pid,
            starts_itself=config[1] == win32service.SERVICE_AUTO_START,
            details=(f"it runs as {config[7]}", *shown.details()),
        )

    def config(self) -> Path | None:
        try:
            return Path(windows_registry.read_settings(self.name).config)
        except NoServiceError:
            return None

    def logs(self, lines: int) -> str:
        log = Path(self._settings().log)
        try:
            with open(log, encoding="utf-8", errors="replace") as file:
                return "".join(deque(file, maxlen=lines))
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise ServiceError(f"{log} cannot be read: {disk.in_words(error)}") from error

    def advice(self) -> Sequence[str]:
        return (
            "It starts a minute or two after Windows does, also when nobody logs on. It runs as "
            "LocalSystem, and so do the WebUIs.",
            "To let it run as you, with your models and your access to shares: services.msc, "
            f"{self.name}, Log On. docs/services.md says which account fits.",
        )

    # -- the parts

    def _command(self, settings: HostSettings) -> str:
        return command_line(host_command(settings.program, _packages(), self.name))

    def _create(self, settings: HostSettings) -> None:
        with control.manager(win32service.SC_MANAGER_CREATE_SERVICE) as manager, control.calling():
            made = win32service.CreateService(
                manager,
                self.name,
                self.name,
                win32service.SERVICE_ALL_ACCESS,
                win32service.SERVICE_WIN32_OWN_PROCESS,
                win32service.SERVICE_AUTO_START,
                win32service.SERVICE_ERROR_NORMAL,
                self._command(settings),
                None,
                False,  # no tag
                None,
                None,  # LocalSystem
                None,
            )
            win32service.CloseServiceHandle(made)

    def _configure(self, service: ServiceDefinition) -> None:
        access = win32service.SERVICE_CHANGE_CONFIG | win32service.SERVICE_START
        with control.opened(self.name, access) as handle, control.calling():
            for kind, value in second_settings(service):
                win32service.ChangeServiceConfig2(handle, kind, value)

    def _delete(self) -> None:
        with control.opened(self.name, control.DELETE) as handle, control.calling():
            win32service.DeleteService(handle)

    def _start(self) -> None:
        with control.opened(self.name, win32service.SERVICE_START | control.LOOK) as service:
            with control.calling(unless=winerror.ERROR_SERVICE_ALREADY_RUNNING):
                win32service.StartService(service, None)
            shown = control.waited(
                service, lambda now: now.state is not ServiceState.STARTING, _STARTS_FOR_S
            )
        if shown.state is not ServiceState.RUNNING:
            why = "; ".join(shown.details()) or f"it is {shown.state}"
            raise ServiceError(f"{why}; `sdwatch service logs` says more")

    def _stopped(self, settings: HostSettings) -> Sequence[Step]:
        limit = settings.stop_limit + _BESIDES_S
        return (Step(f"stop the service {self.name}", lambda: self._stop(limit)),)

    def _stop(self, limit: float) -> None:
        with control.opened(self.name, win32service.SERVICE_STOP | control.LOOK) as service:
            if control.shown(service).state is ServiceState.WAITS_TO_RESTART:
                # Windows restarts it whatever is asked until then, and then it can be stopped.
                longest = max(RESTART_AFTER_S) + _BESIDES_S
                control.waited(service, lambda now: not now.is_stopped, longest)
            control.waited(service, lambda now: now.state is not ServiceState.STARTING, limit)
            with control.calling(unless=winerror.ERROR_SERVICE_NOT_ACTIVE):
                win32service.ControlService(service, win32service.SERVICE_CONTROL_STOP)
            control.waited(service, lambda now: now.is_stopped, limit)

    def _settings(self) -> HostSettings:
        """Return the settings of the installed service. Raises NoServiceError."""
        if not control.exists(self.name):
            raise NoServiceError(
                f"there is no service {self.name}: `sdwatch service install` makes it"
            )
        return windows_registry.read_settings(self.name)

    def _changeable(self) -> HostSettings:
        """Return its settings if this user may change it. Raises ServiceError."""
        settings = self._settings()
        rights = win32service.SERVICE_START | win32service.SERVICE_STOP | control.DELETE
        with control.opened(self.name, rights):
            return settings


def second_settings(service: ServiceDefinition) -> Sequence[tuple[int, Any]]:
    """Return what ChangeServiceConfig2 is called with."""
    return (
        (
            win32service.SERVICE_CONFIG_DESCRIPTION,
            f"sdwatch on {service.spool}: runs the jobs of its inbox, and keeps the WebUI alive.",
        ),
        # After the services that Windows needs: the network is there then, and the graphics driver.
        (win32service.SERVICE_CONFIG_DELAYED_AUTO_START_INFO, True),
        (win32service.SERVICE_CONFIG_FAILURE_ACTIONS, _RECOVERY),
        # Only where the service ends without reporting it: the host reports a stop by a person,
        # and an end that a restart cannot help.
        (win32service.SERVICE_CONFIG_FAILURE_ACTIONS_FLAG, False),
        # By default Windows 10 and later wait 10 s (SERVICE_PRESHUTDOWN_INFO), less than a picture
        # takes.
        (win32service.SERVICE_CONFIG_PRESHUTDOWN_INFO, int(service.stop_limit * 1000)),
    )


def _settings(service: ServiceDefinition) -> HostSettings:
    return HostSettings(
        program=base_python(),
        command=service.command,
        config=str(service.config),
        state=str(service.state),
        folder=str(service.folder),
        log=str(service.state / _LOG),
        watchdog=WATCHDOG_S,
        stop_limit=service.stop_limit,
        not_restarted=service.not_restarted,
    )


def _packages() -> Sequence[str]:
    """Return the folders with pywin32 and with sdwatch: mostly the same one. Their .pth files name
    what else there is."""
    modules = (win32service.__file__, sdwatch.__file__)
    return list(dict.fromkeys(str(Path(file).parents[1]) for file in modules))


def _loads(settings: HostSettings) -> None:
    """Check that the host can be started, as Windows will start it. Raises ServiceError."""
    if is_of_the_store(settings.program):
        raise ServiceError(
            f"{settings.program} is from the Microsoft Store, whose programs belong to a user who "
            "is logged on: install Python from python.org, and sdwatch with it"
        )
    words = host_command(settings.program, _packages())
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, timeout=100, check=False
        )
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = said[-1] if said else in_words(done.returncode)
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = disk.in_words(error)
    else:
        if done.returncode == 0:
            return
    raise ServiceError(f"{settings.program} cannot load sdwatch and pywin32: {reason}")


def _is_for_all_sessions(service: ServiceDefinition) -> None:
    """Check that no folder is on a drive that only a logon has: a service is in another session,
    without the drive letters of `net use` and `subst`. Raises ServiceError."""
    for path in (service.spool, service.state, service.config, *service.webui_folders):
        drive = os.path.splitdrive(path)[0]
        if drive.endswith(":") and _is_of_a_logon(drive):
            raise ServiceError(
                f"{path}: a service does not have the drive {drive}, which is of a logon, or is "
                r"not there: write \\server\share\... into the config, or a folder of a local drive"
            )


def _is_of_a_logon(drive: str) -> bool:
    """Return whether only a logon has the drive. An administrator's terminal does not even have
    those of the same user: then none is there."""
    kind = win32file.GetDriveType(drive + "\\")
    if kind in (win32file.DRIVE_REMOTE, win32file.DRIVE_NO_ROOT_DIR):
        return True
    with control.calling():
        return bool(win32file.QueryDosDevice(drive).startswith("\\??\\"))  # of `subst`

"""macOS: an agent of launchd, for one user. Written from launchd.plist(5) and launchctl(1), and
never run on a Mac.
"""

from __future__ import annotations

import plistlib
import re
from collections.abc import Sequence
from pathlib import Path

from sdwatch.errors import NoServiceError, ServiceError
from sdwatch.service.account import user_id
from sdwatch.service.definition import Scope, ServiceDefinition
from sdwatch.service.manager import (
    ServiceManager,
    ServiceState,
    ServiceStatus,
    Step,
    output_of,
    ran,
    removed,
    written,
)

_DOMAIN = "org.sdwatch"
_LABEL, _COMMAND, _LOG = "Label", "ProgramArguments", "StandardOutPath"
_RESTART_AFTER_S = 10
_PID = re.compile(r"^\s*pid = (\d+)$", re.MULTILINE)


class Launchd(ServiceManager):
    """The agent of the service `name`. `folder`: of its property lists, instead of the usual
    one."""

    def __init__(self, name: str, scope: Scope, folder: Path | None = None) -> None:
        if scope is Scope.SYSTEM:
            raise ServiceError(
                "on macOS a service is an agent of one user, because a GPU needs a session: "
                "use --user"
            )
        self.name = name
        self._label = f"{_DOMAIN}.{name}"
        agents = folder or Path("~/Library/LaunchAgents").expanduser()
        self._path = agents / f"{self._label}.plist"
        self._domain = f"gui/{user_id()}"
        self._target = f"{self._domain}/{self._label}"

    def document(self, service: ServiceDefinition) -> str:
        return plistlib.dumps(property_list(self._label, service), sort_keys=False).decode()

    def install(self, service: ServiceDefinition) -> Sequence[Step]:
        if self._path.exists():
            raise ServiceError(
                f"the name {self.name} is taken by {self._path}: remove that with `sdwatch service "
                "uninstall` if it is an earlier installation, or choose another --name"
            )
        return (
            written(self._path, self.document(service).encode()),
            ran("launchctl", "enable", self._target),
        )

    def uninstall(self) -> Sequence[Step]:
        self._is_installed()
        return (
            ran("launchctl", "bootout", self._target, may_fail=True),  # it may be stopped already
            removed(self._path),
        )

    def start(self) -> Sequence[Step]:
        """Return the step that loads it, and so starts it. Raises NoServiceError."""
        self._is_installed()
        return (ran("launchctl", "bootstrap", self._domain, str(self._path)),)

    def stop(self) -> Sequence[Step]:
        """Return the step that stops it and unloads it until the next login. Raises
        NoServiceError."""
        self._is_installed()
        return (ran("launchctl", "bootout", self._target),)

    def status(self) -> ServiceStatus:
        if not self._path.exists():
            return ServiceStatus(ServiceState.NOT_INSTALLED)
        try:
            said = output_of("launchctl", "print", self._target)
        except ServiceError:  # it is not loaded
            return ServiceStatus(ServiceState.STOPPED, starts_itself=True)
        if (found := _PID.search(said)) is None:
            return ServiceStatus(ServiceState.WAITS_TO_RESTART, starts_itself=True)
        return ServiceStatus(ServiceState.RUNNING, pid=int(found[1]), starts_itself=True)

    def config(self) -> Path | None:
        command = self._read().get(_COMMAND)
        if not (isinstance(command, list) and command and isinstance(command[-1], str)):
            return None
        return Path(command[-1])

    def logs(self, lines: int) -> str:
        self._is_installed()
        path = self._read().get(_LOG)
        if not isinstance(path, str) or not Path(path).exists():
            return ""
        return output_of("tail", "-n", str(lines), path)

    def advice(self) -> Sequence[str]:
        return ("It starts at each login. This was never tried on a Mac: please report how it is.",)

    def _is_installed(self) -> None:
        if self._read().get(_LABEL) != self._label:
            raise NoServiceError(
                f"there is no service {self.name}: `sdwatch service install` makes it"
            )

    def _read(self) -> dict[str, object]:
        try:
            found = plistlib.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def property_list(label: str, service: ServiceDefinition) -> dict[str, object]:
    """Return the agent's property list: see launchd.plist(5). launchd cannot leave single exit
    codes alone, so `not_restarted` is: it tries again every few seconds, and the log says why."""
    log = str(service.state / "service.log")
    return {
        _LABEL: label,
        _COMMAND: list(service.command),
        "WorkingDirectory": str(service.folder),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": _RESTART_AFTER_S,
        "ExitTimeOut": round(service.stop_limit),
        # The WebUI outlives a monitor that dies, and is adopted by the next one.
        "AbandonProcessGroup": True,
        _LOG: log,
        "StandardErrorPath": log,
    }

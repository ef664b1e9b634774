"""The service control manager of Windows: its handles, its errors, and the state of a service."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sdwatch.errors import ServiceError
from sdwatch.service.manager import ServiceState
from sdwatch.service.windows_plan import in_words

assert sys.platform == "win32"

import pywintypes  # noqa: E402
import win32service  # noqa: E402
import winerror  # noqa: E402

LOOK = win32service.SERVICE_QUERY_STATUS | win32service.SERVICE_QUERY_CONFIG
DELETE = 0x00010000
"""The right to remove a service: not among pywin32's constants."""

_POLL_S = 0.2
_CLEAN = (winerror.ERROR_SUCCESS, winerror.ERROR_SERVICE_NEVER_STARTED)
_STATES = {
    win32service.SERVICE_STOPPED: ServiceState.STOPPED,
    win32service.SERVICE_START_PENDING: ServiceState.STARTING,
    win32service.SERVICE_RUNNING: ServiceState.RUNNING,
    win32service.SERVICE_STOP_PENDING: ServiceState.STOPPING,
}
_WORDS = {
    winerror.ERROR_ACCESS_DENIED: "only an administrator may: type it in a terminal that was "
    "opened with `Run as administrator`",
    winerror.ERROR_SERVICE_MARKED_FOR_DELETE: "an earlier one is not removed yet: close the "
    "windows of services.msc and the Task Manager, and try again",
    winerror.ERROR_SERVICE_LOGON_FAILED: "its account cannot log on: enter its password again in "
    "services.msc, under Log On",
}


class ServiceView:
    """A service as the manager shows it. `pid`: 0 for none."""

    def __init__(self, status: Any) -> None:
        self.pid = int(status["ProcessId"])
        self._error = int(status["Win32ExitCode"])
        self._code = int(status["ServiceSpecificExitCode"])
        state = _STATES.get(status["CurrentState"], ServiceState.FAILED)
        is_clean = state is not ServiceState.STOPPED or self._error in _CLEAN
        self.state = state if is_clean else self._failed

    @property
    def _failed(self) -> ServiceState:
        """Return what a service is that did not stop cleanly. The manager notes as aborted the
        process of one that ended without reporting it, and that one is restarted."""
        is_aborted = self._error == winerror.ERROR_PROCESS_ABORTED
        return ServiceState.WAITS_TO_RESTART if is_aborted else ServiceState.FAILED

    @property
    def is_stopped(self) -> bool:
        """Return whether it has no process, whatever comes next."""
        return self.state in (
            ServiceState.STOPPED,
            ServiceState.WAITS_TO_RESTART,
            ServiceState.FAILED,
        )

    def details(self) -> Iterator[str]:
        """Yield why it stopped, for people; nothing where that was clean."""
        if self.state is ServiceState.WAITS_TO_RESTART:
            yield "it ended unexpectedly"
        elif self.state is ServiceState.FAILED:
            if self._error == winerror.ERROR_SERVICE_SPECIFIC_ERROR:
                yield f"it ended with {in_words(self._code)}, which needs a person"
            else:
                yield f"it ended with error {self._error} of Windows"


@contextmanager
def calling(unless: int = winerror.ERROR_SUCCESS) -> Iterator[None]:
    """Raise ServiceError for what Windows refuses, except with the error `unless`."""
    try:
        yield
    except pywintypes.error as error:
        if error.winerror != unless:
            words = _WORDS.get(error.winerror) or f"{error.strerror} ({error.winerror})"
            raise ServiceError(words) from error


@contextmanager
def manager(access: int) -> Iterator[Any]:
    """Open the service control manager. Raises ServiceError."""
    with calling():
        handle = win32service.OpenSCManager(None, None, access)
    try:
        yield handle
    finally:
        win32service.CloseServiceHandle(handle)


@contextmanager
def opened(name: str, access: int) -> Iterator[Any]:
    """Open a service. Raises ServiceError."""
    with manager(win32service.SC_MANAGER_CONNECT) as scm:
        with calling():
            handle = win32service.OpenService(scm, name, access)
        try:
            yield handle
        finally:
            win32service.CloseServiceHandle(handle)


def exists(name: str) -> bool:
    """Return whether there is a service of that name. Raises ServiceError."""
    try:
        with opened(name, win32service.SERVICE_QUERY_STATUS):
            return True
    except ServiceError as error:
        cause = error.__cause__
        if getattr(cause, "winerror", 0) != winerror.ERROR_SERVICE_DOES_NOT_EXIST:
            raise
        return False


def shown(service: Any) -> ServiceView:
    """Return how an open service is. Raises ServiceError."""
    with calling():
        return ServiceView(win32service.QueryServiceStatusEx(service))


def waited(service: Any, until: Callable[[ServiceView], bool], limit: float) -> ServiceView:
    """Wait until it is so, at most `limit` seconds, and return how it is then. Raises
    ServiceError."""
    deadline = time.monotonic() + limit
    while not until(now := shown(service)):
        if time.monotonic() > deadline:
            raise ServiceError(f"after {limit:.0f} s it is {now.state}")
        time.sleep(_POLL_S)
    return now

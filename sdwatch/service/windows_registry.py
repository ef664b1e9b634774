"""What a service of Windows has in the registry: the settings of its host, and the name under which
it writes to the event log."""

from __future__ import annotations

import sys
from contextlib import suppress

from sdwatch.errors import NoServiceError
from sdwatch.service.windows_plan import HostSettings

assert sys.platform == "win32"

import winreg  # noqa: E402

import servicemanager  # noqa: E402

_PARAMETERS = r"SYSTEM\CurrentControlSet\Services\{}\Parameters"
_VALUE = "sdwatch"
_EVENTS = r"SYSTEM\CurrentControlSet\Services\EventLog\Application\{}"
_ALL_TYPES = 7  # errors, warnings, information


def where(name: str) -> str:
    """Return the key and the value with the settings, for people."""
    return rf"HKLM\{_PARAMETERS.format(name)}, value {_VALUE}"


def write_settings(name: str, settings: HostSettings) -> None:
    """Write them below the key of the service, which is removed with it. Raises OSError."""
    with winreg.CreateKey(winreg.HKEY_LOCAL_MACHINE, _PARAMETERS.format(name)) as key:
        winreg.SetValueEx(key, _VALUE, 0, winreg.REG_SZ, settings.to_json())


def read_settings(name: str) -> HostSettings:
    """Return the settings of an installed service. Raises NoServiceError where sdwatch did not
    write any."""
    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, _PARAMETERS.format(name)) as key:
            text, _ = winreg.QueryValueEx(key, _VALUE)
        return HostSettings.from_json(str(text))
    except (OSError, ValueError) as error:
        raise NoServiceError(
            f"the service {name} was not installed by sdwatch, and is left alone"
        ) from error


def add_event_source(name: str) -> None:
    """Let the event log show what the service writes to it. pywin32's module has the texts. Raises
    OSError."""
    with winreg.CreateKey(winreg.HKEY_LOCAL_MACHINE, _EVENTS.format(name)) as key:
        file = servicemanager.__file__
        winreg.SetValueEx(key, "EventMessageFile", 0, winreg.REG_EXPAND_SZ, file)
        winreg.SetValueEx(key, "TypesSupported", 0, winreg.REG_DWORD, _ALL_TYPES)


def remove_event_source(name: str) -> None:
    """Remove it. What was written stays in the log. Raises OSError."""
    with suppress(FileNotFoundError):
        winreg.DeleteKey(winreg.HKEY_LOCAL_MACHINE, _EVENTS.format(name))

"""What a service of Windows runs: values, on any system.

The service manager starts a host, and the host the monitor. Both run in the base Python itself: the
python.exe of a virtual environment is a redirector, which would be one process more between each of
them, with a number that is not the monitor's.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import PureWindowsPath
from typing import Any

_HOST = (
    "import os, site, sys; [site.addsitedir(each) for each in sys.argv[1].split(os.pathsep)]; "
    "from sdwatch.service.windows_host import main; main(sys.argv[2:])"
)
"""What the host runs. In it there are no packages of a virtual environment until they are added."""

RESTART_AFTER_S = (10, 30, 60)
"""Seconds until Windows restarts a service that failed once, twice, more often."""

FAILURES_COUNT_FOR_S = 3600
"""Seconds without a failure after which the next one is the first again."""

_OF_THE_STORE = "windowsapps"
"""In the path of each program of the Microsoft Store. A service runs none: they belong to a user
who is logged on."""


@dataclass(frozen=True)
class HostSettings:
    """What the host of a service needs; it is in the registry, as JSON.

    `program`: the Python that is run as command[0]. `command`: the monitor. `folder`: where it
    runs. `log`: the file that gets what it prints. `watchdog`: seconds without a report after which
    the monitor hangs. `stop_limit`: seconds that a clean stop may take. `not_restarted`: exit codes
    that need a person.
    """

    program: str
    command: tuple[str, ...]
    config: str
    state: str
    folder: str
    log: str
    watchdog: float
    stop_limit: float
    not_restarted: tuple[int, ...]

    def to_json(self) -> str:
        """Return it as text for the registry."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> HostSettings:
        """Return what `to_json` wrote. Raises ValueError."""
        try:
            read: dict[str, Any] = json.loads(text)
            lists = {name: tuple(read[name]) for name in ("command", "not_restarted")}
            return cls(**{**read, **lists})
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"these are not settings of a service: {error}") from error


def host_command(program: str, packages: Sequence[str], *arguments: str) -> tuple[str, ...]:
    """Return the command of a host. `packages`: the folders with pywin32 and sdwatch. `-I`: no
    variable and no file of a user changes what it loads; `-S`: nor what else is installed there."""
    return (program, "-I", "-S", "-c", _HOST, os.pathsep.join(packages), *arguments)


def command_line(words: Sequence[str]) -> str:
    """Return a command as Windows splits it again; a program with a space in its path is in quotes,
    or another one could be run in its place."""
    return subprocess.list2cmdline(words)


def is_of_the_store(program: str) -> bool:
    """Return whether a program is from the Microsoft Store."""
    return _OF_THE_STORE in (part.lower() for part in PureWindowsPath(program).parts)


def in_words(code: int) -> str:
    """Return an exit code as people look it up: what Windows ends a process with is known in
    hexadecimal."""
    return f"exit code {code}" if 0 <= code < 0x8000_0000 else f"exit code 0x{code:08X}"

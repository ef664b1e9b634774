"""What a background service runs: one monitor on one config. The same on every system."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sdwatch.errors import ServiceError

DEFAULT_NAME = "sdwatch"
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,28}[a-z0-9])?")


WATCHDOG_S = 600
"""Seconds after which a main loop that has reported nothing hangs: it reports each second. One
round of it takes longest while a large inbox on a slow share is scanned: 30,000 files at 10 ms are
5 minutes."""


class Scope(StrEnum):
    """Whose service it is: one user's, which runs while that user has a session, or the
    machine's."""

    USER = "user"
    SYSTEM = "system"


def service_name(name: str) -> str:
    """Return the name by which the system knows the service `name`: `sdwatch`, or `sdwatch-NAME`,
    so that no service of another program can be meant. Raises ServiceError."""
    if not _NAME.fullmatch(name):
        raise ServiceError(
            f"{name!r} cannot be the name of a service: use up to 30 of a-z, 0-9 and -, "
            "with no - at either end"
        )
    return name if name == DEFAULT_NAME else f"{DEFAULT_NAME}-{name}"


@dataclass(frozen=True)
class ServiceDefinition:
    """A service as it is to be installed.

    `name`: see service_name. `python`: the interpreter that has sdwatch. `config`: an absolute
    path. `user`: the account that it runs as; '' for the one that installs it. `spool`: may be a
    share, and is waited for. `state`: is local. `webui_folders`: of the WebUIs that it starts.
    `stop_limit`: seconds that a clean stop may take. `not_restarted`: exit codes that need a
    person, so that a restart cannot help.
    """

    name: str
    scope: Scope
    python: str
    config: Path
    user: str
    spool: Path
    state: Path
    webui_folders: tuple[Path, ...]
    stop_limit: float
    not_restarted: tuple[int, ...]

    def __post_init__(self) -> None:
        for word in self.command:
            if not word.isprintable():
                raise ServiceError(
                    f"{word!r}: no service can be made of a path with a line break or a control "
                    "character; rename the folder"
                )

    @property
    def folder(self) -> Path:
        """Return the folder in which it runs."""
        return self.config.parent

    @property
    def command(self) -> tuple[str, ...]:
        """Return what is run. `-P`: no module is taken from the folder in which it runs.
        `faulthandler`: where a monitor that hangs is ended, its log says what each thread did."""
        options = ("-P", "-X", "faulthandler", "-m", "sdwatch")
        return (self.python, *options, "run", "--config", str(self.config))


_TAG = "CACHEDIR.TAG"
"""In each folder that may be removed at any time: the Cache Directory Tagging Specification."""


def is_no_cache(environment: Path) -> None:
    """Check that Python's environment (sys.prefix) is in no cache, as those of `uvx` and `pipx run`
    are. Raises ServiceError. (uv and virtualenv tag each environment itself, which means that a
    backup may leave it out.)"""
    cache = next((above for above in environment.parents if (above / _TAG).exists()), None)
    if cache is not None:
        raise ServiceError(
            f"this sdwatch is in {cache}, a cache that may be cleaned at any time; a service needs "
            "one that stays: install it by pipx, `uv tool install`, or into a virtual environment"
        )

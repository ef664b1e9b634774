"""What every system's service manager can do with one service: systemd, launchd, Windows.

What would change the machine is returned as steps, which are values: `--dry-run` prints them, and
a step that fails undoes those before it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from sdwatch.errors import ServiceError
from sdwatch.service.definition import ServiceDefinition
from sdwatch.system import disk

_COMMAND_LIMIT_S = 3600.0  # a stop waits for the call under way


@dataclass(frozen=True)
class Step:
    """One change of the machine. `about`: what it does, as a person would type or say it. `do`
    raises ServiceError or OSError; `undo` takes it back, None where it stays: a service that was
    stopped is not started again because its removal failed."""

    about: str
    do: Callable[[], object] = field(compare=False)
    undo: Callable[[], object] | None = field(default=None, compare=False)


class ServiceState(StrEnum):
    """What the service manager says about a service."""

    NOT_INSTALLED = "not installed"
    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    WAITS_TO_RESTART = "waiting to be restarted"
    FAILED = "failed"


@dataclass(frozen=True)
class ServiceStatus:
    """A service as its manager sees it. `pid`: of its main process, 0 for none; `starts_itself`:
    at boot, or when the user logs in; `details`: lines for people, in the manager's own words."""

    state: ServiceState
    pid: int = 0
    starts_itself: bool = False
    details: tuple[str, ...] = ()


class ServiceManager(Protocol):
    """The service manager of this system, for the service `name` (see service_name).

    Each method that returns steps raises ServiceError for what it may not do, before any step is
    made: no rights, no such service manager here, a name that is taken; `status` and `logs`
    raise it where the service manager cannot be asked.
    """

    name: str

    def document(self, service: ServiceDefinition) -> str:
        """Return what an installation writes down: a unit, a property list, settings."""

    def install(self, service: ServiceDefinition) -> Sequence[Step]:
        """Return the steps that install it, to start by itself from then on; it is not started."""

    def uninstall(self) -> Sequence[Step]:
        """Return the steps that stop it, end what is left of it, and remove it."""

    def start(self) -> Sequence[Step]:
        """Return the steps that start it."""

    def stop(self) -> Sequence[Step]:
        """Return the steps that stop it cleanly."""

    def restart(self) -> Sequence[Step]:
        """Return the steps that stop it cleanly and start it again."""
        return (*self.stop(), *self.start())

    def status(self) -> ServiceStatus:
        """Return what the service manager says."""

    def config(self) -> Path | None:
        """Return the config of the installed service; None if that cannot be read."""

    def logs(self, lines: int) -> str:
        """Return the last lines that it printed."""

    def advice(self) -> Sequence[str]:
        """Return what a person should know after the installation."""


def perform(steps: Sequence[Step], report: Callable[[str], None]) -> None:
    """Do the steps, and report each that is done. If one fails, or a signal interrupts it, those
    before it are undone, the last first. Raises ServiceError, which says so."""
    done: list[Step] = []
    for step in steps:
        try:
            step.do()
        except (ServiceError, OSError) as error:
            raise ServiceError(f"{step.about}: {disk.in_words(error)}{_undone(done)}") from error
        except KeyboardInterrupt:
            _undone([*done, step])
            raise
        done.append(step)
        report(step.about)


def _undone(done: Sequence[Step]) -> str:
    """Undo the steps, and return what to say about it."""
    with_undo = [step for step in reversed(done) if step.undo is not None]
    failed = [words for step in with_undo if (words := _undo(step))]
    if failed:
        return f"; undoing this failed: {'; '.join(failed)}"
    return "; what was done before is undone" if with_undo else ""


def _undo(step: Step) -> str:
    """Undo a step, and return which it was and why that failed, or ''."""
    try:
        if step.undo is not None:
            step.undo()
    except (ServiceError, OSError) as error:
        return f"{step.about} ({disk.in_words(error)})"
    return ""


def written(path: Path, data: bytes, and_then: Callable[[], object] = lambda: None) -> Step:
    """Return the step that writes a file, which must not be there yet, with the folders above it.
    `and_then`: called after its undo."""
    files: list[Path] = []
    folders: list[Path] = []

    def take_away() -> None:
        for file in files:
            file.unlink(missing_ok=True)
        for folder in folders:
            with suppress(OSError):  # others have written into it meanwhile
                folder.rmdir()

    def do() -> None:
        folders.extend(folder for folder in path.parents if not folder.exists())
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                files.append(path)
                file.write(data)
        except OSError:
            take_away()
            raise

    def undo() -> None:
        take_away()
        and_then()

    return Step(f"write {path}", do, undo)


def removed(path: Path) -> Step:
    """Return the step that removes a file."""
    return Step(f"remove {path}", lambda: path.unlink(missing_ok=True))


def ran(*words: str, undo: Sequence[str] = (), may_fail: bool = False) -> Step:
    """Return the step that runs a command. `undo`: the command that takes it back."""

    def run() -> None:
        with suppress(*((ServiceError,) if may_fail else ())):
            output_of(*words)

    return Step(" ".join(words), run, (lambda: output_of(*undo)) if undo else None)


def output_of(*words: str) -> str:
    """Run a command, and return what it printed. Raises ServiceError with what it said."""
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_COMMAND_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServiceError(f"{words[0]} could not be run: {disk.in_words(error)}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip() or "it gives no reason"
        raise ServiceError(f"{words[0]} failed with {done.returncode}: {said}")
    return done.stdout

"""One incarnation of a WebUI, from the start of its process to its end.

Its output goes into files, and its token and UTF-8 into its environment.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from sdwatch import system
from sdwatch.errors import SdwatchError
from sdwatch.policy.failure.signatures import Signature
from sdwatch.policy.kinds.kind import Kind
from sdwatch.policy.kinds.unknown import UNKNOWN
from sdwatch.system import disk, psutil_race
from sdwatch.system.failpoints import failpoint
from sdwatch.webui.process import process_tree
from sdwatch.webui.process.host_snapshot import HostSnapshots
from sdwatch.webui.process.process_identity import TOKEN_NAME, ProcessIdentity, log_paths, recorded

_OUTPUT = {
    # Without it the startup lines stay in a buffer (measured with Forge dfdcbab6).
    "PYTHONUNBUFFERED": "1",
    # Python on Windows writes cp1252 to a file, where a Chinese prompt raises UnicodeEncodeError
    # inside the WebUI (A1111#1005), and ASCII where no locale is set.
    "PYTHONIOENCODING": "utf-8:backslashreplace",
}
"""How a WebUI prints, unless `env` in the config sets these otherwise."""


class SpawnError(SdwatchError):
    """The command cannot be run. `advice`: what a person can do, or ''."""

    def __init__(self, reason: str, advice: str = "") -> None:
        super().__init__(reason)
        self.advice = advice


@dataclass(frozen=True)
class ProcessSettings:
    """How one WebUI's process is started and stopped.

    `state_dir`: a local folder, created if missing. Seconds: `start_limit` (the longest start),
    `start_stall` (the longest time without a sign of life during a start), `stop_grace` (between
    asking to end and killing). `log_cap`: bytes, for each file. `signatures`: explain why a start
    failed; None for the built-in ones. `host_snapshots`: say how much memory was left. `kind`:
    returns the kind of earlier incarnations, as far as it is known.
    """

    name: str
    command: Sequence[str]
    port: int
    state_dir: Path
    host: str = "127.0.0.1"
    cwd: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    start_limit: float = 3600.0
    start_stall: float = 300.0
    stop_grace: float = 10.0
    log_cap: int = 50_000_000
    signatures: tuple[Signature, ...] | None = None
    host_snapshots: HostSnapshots | None = None
    kind: Callable[[], Kind] = lambda: UNKNOWN


def spawn(
    identity: ProcessIdentity, state_dir: Path, settings: ProcessSettings
) -> subprocess.Popen[bytes]:
    """Start the command as the incarnation that `identity` names, and return its process. Raises
    SpawnError."""
    stdout, stderr = log_paths(state_dir, identity.incarnation)
    token = {TOKEN_NAME: identity.token}
    try:
        failpoint("spawn", Path(settings.command[0]))
        return system.spawn(
            list(settings.command),
            cwd=settings.cwd,
            env={**os.environ, **_OUTPUT, **settings.env, **token},
            stdout=stdout,
            stderr=stderr,
            job_name=identity.job_name,
        )
    except (OSError, ValueError) as error:
        raise _explained(error, settings.command[0], settings.cwd) from error


def no_folder(cwd: Path) -> str:
    """Return why a WebUI cannot be started in this folder, and what to do; '' if it is one."""
    if cwd.is_dir():
        return ""
    why = "is a file" if cwd.exists() else "does not exist"
    return f"the folder {cwd} {why}: set `cwd` to the folder of the WebUI"


def _explained(error: Exception, program: str, cwd: Path | None) -> SpawnError:
    if cwd and (long := system.too_long_for_programs(cwd)):
        return SpawnError(f"the working folder's path {long}: {cwd}", "Move the WebUI.")
    if cwd and (wrong := no_folder(cwd)):
        return SpawnError(wrong)
    reason = f"{program} could not be started: {disk.in_words(error)}"
    if isinstance(error, FileNotFoundError):
        reason = f"command not found: {program}"
    return SpawnError(reason, "Check `command`.")


@dataclass(frozen=True)
class WebUIExit:
    """The end of an incarnation.

    `code`: the exit code, negative for a signal; None where only a parent of ours could see it
    (adopted, or behind a wrapper). `expected`: sdwatch stopped it.
    """

    incarnation: int
    code: int | None
    expected: bool = False


@dataclass
class Incarnation:
    """An incarnation as this monitor sees it. `ended` and `root_ended`: set once it
    has, and once its root has; `exit`: how it ended."""

    identity: ProcessIdentity
    ended: threading.Event = field(default_factory=threading.Event)
    root_ended: threading.Event = field(default_factory=threading.Event)
    expected: bool = False
    exit: WebUIExit | None = None


def root_of(identity: ProcessIdentity, found: list[psutil.Process], port: int) -> psutil.Process:
    """Return the recorded root, else the listener on `port`, else the oldest of `found`, which
    started the others."""
    for process in recorded(identity):
        if process.pid == identity.pid:
            return process
    return process_tree.listener(found, port) or min(
        found, key=lambda process: (process.create_time(), process.pid)
    )


def wait_gone(pid: int, mark: str) -> int | None:
    """Block until the process with this pid and start mark is dead; return its exit code, or None
    where that was not seen."""
    try:
        process = psutil_race.ask(psutil.Process, pid)
    except psutil.NoSuchProcess:
        return None
    # An unreadable mark is "", here and in the record: such a process is waited for.
    return system.wait_gone(process) if (system.start_mark(pid) or "") == mark else None

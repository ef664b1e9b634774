"""Spawn the command of a WebUI: output into files, and its token and UTF-8 in the environment."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from sdwatch import system
from sdwatch.errors import SdwatchError
from sdwatch.system.failpoints import failpoint
from sdwatch.webui.process.process_identity import TOKEN_NAME, ProcessIdentity, log_paths

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


def spawn(
    identity: ProcessIdentity,
    state_dir: Path,
    command: Sequence[str],
    *,
    cwd: Path | None,
    env: Mapping[str, str],
) -> subprocess.Popen[bytes]:
    """Start `command` as the incarnation that `identity` names, and return its process.

    `env` is added to this process's own environment. Raises SpawnError.
    """
    stdout, stderr = log_paths(state_dir, identity.incarnation)
    token = {TOKEN_NAME: identity.token}
    try:
        failpoint("spawn", Path(command[0]))
        return system.spawn(
            list(command),
            cwd=cwd,
            env={**os.environ, **_OUTPUT, **env, **token},
            stdout=stdout,
            stderr=stderr,
            job_name=identity.job_name,
        )
    except (OSError, ValueError) as error:
        raise _explained(error, command[0], cwd) from error


def _explained(error: Exception, program: str, cwd: Path | None) -> SpawnError:
    if cwd and (long := system.too_long_for_programs(cwd)):
        return SpawnError(f"the working folder's path {long}: {cwd}", "Move the WebUI.")
    if cwd and not cwd.is_dir():
        return SpawnError(f"working folder not found: {cwd}")
    reason = f"{program!r} could not be started: {error}"
    if isinstance(error, FileNotFoundError):
        reason = f"command not found: {reason}"
    return SpawnError(reason, "Check `command`.")

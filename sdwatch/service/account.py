"""The account that a service of the machine runs as: on Linux the owner of its config."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdwatch.errors import ServiceError
from sdwatch.system import disk

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What systemd gives a service: systemd.exec(5)."""


@dataclass(frozen=True)
class Account:
    """A user of this machine. `home`: the home folder."""

    name: str
    home: str


def user_id() -> int:
    """Return the number of the user of this process; 0, root, also on Windows, which has none."""
    if sys.platform == "win32":
        return 0
    return os.geteuid()


def owner_of(file: Path) -> Account | None:
    """Return the user who owns a file; None on Windows, where a service has an account of its own.
    Only this user and root may change a config, so no one else gets to run its command. Raises
    ServiceError."""
    if sys.platform == "win32":
        return None
    import pwd

    try:
        found = pwd.getpwuid(file.stat().st_uid)
    except (OSError, KeyError) as error:
        raise ServiceError(f"{file}: its owner is not known: {disk.in_words(error)}") from error
    return Account(found.pw_name, found.pw_dir)


def run_as(user: str, words: Sequence[str], folder: Path) -> int:
    """Run a command in `folder` as `user`, with the environment that a service has; as it is where
    that is '' or the user of this process. Return its exit code. Raises OSError."""
    return subprocess.run(words, cwd=folder, check=False, **_as(user)).returncode


def _as(user: str) -> dict[str, Any]:
    if sys.platform == "win32" or not user:
        return {}
    import pwd

    found = pwd.getpwnam(user)
    env = {"PATH": _PATH, "HOME": found.pw_dir, "USER": user, "LOGNAME": user}
    if found.pw_uid == user_id():
        return {"env": env}
    groups = os.getgrouplist(user, found.pw_gid)
    return {"env": env, "user": found.pw_uid, "group": found.pw_gid, "extra_groups": groups}

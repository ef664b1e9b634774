"""Whether this machine lets a test boot a systemd (see booted.py).

`python -m tests.service.bootable` says why it cannot and ends with 1. It needs nothing that is not
in every Python, so that .ci/run can ask before it installs anything.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

NEW = ("--fork", "--kill-child", "--pid", "--mount", "--cgroup", "--uts", "--ipc", "--net")

_TRIAL = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /tmp
mkdir /tmp/upper /tmp/work /tmp/root /tmp/cgroup
mount -t overlay overlay -o lowerdir=/,upperdir=/tmp/upper,workdir=/tmp/work /tmp/root
mount -t cgroup2 cgroup2 /tmp/cgroup
"""


@functools.cache
def why_not() -> str:
    """Return why no systemd can be booted here, or ''."""
    if sys.platform != "linux":
        return "systemd is for Linux"
    if os.geteuid() != 0:
        return "only root may make the namespaces"
    needed = ("systemctl", "systemd-analyze", "journalctl", "unshare", "nsenter")
    missing = [name for name in needed if shutil.which(name) is None]
    if missing or not Path("/lib/systemd/systemd").exists():
        return f"systemd is not installed ({', '.join(missing)})"
    if (group := cgroup2()) is None or not os.access(group, os.W_OK):
        return "there is no cgroup2 here that may be written"
    return _refusal()


def _refusal() -> str:
    """Return why root may not make the namespaces and mounts here, as in many containers, or ''."""
    words = ["unshare", *NEW, "sh", "-c", _TRIAL]
    tried = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    return (tried.stderr.strip() or "unshare failed") if tried.returncode else ""


def cgroup2() -> Path | None:
    """Where this process may make cgroups."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, kind, *_ = line.split()
        if kind == "cgroup2":
            own = Path("/proc/self/cgroup").read_text().splitlines()
            below = next((row[3:] for row in own if row.startswith("0::")), "/")
            return Path(mount, below.lstrip("/"))
    return None


if __name__ == "__main__":
    print(why_not())
    sys.exit(bool(why_not()))

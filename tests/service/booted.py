"""A systemd of the test's own, as process 1 of its own namespaces.

Its root is this machine's, under an overlay in memory: what it writes is gone with it, except in
the folders that it is given. It has its own processes, network, mounts and cgroups. No unit of this
machine is started, and nothing outside is touched: no sysctl, no clock, no /tmp.
"""

from __future__ import annotations

import copy
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.service.bootable import NEW, cgroup2
from tests.support import warm
from tests.support.helpers import wait_until

ROOT = Path(__file__).resolve().parents[2]
TARGET = "sdwatch-test.target"
_ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/"}

_BOOT = r"""
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs "$BOOT"
mkdir "$BOOT/upper" "$BOOT/work" "$BOOT/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$BOOT/upper,workdir=$BOOT/work" "$BOOT/root"
cd "$BOOT/root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
mount --rbind /dev dev
mount -t tmpfs tmpfs tmp
chmod 1777 tmp
printf '%s\n' "$SHARED" | while read -r folder; do
    mkdir -p ".$folder"
    mount --rbind "$folder" ".$folder"
done
# Nothing of this machine is to be started, cleaned or set.
rm -rf etc/systemd/system/*.wants usr/lib/systemd/system/*.wants
: >etc/fstab
mount --bind /bin/true usr/bin/systemd-tmpfiles
mkdir -p etc/systemd/system
cat >etc/systemd/system/$TARGET <<'END'
[Unit]
Requires=dbus.socket systemd-journald.socket systemd-journald.service
After=dbus.socket systemd-journald.socket systemd-journald.service
AllowIsolate=yes
END
mkdir -p old
pivot_root . old
cd /
umount -l /old
mount --make-rshared /  # as on every machine: what is mounted later is seen by all
exec env -i container=sdwatch-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=$TARGET --show-status=no --log-target=journal
"""


class Booted:
    """The running systemd. `pid`: of its process 1, as seen from here; `shared`: a folder of both.
    `of` and `env`: for the manager of a user, instead of the system's."""

    def __init__(self, pid: int, shared: Path) -> None:
        self.pid = pid
        self.shared = shared
        self.of: Sequence[str] = ()
        self.env: Mapping[str, str] = {}
        self._servers: list[warm.Server] = []

    def of_user(self, env: Mapping[str, str]) -> Booted:
        """The same machine, for root's own manager."""
        users = copy.copy(self)
        users.of, users.env = ("--user",), env
        return users

    @property
    def _entered(self) -> list[str]:
        return ["nsenter", "-t", str(self.pid), "-m", "-p", "-n", "-i", "-u", "-C"]

    def _python(self) -> warm.Server:
        if not self._servers:
            given = [f"{name}={value}" for name, value in _ENV.items()]
            within = (*self._entered, "env", "-i", "-C", str(ROOT), *given)
            self._servers.append(warm.Server(within=within, shared=self.shared))
        return self._servers[0]

    def python(self, *words: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
        """Run `python *words` beside it, without the time that a start takes: see warm.py."""
        done = self._python().run(*words, cwd=cwd, env={**_ENV, **env}, limit=200)
        out, err = done.stdout.decode(), done.stderr.decode()
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)

    def run(
        self, *words: object, check: bool = True, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command beside it."""
        done = subprocess.run(
            [*self._entered, *map(str, words)],
            env={**_ENV, **env},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done

    @property
    def is_up(self) -> bool:
        """Whether its process 1 lives."""
        return psutil.pid_exists(self.pid)

    def wait_off(self) -> None:
        """Wait until it has shut down."""
        for server in self._servers:  # no process of ours is in its way
            server.end()
        wait_until(lambda: not self.is_up, 150, "it is off")

    def die(self) -> None:
        """Kill it with all its processes at once, as a power cut does but for what was not
        synced."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait_off()

    def shown(self, unit: str, name: str) -> str:
        """A property of a unit."""
        asked = ("systemctl", *self.of, "show", "--value", f"--property={name}", unit)
        return self.run(*asked, **self.env).stdout.strip()

    def write(self, path: str, text: str) -> None:
        """Write a file in its root."""
        self.run("sh", "-c", 'mkdir -p "$(dirname "$1")"; printf %s "$2" >"$1"', "sh", path, text)

    def processes_of(self, unit: str) -> list[int]:
        """What is in the unit's cgroup, by the numbers that they have in there."""
        if not (group := self.shown(unit, "ControlGroup")):
            return []
        path = f"/sys/fs/cgroup{group}/cgroup.procs"
        listed = self.run("cat", path, check=False).stdout.split()
        return [int(pid) for pid in listed]


@contextmanager
def booted(folder: Path, shared: Sequence[Path]) -> Iterator[Booted]:
    """Boot a systemd; it is killed at the end with all that it started. `folder`: an empty one;
    `shared`: folders that it has in common with this machine."""
    parent = cgroup2()
    assert parent is not None
    group = parent / f"sdwatch-test-{secrets.token_hex(4)}"
    group.mkdir()
    of_python = [Path(path) for path in sys.path if Path(path).is_absolute()]
    visible = (ROOT, Path(sys.prefix), Path(sys.base_prefix), *of_python, *shared)
    shown = "\n".join(str(path) for path in dict.fromkeys(visible) if _needs_binding(path))
    enter = f'echo $$ >"{group}/cgroup.procs"; exec "$@"'
    with open(folder / "boot.log", "wb") as log:
        unshare = subprocess.Popen(
            ["sh", "-c", enter, "sh", "unshare", *NEW, "sh", "-c", _BOOT],
            env={**os.environ, "BOOT": str(folder), "SHARED": shown, "TARGET": TARGET},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        init = wait_until(lambda: _first_child(unshare), 20, "it was started")
        system = Booted(init, shared[0])
        running = ("systemctl", "is-active", TARGET)
        wait_until(
            lambda: unshare.poll() is not None or system.run(*running, check=False).returncode == 0,
            60,
            "it is up",
        )
        assert unshare.poll() is None, (folder / "boot.log").read_text()
        yield system
    finally:
        unshare.kill()
        unshare.wait()
        wait_until(lambda: _is_removed(group), 20, "its cgroups are empty")


def _needs_binding(path: Path) -> bool:
    """Not what its root has anyway."""
    return path.is_dir() and not path.is_relative_to("/usr")


def _first_child(process: subprocess.Popen[bytes]) -> int:
    with suppress(psutil.Error):
        for child in psutil.Process(process.pid).children():
            return child.pid
    return 0


def _is_removed(group: Path) -> bool:
    """Remove a cgroup with those below it, once their processes are gone."""
    for path, _, _ in os.walk(group, topdown=False):
        with suppress(OSError):
            Path(path).rmdir()
    return not group.exists()

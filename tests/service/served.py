"""A service of a booted systemd (see booted.py) on a spool of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sdwatch.cli.service import definition_of
from sdwatch.service.definition import Scope
from sdwatch.service.systemd import unit_text
from tests.service.bootable import why_not
from tests.service.booted import Booted
from tests.support.monitored import Monitored

UNDER_SYSTEMD = [
    pytest.mark.skipif(
        bool(why_not()) and "SDWATCH_REQUIRE_SYSTEMD" not in os.environ, reason=why_not()
    ),
    pytest.mark.timeout(300),  # some start Python a dozen times, one after the other
]
USERS = {"XDG_RUNTIME_DIR": "/run/user/0", "HOME": "/root"}
OTHER = "games"  # a user that every Debian has


class Service:
    """A service of the booted systemd on a spool of its own."""

    def __init__(self, machine: Booted, spool: Monitored, name: str) -> None:
        self.machine, self.spool = machine, spool
        self.scope = Scope.USER if machine.of else Scope.SYSTEM
        self.unit = f"sdwatch-{name}.service"
        self._options = ("--name", name, f"--{self.scope}")

    def sdwatch(
        self, *words: str, check: bool = True, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """`sdwatch service ACTION`, for it."""
        line = ("-m", "sdwatch", "service", *words, *self._options)
        done = self.machine.python(*line, cwd=self.spool.root, **{**self.machine.env, **env})
        assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done

    def systemctl(self, verb: str, check: bool = True) -> int:
        """The same without a start of Python."""
        words = ("systemctl", *self.machine.of, verb, self.unit)
        return self.machine.run(*words, check=check, **self.machine.env).returncode

    def with_settings(self, *lines: str) -> None:
        """Change its unit as `systemctl edit` does."""
        text = "\n".join(("[Service]", *lines, ""))
        self.machine.write(f"/etc/systemd/system/{self.unit}.d/test.conf", text)
        self.machine.run("systemctl", "daemon-reload")

    def shown(self, name: str) -> str:
        return self.machine.shown(self.unit, name)

    def state(self) -> str:
        return f"{self.shown('ActiveState')} {self.shown('SubState')}"

    def monitor(self) -> int:
        return int(self.shown("MainPID"))

    def webui(self) -> int:
        """The one process of the service that is not the monitor."""
        (pid,) = set(self.processes()) - {self.monitor()}
        return pid

    def processes(self) -> list[int]:
        return self.machine.processes_of(self.unit)

    def log(self) -> str:
        return self.machine.run("journalctl", "--no-pager", "--unit", self.unit).stdout


def spool_in(shared: Path, name: str, **more: Any) -> Monitored:
    """A spool in a folder that all may enter. See Monitored."""
    root = shared / name
    root.mkdir()
    root.chmod(0o755)
    return Monitored(root, **more)


@contextmanager
def given(
    machine: Booted, shared: Path, name: str, *, spool: Monitored | None = None, **more: Any
) -> Iterator[Service]:
    """A service with the unit that `sdwatch service install --system` writes, on a new spool or the
    given one; it is killed at the end."""
    spool = spool or spool_in(shared, name, **more)
    service = Service(machine, spool, name)
    definition = definition_of(f"sdwatch-{name}", Scope.SYSTEM, spool.config_file)
    machine.write(f"/etc/systemd/system/{service.unit}", unit_text(definition))
    machine.run("systemctl", "daemon-reload")
    try:
        yield service
    finally:
        if machine.is_up:
            machine.run("systemctl", "kill", "--signal=KILL", service.unit, check=False)
            machine.run("systemctl", "stop", service.unit, check=False)

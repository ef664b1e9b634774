"""`sdwatch service` where something is in its way: it is cut off in the middle, its unit or its
disk is gone, it is another user's. Under a real systemd, see booted.py."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from sdwatch.cli.shared.exit_codes import ExitCode
from tests.service.booted import Booted
from tests.service.served import OTHER, UNDER_SYSTEMD, USERS, Service, given, spool_in
from tests.support.helpers import wait_until
from tests.support.monitored import job

pytestmark = UNDER_SYSTEMD

FAILS, IS_INTERRUPTED, IS_KILLED = "exit 1", "kill -INT $PPID; sleep 5", "kill -KILL $PPID"
AFTER = '/usr/bin/systemctl "$@" || exit\n'


def cut_off(machine: Booted, verb: str, way: str, before: str = AFTER) -> str:
    """Put a systemctl in place which is cut off once, at one verb. `before`: what it does before
    that. Return the PATH with it."""
    machine.write(
        "/cut/systemctl",
        f'#!/bin/sh\ncase " $* " in *" {verb} "*) if rm /cut/once 2>/dev/null; then\n'
        f'{before}{way}\nfi;; esac\nexec /usr/bin/systemctl "$@"\n',
    )
    machine.write("/cut/once", "")
    machine.run("chmod", "755", "/cut/systemctl")
    return "/cut:/usr/sbin:/usr/bin:/sbin:/bin"


def left(service: Service) -> str:
    """What is left of an installation."""
    found = service.machine.run("find", "/etc/systemd", "-name", service.unit).stdout
    return found if service.shown("LoadState") == "not-found" else f"{found} and it is loaded"


@pytest.mark.parametrize("verb", ["daemon-reload", "enable"])
@pytest.mark.parametrize("way", [FAILS, IS_INTERRUPTED], ids=["fails", "interrupted"])
def test_an_installation_that_is_cut_off_after_any_step_leaves_nothing(
    machine: Booted, shared: Path, verb: str, way: str
) -> None:
    name = f"cut-{verb[:2]}-{len(way)}"
    service = Service(machine, spool_in(shared, name), name)
    ended = service.sdwatch("install", check=False, PATH=cut_off(machine, verb, way))
    assert ended.returncode == (ExitCode.ERROR if way == FAILS else ExitCode.INTERRUPTED)
    assert "Installed" not in ended.stdout
    assert not left(service)


@pytest.mark.parametrize("verb", ["daemon-reload", "enable"])
def test_an_installation_that_was_killed_can_be_uninstalled_and_made_again(
    machine: Booted, shared: Path, verb: str
) -> None:
    service = Service(machine, spool_in(shared, f"killed-{verb}"), f"killed-{verb}")
    assert service.sdwatch(
        "install", check=False, PATH=cut_off(machine, verb, IS_KILLED)
    ).returncode
    assert "`sdwatch service uninstall`" in service.sdwatch("install", check=False).stderr
    service.sdwatch("uninstall")
    assert not left(service)
    service.sdwatch("install")
    assert service.shown("UnitFileState") == "enabled"
    service.sdwatch("uninstall")


@pytest.mark.parametrize("verb", ["disable", "daemon-reload"])
def test_an_uninstallation_that_fails_half_way_can_be_repeated(
    machine: Booted, shared: Path, verb: str
) -> None:
    service = Service(machine, spool_in(shared, f"stays-{verb}"), f"stays-{verb}")
    service.sdwatch("install")
    service.systemctl("start")
    path = cut_off(machine, verb, "echo no bus >&2; exit 1", before="")
    failed = service.sdwatch("uninstall", check=False, PATH=path)
    assert failed.returncode == ExitCode.ERROR
    assert f"{verb}" in failed.stderr
    assert failed.stderr.endswith("no bus\n"), "nothing was undone"
    again = service.sdwatch("uninstall", check=False)  # it may be forgotten by now
    assert again.returncode in (ExitCode.OK, ExitCode.NOT_FOUND)
    assert not left(service)
    assert not service.spool.processes()


def test_a_service_whose_unit_file_was_removed_is_stopped_and_forgotten(
    machine: Booted, shared: Path
) -> None:
    with given(machine, shared, "removed") as service:
        service.systemctl("start")
        machine.run("rm", f"/etc/systemd/system/{service.unit}")
        assert "running, process " in service.sdwatch("status").stdout
        service.sdwatch("uninstall")
        assert not left(service)
        assert not service.spool.processes()


def test_status_says_what_is_broken(machine: Booted, shared: Path) -> None:
    with given(machine, shared, "no-python") as service:
        service.with_settings("ExecStart=", "ExecStart=/no/python", "Restart=no")
        assert service.systemctl("start", check=False)
        service.spool.config_file.unlink()
        status = service.sdwatch("status")
        assert status.returncode == ExitCode.OK
        assert "exit code 203; its log says why" in status.stdout
        assert f"{service.spool.config_file}: the config cannot be read" in status.stdout
        assert "/no/python" in service.sdwatch("logs").stdout


def test_who_may_not_see_or_change_a_service_learns_why(machine: Booted, shared: Path) -> None:
    machine.run("chmod", "755", "/root")  # in the overlay: the way to this Python may be private
    spool = spool_in(shared, "theirs")
    for path in (spool.root, *spool.root.rglob("*")):
        shutil.chown(path, OTHER, OTHER)
    with given(machine, shared, "theirs", spool=spool) as service:
        machine.run("systemctl", "start", service.unit)
        service.spool.drop("castle.yaml", job())
        service.spool.wait_for(done=1)
        # Root sees what the config of another user names.
        wait_until(lambda: "1 in done" in service.sdwatch("status").stdout, 30, "it is shown")

        def as_nobody(action: str) -> str:
            words = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
            python = (sys.executable, "-P", "-m", "sdwatch", "service", action, "--system")
            done = machine.run(*words, *python, "--name", "theirs", check=False)
            return done.stdout + done.stderr

        assert "running, process " in as_nobody("status")
        assert "group systemd-journal" in as_nobody("logs")
        assert "needs root to stop it" in as_nobody("stop")

        machine.run("systemctl", "start", "user@0")
        user = Service(machine.of_user(USERS), service.spool, "theirs")
        for action in ("status", "stop"):
            said = user.sdwatch(action, check=False)
            assert said.returncode == ExitCode.NOT_FOUND
            assert "there is a system service of that name: add --system" in (
                said.stdout + said.stderr
            )
        assert service.state() == "active running"


def test_a_service_waits_for_the_disk_with_its_webui(machine: Booted, shared: Path) -> None:
    disk = shared / "webui-disk"
    disk.mkdir()
    unit = machine.run("systemd-escape", "--path", "--suffix=mount", disk).stdout.strip()
    text = f"[Mount]\nWhat=tmpfs\nType=tmpfs\nWhere={disk}\n"
    machine.write(f"/etc/systemd/system/{unit}", f"{text}Options=size=broken\n")
    spool = spool_in(shared, "on-disk", webui={"cwd": str(disk)})
    with given(machine, shared, "on-disk", spool=spool) as service:
        assert service.systemctl("start", check=False), "its disk cannot be mounted"
        assert service.state() == "inactive dead"
        assert not service.processes()
        machine.write(f"/etc/systemd/system/{unit}", text)
        machine.run("systemctl", "daemon-reload")
        service.systemctl("start")
        service.spool.wait_ready()
        machine.run("mountpoint", "--quiet", disk)

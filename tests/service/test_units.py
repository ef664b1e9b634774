"""The units and property lists that an installation writes, checked with the system's own tools."""

from __future__ import annotations

import dataclasses
import os
import plistlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sdwatch.errors import NoServiceError, ServiceError
from sdwatch.service.definition import Scope, ServiceDefinition
from sdwatch.service.launchd import Launchd
from sdwatch.service.systemd import mount_unit, unit_text

pytestmark = pytest.mark.posix_only("units and property lists have paths of POSIX")
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not installed"
)

ODD = "a b/100%/$HOME/{x}/quote'\"\\back/ü"
OPEN_FOR_GPUS = ("PrivateDevices", "DeviceAllow", "DevicePolicy", "ProtectClock")


def a_service(root: Path = Path("/srv"), **changes: object) -> ServiceDefinition:
    service = ServiceDefinition(
        name="sdwatch",
        scope=Scope.SYSTEM,
        python=sys.executable,
        config=root / "sdwatch.yaml",
        user="root",
        spool=root / "spool",
        state=root / "state",
        webui_folders=(root / "webui",),
        stop_limit=70.0,
        not_restarted=(2, 5),
    )
    return dataclasses.replace(service, **changes)  # type: ignore[arg-type]


def settings(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name: value for name, _, value in pairs}


def analyzed(verb: str, unit: Path, *more: str) -> str:
    done = subprocess.run(
        ["systemd-analyze", verb, *more, str(unit)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(unit.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


@needs_systemd
@pytest.mark.parametrize("scope", list(Scope))
@pytest.mark.parametrize("folder", ["plain", ODD])
def test_systemd_finds_no_mistake_in_a_unit(tmp_path: Path, scope: Scope, folder: str) -> None:
    unit = tmp_path / "sdwatch-it.service"
    config = tmp_path / folder / "sdwatch.yaml"
    unit.write_text(unit_text(a_service(config.parent, scope=scope), sys.executable))
    verify = ("--user",) if scope is Scope.USER else ()
    assert not analyzed("verify", unit, "--man=no", *verify)


@needs_systemd
def test_systemd_calls_the_exposure_of_a_hardened_service_moderate(tmp_path: Path) -> None:
    unit = tmp_path / "sdwatch-it.service"
    unit.write_text(unit_text(a_service(user="artist")))
    # Of 10: a WebUI runs code of its extensions, needs the network, the GPU and its home folder.
    analyzed("security", unit, "--offline=yes", "--threshold=55")


def test_a_service_of_the_machine_is_hardened_and_its_gpu_stays_open() -> None:
    hardened = settings(unit_text(a_service(user="artist"), "/usr/bin/nvidia-modprobe"))
    assert hardened["NoNewPrivileges"] == "yes"
    assert hardened["CapabilityBoundingSet"] == ""
    assert not hardened.keys() & {*OPEN_FOR_GPUS, "MemoryDenyWriteExecute", "PrivateTmp"}
    # It is setuid, which NoNewPrivileges takes from it: run by systemd, with all privileges.
    assert hardened["ExecStartPre"] == "-+/usr/bin/nvidia-modprobe -c 0 -u"
    assert "ExecStartPre" not in settings(unit_text(a_service()))
    as_root = settings(unit_text(a_service(user="root")))
    assert "CapabilityBoundingSet" not in as_root


def test_a_users_service_has_what_its_user_has() -> None:
    text = unit_text(a_service(scope=Scope.USER, user=""), "/usr/bin/nvidia-modprobe")
    assert not settings(text).keys() & {
        "User", "NoNewPrivileges", "ProtectSystem", "RequiresMountsFor", "ExecStartPre",
    }  # fmt: skip
    assert "WantedBy=default.target" in text


def test_limits_and_exit_codes_come_from_the_definition() -> None:
    found = settings(unit_text(a_service(stop_limit=123.4, not_restarted=(2, 5))))
    assert found["TimeoutStopSec"] == "123"
    assert found["RestartPreventExitStatus"] == "2 5"
    assert found["Type"] == "notify"
    assert found["Restart"] == "on-failure"


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("/", "-.mount"),
        ("/mnt/share", "mnt-share.mount"),
        ("/mnt/my-share", "mnt-my\\x2dshare.mount"),
        ("/.hidden/x y", "\\x2ehidden-x\\x20y.mount"),
        ("/mnt/ü.d:1_2", "mnt-\\xc3\\xbc.d:1_2.mount"),
    ],
)
def test_the_unit_of_a_mount_point_is_named_as_systemd_names_it(path: str, unit: str) -> None:
    assert mount_unit(Path(path)) == unit
    if shutil.which("systemd-escape"):
        words = ["systemd-escape", "--path", "--suffix=mount", path]
        assert subprocess.run(words, capture_output=True, text=True).stdout.strip() == unit


def test_a_path_with_a_line_break_cannot_add_a_line_to_a_unit() -> None:
    with pytest.raises(ServiceError, match="line break"):
        a_service(Path("/srv/x\nExecStartPre=+/bin/sh"))


# -- macOS, which these tests have not


def launchd(folder: Path) -> Launchd:
    return Launchd("sdwatch-night", Scope.USER, folder)


def test_an_agent_is_a_property_list_that_can_be_read_back(tmp_path: Path) -> None:
    agent, service = launchd(tmp_path), a_service(Path("/Users/x y/ü"), scope=Scope.USER)
    found = plistlib.loads(agent.document(service).encode())
    assert found["Label"] == "org.sdwatch.sdwatch-night"
    assert found["ProgramArguments"] == list(service.command)
    assert found["KeepAlive"] == {"SuccessfulExit": False}
    assert found["ExitTimeOut"] == 70
    assert found["AbandonProcessGroup"] is True


def test_an_agent_is_written_and_removed_by_steps(tmp_path: Path) -> None:
    agent, service = launchd(tmp_path), a_service(scope=Scope.USER)
    with pytest.raises(NoServiceError):
        agent.uninstall()
    write, enable = agent.install(service)
    path = tmp_path / "org.sdwatch.sdwatch-night.plist"
    assert write.about == f"write {path}"
    assert enable.about.startswith("launchctl enable gui/")
    write.do()
    assert agent.config() == service.config
    with pytest.raises(ServiceError, match="is taken"):
        agent.install(service)
    assert [step.about.split()[:2] for step in agent.restart()] == [
        ["launchctl", "bootout"],
        ["launchctl", "bootstrap"],
    ]
    assert [step.about.split()[0] for step in agent.uninstall()] == ["launchctl", "remove"]


def test_a_mac_has_no_service_of_the_machine(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="use --user"):
        Launchd("sdwatch", Scope.SYSTEM, tmp_path)

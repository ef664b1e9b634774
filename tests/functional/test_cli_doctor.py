"""`sdwatch doctor`: real folders, sockets, a real monitor and the simulator."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from sdwatch.cli.checks import check_machine
from sdwatch.cli.checks.check_machine import clock_skew, network_type
from sdwatch.cli.checks.findings import Area, DoctorFinding, Examination, Weight, examined, worst_of
from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.spool.folders import Spool
from tests.functional.cli import drop, heartbeat, make_spool, only, running, sdwatch
from tests.functional.installs import home_env
from tests.notify.receivers import TOKEN, receiver
from tests.support import warm
from tests.support.helpers import wait_until

POSIX = pytest.mark.posix_only("modes and shell scripts")


def doctor(cwd: Path, **env: str) -> tuple[int, dict[str, list[dict[str, str]]]]:
    """The exit code, and the findings by their area."""
    ran = sdwatch(cwd, "doctor", "--json", **env)
    assert ran.stdout, ran.stderr
    found: dict[str, list[dict[str, str]]] = {}
    for finding in json.loads(ran.stdout)["findings"]:
        found.setdefault(finding["area"], []).append(finding)
    return ran.returncode, found


def weights(found: list[dict[str, Any]]) -> set[str]:
    return {finding["weight"] for finding in found}


def test_before_the_first_run_nothing_is_a_problem_and_nothing_is_left_behind(
    tmp_path: Path,
) -> None:
    make_spool(tmp_path)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    code, found = doctor(tmp_path)
    assert code in (ExitCode.OK, ExitCode.WARNINGS)
    assert set(found) == {str(area) for area in Area}
    assert "problem" not in {w for findings in found.values() for w in weights(findings)}
    assert "not running" in found["picture"][0]["message"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_a_running_webui_gets_its_picture_and_its_monitor_is_not_disturbed(tmp_path: Path) -> None:
    make_spool(tmp_path)
    with running(tmp_path):
        before = heartbeat(tmp_path)
        code, found = doctor(tmp_path)
        assert code in (ExitCode.OK, ExitCode.WARNINGS), found
        assert "healthy" in found["picture"][0]["message"]
        (picture,) = tmp_path.glob("canary-simulator-*.png")
        assert f"its picture: {picture}" in found["picture"][0]["message"]
        assert weights(found["monitor"]) == {"ok"}
        assert weights(found["folders"]) == {"ok"}
        drop(tmp_path, "castle.yaml")
        wait_until(lambda: any((tmp_path / "done").iterdir()), 60, "the job is done")
        after = heartbeat(tmp_path)
    assert after["lanes"][0]["crashes_in_a_row"] == 0
    assert after["pid"] == before["pid"]
    assert not list(tmp_path.rglob("*sdwatch-doctor*"))
    assert not list((tmp_path / "failed").iterdir())


def test_a_webui_in_a_call_is_left_alone(tmp_path: Path) -> None:
    make_spool(tmp_path, "--step-time", "0.5")
    with running(tmp_path):
        drop(tmp_path, "long.yaml", "prompt: a castle\nsteps: 100\n")
        wait_until(
            lambda: any(run["calling"] for run in heartbeat(tmp_path).get("runs", [])), 60, "a call"
        )
        _, found = doctor(tmp_path)
        assert "busy" in found["picture"][0]["message"]
        assert weights(found["picture"]) == {"note"}
        assert not list(tmp_path.glob("canary-*"))
        (next((tmp_path / "working").glob("*/*long*")) / "cancel").touch()


def test_with_start_the_webui_is_started_makes_its_picture_and_is_stopped(tmp_path: Path) -> None:
    make_spool(tmp_path)
    ran = sdwatch(tmp_path, "doctor", "--start")
    assert ran.returncode in (ExitCode.OK, ExitCode.WARNINGS), ran.stdout + ran.stderr
    assert "starting simulator; that may take minutes" in ran.stdout
    (picture,) = tmp_path.glob("canary-simulator-*.png")
    assert str(picture) in ran.stdout
    assert "it was stopped again" in ran.stdout
    assert not listens(tmp_path)
    # The next monitor finds nothing in its way, and counts on.
    drop(tmp_path, "castle.yaml")
    assert sdwatch(tmp_path, "run", "--once").returncode == ExitCode.OK
    assert only(tmp_path, "done")
    assert not list((tmp_path / "failed").iterdir())


def test_with_start_a_webui_that_cannot_start_is_a_problem_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("- {fault: exit-on-start, when: {start: 1}, times: always}\n", encoding="utf-8")
    make_spool(tmp_path, "--faults", str(plan))
    ran = sdwatch(tmp_path, "doctor", "--start")
    assert ran.returncode == ExitCode.ERROR, ran.stdout
    assert "PROBLEM  webui simulator: " in ran.stdout
    assert not listens(tmp_path)


def test_while_a_monitor_runs_its_own_webui_is_asked_and_none_is_started(tmp_path: Path) -> None:
    make_spool(tmp_path)
    with running(tmp_path):
        ran = sdwatch(tmp_path, "doctor", "--start")
        assert "no WebUI was started: the monitor of worker" in ran.stdout
        assert list(tmp_path.glob("canary-simulator-*.png"))
        assert listens(tmp_path)


def test_a_hold_file_keeps_doctor_from_starting_anything(tmp_path: Path) -> None:
    make_spool(tmp_path)
    (tmp_path / "hold").touch()
    ran = sdwatch(tmp_path, "doctor", "--start")
    assert "hold in the spool asks that no WebUI is started" in ran.stdout
    assert not list(tmp_path.glob("canary-*"))


@POSIX
def test_doctor_that_is_stopped_stops_what_it_started(tmp_path: Path) -> None:
    make_spool(tmp_path, "--boot-time", "600")
    words = "-m", "sdwatch", "doctor", "--start"
    process = warm.begin(*words, out=tmp_path / "out", cwd=tmp_path, env=dict(os.environ))
    try:
        wait_until(lambda: bool(pids_in(tmp_path)), 60, "its WebUI")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == ExitCode.INTERRUPTED
    finally:
        process.kill()
    assert not pids_in(tmp_path)


def pids_in(cwd: Path) -> list[int]:
    """The processes of the simulator of this spool."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if "sdwatch.simulator" in (process.info["cmdline"] or ())
        and str(port_of(cwd)) in process.info["cmdline"]
    ]


def port_of(cwd: Path) -> int:
    config = json.loads((cwd / "sdwatch.yaml").read_text(encoding="utf-8"))
    return int(config["webuis"]["simulator"]["url"].rpartition(":")[2])


def listens(cwd: Path) -> bool:
    with socket.socket() as asked:
        asked.settimeout(5)
        return asked.connect_ex(("127.0.0.1", port_of(cwd))) == 0


def test_a_start_that_would_fail_is_a_problem_with_what_to_do(tmp_path: Path) -> None:
    make_spool(tmp_path)
    config = json.loads((tmp_path / "sdwatch.yaml").read_text(encoding="utf-8"))
    config["webuis"]["simulator"] |= {"cwd": "nowhere"}
    (tmp_path / "sdwatch.yaml").write_text(json.dumps(config), encoding="utf-8")
    code, found = doctor(tmp_path)
    assert code == ExitCode.ERROR
    assert "set `cwd`" in found["webui"][0]["message"]
    ran = sdwatch(tmp_path, "doctor")
    assert "PROBLEM" in ran.stdout
    assert "Not ready: 1 to fix" in ran.stdout


def test_a_port_that_accepts_and_says_nothing_does_not_hold_it_up(tmp_path: Path) -> None:
    make_spool(tmp_path)
    config = json.loads((tmp_path / "sdwatch.yaml").read_text(encoding="utf-8"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        config["webuis"] = {"one": {"url": f"http://127.0.0.1:{port}", "health": {"timeout": 1}}}
        (tmp_path / "sdwatch.yaml").write_text(json.dumps(config), encoding="utf-8")
        code, found = doctor(tmp_path)
    assert code == ExitCode.ERROR
    assert "is not ready" in found["picture"][0]["message"]


def test_a_webui_that_listens_on_all_addresses_is_a_warning(tmp_path: Path) -> None:
    make_spool(tmp_path)
    config = json.loads((tmp_path / "sdwatch.yaml").read_text(encoding="utf-8"))
    with socket.create_server(("0.0.0.0", 0)) as everywhere:
        port = everywhere.getsockname()[1]
        config["webuis"] = {"one": {"url": f"http://127.0.0.1:{port}", "health": {"timeout": 0.5}}}
        (tmp_path / "sdwatch.yaml").write_text(json.dumps(config), encoding="utf-8")
        _, found = doctor(tmp_path)
    assert any("all addresses" in finding["message"] for finding in found["port"])


@POSIX
def test_a_folder_that_cannot_be_written_is_a_problem() -> None:
    with tempfile.TemporaryDirectory() as folder:  # nobody may enter the folders of pytest
        root = Path(folder)
        for name in ("inbox", "working", "done", "failed"):
            (root / name).mkdir()
            (root / name).chmod(0o777)
        root.chmod(0o755)
        (root / "done").chmod(0o555)
        with as_nobody():
            found = [*check_machine._folders(Spool(root, ""), root / "state")]
        assert [finding.weight for finding in found] == [Weight.PROBLEM]
        assert "done: no file can be written" in found[0].message
        assert not [*root.glob("*/.sdwatch-doctor*")]


@contextmanager
def as_nobody() -> Iterator[None]:
    """Act on files as a user whom permissions concern: root may write everywhere."""
    if sys.platform == "win32" or os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_in_place_of_a_folder_is_said(tmp_path: Path) -> None:
    make_spool(tmp_path)
    (tmp_path / "working").mkdir()
    (tmp_path / "failed").mkdir()
    (tmp_path / "done").write_text("")
    (tmp_path / "state").write_text("")
    code, found = doctor(tmp_path)
    assert code == ExitCode.ERROR
    assert weights(found["folders"]) == {"problem"}
    for finding, name in zip(found["folders"], ("state", "done"), strict=True):
        assert f"{name} is a file" in finding["message"]


def test_a_full_disk_is_a_problem(tmp_path: Path) -> None:
    make_spool(tmp_path, min_free="900000 GB")
    code, found = doctor(tmp_path)
    assert code == ExitCode.ERROR
    assert any("less than `min_free`" in finding["message"] for finding in found["disk"])


@POSIX
@pytest.mark.parametrize(
    ("script", "weight", "words"),
    [
        ("echo name; echo RTX 9090, 24 GB", "ok", "RTX 9090"),
        ("echo Failed to initialize NVML: Driver mismatch; exit 18", "warning", "NVML"),
        ("exec sleep 60", "warning", "did not answer"),
    ],
)  # fmt: skip
def test_the_gpu_tool_is_asked_within_a_limit(
    tmp_path: Path, script: str, weight: str, words: str
) -> None:
    make_spool(tmp_path)
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    _, found = doctor(tmp_path, PATH=f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    assert weights(found["gpu"]) == {weight}
    assert words in found["gpu"][0]["message"]


def test_notifications_are_named_without_their_addresses_and_none_is_sent(tmp_path: Path) -> None:
    with receiver() as there:
        make_spool(tmp_path, notify={"webhooks": [there.url], "apprise": [f"nosuch://{TOKEN}"]})
        ran = sdwatch(tmp_path, "doctor", "--json")
        assert there.got == []
    assert "gets messages" not in ran.stdout  # nobody knows, as none was sent
    found = [f for f in json.loads(ran.stdout)["findings"] if f["area"] == "notifications"]
    assert [finding["weight"] for finding in found] == ["ok", "warning"]
    assert TOKEN not in ran.stdout + ran.stderr


@POSIX
def test_a_config_with_secrets_that_all_may_read_is_a_warning(tmp_path: Path) -> None:
    make_spool(tmp_path, notify={"webhooks": ["https://hooks.example.com/x"]})
    _, found = doctor(tmp_path)
    assert "chmod 600" in found["config"][1]["advice"]
    (tmp_path / "sdwatch.yaml").chmod(0o600)
    _, found = doctor(tmp_path)
    assert weights(found["config"]) == {"ok"}


def test_a_config_with_mistakes_is_reported_as_everywhere(tmp_path: Path) -> None:
    make_spool(tmp_path, setle=3)
    ran = sdwatch(tmp_path, "doctor", "--json")
    assert ran.returncode == ExitCode.BAD_CONFIG
    assert 'did you mean "settle"?' in ran.stderr


@POSIX
def test_the_name_of_a_folder_commands_no_terminal(tmp_path: Path) -> None:
    folder = tmp_path / "a\x1b[31m"
    folder.mkdir()
    assert "\x1b" not in sdwatch(folder, "doctor").stderr


def test_without_a_config_it_checks_the_built_in_one(tmp_path: Path) -> None:
    code, found = doctor(tmp_path, **home_env(tmp_path / "home"))
    assert code in (ExitCode.OK, ExitCode.WARNINGS)
    assert weights(found["config"]) == {"note"}
    assert weights(found["folders"]) == {"note"}


# -- the parts


def test_what_hangs_costs_only_its_own_limit_and_the_others_are_shown() -> None:
    forever = threading.Event()

    def hangs() -> list[DoctorFinding]:
        forever.wait(60)
        return []

    fine = DoctorFinding(Weight.OK, "fine")
    began = time.monotonic()
    found = [
        *examined([Examination(Area.FOLDERS, hangs, 0.2), Examination(Area.GPU, lambda: [fine])])
    ]
    assert time.monotonic() - began < 30
    forever.set()
    assert [finding.weight for finding in found] == [Weight.WARNING, Weight.OK]
    assert "no answer within 0.2 s" in found[0].message
    assert "share" in found[0].advice


def test_what_fails_is_a_warning_and_the_others_are_shown() -> None:
    def fails() -> list[DoctorFinding]:
        raise OSError(5, "Input/output error")

    fine = DoctorFinding(Weight.OK, "fine")
    found = [*examined([Examination(Area.CLOCK, fails), Examination(Area.GPU, lambda: [fine])])]
    assert [finding.weight for finding in found] == [Weight.WARNING, Weight.OK]


@pytest.mark.parametrize(
    ("at", "apart"), [(100.0, 0), (99.0, 0), (98.5, 0), (101.0, 0), (161.0, 60), (38.0, -60)]
)
def test_the_clock_of_a_disk_is_compared_with_this_one(at: float, apart: float) -> None:
    assert clock_skew(100.0, at, 101.0) == pytest.approx(apart, abs=0.5)


def test_the_worst_finding_decides() -> None:
    assert worst_of([]) is Weight.OK
    found = [DoctorFinding(weight, "") for weight in (Weight.NOTE, Weight.WARNING)]
    assert worst_of(found) is Weight.WARNING


def test_a_share_is_recognised_by_its_mount(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Part:
        def __init__(self, mountpoint: str, fstype: str, opts: str = "rw") -> None:
            self.mountpoint, self.fstype, self.opts = mountpoint, fstype, opts

    opts = "rw,remote" if os.name == "nt" else "rw"
    real = os.path.realpath(tmp_path)
    parts = [Part(Path(real).anchor, "ext4"), Part(real, "cifs", opts)]
    monkeypatch.setattr(check_machine.psutil, "disk_partitions", lambda all=False: parts)  # noqa: ARG005
    assert network_type(tmp_path / "spool")
    assert not network_type(Path(f"{real}-beside"))

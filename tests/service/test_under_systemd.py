"""`sdwatch service` under a real systemd, booted as process 1 of its own namespaces:
see booted.py."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from sdwatch.cli.shared.exit_codes import ExitCode
from tests.service.booted import Booted, booted
from tests.service.served import OTHER, UNDER_SYSTEMD, USERS, Service, given, spool_in
from tests.support.helpers import wait_until
from tests.support.monitored import has, job, journal

pytestmark = UNDER_SYSTEMD

SLOW = ("--step-time", "0.1")
HANGS = Path(__file__).with_name("hangs.py")


def test_a_service_is_installed_started_stopped_and_uninstalled(
    machine: Booted, shared: Path
) -> None:
    service = Service(machine, spool_in(shared, "whole"), "whole")
    assert "would: write /etc/systemd" in service.sdwatch("install", "--dry-run").stdout
    assert service.shown("LoadState") == "not-found"
    service.sdwatch("install")
    assert service.shown("UnitFileState") == "enabled"
    assert service.state() == "inactive dead"
    machine.run("systemd-analyze", "verify", service.unit)

    service.sdwatch("start")  # which returns once the monitor watches its inbox
    assert service.state() == "active running"
    wait_until(lambda: "sim: ready" in service.shown("StatusText"), 30, "the WebUI is ready")
    service.spool.drop("castle.yaml", job())
    service.spool.wait_for(done=1)
    said = service.sdwatch("status").stdout
    assert "running, process " in said
    assert "it starts by itself" in said
    assert "1 in done" in said
    assert "done" in service.sdwatch("logs").stdout

    first = service.monitor()
    service.sdwatch("restart")
    assert service.monitor() not in (0, first)
    service.sdwatch("stop")
    assert service.state() == "inactive dead"
    assert not service.processes()

    assert "systemctl disable" in service.sdwatch("uninstall", "--dry-run").stdout
    service.systemctl("start")
    service.sdwatch("uninstall")
    assert not service.processes()
    assert service.shown("LoadState") == "not-found"
    for action in ("status", "uninstall"):
        assert service.sdwatch(action, check=False).returncode == ExitCode.NOT_FOUND


def test_after_kill_9_systemd_restarts_the_monitor_which_adopts_its_webui(
    machine: Booted, shared: Path
) -> None:
    with given(machine, shared, "killed", flags=SLOW) as service:
        service.spool.drop("castle.yaml", job(n_iter=2, steps=20))
        service.systemctl("start")
        service.spool.wait_posts(1)
        monitor, webui = service.monitor(), service.webui()
        machine.run("kill", "-9", monitor)
        service.spool.wait_for(done=1)
        assert service.monitor() not in (0, monitor)
        assert service.webui() == webui
        assert service.shown("NRestarts") == "1"
        (run,) = service.spool.done()
        assert [record["call"] for record in journal(run, "call_finished")] == ["1.1", "1.2"]
        assert not service.spool.working()


def test_a_main_loop_that_hangs_is_restarted_and_its_log_says_where(
    machine: Booted, shared: Path
) -> None:
    with given(machine, shared, "hangs") as service:
        order = service.spool.root / "hang"
        command = f"{sys.executable} -X faulthandler {HANGS} {service.spool.config_file} {order}"
        service.with_settings("WatchdogSec=3", "ExecStart=", f"ExecStart={command}")
        service.systemctl("start")
        service.spool.wait_ready()
        monitor, webui = service.monitor(), service.webui()
        order.touch()
        wait_until(lambda: not order.exists(), 20, "the loop hangs")
        service.spool.drop("castle.yaml", job())
        service.spool.wait_for(done=1)
        assert service.monitor() not in (0, monitor)
        assert service.webui() == webui
        log = service.log()
        assert "Watchdog timeout" in log
        assert "in hanging_scan" in log


def test_a_stop_in_the_middle_of_a_call_leaves_no_process_and_loses_no_job(
    machine: Booted, shared: Path
) -> None:
    short = {"stop_grace": 0.5}
    with given(machine, shared, "stopped", flags=SLOW, settings=short) as service:
        service.spool.drop("castle.yaml", job(steps=50))
        service.systemctl("start")
        service.spool.wait_posts(1)
        service.systemctl("stop")
        assert service.state() == "inactive dead"
        assert not service.processes()
        (run,) = service.spool.working()
        assert not journal(run, "call_finished")

        service.systemctl("start")
        service.spool.wait_for(done=1, timeout=100)
        assert service.spool.done()[0].name == run.name


def test_systemd_waits_for_the_call_under_way_whatever_limits_it_has(
    machine: Booted, shared: Path
) -> None:
    with given(machine, shared, "patient", flags=SLOW) as service:
        # As after the config's stop_grace was raised; and a stop is longer than the watchdog.
        service.with_settings("TimeoutStopSec=1", "WatchdogSec=2")
        service.spool.drop("castle.yaml", job(n_iter=2, steps=40))
        service.systemctl("start")
        service.spool.wait_posts(1)
        service.systemctl("stop")
        assert service.state() == "inactive dead"
        (run,) = service.spool.working()
        assert journal(run, "call_finished")
        assert service.spool.stats()["posts"] == 1


def test_the_file_stop_ends_a_service_and_it_is_not_restarted(
    machine: Booted, shared: Path
) -> None:
    with given(machine, shared, "by-file") as service:
        service.systemctl("start")
        service.spool.wait_ready()
        (service.spool.spool / "stop").touch()
        wait_until(lambda: service.state() == "inactive dead", 30, "it stopped")
        assert not service.processes()
        assert service.shown("NRestarts") == "0"
        service.systemctl("start")  # the file is older now
        service.spool.wait_ready(incarnation=2)
        assert "the file stop in the spool is older" in service.sdwatch("status").stdout


def test_what_needs_a_person_is_not_restarted(machine: Booted, shared: Path) -> None:
    with given(machine, shared, "broken") as service:
        service.spool.config_file.write_text("nonsense: 1\n")
        assert service.systemctl("start", check=False)
        assert service.state() == "failed failed"
        assert service.shown("NRestarts") == "0"
        said = service.sdwatch("status").stdout
        assert f"exit code {int(ExitCode.BAD_CONFIG)}" in said
        assert "nonsense" in service.log()


def test_a_broken_config_is_not_installed(machine: Booted, shared: Path) -> None:
    service = Service(machine, spool_in(shared, "never"), "never")
    config = service.spool.config_file
    config.write_text(config.read_text().replace(sys.executable, "/no/python"))
    refused = service.sdwatch("install", check=False)
    assert refused.returncode == ExitCode.BAD_CONFIG
    assert "/no/python" in refused.stderr
    assert service.shown("LoadState") == "not-found"


def test_a_unit_of_somebody_else_is_neither_replaced_nor_removed(
    machine: Booted, shared: Path
) -> None:
    service = Service(machine, spool_in(shared, "theirs"), "theirs")
    theirs = f"/etc/systemd/system/{service.unit}"
    machine.write(theirs, "[Service]\nExecStart=/bin/sleep 1000\n")
    service.systemctl("start")
    assert "is taken" in service.sdwatch("install", check=False).stderr
    for action in ("uninstall", "stop"):
        assert service.sdwatch(action, check=False).returncode == ExitCode.NOT_FOUND
    assert service.state() == "active running"
    machine.run("test", "-f", theirs)


def test_an_installation_that_fails_half_way_is_undone(machine: Booted, shared: Path) -> None:
    service = Service(machine, spool_in(shared, "half"), "half")
    wants = "/etc/systemd/system/multi-user.target.wants"
    machine.run("sh", "-c", f"mv {wants} {wants}.aside 2>/dev/null; touch {wants}")
    try:
        failed = service.sdwatch("install", check=False)
    finally:
        machine.run("sh", "-c", f"rm {wants}; mv {wants}.aside {wants} 2>/dev/null || true")
    assert failed.returncode == ExitCode.ERROR
    assert "what was done before is undone" in failed.stderr
    assert service.shown("LoadState") == "not-found"
    machine.run("test", "!", "-e", f"/etc/systemd/system/{service.unit}")


def test_a_user_installs_one_without_root(machine: Booted, shared: Path) -> None:
    machine.run("systemctl", "start", "user@0")
    users = machine.of_user(USERS)
    service = Service(users, spool_in(shared, "users", flags=SLOW), "users")
    service.sdwatch("install")
    service.sdwatch("start")
    service.spool.drop("castle.yaml", job(n_iter=2, steps=10))
    service.spool.wait_posts(1)
    monitor, webui = service.monitor(), service.webui()
    machine.run("kill", "-9", monitor)
    service.spool.wait_for(done=1)
    assert service.webui() == webui
    assert "running, process " in service.sdwatch("status").stdout
    # The session ends in the middle of a call: that one is finished.
    service.spool.drop("tower.yaml", job(n_iter=2, steps=20))
    wait_until(has(service.spool.working, "call_started"), 30, "a call of the second job")
    machine.run("systemctl", "stop", "user@0")
    assert not service.spool.processes()
    (run,) = service.spool.working()
    assert len(journal(run, "call_finished")) == 1
    machine.run("systemctl", "start", "user@0")  # with the next session it starts by itself
    service.spool.wait_for(done=2)
    service.sdwatch("uninstall")
    assert not service.spool.processes()


def test_a_service_of_the_machine_runs_as_the_owner_of_its_config(
    machine: Booted, shared: Path
) -> None:
    machine.run("chmod", "755", "/root")  # in the overlay: the way to this Python may be private
    service = Service(machine, spool_in(shared, "owned"), "owned")
    spool = service.spool
    for path in (spool.root, *spool.root.rglob("*")):
        shutil.chown(path, OTHER, OTHER)
    service.sdwatch("install")
    service.systemctl("start")
    spool.drop("castle.yaml", job())
    spool.wait_for(done=1)
    assert spool.done()[0].owner() == OTHER
    status = machine.run("cat", f"/proc/{service.webui()}/status").stdout
    assert "NoNewPrivs:\t1" in status
    assert "CapBnd:\t0000000000000000" in status
    service.sdwatch("uninstall")


def test_the_hardening_leaves_devices_and_compilers_alone(machine: Booted, shared: Path) -> None:
    with given(machine, shared, "hardened") as service:
        code = (
            "import mmap, os; os.close(os.open('/dev/net/tun', os.O_RDWR)); "
            "mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC); "
            "open('/etc/sdwatch-wrote', 'w')"
        )
        machine.write("/probe.py", code)
        service.with_settings("Type=oneshot", "ExecStart=", f"ExecStart={sys.executable} /probe.py")
        service.systemctl("start", check=False)
        log = service.log()
        assert "Read-only file system: '/etc/sdwatch-wrote'" in log, log


def test_a_share_that_is_not_mounted_at_boot_is_waited_for(machine: Booted, shared: Path) -> None:
    share, mount = shared / "the-share", shared / "mnt"
    share.mkdir()
    mount.mkdir()
    machine.run("mount", "--bind", share, mount)
    spool = spool_in(shared, "on-share", settings={"spool": str(mount)})
    service = Service(machine, spool, "on-share")
    service.sdwatch("install")
    unit = machine.run("systemd-escape", "--path", "--suffix=mount", mount).stdout.strip()
    for kind in ("After", "Wants"):
        assert unit in service.shown(kind).replace("\\\\", "\\")
    service.systemctl("start")
    service.systemctl("stop")
    assert (share / "inbox").is_dir()

    machine.run("umount", mount)
    service.systemctl("start")
    assert service.state() == "active running"
    assert "share gone" in service.shown("StatusText")
    assert not list(mount.iterdir())  # nothing is made where the share should be
    (share / "inbox" / "castle.yaml").write_text(job())
    machine.run("mount", "--bind", share, mount)
    wait_until(lambda: list(share.glob("done/*")), 40, "the job of the share is done")
    service.systemctl("stop")


def test_a_share_that_goes_away_does_not_stop_the_service(machine: Booted, shared: Path) -> None:
    share, mount = shared / "a-share", shared / "mnt-2"
    share.mkdir()
    mount.mkdir()
    machine.run("mount", "--bind", share, mount)
    with given(machine, shared, "goes", settings={"spool": str(mount)}) as service:
        service.systemctl("start")
        monitor = service.monitor()
        machine.run("umount", "--lazy", mount)
        wait_until(lambda: "share gone" in service.shown("StatusText"), 30, "it says so")
        assert service.monitor() == monitor
        machine.run("mount", "--bind", share, mount)
        (share / "inbox" / "castle.yaml").write_text(job())
        wait_until(lambda: list(share.glob("done/*")), 40, "the job of the share is done")
        assert service.monitor() == monitor


def test_the_webui_outlives_a_monitor_that_the_kernel_kills_for_memory(
    machine: Booted, shared: Path
) -> None:
    """What systemd does with an out-of-memory kill is its OOMPolicy; here the setting is read, and
    the WebUI is killed as the kernel would."""
    with given(machine, shared, "memory") as service:
        assert service.shown("OOMPolicy") == "continue"
        assert service.shown("KillMode") == "process"
        service.systemctl("start")
        service.spool.wait_ready()
        monitor = service.monitor()
        machine.run("kill", "-9", service.webui())
        service.spool.drop("castle.yaml", job())
        service.spool.wait_for(done=1)
        assert service.monitor() == monitor
        assert has(service.spool.done, "ended")()


def test_a_shutdown_in_the_middle_of_a_call_finishes_it_and_the_next_boot_the_job(
    shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    spool = spool_in(shared, "shutdown", flags=SLOW)
    spool.drop("castle.yaml", job(n_iter=2, steps=30))
    with booted(tmp_path_factory.mktemp("boot"), [shared]) as machine:
        service = Service(machine, spool, "shutdown")
        service.sdwatch("install")
        machine.run("systemctl", "start", "multi-user.target")  # as at each boot
        spool.wait_posts(1)
        machine.run("systemctl", "poweroff", check=False)
        machine.wait_off()
    (run,) = spool.working()
    assert [record["event"] for record in journal(run)][-1] == "call_finished"
    assert not spool.processes()
    with booted(tmp_path_factory.mktemp("boot"), [shared]) as machine:
        with given(machine, shared, "shutdown", spool=spool) as service:
            service.systemctl("start")
            spool.wait_for(done=1)
            assert spool.stats()["posts"] == 2


def test_a_machine_that_dies_in_the_middle_of_a_call_does_the_job_after_the_next_boot(
    shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    spool = spool_in(shared, "dies", flags=SLOW)
    with booted(tmp_path_factory.mktemp("boot"), [shared]) as machine:
        with given(machine, shared, "dies", spool=spool) as service:
            service.systemctl("start")
            spool.drop("castle.yaml", job(n_iter=2, steps=30))
            spool.wait_posts(2)
            machine.die()
    assert not spool.processes()
    with booted(tmp_path_factory.mktemp("boot"), [shared]) as machine:
        with given(machine, shared, "dies", spool=spool) as service:
            service.systemctl("start")
            spool.wait_for(done=1)
    (run,) = spool.done()
    assert [record["call"] for record in journal(run, "call_finished")] == ["1.1", "1.2"]

"""What the monitor says to the service manager that started it, on a socket of the test's own."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from sdwatch.policy.report.status_line import status_line
from sdwatch.system.service_notifier import ServiceNotifier
from tests.support.helpers import wait_until
from tests.support.monitored import Monitored, job, monitored

pytestmark = pytest.mark.posix_only("systemd's protocol")
HANGS = Path(__file__).with_name("hangs.py")


class Manager:
    """The service manager's end of the socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self._socket.settimeout(30)

    def next(self) -> dict[str, str]:
        """The next report."""
        lines = self._socket.recv(4096).decode().split("\n")
        return dict(line.split("=", 1) for line in lines)

    def next_with(self, name: str) -> dict[str, str]:
        """The next report that says this."""
        while name not in (report := self.next()):
            pass
        return report

    def until(self, said: str) -> str:
        """The first status with this in it."""
        while said not in (status := self.next_with("STATUS")["STATUS"]):
            pass
        return status

    def silent_for(self, seconds: float) -> bool:
        """Whether nothing comes for so long, after what has come already."""
        try:
            self._socket.settimeout(0)
            while True:
                self._socket.recv(4096)
        except BlockingIOError:
            self._socket.settimeout(seconds)
        try:
            self._socket.recv(4096)
        except TimeoutError:
            return True
        return False

    def close(self) -> None:
        self._socket.close()


@contextmanager
def manager(address: str) -> Iterator[Manager]:
    made = Manager(address)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(params=["path", "abstract"])
def listening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    if request.param == "abstract" and sys.platform != "linux":
        pytest.skip("abstract sockets are of Linux")
    path = tmp_path / "notify"
    with manager(f"@{path}" if request.param == "abstract" else str(path)) as made:
        yield made


def test_ready_is_said_once_alive_each_time_and_the_status_when_it_changes(
    listening: Manager,
) -> None:
    notifier = ServiceNotifier(listening.address)
    notifier.alive("two\nlines")
    assert listening.next() == {"WATCHDOG": "1", "READY": "1", "STATUS": "two lines"}
    notifier.alive("two\nlines")
    assert listening.next() == {"WATCHDOG": "1"}
    notifier.alive("another")
    assert listening.next() == {"WATCHDOG": "1", "STATUS": "another"}
    notifier.stopping(70)
    assert listening.next() == {
        "STOPPING": "1",
        "STATUS": "stopping",
        "EXTEND_TIMEOUT_USEC": "70000000",
    }


def test_what_could_not_be_sent_is_said_again(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    notifier = ServiceNotifier(address)
    notifier.alive("first")  # nobody listens
    with manager(address) as listening:
        notifier.alive("first")
        assert listening.next() == {"WATCHDOG": "1", "READY": "1", "STATUS": "first"}
        for _ in range(10_000):  # a manager that does not read blocks nobody
            notifier.alive("first")


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative"])
def test_without_a_socket_that_is_known_nothing_is_sent(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    ServiceNotifier.from_environment().alive("nobody")


def test_a_monitor_says_ready_when_it_watches_its_inbox_and_stopping_when_it_stops(
    listening: Manager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", listening.address)
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    with monitored(tmp_path / "box") as spool:
        spool.start_process()
        first = listening.next()
        assert first["READY"] == "1"
        assert first["STATUS"].startswith("0 running, 0 queued; sim: ")
        spool.two_more_beats()
        wait_until(lambda: spool.lane().get("state") == "ready", 60, "the WebUI is ready")
        webui = psutil.Process(spool.webui_pid()).environ()
        assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & webui.keys()

        (spool.spool / "hold").touch()
        assert "sim: ready" in listening.until("on hold: paused")
        assert spool.signal(signal.SIGTERM) == 0
        seconds = float(listening.next_with("STOPPING")["EXTEND_TIMEOUT_USEC"]) / 1e6
        config = spool.config
        assert seconds > config.stop_grace + config.webuis[0].stop_grace


def test_a_monitor_that_waits_for_its_share_is_ready_and_says_so(
    listening: Manager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", listening.address)
    with monitored(tmp_path / "box") as spool:
        spool.start_process()
        listening.next_with("READY")
        assert spool.signal(signal.SIGTERM) == 0
        spool.spool.rename(tmp_path / "elsewhere")
        spool.start_process()
        report = listening.next_with("READY")
        assert "share gone" in report["STATUS"]
        (tmp_path / "elsewhere").rename(spool.spool)
        listening.until("sim: ready")
        assert spool.signal(signal.SIGTERM) == 0


def test_a_main_loop_that_hangs_feeds_no_watchdog_though_its_heartbeat_beats_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, order = str(tmp_path / "notify"), tmp_path / "hang"
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with manager(address) as listening, monitored(tmp_path / "box") as spool:
        with open(spool.root / "monitor.log", "ab") as log:
            command = [sys.executable, str(HANGS), str(spool.config_file), str(order)]
            spool.process = subprocess.Popen(command, stdout=log, stderr=log)
        listening.next_with("READY")
        listening.next_with("WATCHDOG")
        order.touch()
        wait_until(lambda: not order.exists(), 20, "it hangs")
        assert listening.silent_for(4)
        beat = spool.status()["beat"]
        wait_until(lambda: spool.status()["beat"] > beat, 20, "the heartbeat beats on")


def test_the_line_says_what_runs_what_waits_and_which_lane_is_on_hold() -> None:
    lane = {"name": "forge", "hold": "", "cooldown_left": 0, "state": "ready"}
    status = {
        "hold": "",
        "queued": 14,
        "runs": [{"lane": "forge"}, {"lane": ""}],  # the second is suspended
        "lanes": [lane, lane | {"name": "sd", "hold": "no model"}],
    }
    what = "1 running, 1 suspended, 13 queued"  # the heartbeat counts both as queued
    assert status_line(status) == f"{what}; forge: ready; sd: on hold: no model"
    assert status_line(status | {"runs": []}).startswith("0 running, 14 queued; ")
    assert "forge: cooling down" in status_line(
        status | {"lanes": [lane | {"cooldown_left": 3.0, "state": "cooling down"}]}
    )
    assert "on hold: share gone" in status_line(status | {"hold": "share gone", "lanes": []})


def test_a_monitor_without_a_service_manager_works_as_ever(tmp_path: Path) -> None:
    with monitored(tmp_path) as spool:
        given: Monitored = spool
        given.drop("castle.yaml", job())
        given.start(once=True)
        given.ended()
        assert len(given.done()) == 1

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from sdwatch import system
from sdwatch.clock import SystemClock
from sdwatch.webui import tree
from sdwatch.webui.identity import is_living
from tests.helpers import wait_until
from tests.webui.webui_processes import Setup, alive, kill, root_pid, setup_in


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    with setup_in(tmp_path) as made:
        yield made


@pytest.mark.parametrize(
    ("modes", "count"),
    [
        ((), 1),
        (("child",), 2),
        (("escapee",), 2),
        (("hidden-child",), 2),
        (("ignore-term",), 1),
        (("ignore-term", "child", "escapee", "hidden-child"), 4),
    ],
)
def test_after_stop_nothing_is_left_and_the_port_is_free(
    setup: Setup, modes: tuple[str, ...], count: int
) -> None:
    manager = setup.ready(*modes)
    pids = [p.pid for p in manager.processes()]
    assert len(pids) == count
    assert manager.stop(grace=0.3)
    assert alive(pids) == []
    assert manager.processes() == []
    assert not manager.is_process_alive()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", setup.port))


def test_a_frozen_process_is_stopped(setup: Setup) -> None:
    manager = setup.ready("child")
    pids = [p.pid for p in manager.processes()]
    for pid in pids:
        kill(pid, signal.SIGSTOP)
    assert manager.stop(grace=0.2)
    assert alive(pids) == []


def test_what_outlives_its_killed_parent_is_stopped_before_the_next_start(setup: Setup) -> None:
    manager = setup.ready("child", "escapee")
    pids = [p.pid for p in manager.processes()]
    kill(root_pid(manager))
    manager.start()
    assert alive(pids) == []
    assert manager.wait_ready(30)
    assert manager.generation == 2


def test_what_a_crash_leaves_behind_is_stopped_without_being_asked(setup: Setup) -> None:
    manager = setup.ready("child", "escapee")
    pids = [p.pid for p in manager.processes()]
    kill(root_pid(manager))
    wait_until(lambda: not alive(pids))
    wait_until(lambda: setup.exits)
    assert len(setup.exits) == 1


def test_a_look_alike_is_left_alone(setup: Setup) -> None:
    command = setup.command("mute")
    look_alike = subprocess.Popen(command, start_new_session=True)
    manager = setup.manager("mute")
    manager.start()
    assert manager.stop()
    manager.start()
    assert manager.stop()
    assert look_alike.poll() is None
    look_alike.kill()
    look_alike.wait()


def test_a_token_of_another_generation_is_not_ours(setup: Setup) -> None:
    environment = {**os.environ, "SDWATCH_TOKEN": "0" * 32}
    other = subprocess.Popen(setup.command("mute"), env=environment)
    manager = setup.manager("mute")
    manager.start()
    assert manager.stop()
    assert other.poll() is None
    other.kill()
    other.wait()


def test_stop_twice_is_as_good_as_once(setup: Setup) -> None:
    manager = setup.ready()
    assert manager.stop()
    assert manager.stop()
    wait_until(lambda: setup.exits)
    assert len(setup.exits) == 1


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        yield child
        child.kill()


@pytest.mark.parametrize("is_leader_ours", [True, False])
def test_only_a_group_whose_leader_is_ours_is_asked_to_end(
    sleeper: subprocess.Popen[bytes], is_leader_ours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[list[int], int | None]] = []
    monkeypatch.setattr(system, "ask_to_end", lambda pids, group, _: asked.append((pids, group)))
    process = psutil.Process(sleeper.pid)
    stranger = os.getpid()
    left = tree.stop_whole(
        lambda: [process],
        group=process.pid if is_leader_ours else stranger,
        job_name="",
        grace=0,
        clock=SystemClock(),
    )
    assert left == []
    assert asked == [([process.pid], process.pid if is_leader_ours else None)]


# --- who has the port -------------------------------------------------------------------------


def test_the_owner_of_a_port_is_named_by_every_name_of_the_host() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        owner = tree.owner_of("127.0.0.1", port)
        assert owner is not None
        assert owner.startswith(f"pid {os.getpid()} (")
        assert tree.owner_of("localhost", port) == owner
    assert tree.owner_of("localhost", port) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("address", ["0.0.0.0", "::", "::ffff:127.0.0.1"])
def test_who_listens_everywhere_listens_there_too(
    host: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = SimpleNamespace(ip=address, port=4321)
    seen = SimpleNamespace(status=psutil.CONN_LISTEN, laddr=local, pid=os.getpid())
    monkeypatch.setattr(psutil, "net_connections", lambda _: [seen])
    assert f"pid {os.getpid()}" in str(tree.owner_of(host, 4321))


# --- the seam to the system -------------------------------------------------------------------


@pytest.fixture
def zombie() -> Iterator[psutil.Process]:
    """A dead process that nobody has reaped yet."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    process = psutil.Process(child.pid)
    wait_until(lambda: process.status() == psutil.STATUS_ZOMBIE)
    yield process
    child.wait()


def test_a_zombie_is_dead(zombie: psutil.Process) -> None:
    assert psutil.pid_exists(zombie.pid)
    assert not is_living(zombie)
    system.wait_gone(zombie)  # comes back although nobody reaps it


def test_a_process_that_may_not_be_looked_at_is_waited_for_all_the_same(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = threading.Event()

    def refuse(process: psutil.Process) -> str:
        looked.set()
        raise psutil.AccessDenied(process.pid)

    monkeypatch.setattr(psutil.Process, "status", refuse)
    with ThreadPoolExecutor(1) as pool:
        end = pool.submit(system.wait_gone, psutil.Process(sleeper.pid))
        wait_until(looked.is_set)
        assert not end.done()
        sleeper.communicate(b"\n")
        assert end.result(20) is None


def test_a_zombie_leaves_nothing_to_stop(zombie: psutil.Process) -> None:
    left = tree.stop_whole(lambda: [zombie], group=None, job_name="", grace=0, clock=SystemClock())
    assert left == []


def test_the_start_mark_names_one_process() -> None:
    mine = system.start_mark(os.getpid())
    assert mine == system.start_mark(os.getpid())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert system.start_mark(child.pid) not in (None, mine)
        child.communicate(b"\n")
    assert system.start_mark(child.pid) is None


def test_the_start_mark_of_a_name_with_spaces_and_brackets(tmp_path: Path) -> None:
    odd = tmp_path / "a) S 1 (b"
    odd.symlink_to("/bin/sleep")
    with subprocess.Popen([str(odd), "60"]) as child:
        created = psutil.Process(child.pid)._proc.create_time(monotonic=True)
        mark = wait_until(lambda: system.start_mark(child.pid))
        if sys.platform == "linux":
            assert int(mark) / os.sysconf("SC_CLK_TCK") == created
        child.kill()


def test_the_boot_id_stays_and_the_boot_clock_goes_forward() -> None:
    assert system.boot_id() == system.boot_id() != ""
    before = system.boot_time()
    assert 0 < before <= system.boot_time()


def test_a_variable_is_seen_in_the_environment_of_its_process_only() -> None:
    environment = {**os.environ, "SDWATCH_TEST": "here"}
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE) as child:
        wait_until(lambda: system.environ_has(child.pid, "SDWATCH_TEST", "here"))
        assert not system.environ_has(child.pid, "SDWATCH_TEST", "her")
        assert not system.environ_has(os.getpid(), "SDWATCH_TEST", "here")
        child.communicate(b"\n")
    assert not system.environ_has(child.pid, "SDWATCH_TEST", "here")

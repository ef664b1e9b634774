from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from sdwatch import system
from sdwatch.system import disk
from sdwatch.system.clock import SystemClock
from sdwatch.webui.process import process_tree
from sdwatch.webui.process.process_identity import is_living
from tests.support.helpers import wait_until
from tests.webui.webui_processes import Setup, alive, kill, members, pids_of, root_pid, setup_in


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
        (("plain-child",), 2),
        (("orphan",), 2),
        (("silent-orphan", "orphan", "plain-child"), 4),
        (("ignore-term",), 1),
        (("ignore-term", "child", "escapee", "hidden-child"), 4),
    ],
)
def test_after_stop_nothing_is_left_and_the_port_is_free(
    setup: Setup, modes: tuple[str, ...], count: int
) -> None:
    manager = setup.ready(*modes)
    pids = pids_of(manager)
    session = members(root_pid(manager))
    assert len({*pids, *session}) == count
    assert manager.stop(grace=0.3)
    assert alive(session) == []
    assert alive(pids) == []
    assert manager.processes() == []
    assert not manager.is_process_alive()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", setup.port))


def test_a_frozen_process_is_stopped(setup: Setup) -> None:
    manager = setup.ready("child")
    pids = pids_of(manager)
    for pid in pids:
        psutil.Process(pid).suspend()
    assert manager.stop(grace=0.2)
    assert alive(pids) == []


def test_a_process_that_outlives_its_killed_parent_is_stopped_before_the_next_start(
    setup: Setup,
) -> None:
    manager = setup.ready("child", "escapee")
    pids = pids_of(manager)
    kill(root_pid(manager))
    manager.start()
    assert alive(pids) == []
    assert manager.wait_ready(30)
    assert manager.incarnation == 2


def test_the_leftovers_of_a_crash_are_stopped_without_a_request(setup: Setup) -> None:
    manager = setup.ready("child", "escapee")
    pids = pids_of(manager)
    kill(root_pid(manager))
    wait_until(lambda: not alive(pids))
    wait_until(lambda: setup.exits)
    assert len(setup.exits) == 1


# --- by its session: a child with another environment --------------------------------------------

PLAIN = ("plain-child", "orphan", "silent-orphan")


@pytest.mark.posix_only("sessions; a job object on Windows")
def test_a_crash_leaves_no_plain_child_behind_however_often(setup: Setup) -> None:
    manager = setup.ready(*PLAIN)
    sessions: list[int] = []
    for _ in range(3):
        manager.start()
        assert manager.wait_ready(30)
        root = root_pid(manager)
        wait_until(lambda root=root: len(members(root)) == 4)
        sessions.append(root)
        kill(root)
        wait_until(lambda root=root: not members(root), why="they are stopped without being asked")
    assert [pid for root in sessions for pid in members(root)] == []


@pytest.mark.posix_only("sessions; a job object on Windows")
def test_a_crash_between_two_monitors_leaves_no_plain_child_behind(setup: Setup) -> None:
    first = setup.ready(*PLAIN)
    root = root_pid(first)
    first.close()
    kill(root)
    wait_until(lambda: root not in members(root))
    assert len(members(root)) == 3
    second = setup.manager()
    assert not second.adopt(timeout_s=0.2)
    assert members(root) == []
    second.start()
    assert second.wait_ready(30)


@pytest.mark.posix_only("sessions; a job object on Windows")
def test_a_crash_of_an_adopted_webui_leaves_no_plain_child_behind(setup: Setup) -> None:
    first = setup.ready(*PLAIN)
    root = root_pid(first)
    first.close()
    second = setup.manager()
    assert second.adopt()
    kill(root)
    wait_until(lambda: not members(root))
    wait_until(lambda: setup.exits)
    assert len(setup.exits) == 1


@pytest.mark.posix_only("sessions; a job object on Windows")
def test_an_adopted_webui_is_stopped_with_its_plain_children(setup: Setup) -> None:
    first = setup.ready(*PLAIN)
    root = root_pid(first)
    first.close()
    second = setup.manager()
    assert second.adopt()
    assert second.stop(grace=0.3)
    assert members(root) == []


@pytest.mark.posix_only("sessions; a job object on Windows")
def test_a_process_that_leaves_session_environment_and_parent_is_not_found(setup: Setup) -> None:
    manager = setup.ready("out-of-reach")
    assert len(manager.processes()) == 1
    (away,) = [pid for pid in _printing_to_logs_of(setup) if pid != root_pid(manager)]
    assert manager.stop()
    assert alive([away]) == [away]
    kill(away)


def _printing_to_logs_of(setup: Setup) -> list[int]:
    paths = list(setup.state_dir.glob("incarnation-*"))
    return [p.pid for p in psutil.process_iter() if system.prints_to(p, paths) and is_living(p)]


@pytest.mark.posix_only("sessions; a job object on Windows")
def test_a_process_of_another_user_in_the_session_is_left_alone(setup: Setup) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can start a process of another user")
    manager = setup.ready("foreign-orphan", "plain-child")
    root = root_pid(manager)
    (foreign,) = [pid for pid in members(root) if psutil.Process(pid).uids().real == 65534]
    kill(root)
    wait_until(lambda: members(root) == [foreign], why="it alone is left")
    manager.start()  # and it is in nobody's way
    assert manager.stop()
    assert alive([foreign]) == [foreign]
    kill(foreign)


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """The first process of a session of its own, and another one in it, with no environment."""
    script = "import os, subprocess, time; subprocess.Popen(['/bin/sleep', '600']); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", script], env={}, start_new_session=True) as first:
        wait_until(lambda: len(members(first.pid)) == 2)
        yield first
        for pid in members(first.pid):
            kill(pid)


def recorded(setup: Setup, **changes: object) -> None:
    """A record of a generation whose processes have ended."""
    record = {
        "incarnation": 7,
        "token": "f" * 32,
        "boot_id": system.boot_id(),
        "program": sys.executable,
        "numbering": system.numbering(),
    }
    setup.state_dir.mkdir(exist_ok=True)
    disk.write_json(setup.state_dir / "identity.json", record | changes)


def let_numbers_come_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on each number may have been given to another process since."""
    first, made = system.numbering().split()
    later = f"{first} {int(made) + 40_000_000}"
    monkeypatch.setattr("sdwatch.system.posix_processes.numbering", lambda: later)


@pytest.mark.posix_only("sessions; a job object on Windows")
def test_a_stranger_that_got_the_number_of_the_root_is_left_alone(
    setup: Setup, stranger: subprocess.Popen[bytes]
) -> None:
    before = str(int(system.start_mark(stranger.pid) or 0) - 1)
    recorded(setup, pid=stranger.pid, start_mark=before, session=stranger.pid, session_mark=before)
    both = members(stranger.pid)
    manager = setup.manager("mute")
    assert manager.processes() == []
    assert not manager.adopt(timeout_s=0.2)
    manager.start()
    assert manager.stop(grace=0)
    assert alive(both) == both


@pytest.mark.posix_only("sessions; a job object on Windows")
@pytest.mark.parametrize("numbering", ["", "another round", "another container", "nonsense"])
def test_a_session_of_strangers_whose_first_process_has_ended_is_left_alone(
    setup: Setup,
    stranger: subprocess.Popen[bytes],
    numbering: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a number that came round: all members of ours had ended before."""
    if numbering == "another round":
        numbering = system.numbering()
        let_numbers_come_round(monkeypatch)
    elif numbering == "another container":
        numbering = f"1{system.numbering()}"
    before = str(int(system.start_mark(stranger.pid) or 0) - 1)
    kill(stranger.pid)
    stranger.wait()
    (left,) = members(stranger.pid)
    ours = {"session": stranger.pid, "session_mark": before}
    recorded(setup, pid=stranger.pid, start_mark=before, **ours, numbering=numbering)
    manager = setup.manager("mute")
    assert manager.processes() == []
    manager.start()
    assert manager.stop(grace=0)
    assert alive([left]) == [left]


@pytest.mark.posix_only("sessions; a job object on Windows")
@pytest.mark.parametrize(
    "changes",
    [{"boot_id": "another"}, {"session_mark": "99999999999999"}, {"session_mark": ""}],
    ids=["another boot", "older than the first process", "no mark"],
)
def test_a_session_that_is_not_as_recorded_is_left_alone(
    setup: Setup, stranger: subprocess.Popen[bytes], changes: dict[str, object]
) -> None:
    mark = system.start_mark(stranger.pid)
    kill(stranger.pid)
    stranger.wait()
    (left,) = members(stranger.pid)
    ours: dict[str, object] = {"session": stranger.pid, "session_mark": mark}
    recorded(setup, **ours)
    assert [p.pid for p in setup.manager("mute").processes()] == [left]  # it is all about that
    recorded(setup, **ours | changes)
    assert setup.manager("mute").processes() == []


@pytest.mark.posix_only("sessions; a job object on Windows")
def test_a_session_identifies_nothing_after_its_stop(setup: Setup) -> None:
    manager = setup.ready("plain-child")
    assert manager.stop(grace=0)
    assert manager._identity is not None
    assert manager._identity.session == 0


@pytest.mark.posix_only("sessions; a job object on Windows")
@pytest.mark.parametrize("mode", ["orphan", "silent-orphan"])
def test_who_prints_to_its_log_vouches_for_a_session_of_long_ago(
    setup: Setup, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = setup.ready(mode)
    root = root_pid(first)
    first.close()
    kill(root)
    # While it is dead but not reaped, its number is taken, and vouches for the session.
    wait_until(lambda: system.start_mark(root) is None)
    (left,) = members(root)
    let_numbers_come_round(monkeypatch)
    second = setup.manager("mute")
    assert second.stop(grace=0)
    assert (alive([left]) == []) is (mode == "orphan")
    for pid in alive([left]):
        kill(pid)


LAST_PID = Path("/proc/sys/kernel/ns_last_pid")


def start_with_number(pid: int, *words: str) -> subprocess.Popen[bytes] | None:
    """A process with this very number, in a session of its own; None where it is taken."""
    for _ in range(200):
        LAST_PID.write_text(str(pid - 1))
        made = subprocess.Popen(words, env={}, start_new_session=True)
        if made.pid == pid:
            return made
        made.kill()
        made.wait()
    return None


@pytest.mark.posix_only("numbers of sessions")
@pytest.mark.skipif(not os.access(LAST_PID, os.W_OK), reason="needs root")
def test_the_number_of_a_session_is_not_given_away_while_it_has_a_member(setup: Setup) -> None:
    first = setup.ready("orphan")
    root = root_pid(first)
    first.close()
    kill(root)
    wait_until(lambda: root not in members(root))
    (left,) = members(root)
    assert start_with_number(root, "/bin/sleep", "600") is None
    kill(left)
    wait_until(lambda: system.session_of(left) is None, why="reaped: the dead hold the number too")
    # Now it is free, and a stranger gets it: with another start, so that nothing of his is ours.
    stranger = start_with_number(root, "/bin/sleep", "600")
    assert stranger is not None
    second = setup.manager("mute")
    assert second.processes() == []
    second.start()
    assert second.stop(grace=0)
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


@pytest.mark.parametrize("env", [None, {}], ids=["our environment", "no environment"])
def test_a_look_alike_is_left_alone(setup: Setup, env: dict[str, str] | None) -> None:
    command = setup.command("mute")
    look_alike = subprocess.Popen(command, env=env, start_new_session=True)
    manager = setup.manager("mute")
    manager.start()
    assert manager.stop()
    manager.start()
    assert manager.stop()
    assert look_alike.poll() is None
    look_alike.kill()
    look_alike.wait()


def test_a_token_of_another_incarnation_is_not_ours(setup: Setup) -> None:
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
    left = process_tree.stop_whole(
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
        owner = process_tree.owner_of("127.0.0.1", port)
        assert owner is not None
        assert owner.startswith(f"pid {os.getpid()} (")
        assert process_tree.owner_of("localhost", port) == owner
    assert process_tree.owner_of("localhost", port) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("address", ["0.0.0.0", "::", "::ffff:127.0.0.1"])
def test_who_listens_everywhere_listens_there_too(
    host: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = SimpleNamespace(ip=address, port=4321)
    seen = SimpleNamespace(status=psutil.CONN_LISTEN, laddr=local, pid=os.getpid())
    monkeypatch.setattr(psutil, "net_connections", lambda _: [seen])
    monkeypatch.setattr(system, "somebody_listens", lambda *_: True)
    assert f"pid {os.getpid()}" in str(process_tree.owner_of(host, 4321))


# --- the seam to the system -------------------------------------------------------------------


@pytest.mark.posix_only("sessions and their numbers")
def test_numbers_come_round_only_after_half_of_them_were_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    then = system.numbering()
    assert system.is_same_round(then)
    first, made = then.split()
    most = int(Path("/proc/sys/kernel/pid_max").read_text())
    for since, same in ((most // 2 - 1, True), (most // 2, False), (-1, False)):
        now = f"{first} {int(made) + since}"
        monkeypatch.setattr("sdwatch.system.posix_processes.numbering", lambda now=now: now)
        assert system.is_same_round(then) is same
    for nothing in ("", first, f"{first} x", f"{first} 0", f"{first} {made} 1"):
        assert not system.is_same_round(nothing)


@pytest.fixture
def zombie() -> Iterator[psutil.Process]:
    """A dead process that nobody has reaped yet."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    process = psutil.Process(child.pid)
    wait_until(lambda: process.status() == psutil.STATUS_ZOMBIE)
    yield process
    child.wait()


@pytest.mark.posix_only("zombies")
def test_a_zombie_is_dead(zombie: psutil.Process) -> None:
    assert psutil.pid_exists(zombie.pid)
    assert not is_living(zombie)
    system.wait_gone(zombie)  # comes back although nobody reaps it


@pytest.mark.posix_only("Windows waits for a process by its handle")
def test_a_process_that_may_not_be_read_is_still_waited_for(
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


@pytest.mark.skipif(sys.platform != "linux", reason="psutil reads /proc")
def test_a_stop_outlasts_files_that_are_gone_while_psutil_reads_them(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an end, with the number in use again a moment later: psutil raises
    FileNotFoundError where it otherwise raises NoSuchProcess."""
    manager = setup.ready("child", "escapee", "ignore-term")
    pids = pids_of(manager)
    asked = Counter[str]()

    def gone_now_and_then(read: Callable[..., object]) -> Callable[..., object]:
        def reads(path: str, *args: object, **more: object) -> object:
            asked[path] += path.endswith(("/stat", "/status"))
            # No four squares are equally far apart: no question meets one in each of its tries.
            if asked[path] and math.isqrt(asked[path]) ** 2 == asked[path]:
                raise FileNotFoundError(2, "No such file or directory", path)
            return read(path, *args, **more)

        return reads

    with monkeypatch.context() as patched:
        for reads in ("bcat", "open_binary"):
            psutil_reads = getattr(psutil._pslinux, reads)  # type: ignore[attr-defined]
            patched.setattr(f"psutil._pslinux.{reads}", gone_now_and_then(psutil_reads))
        assert manager.stop(grace=0.2)
    assert alive(pids) == []
    assert len([path for path in asked if path.endswith("/stat")]) >= len(pids)
    assert any(path.endswith("/status") for path in asked)


@pytest.mark.posix_only("zombies")
def test_a_zombie_leaves_nothing_to_stop(zombie: psutil.Process) -> None:
    left = process_tree.stop_whole(
        lambda: [zombie], group=None, job_name="", grace=0, clock=SystemClock()
    )
    assert left == []


def test_the_start_mark_names_one_process() -> None:
    mine = system.start_mark(os.getpid())
    assert mine == system.start_mark(os.getpid())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert system.start_mark(child.pid) not in (None, mine)
        child.communicate(b"\n")
    assert system.start_mark(child.pid) is None


@pytest.mark.posix_only("symbolic links")
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

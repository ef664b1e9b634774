from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.client import RemoteDisconnected
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
import pytest

from sdwatch import system
from sdwatch.errors import PortTakenError, ProcessError
from sdwatch.policy.failure.hold_reason import Lack, StartFailure
from sdwatch.system import disk
from sdwatch.system.clock import SystemClock
from sdwatch.system.failpoints import Failpoint
from sdwatch.webui.process import process, process_tree
from sdwatch.webui.process import process_identity as identities
from sdwatch.webui.process.incarnation import ProcessSettings
from sdwatch.webui.process.process import WebUIProcessManager
from sdwatch.webui.process.readiness import NotReady, ProbeResult, Readiness, SignsOfLife
from tests.support.helpers import KILL, PATIENCE, FakeClock, ended_by, wait_until
from tests.webui.webui_processes import (
    Setup,
    alive,
    kill,
    members,
    pids_of,
    probe_of,
    root_pid,
    setup_in,
)


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    with setup_in(tmp_path) as made:
        yield made


def test_a_start_becomes_ready_and_writes_to_two_files(setup: Setup) -> None:
    manager = setup.ready()
    assert manager.incarnation == 1
    assert manager.is_process_alive()
    stdout, stderr = manager.log_paths()
    assert stdout.name == "incarnation-000001.stdout.log"
    tails = manager.get_tail_logs()
    assert "booting" in tails["stdout"]
    assert "Running on local URL" in tails["stderr"]
    assert stderr.exists()
    assert process_tree.rss(manager.family()) > 1_000_000
    assert process_tree.cpu_and_io(manager.family())[0] > 0


def test_before_the_first_start_nothing_is_alive_and_the_tail_says_so(setup: Setup) -> None:
    manager = setup.manager()
    assert manager.incarnation == 0
    assert not manager.is_process_alive()
    assert manager.processes() == []
    assert not manager.adopt()
    assert manager.stop()
    assert not manager.wait_ready(1)
    assert manager.get_tail_logs()["stdout"].startswith("(")


ENDED_WHEN_ASKED = (-signal.SIGTERM, 0xC000013A, 1)
"""By SIGTERM; by Ctrl-Break (STATUS_CONTROL_C_EXIT); by its job where that does not arrive."""

CODE_OF_A_STRANGER = KILL if sys.platform == "win32" else None
"""The exit code of a killed process that is not our child: only Windows shows it to others."""

KILLS = [(KILL, ended_by(KILL))]
if sys.platform != "win32":
    KILLS.append((signal.SIGSEGV, -11))


@pytest.mark.parametrize(("number", "code"), KILLS)
def test_an_exit_by_a_signal_is_seen_once_with_its_code(
    setup: Setup, number: int, code: int
) -> None:
    manager = setup.ready()
    kill(root_pid(manager), number)
    wait_until(lambda: setup.exits)
    assert not manager.is_process_alive()
    assert manager.stop()
    assert [(e.incarnation, e.code, e.expected) for e in setup.exits] == [(1, code, False)]
    assert manager.last_exit == setup.exits[0]


def test_an_exit_with_0_is_seen_as_such(setup: Setup) -> None:
    manager = setup.ready()
    assert manager.last_exit is None
    with pytest.raises(RemoteDisconnected):
        urlopen(f"http://127.0.0.1:{setup.port}/exit", timeout=5)
    wait_until(lambda: setup.exits)
    assert setup.exits[0].code == 0


def test_a_stop_is_an_expected_exit(setup: Setup) -> None:
    manager = setup.ready()
    assert manager.stop()
    wait_until(lambda: setup.exits)
    assert setup.exits[0].expected
    assert setup.exits[0].code in ENDED_WHEN_ASKED


def test_eight_threads_that_ask_at_once_get_one_restart(setup: Setup) -> None:
    manager = setup.ready()
    together = threading.Barrier(8)

    def ask() -> bool:
        together.wait()
        return manager.restart_and_wait_ready(30)

    with ThreadPoolExecutor(8) as pool:
        answers = [future.result() for future in [pool.submit(ask) for _ in range(8)]]
    assert answers == [True] * 8
    assert manager.incarnation == 2
    assert manager.is_process_alive()


def test_a_restart_that_dies_at_boot_says_why_in_the_log(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    manager = setup.manager("die=3")
    with caplog.at_level(logging.WARNING, "sdwatch.webui"):
        assert not manager.restart_and_wait_ready(30)
    assert "ended before it was ready: exit code 3" in manager.last_failure
    assert manager.last_failure in caplog.text
    assert "boot failed" in manager.get_tail_logs()["stderr"]


@pytest.mark.parametrize(
    ("line", "code", "cause"),
    [
        (
            "RuntimeError: Torch is not able to use GPU",
            1,
            "exit code 1: the WebUI finds no GPU that its",
        ),
        ("launch.py: error: unrecognized arguments: --x", 2, "exit code 2: the WebUI does not kno"),
    ],
)
def test_a_start_that_fails_says_what_its_log_means(
    setup: Setup, line: str, code: int, cause: str
) -> None:
    program = f"import sys; print({line!r}, file=sys.stderr); sys.exit({code})"
    manager = setup.manager(command=[sys.executable, "-c", program])
    assert not manager.restart_and_wait_ready(30)
    assert cause in manager.last_failure


@pytest.mark.parametrize(
    ("lines", "cause"),
    [
        (
            "ERROR:    [Errno 98] error while attempting to bind on address ('127.0.0.1', 1): "
            "address already in use\n",
            "another program uses the WebUI's port",
        ),
        (
            "OSError: Cannot find empty port in range: 7860-7860\n",
            "another program uses the WebUI's port",
        ),
        ("Press any key to continue . . . ", "waits for a key press"),
        ("Torch is not able to use GPU\nPress any key to continue . . . ", "finds no GPU"),
    ],
)
def test_a_start_that_lives_on_after_it_has_failed_is_stopped_at_once(
    setup: Setup, lines: str, cause: str
) -> None:
    program = f"import time; print({lines!r}, end='', flush=True); time.sleep(600)"
    manager = setup.manager(command=[sys.executable, "-c", program])
    assert not manager.restart_and_wait_ready(300)
    assert "its log shows that the start failed: " in manager.last_failure
    assert cause in manager.last_failure
    assert manager.processes() == []


def test_the_log_of_a_start_that_was_given_up_explains_nothing(setup: Setup) -> None:
    program = "import time; print('Press any key to continue . . .', flush=True); time.sleep(60)"
    manager = setup.manager(command=[sys.executable, "-c", program])
    give_up = threading.Event()
    manager.start()
    wait_until(lambda: "any key" in manager.get_tail_logs()["stdout"])
    assert not manager.wait_ready(1.0)
    assert "not ready within 1 s" in manager.last_failure
    assert "waits for a key press" in manager.last_failure
    give_up.set()
    assert not manager.wait_ready(1.0, give_up)
    assert "key press" not in manager.last_failure


def test_never_ready_within_the_limit_is_false_and_stopped(setup: Setup) -> None:
    manager = setup.manager("never-ready")
    limit = 1.5 if PATIENCE == 1 else 20.0  # wine takes seconds to start one
    assert not manager.restart_and_wait_ready(limit)
    assert f"not ready within {limit:g} s: not yet: HTTP Error 404" in manager.last_failure
    assert manager.processes() == []
    assert manager.stop()


def test_giving_up_ends_a_restart(setup: Setup) -> None:
    manager = setup.manager("mute")
    give_up = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(manager.restart_and_wait_ready, 100, give_up)
        wait_until(manager.is_process_alive)
        give_up.set()
        assert not answer.result(20)
    assert "stopped waiting" in manager.last_failure
    assert manager.processes() == []


def test_the_work_of_a_process_that_waits_is_not_that_of_the_one_that_asks() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as idle:
        waiting, own = [psutil.Process(idle.pid)], [psutil.Process()]
        begin, mine = (process_tree.cpu_and_io(each)[0] for each in (waiting, own))
        while process_tree.cpu_and_io(own)[0] < mine + 2.0:
            sum(range(100_000))
        assert process_tree.cpu_and_io(waiting)[0] < begin + 1.0
        idle.communicate(b"\n")


def test_a_command_that_does_not_exist_says_so(setup: Setup) -> None:
    manager = setup.manager(command=["/nowhere/webui.sh"])
    with pytest.raises(ProcessError, match=r"command not found.*/nowhere/webui\.sh"):
        manager.start()
    assert not manager.restart_and_wait_ready(5)
    assert "command not found" in manager.last_failure


def test_a_command_that_cannot_be_run_says_so_in_words(setup: Setup, tmp_path: Path) -> None:
    (tmp_path / "webui.txt").write_text("no program")
    manager = setup.manager(command=[str(tmp_path / "webui.txt")])
    with pytest.raises(ProcessError, match="could not be started: ") as raised:
        manager.start()
    assert "Errno" not in str(raised.value)
    assert "WinError" not in str(raised.value)
    assert "\\\\" not in str(raised.value)


def test_a_working_folder_that_does_not_exist_says_so(setup: Setup, tmp_path: Path) -> None:
    manager = WebUIProcessManager(
        ProcessSettings(
            name="fake",
            command=setup.command(),
            port=setup.port,
            state_dir=setup.state_dir,
            cwd=tmp_path / "gone",
        ),
        clock=SystemClock(),
        probe=lambda: ProbeResult(True, ""),
    )
    with pytest.raises(
        ProcessError, match="gone does not exist: set `cwd` to the folder of the WebUI"
    ):
        manager.start()


def test_a_foreign_owner_of_the_port_is_named_and_lives(setup: Setup) -> None:
    with subprocess.Popen(setup.command()) as foreign:
        wait_until(lambda: system.somebody_listens("127.0.0.1", setup.port))
        manager = setup.manager()
        with pytest.raises(PortTakenError, match=rf"pid {foreign.pid} \(\w+"):
            manager.start()
        assert not manager.restart_and_wait_ready(5)
        assert not manager.adopt()
        assert manager.stop()
        assert foreign.poll() is None
        foreign.kill()


def test_a_port_that_somebody_takes_during_the_start_is_no_readiness(setup: Setup) -> None:
    manager = setup.manager("mute")
    manager.start()
    with subprocess.Popen(setup.command()) as foreign:
        assert not manager.wait_ready(30)
        assert f"taken by pid {foreign.pid}" in manager.last_failure
        assert manager.stop()
        assert foreign.poll() is None
        foreign.kill()


def test_an_unusable_api_ends_the_wait_with_its_reason(tmp_path: Path) -> None:
    with setup_in(tmp_path) as setup:
        manager = WebUIProcessManager(
            ProcessSettings(
                name="fake",
                command=setup.command(),
                port=setup.port,
                state_dir=setup.state_dir,
            ),
            clock=SystemClock(),
            probe=lambda: ProbeResult(False, "it was started without --api", Lack.API),
        )
        setup.managers.append(manager)
        assert not manager.restart_and_wait_ready(30)
        assert "without --api" in manager.last_failure
        assert manager.last_probe is not None
        assert manager.last_probe.unusable


# --- adoption ---------------------------------------------------------------------------------


def test_the_next_manager_adopts_a_ready_process(setup: Setup) -> None:
    first = setup.ready()
    pid = root_pid(first)
    first.close()
    second = setup.manager()
    assert second.adopt()
    assert second.incarnation == 1
    assert second.is_process_alive()
    kill(pid)
    wait_until(lambda: setup.exits)
    assert [e.incarnation for e in setup.exits] == [1]  # of the second; the first was closed
    second.start()
    assert second.incarnation == 2


MONITOR = """
import sys
from pathlib import Path
from tests.webui.webui_processes import Setup
setup = Setup(Path(sys.argv[1]), int(sys.argv[2]))
setup.ready(*sys.argv[3:])
print("ready", flush=True)
sys.stdin.read()
"""


def test_the_webui_of_a_monitor_that_was_killed_is_adopted(setup: Setup) -> None:
    command = [sys.executable, "-c", MONITOR, str(setup.state_dir), str(setup.port)]
    root = Path(__file__).parents[2]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=root, stdin=pipe, stdout=pipe) as monitor:
        assert monitor.stdout is not None
        assert monitor.stdout.readline().rstrip() == b"ready"
        monitor.kill()
    second = setup.manager()
    assert second.adopt()
    kill(root_pid(second))
    wait_until(lambda: setup.exits)
    assert setup.exits[0].code == CODE_OF_A_STRANGER
    assert not setup.exits[0].expected


@pytest.mark.posix_only("a job object is seen through the handle of the monitor that was killed")
def test_a_monitor_killed_and_a_webui_crashed_leave_nothing_to_the_next(setup: Setup) -> None:
    modes = ("plain-child", "orphan", "silent-orphan")
    command = [sys.executable, "-c", MONITOR, str(setup.state_dir), str(setup.port), *modes]
    root = Path(__file__).parents[2]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=root, stdin=pipe, stdout=pipe) as monitor:
        assert monitor.stdout is not None
        assert monitor.stdout.readline().rstrip() == b"ready"
        webui = json.loads((setup.state_dir / "identity.json").read_text())["pid"]
        monitor.kill()
    kill(webui)
    wait_until(lambda: not alive([webui]))
    assert len(members(webui)) == 3
    second = setup.manager()
    second.start()
    assert members(webui) == []
    assert second.wait_ready(30)


def test_killed_between_spawn_and_record_the_token_still_finds_it(setup: Setup) -> None:
    first = setup.ready("escapee")
    pids = pids_of(first)
    first.close()
    path = setup.state_dir / "identity.json"
    intent = json.loads(path.read_text())
    intent |= {"pid": 0, "start_mark": "", "listener_pid": 0, "listener_mark": ""}
    disk.write_json(path, intent)
    second = setup.manager()
    assert second.adopt()
    assert second.incarnation == 1
    assert json.loads(path.read_text())["pid"] == root_pid(first)
    assert second.stop()
    # One that ends by itself meanwhile has no environment any more, so its token is not seen; it
    # may be listed for a moment.
    wait_until(lambda: alive(pids) == [])


def test_ours_but_frozen_is_stopped_whole(setup: Setup) -> None:
    first = setup.ready("child", "escapee")
    pids = pids_of(first)
    assert len(pids) == 3
    psutil.Process(root_pid(first)).suspend()
    first.close()
    second = setup.manager()
    assert not second.adopt(timeout_s=0.5)
    assert alive(pids) == []
    second.start()
    assert second.incarnation == 2


def test_ours_but_not_listening_is_stopped_whole(setup: Setup) -> None:
    first = setup.manager("mute")
    first.start()
    pids = pids_of(first)
    first.close()
    second = setup.manager()
    assert not second.adopt(timeout_s=0.5)
    assert "nothing listens" in second.last_failure
    assert alive(pids) == []


@pytest.mark.parametrize("modes", [("mute",), ("never-ready",)])
def test_an_adoption_that_is_given_up_leaves_the_process_alone(
    setup: Setup, modes: tuple[str, ...]
) -> None:
    first = setup.manager(*modes)
    first.start()
    pids = pids_of(first)
    first.close()
    second = setup.manager()
    give_up = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(second.adopt, None, give_up)
        wait_until(second.is_process_alive)
        give_up.set()
        assert not answer.result(20)
    assert "stopped waiting" in second.last_failure
    assert alive(pids) == pids
    assert setup.exits == []


def test_a_record_of_another_boot_proves_nothing(setup: Setup) -> None:
    with subprocess.Popen(setup.command()) as foreign:
        record = {
            "incarnation": 7,
            "token": "f" * 32,
            "boot_id": "another boot",
            "program": sys.executable,
            "pid": foreign.pid,
            "start_mark": process.system.start_mark(foreign.pid),
        }
        setup.state_dir.mkdir()
        disk.write_json(setup.state_dir / "identity.json", record)
        manager = setup.manager()
        assert not manager.adopt()
        assert manager.stop()
        assert foreign.poll() is None
        foreign.kill()
    manager.start()
    assert manager.incarnation == 8


def record_with(**changes: object) -> bytes:
    record = {"incarnation": 50, "token": "f" * 32, "boot_id": "b", "program": "p", "pid": 1}
    return json.dumps(record | changes).encode()


UNREADABLE = {
    "empty": b"",
    "torn": b"{torn",
    "a list": b"[1]",
    "half of it": b'{"incarnation": 1}',
    "more than it": record_with(more=1),
    "no text": b"\xff\xfe{}",
    "nested": b"[" * 100_000,
    "incarnation as text": record_with(incarnation="50"),
    "incarnation as a switch": record_with(incarnation=True),
    "incarnation below zero": record_with(incarnation=-1),
    "no token": record_with(token=""),
    "token as a number": record_with(token=1),
    "pid below zero": record_with(pid=-1),
    "pid as a fraction": record_with(pid=1.0),
    "listener as text": record_with(listener_pid="1"),
    "mark as a number": record_with(start_mark=1),
    "boot as nothing": record_with(boot_id=None),
}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_a_record_that_cannot_be_read_is_set_aside(setup: Setup, content: bytes) -> None:
    setup.state_dir.mkdir()
    (setup.state_dir / "identity.json").write_bytes(content)
    (setup.state_dir / "incarnation-000041.stderr.log").touch()
    manager = setup.manager()
    assert not manager.adopt()
    manager.start()
    assert manager.incarnation == 42
    (aside,) = setup.state_dir.glob("identity.unreadable-*.json")
    assert aside.read_bytes() == content


def test_a_folder_in_place_of_the_record_is_set_aside(setup: Setup) -> None:
    (setup.state_dir / "identity.json" / "inside").mkdir(parents=True)
    (setup.state_dir / "incarnation-000041.stderr.log").touch()
    manager = setup.manager("mute")
    manager.start()
    assert manager.incarnation == 42
    (aside,) = setup.state_dir.glob("identity.unreadable-*.json")
    assert (aside / "inside").is_dir()


def test_a_record_that_cannot_even_be_set_aside_is_reported(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(effect: Failpoint) -> None:
        if effect.label == "rename":
            raise PermissionError(13, "Permission denied", str(effect.path))

    setup.state_dir.mkdir()
    (setup.state_dir / "identity.json").write_bytes(b"{torn")
    monkeypatch.setattr("sdwatch.system.failpoints.before", refuse)
    manager = setup.manager()
    assert not manager.adopt()
    assert "nor set aside: Permission denied: " in caplog.text
    with pytest.raises(ProcessError, match=r"cannot be written: Permission denied: "):
        manager.start()


def test_the_record_holds_no_arguments(setup: Setup) -> None:
    manager = setup.manager("mute", "--api-auth=me:secret")
    manager.start()
    assert "secret" not in (setup.state_dir / "identity.json").read_text()


# --- wrappers, leaks, logs --------------------------------------------------------------------


def wrapper(setup: Setup, *modes: str) -> list[str]:
    """As webui.sh: a bash that neither execs nor forwards signals, and lives on. On Windows as
    webui.bat, which ends in `pause`."""
    if sys.platform == "win32":
        then_pause = "import subprocess, sys, time; subprocess.call(sys.argv[1:]); time.sleep(600)"
        return [sys.executable, "-c", then_pause, *setup.command(*modes)]
    line = " ".join(setup.command(*modes))
    return ["bash", "-c", f"{line}; while true; do read -rt 1 <> <(:); done"]


def test_the_end_of_a_wrappers_python_ends_the_generation(setup: Setup) -> None:
    manager = setup.ready(command=wrapper(setup))
    bash = root_pid(manager)
    (python,) = (pid for pid in pids_of(manager) if pid != bash)
    assert psutil.Process(python).ppid() == bash
    kill(python)
    wait_until(lambda: setup.exits)
    assert [(e.code, e.expected) for e in setup.exits] == [(CODE_OF_A_STRANGER, False)]
    assert not manager.is_process_alive()
    wait_until(lambda: not alive([bash]), why="the wrapper is stopped as well")


def test_a_wrapper_that_dies_leaves_its_python_alive_and_managed(setup: Setup) -> None:
    manager = setup.ready(command=wrapper(setup))
    bash = root_pid(manager)
    (python,) = (pid for pid in pids_of(manager) if pid != bash)
    kill(bash)
    wait_until(lambda: not alive([bash]))
    assert manager.is_process_alive()
    manager.close()
    second = setup.manager()
    assert second.adopt()
    assert second.stop()
    assert alive([python]) == []
    assert not system.somebody_listens("127.0.0.1", setup.port)


def test_many_restarts_leak_no_thread_and_no_descriptor(setup: Setup) -> None:
    manager = setup.manager("mute")

    def exit_threads() -> list[threading.Thread]:
        return [t for t in threading.enumerate() if t.name.startswith("exit of fake")]

    def restart(times: int) -> int:
        for _ in range(times):
            manager.start()
        wait_until(lambda: len(exit_threads()) == 1)
        return len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 0

    after_few = restart(5)
    assert restart(25) <= after_few
    assert manager.incarnation == 30
    wait_until(lambda: len(setup.exits) == 29)
    assert len(list(setup.state_dir.glob("incarnation-*.stdout.log"))) == 20


def test_a_log_past_its_cap_is_truncated_in_place(setup: Setup) -> None:
    manager = setup.ready()
    manager._settings = replace(manager._settings, log_cap=4)
    stderr = manager.log_paths()[1]
    manager.cap_logs()
    assert stderr.stat().st_size == 0
    wait_until(lambda: "GET /ready" in (probe_and_read(setup.port, stderr)))
    assert b"\0" not in stderr.read_bytes()


def probe_and_read(port: int, path: Path) -> str:
    probe_of(port)
    return path.read_text()


# --- waiting, on a clock of its own -----------------------------------------------------------


class Wait:
    """A Readiness with a port that answers, at a clock that only the wait itself moves."""

    def __init__(self, tmp_path: Path, answers: list[ProbeResult], port: int) -> None:
        self.clock = FakeClock()
        self.probed_at: list[float] = []
        self.work = (0.0, 0)
        self.answers = iter(answers)
        self.readiness = Readiness(
            clock=self.clock,
            host="127.0.0.1",
            port=port,
            probe=self.probe,
            is_ours=lambda: True,
            ended=threading.Event(),
            signs=SignsOfLife(
                self.clock,
                [tmp_path / "log"],
                lambda: self.work,
                lambda line: "any key" in line,
            ),
            limit=60.0,
            stall=20.0,
        )

    def probe(self) -> ProbeResult:
        self.probed_at.append(round(self.clock.now - 1000.0, 1))
        self.work = (self.work[0] + 1, 0)
        return next(self.answers)


def test_probes_are_few(setup: Setup, tmp_path: Path) -> None:
    setup.ready()
    no, yes = ProbeResult(False, "not yet"), ProbeResult(True, "")
    wait = Wait(tmp_path, [no, no, no, no, yes], setup.port)
    assert wait.readiness.wait(threading.Event()) is None
    assert wait.probed_at == [0.0, 0.3, 2.3, 4.3, 6.3]


def test_a_start_without_any_sign_of_life_is_given_up(setup: Setup, tmp_path: Path) -> None:
    wait = Wait(tmp_path, [], setup.port)  # nothing listens
    assert "no output and no work for 20 s" in str(wait.readiness.wait(threading.Event()))


@pytest.mark.parametrize("end", ["", "\n", "\nmore\n"])
def test_a_line_that_proves_a_failure_ends_the_wait_at_once(
    setup: Setup, tmp_path: Path, end: str
) -> None:
    (tmp_path / "log").write_text(f"Traceback\nPress any key to continue . . . {end}")
    wait = Wait(tmp_path, [], setup.port)  # nothing listens
    found = wait.readiness.wait(threading.Event())
    assert found is not None
    assert found.failure is StartFailure.BY_ITS_LOG
    assert wait.clock.now - 1000.0 < 2


def test_no_line_ends_the_start_of_what_has_answered(setup: Setup, tmp_path: Path) -> None:
    setup.ready()
    (tmp_path / "log").write_text("Press any key to continue . . .\n")
    no, yes = ProbeResult(False, "not yet"), ProbeResult(True, "")
    assert Wait(tmp_path, [no, no, no, yes], setup.port).readiness.wait(threading.Event()) is None


def test_a_start_that_works_may_take_until_the_limit(setup: Setup, tmp_path: Path) -> None:
    setup.ready()
    wait = Wait(tmp_path, [ProbeResult(False, "loading")] * 99, setup.port)
    found = wait.readiness.wait(threading.Event())
    assert found == NotReady(StartFailure.TOO_LATE, "not ready within 60 s: loading")


def test_a_start_after_a_stop_does_not_look_for_leftovers_again(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = setup.manager()
    assert manager.restart_and_wait_ready(60)
    assert manager.stop()
    looks: list[int] = []
    real = identities.processes

    def look(*given: Any) -> list[psutil.Process]:
        looks.append(1)
        return real(*given)

    monkeypatch.setattr(identities, "processes", look)
    manager.start()
    assert not looks, "each look reads the environment of every process"
    manager.start()
    assert looks, "its own process was started since"

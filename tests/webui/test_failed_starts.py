"""Starts that fail, by real processes: each ends at once, with its true cause."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdwatch.simulator.start_failures import SERVER_THREAD_DIED
from sdwatch.webui.http.client import SDWebUIClient
from sdwatch.webui.http.health import ReadinessProbe, asks_for_api
from sdwatch.webui.process.host_snapshot import HostSnapshots, Snapshot
from sdwatch.webui.process.process import WebUIProcessManager
from tests.support.helpers import FakeClock, wait_until
from tests.webui.sim import FAST, running
from tests.webui.webui_processes import Setup, kill, root_pid, setup_in

NO_DRIVER = (
    "Warning: caught exception 'Found no NVIDIA driver on your system', memory monitor disab"
)


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    with setup_in(tmp_path) as made:
        yield made


def started(setup: Setup, program: str) -> WebUIProcessManager:
    manager = setup.manager(command=[sys.executable, "-c", program])
    assert not manager.restart_and_wait_ready(60)
    return manager


def printing(text: str, then: str = "") -> str:
    return f"import os, sys, time; print({text!r}, file=sys.stderr, flush=True); {then}"


def test_a_process_that_lives_on_without_its_server_is_seen_at_once(setup: Setup) -> None:
    manager = started(setup, printing(SERVER_THREAD_DIED, "time.sleep(600)"))
    assert "its log shows that the start failed" in manager.last_failure
    assert "cannot reach itself at localhost" in manager.last_failure
    assert "no_proxy" in manager.last_hold_reason.advice
    assert manager.processes() == []


@pytest.mark.parametrize("worker", ["webui_worker", "api_only_worker", "webui", "api_only"])
def test_a_server_thread_that_dies_of_anything_ends_the_start(setup: Setup, worker: str) -> None:
    text = (
        f"Exception in thread Thread-9 ({worker}):\nTraceback (most recent call last):\nKeyError: 1"
    )
    manager = started(setup, printing(text, "time.sleep(600)"))
    assert (
        "server ended with an exception while its process is still running" in manager.last_failure
    )


def test_a_thread_of_an_extension_that_dies_ends_no_start(setup: Setup) -> None:
    text = "Exception in thread Thread-9 (watch):\nTraceback (most recent call last):\nKeyError: 1"
    program = printing(text) + f"sys.argv[1:] = ['{setup.port}']; exec(open({str(FAKE)!r}).read())"
    setup.ready(command=[sys.executable, "-c", program])


@pytest.mark.parametrize(
    ("program", "exception"),
    [
        ("def f(): raise KeyError('queue')\nf()", "KeyError: 'queue', raised in <string>, line 1"),
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("def f(): assert 1 == 2\nf()", "AssertionError, raised in <string>, line 1, in f"),
    ],
)
def test_a_start_that_ends_in_an_exception_names_it(
    setup: Setup, program: str, exception: str
) -> None:
    manager = started(setup, program)
    assert exception in manager.last_hold_reason.cause
    assert exception not in manager.last_failure  # it may quote anything; that is redacted later


def test_a_server_thread_that_dies_is_named_with_its_exception(setup: Setup) -> None:
    text = (
        "Exception in thread Thread-9 (webui_worker):\nTraceback (most recent call last):\n"
        '  File "webui.py", line 86, in webui_worker\n    go()\nKeyError: 1'
    )
    manager = started(setup, printing(text, "time.sleep(600)"))
    assert "KeyError: 1, raised in webui.py, line 86" in manager.last_hold_reason.cause


def test_an_exception_after_which_the_start_went_on_is_not_named(setup: Setup) -> None:
    text = "Traceback (most recent call last):\nKeyError: 1\nLoading the rest"
    manager = started(setup, printing(text, "sys.exit(1)"))
    assert "KeyError" not in manager.last_hold_reason.cause


FAKE = Path(__file__).with_name("fake_webui.py")


def test_a_port_that_opens_before_its_server_thread_dies_helps_nothing(setup: Setup) -> None:
    """Its page answers, and the routes of the API do not."""
    plan = setup.state_dir.parent / "plan.yaml"
    plan.write_text("- {fault: server-thread-dies, when: {start: 1}, opened: 1}\n")
    command = [sys.executable, "-m", "sdwatch.simulator", "--port", str(setup.port), *FAST]
    manager = setup.manager(command=[*command, "--faults", str(plan)])
    manager._probe = ReadinessProbe(  # the real one
        SDWebUIClient(f"http://127.0.0.1:{setup.port}"), manager._clock, 5.0, asked_for_api=True
    )
    assert not manager.restart_and_wait_ready(60)
    assert "cannot reach itself at localhost" in manager.last_failure
    assert "without --api" not in manager.last_failure


@pytest.mark.posix_only("signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_start_that_is_ended_from_outside_is_not_explained_by_its_log(
    setup: Setup, name: str
) -> None:
    line = "RuntimeError: Torch is not able to use GPU"
    manager = setup.manager(
        command=[sys.executable, "-c", _BY_DEFAULT + printing(line, "signal.pause()")]
    )
    manager.start()
    wait_until(lambda: line in manager.get_tail_logs()["stderr"])
    kill(root_pid(manager), getattr(signal, name))
    assert not manager.wait_ready(60)
    assert "the WebUI was asked to exit during its startup" in manager.last_failure
    assert "GPU" not in manager.last_failure
    assert manager.last_hold_reason.blame == "person"


_BY_DEFAULT = "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL); "


@pytest.mark.parametrize("end", ["sys.exit(1)", "time.sleep(600)"])
def test_a_harmless_line_explains_no_start(setup: Setup, end: str) -> None:
    manager = setup.manager(command=[sys.executable, "-c", printing(NO_DRIVER + "led", end)])
    manager.start()
    wait_until(lambda: "NVIDIA" in manager.get_tail_logs()["stderr"])
    assert not manager.wait_ready(30 if "exit" in end else 0.5)
    assert "GPU" not in manager.last_failure
    assert "by hand" in manager.last_hold_reason.advice


@pytest.mark.posix_only("a SIGKILL: Windows ends no process for want of memory")
@pytest.mark.parametrize(
    ("available", "cause"),
    [
        (90, "memory was not low (0.0 of 0.0 GB of memory were free)"),
        (1, "the machine ran out of memory"),
        (None, "how much memory was free is unknown"),
    ],
)
def test_a_start_that_is_killed_says_how_much_memory_was_left(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, available: int | None, cause: str
) -> None:
    seen = Snapshot("", memory_total=100 if available else 0, memory_available=available or 0)
    monkeypatch.setattr(HostSnapshots, "_snapshot", lambda _: seen)
    manager = setup.manager("mute")
    manager._host_snapshots = HostSnapshots(manager._clock, {})
    manager.start()
    manager._host_snapshots.sample()
    kill(root_pid(manager))
    assert not manager.wait_ready(60)
    assert cause in manager.last_failure


def test_the_host_is_sampled_during_a_start(setup: Setup) -> None:
    manager = setup.manager("mute")
    manager._host_snapshots = host_snapshots = HostSnapshots(manager._clock, {})
    manager.start()
    assert not manager.wait_ready(1.5)
    assert host_snapshots.memory_before() is not None


@pytest.mark.parametrize(
    ("command", "asks"),
    [
        (("python", "launch.py", "--api"), True),
        (("python", "launch.py", "--nowebui", "--port", "1"), True),
        (("python", "launch.py", "--port", "1"), False),
        (None, False),
    ],
)
def test_which_commands_ask_for_the_api(command: tuple[str, ...] | None, asks: bool) -> None:
    assert asks_for_api(command) is asks


@pytest.mark.parametrize("asked", [True, False])
def test_routes_that_do_not_come_are_a_dead_server_where_the_flag_was_given(
    tmp_path: Path, asked: bool
) -> None:
    clock = FakeClock()
    with running(tmp_path, "--no-api") as sim:
        client = SDWebUIClient(f"http://127.0.0.1:{sim.port}")
        probe = ReadinessProbe(client, clock, 30.0, asked_for_api=asked)
        assert probe().no_routes
        clock.advance(20)
        found = probe()
    assert found.dead is asked
    assert found.unusable is not asked
    assert ("without --api" in found.reason) is not asked
    assert ("its server has died" in found.reason) is asked


def test_a_start_that_fails_again_in_the_same_way_is_not_logged_again(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    manager = setup.manager(command=[sys.executable, "-c", "raise SystemExit(3)"])
    for _ in range(3):
        assert not manager.restart_and_wait_ready(20)
    said = [record for record in caplog.records if "ended before it was ready" in record.message]
    assert len(said) == 1
    assert "exit code 3" in manager.last_failure

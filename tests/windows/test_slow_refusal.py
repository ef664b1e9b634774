"""A connection to a port that nobody has is refused only after two seconds, as on Windows."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psutil
import pytest

from sdwatch import system
from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.webui.process import process_tree
from tests.functional.cli import started
from tests.support.helpers import free_port
from tests.windows.imitated import imitating


def test_a_webui_is_started_crashes_and_is_started_again(tmp_path: Path) -> None:
    result = started(tmp_path, "demo", **imitating("slow_refusal"))
    assert result.returncode == ExitCode.OK, result.stdout + result.stderr
    assert "is taken by" not in result.stdout + result.stderr


@pytest.fixture
def no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection is neither taken nor refused within any limit."""

    def connect(*_: object, **__: object) -> socket.socket:
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", connect)


@pytest.mark.usefixtures("no_answer")
def test_silence_on_a_port_that_nobody_has_is_not_life() -> None:
    port = free_port()
    assert not system.somebody_listens("127.0.0.1", port)
    assert process_tree.owner_of("127.0.0.1", port) is None


@pytest.mark.usefixtures("no_answer")
def test_silence_where_the_table_of_connections_is_closed_to_us_may_be_life(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if sys.platform == "win32":
        pytest.skip("the table is open to everybody there")

    def closed(_: str) -> list[object]:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "net_connections", closed)
    assert system.somebody_listens("127.0.0.1", free_port())


@contextmanager
def full_backlog() -> Iterator[int]:
    """A port whose listener accepts nobody, as one that hangs; it takes no more connections."""
    with ExitStack() as opened, socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(4):
            waiting = opened.enter_context(closing(socket.socket()))
            waiting.setblocking(False)
            waiting.connect_ex(address)
        yield address[1]


def test_a_listener_that_accepts_nobody_has_its_port() -> None:
    with full_backlog() as port:
        assert system.somebody_listens("127.0.0.1", port)
        assert "pid" in str(process_tree.owner_of("127.0.0.1", port))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_the_table_has_who_listens_on_an_address_of_the_host(host: str) -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        assert system.listeners(host, port) == [psutil.Process().pid]
    assert system.listeners(host, port) == []

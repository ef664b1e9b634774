"""Each way in which a probe can fail has its own words: against real sockets."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from sdwatch.errors import WebUIReplyError, WebUIStuckError, WebUIUnreachableError
from sdwatch.system.clock import SystemClock
from sdwatch.webui.http.client import SDWebUIClient
from sdwatch.webui.http.health import ReadinessProbe
from tests.helpers import free_port

LIMIT = 0.4
Peer = Callable[[socket.socket, threading.Event], None]


@contextmanager
def peer(serves: Peer) -> Iterator[str]:
    """Something that listens and treats each connection like this; its URL."""
    over = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            serves(connection, over)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            over.set()
            server.shutdown(socket.SHUT_RDWR)


def sends(data: bytes) -> Peer:
    def serve(connection: socket.socket, over: threading.Event) -> None:
        del over
        connection.recv(65536)
        connection.sendall(data)

    return serve


def frozen(connection: socket.socket, over: threading.Event) -> None:
    del connection
    over.wait(60)


def resets(connection: socket.socket, over: threading.Event) -> None:
    del over
    connection.recv(65536)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def drips(head: bytes) -> Peer:
    def serve(connection: socket.socket, over: threading.Event) -> None:
        connection.recv(65536)
        connection.sendall(head)
        while not over.wait(0.05):
            connection.sendall(b"x")

    return serve


HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n"

WAYS: dict[str, tuple[Peer, type[Exception], str]] = {
    "frozen": (frozen, WebUIStuckError, f"the WebUI did not answer within {LIMIT:g} s ("),
    "a body that never ends": (
        drips(HEAD), WebUIStuckError, f"the WebUI's answer was not complete within {LIMIT:g} s (",
    ),
    "a head that never ends": (
        drips(b"HTTP/1.1 200 OK\r\n"),
        WebUIStuckError,
        f"the WebUI's answer was not complete within {LIMIT:g} s (",
    ),
    "closed": (
        sends(b""), WebUIUnreachableError, "the WebUI closed the connection without an answer (",
    ),
    "reset": (resets, WebUIUnreachableError, "the WebUI reset the connection ("),
    "cut short": (
        sends(HEAD + b"{"), WebUIUnreachableError, "the WebUI's reply broke off in the middle (",
    ),
    "no HTTP": (
        sends(b"SSH-2.0-OpenSSH\r\n"),
        WebUIUnreachableError,
        "what answers there does not speak HTTP (",
    ),
    "bad JSON": (
        sends(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>"),
        WebUIReplyError,
        "the reply is not JSON (",
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_each_way_a_probe_fails_has_its_own_words(way: str) -> None:
    serves, kind, words = WAYS[way]
    with peer(serves) as url, pytest.raises(kind) as caught:
        SDWebUIClient(url).progress(LIMIT)
    assert str(caught.value).startswith(words)


def test_a_port_where_nobody_listens_refuses() -> None:
    with pytest.raises(WebUIUnreachableError, match="nothing listens there"):
        SDWebUIClient(f"http://127.0.0.1:{free_port()}").progress(10)


def test_a_machine_that_takes_no_connection_is_not_one_that_does_not_answer() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        waiting = []
        with suppress(BlockingIOError):  # the queue of those who wait to be accepted is full
            for _ in range(4):
                waiting.append(connection := socket.socket())
                connection.setblocking(False)
                with suppress(BlockingIOError):
                    connection.connect(server.getsockname())
        with pytest.raises(WebUIUnreachableError, match=rf"^no connection within {LIMIT:g} s \("):
            SDWebUIClient(f"http://127.0.0.1:{server.getsockname()[1]}").progress(LIMIT)
        for connection in waiting:
            connection.close()


def test_https_to_a_server_without_it_names_the_url_of_the_config() -> None:
    with peer(sends(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as url:
        with pytest.raises(
            WebUIUnreachableError, match="no secure connection: check whether `url`"
        ):
            SDWebUIClient(url.replace("http:", "https:")).progress(5)


def test_a_frozen_webui_is_reported_by_the_health_check_with_its_own_time_limit() -> None:
    with peer(frozen) as url:
        found = ReadinessProbe(SDWebUIClient(url), SystemClock(), LIMIT)()
    assert (found.ready, found.unusable) == (False, False)
    assert found.reason.startswith(f"the WebUI did not answer within {LIMIT:g} s")

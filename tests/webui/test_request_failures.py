"""Each way in which a probe can fail has its own words: against real sockets."""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from sdwatch import system
from sdwatch.errors import WebUIReplyError, WebUIStuckError, WebUIUnreachableError
from sdwatch.system.clock import SystemClock
from sdwatch.webui.http.client import SDWebUIClient
from sdwatch.webui.http.health import ReadinessProbe
from tests.notify.receivers import CERTIFICATE
from tests.support.helpers import PATIENCE, RESET, free_port

LIMIT = 0.4 * PATIENCE
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
            system.cut(server)


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
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


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


def answers_each_request(connection: socket.socket, over: threading.Event) -> None:
    del over
    while connection.recv(65536):
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")


def closed_by_its_handle(connection: socket.socket) -> None:
    """As `cut` on Windows."""
    socket.close(connection.detach())


def test_after_an_idle_connection_was_cut_the_next_request_makes_a_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On Windows a cut closes the handle, and the session keeps the connection for later."""
    with peer(answers_each_request) as url:
        client = SDWebUIClient(url)
        assert client.progress(5) == {}
        with monkeypatch.context() as patched:
            patched.setattr(system, "cut", closed_by_its_handle)
            client.abandon_probes()
        assert client.progress(5) == {}


def test_a_question_whose_time_is_over_ends_no_other() -> None:
    asked, may_answer = threading.Event(), threading.Event()

    def serve(connection: socket.socket, over: threading.Event) -> None:
        if b"/patient" not in connection.recv(65536):
            over.wait(60)
            return
        asked.set()
        may_answer.wait(60)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    answers: list[tuple[int, bytes]] = []
    with peer(serve) as url:
        client = SDWebUIClient(url)
        patient = threading.Thread(target=lambda: answers.append(client.answer("/patient", 60)))
        patient.start()
        assert asked.wait(60)
        with pytest.raises(WebUIStuckError):
            client.answer("/hasty", LIMIT)
        may_answer.set()
        patient.join(60)
        client.close()
    assert answers == [(200, b"ok")]


def test_no_thread_watches_the_time_of_a_question() -> None:
    answer = sends(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
    with peer(answer) as url:
        client = SDWebUIClient(url)
        before = set(threading.enumerate())
        for _ in range(5):
            assert client.answer("/", 60) == (200, b"ok")
        made = set(threading.enumerate()) - before
        assert [each for each in made if "(serve)" not in each.name] == []  # those are the peer's
        client.close()


def test_a_question_on_a_connection_that_was_used_before_has_its_limit_too() -> None:
    def serve(connection: socket.socket, over: threading.Event) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        while not over.wait(0.05):
            connection.sendall(b"x")

    with peer(serve) as url:
        client = SDWebUIClient(url)
        assert client.answer("/", 60) == (200, b"ok")
        with pytest.raises(WebUIStuckError):
            client.answer("/", LIMIT)
        client.close()


def test_a_question_that_nobody_reads_has_its_limit_too() -> None:
    with peer(frozen) as url, pytest.raises(WebUIStuckError):
        SDWebUIClient(url).tried("txt2img", {"prompt": "x" * (16 << 20)}, 10 * LIMIT)


ZIPPED = gzip.compress(b"{}")
LENGTH = b"content-length: %d\r\n\r\n%b"
PARTS = b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"


@pytest.mark.parametrize("form", [LENGTH, PARTS])
def test_an_answer_that_was_compressed_is_unpacked(form: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n"
    with peer(sends(head + form % (len(ZIPPED), ZIPPED))) as url:
        assert SDWebUIClient(url).answer("/", 60) == (200, b"{}")


def test_a_certificate_that_nobody_signed_is_refused_until_the_system_trusts_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)

    def serve(connection: socket.socket, over: threading.Event) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            answers_each_request(secure, over)

    with peer(serve) as url:
        url = url.replace("http:", "https:")
        with pytest.raises(WebUIUnreachableError, match="self-signed") as caught:
            SDWebUIClient(url).progress(60)
        assert "SSL_CERT_FILE" in str(caught.value)
        assert "http://" not in str(caught.value), "`url` is right"
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        assert SDWebUIClient(url).progress(60) == {}


def test_a_webui_without_tls_is_not_one_with_a_wrong_certificate() -> None:
    with peer(sends(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as url:
        with pytest.raises(WebUIUnreachableError, match="`url` must start with") as caught:
            SDWebUIClient(url.replace("http:", "https:")).progress(60)
    assert "SSL_CERT_FILE" not in str(caught.value)

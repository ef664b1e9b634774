"""Addresses that get messages, on real sockets: one that accepts them, and those that do not."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CERTIFICATE = Path(__file__).with_name("localhost.pem")
"""A self-signed one for 127.0.0.1, with its key."""

TOKEN = "s3cretT0ken99"
"""In each address; it must never be shown."""


@dataclass
class Received:
    """A request."""

    line: str
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.body)
        return value


@dataclass
class Receiver:
    """A server on the loopback that answers each request with `answer`: whole, or by itself on the
    connection. `got`: what it received."""

    answer: bytes | Callable[[socket.socket, threading.Event], None]
    tls: bool = False
    got: list[Received] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http{'s' * self.tls}://127.0.0.1:{self.port}/{TOKEN}"

    def serve(self) -> None:
        """Accept connections until the socket is closed."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        with suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                threading.Thread(
                    target=self._handle, args=(connection, context), daemon=True
                ).start()

    def _handle(self, connection: socket.socket, context: ssl.SSLContext) -> None:
        with suppress(OSError), connection:
            if self.tls:
                connection = context.wrap_socket(connection, server_side=True)
            self.got.append(_request(connection))
            if isinstance(self.answer, bytes):
                connection.sendall(self.answer)
            else:
                self.answer(connection, self.ended)


def _request(connection: socket.socket) -> Received:
    file = connection.makefile("rb")
    line, length = file.readline().decode().strip(), 0
    while (header := file.readline().strip()) != b"":
        name, _, value = header.partition(b":")
        length = int(value) if name.lower() == b"content-length" else length
    return Received(line, file.read(length))


def status(code: int, *headers: str) -> bytes:
    """A short answer."""
    lines = [f"HTTP/1.1 {code} Word", "Content-Length: 0", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def silent(connection: socket.socket, ended: threading.Event) -> None:
    """Never answer."""
    del connection
    ended.wait(60)


def dripping(connection: socket.socket, ended: threading.Event) -> None:
    """Answer a byte at a time, without end: no read waits for long."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not ended.wait(0.05):
        connection.sendall(b"x")


def huge(connection: socket.socket, ended: threading.Event) -> None:
    """Answer with 200 and a body without end."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
    while not ended.is_set():
        connection.sendall(b"x" * 1_000_000)


def hangs_up(connection: socket.socket, ended: threading.Event) -> None:
    """Close the connection without an answer."""
    del ended
    connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def receiver(
    answer: bytes | Callable[[socket.socket, threading.Event], None] = b"", *, tls: bool = False
) -> Iterator[Receiver]:
    """A running server."""
    made = Receiver(answer or status(200), tls)
    threading.Thread(target=made.serve, daemon=True).start()
    try:
        yield made
    finally:
        made.ended.set()
        with suppress(OSError):
            made.socket.shutdown(socket.SHUT_RDWR)
        made.socket.close()

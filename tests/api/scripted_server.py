"""A WebUI on a real socket that answers each generation as a test has scripted it."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.helpers import RESET

Script = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: ScriptedServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        server = self.server
        with server.lock:
            number = len(server.posts)
            server.posts.append((self.path, json.loads(body)))
        server.scripts[min(number, len(server.scripts) - 1)](self)

    def answer(self, status: int, body: bytes, *, length: int | None = None, **more: str) -> None:
        self.send_response(status)
        for name, value in more.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = length is not None

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


class ScriptedServer(ThreadingHTTPServer):
    """The n-th POST gets the n-th script, further ones the last. `posts`: path and body of each.
    `over` ends scripts that hang."""

    daemon_threads = True

    def __init__(self, *scripts: Script) -> None:
        self.scripts = scripts
        self.posts: list[tuple[str, Any]] = []
        self.lock = threading.Lock()
        self.over = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        del request, client_address  # a client that went away


@contextmanager
def serving(*scripts: Script) -> Iterator[ScriptedServer]:
    with ScriptedServer(*scripts) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


def status(code: int, body: Any = None, **headers: str) -> Script:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda handler: handler.answer(code, raw, **headers)


def images(*pictures: bytes, key: str = "images") -> Script:
    encoded: Any = [base64.b64encode(picture).decode() for picture in pictures]
    body = {key: encoded if key == "images" else encoded[0], "info": "{}"}
    return status(200, body)


def reset(handler: Handler) -> None:
    """The connection is reset, as by a process that died."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    handler.close_connection = True
    handler.connection.close()


def truncated(handler: Handler) -> None:
    handler.answer(200, b'{"images": ["', length=5000)


def hanging(handler: Handler) -> None:
    handler.server.over.wait()
    handler.close_connection = True

"""The bytes on the wire, and the connections that carry them."""

from __future__ import annotations

import http.server
import os
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sdwatch.simulator import console
from sdwatch.simulator.failures import CrashedError
from sdwatch.simulator.site import GPU, STATS, Request, Response, Site
from sdwatch.simulator.voice import Voice

_KEEP_ALIVE_S = 30


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection: reads requests, writes replies, each in one go."""

    protocol_version = "HTTP/1.1"
    timeout = _KEEP_ALIVE_S
    wbufsize = -1
    disable_nagle_algorithm = True
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.idle.add(self.connection)

    def finish(self) -> None:
        self.server.idle.discard(self.connection)
        super().finish()

    def _serve(self) -> None:
        with self.server.answering(self.connection):
            url = urlsplit(self.path)
            raw = self.rfile.read(int(self.headers.get("content-length") or 0))
            request = Request(
                self.command,
                url.path,
                parse_qs(url.query),
                self.headers.get("authorization"),
                raw,
                str(self.client_address[0]),
                canary="x-sdwatch-canary" in self.headers,
                headers={name.lower(): value for name, value in self.headers.items()},
            )
            response = self.server.site.answer(request)
            if response.takes_over is not None:
                self.close_connection = True
                response.takes_over(self.connection, self.rfile, self._as_it_came())
                return
            crash = response.crash
            first = crash is not None and (self._voice.prints_before_reply or crash.prints_first)
            if crash and first:
                console.write(sys.stderr, self._said_of(crash))
            if url.path not in (STATS, GPU):
                self._log(response)
            self._send(response)
            if crash and not first:
                # Not on this thread: the next request on this connection need not wait for it.
                late = (self._said_of(crash), crash.delay, crash.pause)
                threading.Thread(target=_print_late, args=late, daemon=True).start()
            if crash and crash.ends_after is not None:
                threading.Timer(crash.ends_after, os._exit, (1,)).start()
        if self.server.closing:
            self.close_connection = True

    do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _serve  # noqa: N815

    def _as_it_came(self) -> bytes:
        lines = [self.requestline, *(f"{name}: {value}" for name, value in self.headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    @property
    def _voice(self) -> Voice:
        return self.server.site.traits.voice

    def _log(self, response: Response) -> None:
        client = (str(self.client_address[0]), int(self.client_address[1]))
        self._voice.access(client, self.command, self.path, response.status, response.seconds)

    def _said_of(self, crash: CrashedError) -> str:
        host, port = self.server.server_address[:2]
        return self._voice.crash(self.command, f"http://{host!s}:{port}{self.path}", crash)

    def _send(self, response: Response) -> None:
        damage, length = response.damage, len(response.raw)
        cut = damage.cut_reply(length) if damage else None
        self.send_response_only(response.status)
        standing = self.server.site.standing_headers(self.date_time_string())
        for name, value in {**standing, **response.headers}.items():
            self.send_header(name, value)
        if response.status != 204:
            self.send_header("content-length", str(length))
        if response.content_type:
            self.send_header("content-type", response.content_type)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.raw if cut is None else response.raw[:cut])
        self.wfile.flush()
        if damage and cut is not None:
            self.close_connection = True
            damage.after_cut()

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: the access line is ours."""


def _print_late(text: str, delay: float, pause: float) -> None:
    """What a 500 leaves in the log, so many seconds after its reply; with a `pause` in two writes;
    the first ends in the middle of a line."""
    time.sleep(delay)
    if pause:
        half = len(text) // 2
        console.write(sys.stderr, text[:half])
        time.sleep(pause)
        text = text[half:]
    console.write(sys.stderr, text)


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """A thread for each connection. Raises OSError where the port cannot be bound."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], site: Site, *, shares_port: bool = False) -> None:
        self.site = site
        self.idle: set[socket.socket] = set()
        self.closing = False
        self._answering = 0
        self._changed = threading.Condition()
        # On Windows this option lets two servers share the port; there is no SO_REUSEPORT there.
        self.allow_reuse_address = shares_port or os.name == "posix"
        self.allow_reuse_port = shares_port
        super().__init__(address, Handler)

    @contextmanager
    def answering(self, connection: socket.socket) -> Iterator[None]:
        """Measure the time of one request on this connection."""
        with self._changed:
            self.idle.discard(connection)
            self._answering += 1
        try:
            yield
        finally:
            with self._changed:
                self._answering -= 1
                self.idle.add(connection)
                self._changed.notify_all()

    def close_port(self) -> None:
        """Take no more connections or requests; those that are being answered continue."""
        with self._changed:
            self.closing = True
            idle = list(self.idle)
        for connection in (self.socket, *idle):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.shutdown()
        self.server_close()

    def wait_idle(self, timeout: float) -> bool:
        """Wait until nothing is being answered, so many seconds at most: whether it is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._answering, timeout)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is not an event; anything else is our mistake, and is shown."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

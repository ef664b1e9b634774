"""Connections that another thread can cut. Closing a pool from outside does not free a blocked
request (measured), so each socket is cut itself."""

from __future__ import annotations

import http.client
import io
import math
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import unquote

import urllib3

from sdwatch import system

_MOST_KEPT = 10
"""Connections that are kept for the next request: several threads ask at the same time."""


class GivenUpError(ConnectionAbortedError):
    """The request was cut, or its time was over, before it had a connection."""


@dataclass(eq=False)
class Request:
    """One request. `deadline`: until when it may take, by time.monotonic. `given_up`: it was cut.
    `connected`: it had a connection, so that something may have been sent. `answered`: its answer
    has begun. `connection`: what it is sent on, None before that and after it."""

    deadline: float = math.inf
    given_up: bool = False
    connected: bool = False
    answered: bool = False
    connection: socket.socket | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def left(self) -> float:
        """Return the seconds until its deadline."""
        return self.deadline - time.monotonic()

    def use(self, connection: socket.socket) -> None:
        """Note its connection. Raises GivenUpError where it was cut before, or its time is over."""
        with self._lock:
            left = self.left
            if self.given_up or left <= 0:
                connection.close()
                raise GivenUpError("given up before it was sent")
            self.connection, self.connected = connection, True
        if left < math.inf:
            connection.settimeout(left)

    def cut(self) -> None:
        """End it; for another thread."""
        with self._lock:
            self.given_up = True
            if self.connection is not None:
                system.cut(self.connection)


_REQUEST: ContextVar[Request] = ContextVar("_REQUEST")
"""What this thread sends. urllib3 makes the connections, and knows nothing of it."""


class Connections:
    """Connections whose requests can be cut. `auth`: user name and password, or None; `context`:
    for https. Proxies of the environment are ignored, nothing is sent twice, and redirects are
    neither followed nor parsed."""

    def __init__(self, auth: tuple[str, str] | None, context: ssl.SSLContext | None) -> None:
        self._pools = urllib3.PoolManager(maxsize=_MOST_KEPT, ssl_context=context)
        self._pools.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}
        self._auth = auth
        self._lock = threading.Lock()
        self._requests: set[Request] = set()

    @contextmanager
    def send(
        self,
        request: Request,
        method: str,
        url: str,
        *,
        timeout: float | urllib3.Timeout,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        unless: Callable[[], bool] = lambda: False,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """Send `request`, made for this alone, and surround its answer, whose body is unread.

        `timeout` applies to each read alone, and a body may drip forever: its deadline is for all
        of it. Raises GivenUpError if `unless` returns true. Whoever makes it true and then cuts,
        cuts this request too, however far it is.
        """
        with self._lock:
            if unless():
                raise GivenUpError("given up before it was sent")
            self._requests.add(request)
        mine = _REQUEST.set(request)
        try:
            with self._pools.urlopen(
                method,
                url,
                body=body,
                headers={**_headers_for(url, self._auth), **(headers or {})},
                timeout=timeout,
                redirect=False,
                retries=False,
                preload_content=False,
            ) as answer:
                request.answered = True
                yield answer
        finally:
            _REQUEST.reset(mine)
            with self._lock:
                self._requests.discard(request)
                request.connection = None

    def cut(self) -> None:
        """End all requests that are under way, including those that have not yet connected."""
        with self._lock:
            for request in self._requests:
                request.cut()

    def close(self) -> None:
        """End all requests, and close all connections."""
        self.cut()
        self._pools.clear()


def _headers_for(url: str, auth: tuple[str, str] | None) -> dict[str, str]:
    """Return the headers of each request. `auth`: user name and password, or None for those that
    are in the URL. Raises ValueError for what Latin-1 cannot say."""
    in_url = urllib3.util.parse_url(url).auth or ""
    both = unquote(in_url) if ":" in in_url else None
    if auth is not None:
        both = ":".join(auth)
    made = urllib3.make_headers(keep_alive=True, accept_encoding=True, basic_auth=both)
    return {"Accept": "*/*", **made}


class _InTime(io.RawIOBase):
    """What comes on a connection until the deadline of its request."""

    def __init__(self, raw: io.RawIOBase, connection: socket.socket, request: Request) -> None:
        self._raw = raw
        self._connection = connection
        self._request = request

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if (left := self._request.left) <= 0:
            raise TimeoutError("timed out")
        self._connection.settimeout(left)
        count = cast("int | None", self._raw.readinto(buffer))
        self._request.answered |= bool(count)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    """An answer that is whole before the deadline of its request, or fails then."""

    def __init__(self, connection: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(connection, *args, **kwargs)
        request = _REQUEST.get()
        if request.deadline < math.inf:
            self.fp = io.BufferedReader(_InTime(self.fp.detach(), connection, request))


class _Plain(urllib3.connection.HTTPConnection):
    """Reports to each request that it is sent here."""

    response_class = _Answer

    @property
    def is_connected(self) -> bool:
        # On Windows `system.cut` closes it. urllib3 would ask the system about its handle, which is
        # -1 then, and raise ValueError in the next request.
        return self.sock is not None and self.sock.fileno() != -1 and super().is_connected

    def connect(self) -> None:
        super().connect()
        _REQUEST.get().use(self.sock)

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:  # it was opened by an earlier request
            _REQUEST.get().use(self.sock)
        super().request(*args, **kwargs)


class _Secure(_Plain, urllib3.connection.HTTPSConnection):
    """The same, over TLS."""


class _PlainPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Plain


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Secure

"""Connections that another thread can cut. Closing a requests Session from outside does not free a
blocked request (measured), so each socket is cut itself."""

from __future__ import annotations

import heapq
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

from sdwatch import system


class GivenUpError(ConnectionAbortedError):
    """The request was cut before it had a connection."""


@dataclass(eq=False)
class Request:
    """One request that is under way. `expired`: it was cut because its time was over. `cut`: it was
    cut for any reason. `connected`: it had a connection, so that something may have been sent.
    `answered`: the head of its answer has come. `connection`: what it is sent on, None before that
    and after it."""

    expired: bool = False
    cut: bool = False
    connected: bool = False
    answered: bool = False
    connection: socket.socket | None = None


class Connections:
    """One requests session whose requests can be cut. Proxies of the environment are ignored, and
    redirects are neither followed nor parsed."""

    def __init__(self, auth: tuple[str, str] | None) -> None:
        self.session = _Session()
        self.session.trust_env = False
        self.session.auth = auth
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, _Adapter(self))
        self._lock = threading.Lock()
        self._requests: dict[int, Request] = {}  # by the thread that is inside `request`
        self._limits = TimeLimits(self._expire)

    @contextmanager
    def request(
        self,
        made: Request,
        limit: float | None = None,
        unless: Callable[[], bool] = lambda: False,
    ) -> Iterator[None]:
        """Surround one request, `made` for it alone.

        After `limit` seconds its connection is cut: a timeout of requests applies to each read
        alone, and a body may drip forever. Raises GivenUpError if `unless` returns true. Whoever
        makes it true and then cuts, cuts this request too, however far it is.
        """
        me = threading.get_ident()
        with self._lock:
            if unless():
                raise GivenUpError("given up before it was sent")
            self._requests[me] = made
        if limit is not None:
            self._limits.add(made, limit)
        try:
            yield
        finally:
            with self._lock:
                self._requests.pop(me, None)
                made.connection = None

    def cut(self) -> None:
        """End all requests that are under way, including those that have not yet connected."""
        with self._lock:
            for request in self._requests.values():
                _cut(request)
            self._requests.clear()

    def close(self) -> None:
        """End all requests, and close all connections."""
        self.cut()
        self.session.close()

    def uses(self, connection: socket.socket) -> None:
        """Note the connection of this thread's request. Raises GivenUpError where that was cut
        before."""
        with self._lock:
            request = self._requests.get(threading.get_ident())
            if request is None:
                connection.close()
                raise GivenUpError("given up before it was sent")
            request.connection, request.connected = connection, True

    def _expire(self, request: Request) -> None:
        with self._lock:
            mine = [thread for thread, made in self._requests.items() if made is request]
            for thread in mine:  # none: it has ended
                del self._requests[thread]
                request.expired = True
                _cut(request)


def _cut(request: Request) -> None:
    request.cut = True
    if request.connection is not None:
        system.cut(request.connection)


_KEPT_S = 60.0
"""Seconds for which the thread waits for another request: longer than between two probes."""


class TimeLimits:
    """Reports each request whose time is over to `expire`, all from one thread. It starts with the
    first request, and ends when none has come for a while."""

    def __init__(self, expire: Callable[[Request], None]) -> None:
        self._expire = expire
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Request]] = []  # a heap; the number makes each unique
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None

    def add(self, request: Request, seconds: float) -> None:
        """Report this request after so many seconds."""
        due = (time.monotonic() + seconds, next(self._numbers), request)
        with self._changed:
            heapq.heappush(self._due, due)
            if self._due[0] is due:
                self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="limits", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while (request := self._next()) is not None:
            self._expire(request)

    def _next(self) -> Request | None:
        """Wait for the next request whose time is over; None where none has come for a while."""
        with self._changed:
            while True:
                left = self._due[0][0] - time.monotonic() if self._due else _KEPT_S
                if left <= 0:
                    return heapq.heappop(self._due)[2]
                if not (self._changed.wait(left) or self._due):
                    self._thread = None
                    return None


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return nothing: requests would parse the address even with redirects turned off, and fail
        on an invalid one."""
        del resp


def _is_open(connection: socket.socket | None) -> bool:
    """Return whether a connection was not closed by `system.cut`, as on Windows. urllib3 would ask
    the system about its handle, which is -1, and raise ValueError in the next request."""
    return connection is not None and connection.fileno() != -1


class _Adapter(HTTPAdapter):
    """Reports the connection of each request to `Connections`."""

    def __init__(self, connections: Connections) -> None:
        class PlainConnection(urllib3.connection.HTTPConnection):
            @property
            def is_connected(self) -> bool:
                return _is_open(self.sock) and super().is_connected

            def connect(self) -> None:
                super().connect()
                connections.uses(self.sock)

            def request(self, *args: Any, **kwargs: Any) -> None:
                if self.sock is not None:  # it was opened by an earlier request
                    connections.uses(self.sock)
                super().request(*args, **kwargs)

        class Secure(PlainConnection, urllib3.connection.HTTPSConnection):
            """The same, over TLS."""

        class PlainPool(urllib3.HTTPConnectionPool):
            ConnectionCls = PlainConnection

        class SecurePool(urllib3.HTTPSConnectionPool):
            ConnectionCls = Secure

        self._pools = {"http": PlainPool, "https": SecurePool}
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

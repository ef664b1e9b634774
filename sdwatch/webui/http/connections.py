"""Connections that another thread can cut. Closing a requests Session from outside does not free a
blocked request (measured), so each socket is cut itself."""

from __future__ import annotations

import socket
import threading
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
    cut for any reason. `answered`: the head of its answer has come."""

    expired: bool = False
    cut: bool = False
    answered: bool = False


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
        self._sockets: set[socket.socket] = set()
        self._requests: dict[int, Request] = {}  # by the thread that is inside `request`

    @contextmanager
    def request(
        self,
        made: Request,
        limit: float | None = None,
        unless: Callable[[], bool] = lambda: False,
    ) -> Iterator[None]:
        """Surround one request, `made` for it alone.

        After `limit` seconds all connections are cut: a timeout of requests applies to each read
        alone, and a body may drip forever. Raises GivenUpError if `unless` returns true. Whoever
        makes it true and then cuts, cuts this request too, however far it is.
        """
        me = threading.get_ident()
        timer = threading.Timer(limit, self._expire, (made,)) if limit is not None else None
        with self._lock:
            if unless():
                raise GivenUpError("given up before it was sent")
            self._requests[me] = made
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
            with self._lock:
                self._requests.pop(me, None)

    def _expire(self, request: Request) -> None:
        request.expired = True
        self.cut()

    def cut(self) -> None:
        """End all requests that are under way, including those that have not yet connected."""
        with self._lock:
            for request in self._requests.values():
                request.cut = True
            self._requests.clear()
            for opened in self._sockets:
                system.cut(opened)
            self._sockets.clear()

    def opened(self, connection: socket.socket) -> None:
        """Note a new connection. Raises GivenUpError where its request was cut before."""
        with self._lock:
            if threading.get_ident() not in self._requests:
                connection.close()
                raise GivenUpError("given up before it was sent")
            self._sockets = {s for s in self._sockets if s.fileno() != -1} | {connection}


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return nothing: requests would parse the address even with redirects turned off, and fail
        on an invalid one."""
        del resp


class _Adapter(HTTPAdapter):
    """Reports each connection it opens to `Connections`."""

    def __init__(self, connections: Connections) -> None:
        class PlainConnection(urllib3.connection.HTTPConnection):
            def connect(self) -> None:
                super().connect()
                connections.opened(self.sock)

        class Secure(urllib3.connection.HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                connections.opened(self.sock)

        class PlainPool(urllib3.HTTPConnectionPool):
            ConnectionCls = PlainConnection

        class SecurePool(urllib3.HTTPSConnectionPool):
            ConnectionCls = Secure

        self._pools = {"http": PlainPool, "https": SecurePool}
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

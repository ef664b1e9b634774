"""Connections that another thread can cut: closing a requests Session from outside does not free
a blocked request (measured), shutting its socket down does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

_GIVEN_UP = "given up before it was sent"


class Connections:
    """One requests session whose requests can be cut. No proxies of the environment; redirects
    are never followed, nor even looked at."""

    def __init__(self, auth: tuple[str, str] | None) -> None:
        self.session = _Session()
        self.session.trust_env = False
        self.session.auth = auth
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, _Adapter(self))
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._requests: set[int] = set()  # threads that are inside `request`

    @contextmanager
    def request(
        self, limit: float | None = None, unless: Callable[[], bool] = lambda: False
    ) -> Iterator[None]:
        """Around one request. After `limit` seconds all connections are cut: a time-out of
        requests is for each read alone, and a body may drip for ever. Raises
        ConnectionAbortedError where `unless` is true: who makes it true and then cuts, cuts this
        request too, however far it has come."""
        me = threading.get_ident()
        timer = threading.Timer(limit, self.cut) if limit is not None else None
        with self._lock:
            if unless():
                raise ConnectionAbortedError(_GIVEN_UP)
            self._requests.add(me)
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
            with self._lock:
                self._requests.discard(me)

    def cut(self) -> None:
        """End all requests that are under way, also those that have not yet connected."""
        with self._lock:
            self._requests.clear()
            for opened in self._sockets:
                try:
                    opened.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # not connected any more
            self._sockets.clear()

    def opened(self, connection: socket.socket) -> None:
        """A connection was made. Raises OSError where its request was cut before."""
        with self._lock:
            if threading.get_ident() not in self._requests:
                connection.close()
                raise ConnectionAbortedError(_GIVEN_UP)
            self._sockets = {s for s in self._sockets if s.fileno() != -1} | {connection}


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Requests would parse the address even where it is told not to follow, and break on a
        bad one."""
        del resp


class _Adapter(HTTPAdapter):
    """Tells `Connections` about each connection it opens."""

    def __init__(self, connections: Connections) -> None:
        class Plain(urllib3.connection.HTTPConnection):
            def connect(self) -> None:
                super().connect()
                connections.opened(self.sock)

        class Secure(urllib3.connection.HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                connections.opened(self.sock)

        class PlainPool(urllib3.HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(urllib3.HTTPSConnectionPool):
            ConnectionCls = Secure

        self._pools = {"http": PlainPool, "https": SecurePool}
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

"""Serve the live page: uvicorn on one socket, until it is stopped."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from sdwatch.config import Config
from sdwatch.errors import SdwatchError
from sdwatch.spool.folders import Spool
from sdwatch.system import disk, listen_alone
from sdwatch.web.access import Access
from sdwatch.web.app import WebApp
from sdwatch.web.connection_limits import MOST, BoundedProtocol

_LAST_SECONDS = 3
"""For replies that are under way when it is stopped."""


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the command."""
        yield


class WebServer:
    """The server of one spool, on `listener`."""

    def __init__(
        self, spool: Spool, config: Config, access: Access, listener: socket.socket
    ) -> None:
        self._listener = listener
        self._app = WebApp(spool, config, access)
        self._server = _Server(
            uvicorn.Config(
                self._app.asgi(),
                http=BoundedProtocol,
                ws="none",
                lifespan="off",
                loop="asyncio",
                log_config=None,
                log_level="critical",  # it says on stderr what any client can make it say
                access_log=False,
                proxy_headers=False,
                server_header=False,
                limit_concurrency=MOST,
                timeout_graceful_shutdown=_LAST_SECONDS,
            )
        )

    def run(self) -> None:
        """Serve until `stop`."""
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        watch = asyncio.create_task(self._end_streams())
        await self._server.serve([self._listener])
        watch.cancel()

    async def _end_streams(self) -> None:
        """End the streams of events when the server stops: they would never end by themselves."""
        while not self._server.should_exit:
            await asyncio.sleep(0.1)
        self._app.live.stopping.set()

    def stop(self, *, now: bool = False) -> None:
        """Stop, from any thread or a signal's handler; `now`: replies under way are cut off."""
        self._server.force_exit = now
        self._server.should_exit = True


def listen(address: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 for any free one. Raises SdwatchError."""
    try:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return listen_alone(family, address, port)
    except (OSError, OverflowError) as error:
        why = disk.in_words(error)
        raise SdwatchError(
            f"{address}:{port}: cannot listen there: {why}. Choose another with --port or --host"
        ) from error

"""How the spool stands, read while somebody looks, and sent to browsers as server-sent events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace

from starlette.concurrency import run_in_threadpool

from sdwatch.policy.page.overview import Overview
from sdwatch.spool.overview_reader import OverviewReader
from sdwatch.system.log_events import LogEvent, about

log = logging.getLogger("sdwatch.web")

EVERY = 1.0
"""Seconds between two reads while somebody looks; without anybody nothing is read."""

MOST_WATCHERS = 100
"""Streams of events at once. Each is a connection that stays."""

_SENT_AGAIN = 10.0
"""Seconds after which the page is sent although nothing has changed: its times are relative, and a
proxy closes a connection that is silent."""

_SLOW = 8.0
"""Seconds after which a read is reported as slow: the share does not answer."""


class LiveOverview:
    """The newest Overview of `reader`, for the event loop of the server."""

    def __init__(self, reader: OverviewReader) -> None:
        self._reader = reader
        self._newest: Overview | None = None
        self._read_at = 0.0
        self._reading: asyncio.Task[None] | None = None
        self._alone = asyncio.Lock()
        self.watchers = 0
        self.stopping = asyncio.Event()

    async def now(self) -> Overview | None:
        """Return how the spool stands, a second old at most; None if its folder does not answer in
        time."""
        await self._read_if_due()
        is_slow = self._reading is not None and not self._reading.done()
        return None if is_slow else self._newest

    async def _read_if_due(self) -> None:
        """Read, with all that wait for it. A read that hangs is waited for a while, and never
        doubled."""
        now = asyncio.get_running_loop().time()
        if self._reading is None or self._reading.done():
            if self._newest is not None and now - self._read_at < EVERY:
                return
            self._started = now
            self._reading = asyncio.create_task(self._read())
        with suppress(TimeoutError):
            left = max(0.01, self._started + _SLOW - now)
            await asyncio.wait_for(asyncio.shield(self._reading), left)

    async def _read(self) -> None:
        try:
            self._newest = await run_in_threadpool(self._reader.read)
        except Exception:
            # The task's outer edge: the last page stays, and says its time.
            log.exception("the spool cannot be read", extra=about(LogEvent.INTERNAL_ERROR))
        self._read_at = asyncio.get_running_loop().time()

    async def alone(self, read: Callable[[Overview], str], overview: Overview) -> str:
        """Return what `read` returns, one at a time, on a thread."""
        async with self._alone:
            return await run_in_threadpool(read, overview)

    async def events(self, rendered: Callable[[Overview], str]) -> AsyncIterator[bytes]:
        """Yield the stream of one browser: `main` with the page whenever it has changed, `slow`
        while the folder does not answer. One that reads slowly gets the newest page, and no more
        than that."""
        self.watchers += 1
        try:
            if self.watchers > MOST_WATCHERS:  # several came at the same moment
                yield b"retry: 10000\n\n"
                return
            yield b"retry: 2000\n\n"
            shown: Overview | None = None
            sent_at = -_SENT_AGAIN
            while not self.stopping.is_set():
                overview = await self.now()
                now = asyncio.get_running_loop().time()
                if overview is None:
                    shown = None
                    yield event("slow", "")
                elif (
                    shown is None
                    or replace(overview, made_at=shown.made_at) != shown
                    or now - sent_at >= _SENT_AGAIN
                ):
                    shown, sent_at = overview, now
                    yield event("main", rendered(overview))
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.stopping.wait(), EVERY)
            yield event("bye", "")
        finally:
            self.watchers -= 1


def event(name: str, data: str) -> bytes:
    """Return one server-sent event. A line of `data` must not end it."""
    lines = data.splitlines() or [""]
    return f"event: {name}\n{''.join(f'data: {line}{chr(10)}' for line in lines)}\n".encode()

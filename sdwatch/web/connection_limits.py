"""Connections that cost the server no more than they use: a client that sends nothing, or takes
nothing, is cut off."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from sdwatch.policy.config.exposure import is_loopback

PATIENCE = 20.0
"""Seconds without a byte in either direction for which a request, or a reply, is waited for.
Uvicorn itself waits forever for a request's first headers, and for a reader."""

MOST = 256
"""Connections at once; the next gets 503."""

MOST_OPEN = MOST - 16
"""Beyond that the oldest connection that asks nothing makes room for a new one, so that those do
not use up the limit above; where each is served, the new one is closed."""

MOST_OF_ONE = 64
"""The same for one address of the network, so that it leaves some to others. (Of this machine there
is only one: a proxy has it, too.)"""

_LONGEST_ASKING = 3
"""Times of PATIENCE for the headers of one request, however busily they drip in."""


class BoundedProtocol(H11Protocol):
    """A connection of uvicorn that is ended if it moves nothing while its client's turn is on."""

    patience = PATIENCE

    def connection_made(self, transport: Any) -> None:
        """Start to watch it."""
        super().connection_made(transport)
        self._since = self.loop.time()
        if self._is_one_too_many():
            self._oldest_that_asks_nothing().transport.abort()
        self._received = 0
        self._asking: tuple[object, int] = (None, 0)
        self._seen: object = None
        self._timer: asyncio.TimerHandle | None = None
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Note that the client sends."""
        self._received += len(data)
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop to watch it."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _is_one_too_many(self) -> bool:
        others, alike = self._others()
        most = MOST_OPEN if is_loopback(self._address()) else MOST_OF_ONE
        return len(others) >= MOST_OPEN or len(alike) >= most

    def _oldest_that_asks_nothing(self) -> BoundedProtocol:
        """Return it: of this client's address if there is one, else of any, else this one."""
        for found in reversed(self._others()):
            waiting = [each for each in found if each._waits_for_a_request()]
            if waiting:
                return min(waiting, key=lambda each: each._since)
        return self

    def _others(self) -> tuple[list[BoundedProtocol], list[BoundedProtocol]]:
        """Return the other open connections: all, and those of the same address."""
        every: list[Any] = [each for each in self.connections if each is not self]
        others = [each for each in every if not each.transport.is_closing()]
        return others, [each for each in others if each._address() == self._address()]

    def _address(self) -> str:
        return self.client[0] if self.client else ""

    def _waits_for_a_request(self) -> bool:
        cycle: Any = self.cycle
        return cycle is None or cycle.response_complete

    def _watch(self) -> None:
        """Cut it off if nothing has moved since the last look."""
        unsent = self.transport.get_write_buffer_size()
        cycle: Any = self.cycle
        asks = self._waits_for_a_request()
        sends = not asks and cycle.more_body  # a request's body is due
        seen = (self._received, unsent)
        before, times = self._asking
        self._asking = (cycle, times + 1 if before is cycle else 1) if asks else (None, 0)
        stands_still = (asks or sends or unsent) and seen == self._seen
        if stands_still or self._asking[1] > _LONGEST_ASKING:
            self.transport.abort()
            return
        # One that is served has its time again from the moment when that ends.
        self._seen = seen if asks or sends or unsent else None
        self._timer = self.loop.call_later(self.patience, self._watch)

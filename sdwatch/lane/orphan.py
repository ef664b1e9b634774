"""The generation that an earlier monitor left behind in the WebUI that is adopted, and one that
was cancelled.

A client that disconnects does not cancel its request (measured with Forge dfdcbab6), so a call
would queue behind it. An interrupted generation ends after its step and the decode, and only the
running one: those that are queued must be interrupted too (measured).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from sdwatch.errors import WebUIError, WebUINotUsableError
from sdwatch.system.clock import Clock
from sdwatch.system.log_events import LogEvent, about
from sdwatch.webui.http.client import SDWebUIClient
from sdwatch.webui.http.found import FoundClient
from sdwatch.webui.http.health import running_at
from sdwatch.webui.process.readiness import PROBE_INTERVAL_S

log = logging.getLogger("sdwatch.lane")

_FIRST_PAUSE_S = 0.3


def end_orphan(
    client: SDWebUIClient | FoundClient,
    clock: Clock,
    give_up: threading.Event,
    *,
    timeout: float,
    patience: float,
    limit: float,
) -> bool:
    """Interrupt what the WebUI generates until it generates nothing. Return whether that is so, or
    `give_up` is set.

    Times are in seconds. `timeout`: of one answer. `patience`: for a generation that does not
    advance: it may hang. `limit`: in all."""
    seen = _position(client, timeout)
    if seen is None:
        return True
    log.info(
        "the generation of an earlier monitor is interrupted, and its end waited for",
        extra=about(LogEvent.WEBUI_ADOPTED),
    )
    started = moved = clock.monotonic()
    pause = _FIRST_PAUSE_S
    while True:
        client.interrupt()
        if clock.wait(give_up, pause):
            return True
        pause, position, now = PROBE_INTERVAL_S, _position(client, timeout), clock.monotonic()
        if position is None:
            return True
        if position not in (seen, _UNKNOWN):
            seen, moved = position, now
        if now - moved >= patience or now - started >= limit:
            return False


def wait_for_interrupted(
    client: SDWebUIClient | FoundClient,
    clock: Clock,
    over: Callable[[], bool],
    *,
    timeout: float,
    limit: float,
) -> None:
    """Wait until the generation that was interrupted has ended, or `over` returns true. A call that
    is sent before that waits behind it in the WebUI: its progress is that of the other one, and an
    interrupt would not reach it (measured with Forge dfdcbab6).

    Times are in seconds. `timeout`: of one answer; `limit`: in all."""
    never, pause, ends = threading.Event(), _FIRST_PAUSE_S, clock.monotonic() + limit
    while not over() and _position(client, timeout) is not None and clock.monotonic() < ends:
        clock.wait(never, pause)
        pause = PROBE_INTERVAL_S


_UNKNOWN = "no answer"


def _position(client: SDWebUIClient | FoundClient, timeout: float) -> str | None:
    try:
        return running_at(client.progress(timeout))
    except WebUINotUsableError:  # a server without this route: nothing can be seen
        return None
    except WebUIError:
        return _UNKNOWN

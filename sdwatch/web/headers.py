"""The headers of every reply: what a browser may do with it."""

from __future__ import annotations

import logging
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sdwatch.system.log_events import LogEvent, about

log = logging.getLogger("sdwatch.web")

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # With no-referrer a browser would send `Origin: null` with our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_DEFAULTS = {name.lower().encode(): value.encode() for name, value in _HEADERS.items()}
_BROKEN = b"internal error; the log of sdwatch web has it"


def with_headers(app: ASGIApp) -> ASGIApp:
    """Return the application with these headers where it sets no others. It is also the outer edge:
    an error of ours is logged and answered, and says nothing about us."""

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        started = False

        async def send_with(part: Message) -> None:
            nonlocal started
            if part["type"] == "http.response.start":
                started = True
                part = {**part, "headers": _completed(part.get("headers", []))}
            await send(part)

        try:
            await app(scope, receive, send_with)
        except Exception:
            log.exception(
                "a request to %s %s broke",
                scope["method"],
                scope["path"],
                extra=about(LogEvent.INTERNAL_ERROR),
            )
            if started:
                raise
            await send_with({"type": "http.response.start", "status": 500, "headers": []})
            await send_with({"type": "http.response.body", "body": _BROKEN})

    return outer


def _completed(headers: Any) -> list[tuple[bytes, bytes]]:
    given = list(headers)
    names = {name.lower() for name, _ in given}
    return [*given, *(each for each in _DEFAULTS.items() if each[0] not in names)]

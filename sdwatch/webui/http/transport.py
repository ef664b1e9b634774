"""The requests to one WebUI: what is sent, what came back, and as which of our errors it failed.

Proxies of the environment are ignored, and redirects are not followed.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import urllib3

from sdwatch.errors import (
    WebUINotSentError,
    WebUIReplyError,
    WebUIStuckError,
    WebUIUnreachableError,
)
from sdwatch.system.scratch import Arriving
from sdwatch.webui.http.connections import Connections, Request
from sdwatch.webui.http.reply import bounded, error_for, join_bounded, parse_json
from sdwatch.webui.http.request_failures import RequestFailure, broken, innermost

MAX_ANSWER_BYTES = 32 << 20
"""Of a small question: a list of very many checkpoints."""

CHUNK = 1 << 16


class Transport:
    """The requests to the WebUI at `url`. `auth`: user name and password, or None. Generations and
    probes have separate connections, so that neither waits for the other."""

    def __init__(self, url: str, auth: tuple[str, str] | None = None) -> None:
        self.url = url.rstrip("/")
        context = _trusting() if self.url.lower().startswith("https:") else None
        self._calls = Connections(auth, context)
        self._probes = Connections(auth, context)

    def abandon(self) -> None:
        """Free whoever waits for a generation's reply, by shutting its connection down. The WebUI
        continues to generate: a client that disconnects does not cancel its request."""
        self._calls.cut()

    def abandon_probes(self) -> None:
        """Free whoever waits for the answer to a small question."""
        self._probes.cut()

    def answer(self, path: str, timeout: float) -> tuple[int, bytes]:
        """GET a small question, and return status and body, whatever they are. Raises WebUIError
        where no complete answer came."""
        return self._ask("GET", path, timeout)

    def close(self) -> None:
        """Close all connections."""
        self._calls.close()
        self._probes.close()

    def _get(self, path: str, timeout: float) -> Any:
        status, body = self._ask("GET", path, timeout)
        if status != 200:
            raise error_for(status, body, path, "")
        try:
            return parse_json(body)
        except ValueError as error:
            raise WebUIReplyError(f"the reply is not JSON ({self.url}{path})") from error

    def _ask(
        self,
        method: str,
        path: str,
        timeout: float,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        of_call: bool = False,
        files: Mapping[str, Any] | None = None,
        most: int = MAX_ANSWER_BYTES,
        into: Arriving | None = None,
    ) -> tuple[int, bytes]:
        """Ask a small question within `timeout` seconds in all, and return status and body, of at
        most `most` bytes. `of_call`: it is part of a generation, and is cut with it. `files`: sent
        as a form, with `body` as its other fields. `into`: takes the body of a 200, which may be
        large."""
        url, request = self.url + path, Request(time.monotonic() + timeout)
        connections = self._calls if of_call else self._probes
        with as_webui_errors(url, "", request, timeout, timeout):
            data, kind = _encoded(body, files)
            with connections.send(
                request,
                method,
                url,
                timeout=timeout,
                body=data,
                headers={**kind, **(headers or {})},
            ) as answer:
                parts = answer.stream(CHUNK, decode_content=True)
                if into is None or answer.status != 200:
                    limit = most if into is None else MAX_ANSWER_BYTES
                    return answer.status, join_bounded(parts, limit, "")
                for part in bounded(parts, most, ""):
                    into.write(part)
                return answer.status, b""


def _trusting() -> ssl.SSLContext:
    """Return a context that trusts the system's authorities, to which people add their own, and
    those of certifi: Windows fetches many of its authorities only when a program of its own needs
    them, and some systems have none."""
    import certifi  # late: only https needs it

    context = urllib3.util.create_urllib3_context()
    context.load_default_certs()
    context.load_verify_locations(certifi.where())
    return context


def _encoded(
    body: Mapping[str, Any] | None, files: Mapping[str, Any] | None
) -> tuple[bytes | None, dict[str, str]]:
    """Return a body as it is sent, and its header."""
    if files is not None:
        form, kind = urllib3.encode_multipart_formdata({**(body or {}), **files})
        return form, {"content-type": kind}
    if body is None:
        return None, {}
    return json.dumps(body, allow_nan=False).encode(), {"content-type": "application/json"}


@contextmanager
def as_webui_errors(
    url: str, stage: str, request: Request, limit: float, to_connect: float
) -> Iterator[None]:
    """Raise what urllib3 raises as our errors. Seconds: `limit` for the answer, `to_connect`
    before it."""
    try:
        yield
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        way = broken(error, request)
        described = way.describe(to_connect if way is RequestFailure.NO_CONNECTION else limit)
        if way.by_time:
            raise WebUIStuckError(f"{described} ({url})", stage=stage) from error
        # Else a length that is none: there was an answer.
        lost = isinstance(error, OSError | urllib3.exceptions.HTTPError) or not request.connected
        without_reply = WebUIUnreachableError if request.connected else WebUINotSentError
        kind = without_reply if lost else WebUIReplyError
        if way.before_request:  # whatever would have been asked: it may be another kind
            parts = urlsplit(url)
            url = f"{parts.scheme}://{parts.netloc}"
        raise kind(f"{described} ({url}: {_reason(error)})", stage=stage) from error


def _reason(error: BaseException) -> str:
    """Return the innermost message of a chain of connection errors, without object addresses."""
    cause = innermost(error)
    name, said = type(cause).__name__, str(cause).strip()
    return said if said.startswith(name) else f"{name}: {said}"

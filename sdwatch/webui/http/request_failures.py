"""Name how a request failed to get a complete answer, by what urllib3 raises.

It wraps the cause once or twice, and not always the same way. The innermost error says most.
"""

from __future__ import annotations

import errno
import http.client
import socket
import ssl
from enum import StrEnum

import urllib3

from sdwatch.webui.http.connections import GivenUpError, Request


class RequestFailure(StrEnum):
    """How a request can end without a complete answer. `{limit}` is in seconds."""

    REFUSED = "nothing listens there: the connection was refused"
    NO_HOST = "the WebUI's host name cannot be resolved"
    NO_ROUTE = "the WebUI's machine cannot be reached"
    NO_CONNECTION = "no connection within {limit:g} s"
    NO_ANSWER = "the WebUI did not answer within {limit:g} s"
    NOT_WHOLE = "the WebUI's answer was not complete within {limit:g} s"
    RESET = "the WebUI reset the connection"
    CLOSED = "the WebUI closed the connection without an answer"
    CUT = "the WebUI's reply broke off in the middle"
    GIVEN_UP = "sdwatch gave the request up"
    NOT_TRUSTED = (
        "its certificate is not trusted: name a file with it, or with that of the authority that "
        "signed it, in the environment variable SSL_CERT_FILE"
    )
    NO_TLS = "no secure connection: check whether `url` must start with http:// or https://"
    NO_HTTP = "what answers there does not speak HTTP"
    OTHER = "no complete answer came"

    def describe(self, limit: float) -> str:
        """Return it in words. `limit`: the seconds after which it was not waited for any longer."""
        return self.value.format(limit=limit)

    @property
    def before_request(self) -> bool:
        """Return whether there was no connection, so that nothing was asked."""
        return self in (
            RequestFailure.REFUSED,
            RequestFailure.NO_CONNECTION,
            RequestFailure.NO_HOST,
            RequestFailure.NO_ROUTE,
            RequestFailure.NOT_TRUSTED,
        )

    @property
    def by_time(self) -> bool:
        """Return whether the connection was made, and the time ran out."""
        return self in (RequestFailure.NO_ANSWER, RequestFailure.NOT_WHOLE)


_BY_TYPE: tuple[tuple[type[BaseException], RequestFailure], ...] = (
    (ConnectionRefusedError, RequestFailure.REFUSED),
    (socket.gaierror, RequestFailure.NO_HOST),
    (
        http.client.RemoteDisconnected,
        RequestFailure.CLOSED,
    ),  # before its base, ConnectionResetError
    (ConnectionResetError, RequestFailure.RESET),
    (ConnectionAbortedError, RequestFailure.RESET),
    (BrokenPipeError, RequestFailure.RESET),
    (http.client.IncompleteRead, RequestFailure.CUT),
    (urllib3.exceptions.IncompleteRead, RequestFailure.CUT),
    (urllib3.exceptions.InvalidChunkLength, RequestFailure.CUT),
    (ssl.SSLCertVerificationError, RequestFailure.NOT_TRUSTED),  # before its base
    (ssl.SSLError, RequestFailure.NO_TLS),
    (http.client.HTTPException, RequestFailure.NO_HTTP),
    (ValueError, RequestFailure.NO_HTTP),  # a chunk's length, a header
)

_UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN)


def broken(error: BaseException, request: Request) -> RequestFailure:
    """Return how the request failed. A connection that sdwatch shut down looks as if the other side
    had closed it, so that `request` is asked first."""
    cause = innermost(error)
    by_time = isinstance(cause, TimeoutError)
    if by_time and isinstance(error, urllib3.exceptions.ConnectTimeoutError):
        return RequestFailure.NO_CONNECTION
    if by_time:
        return RequestFailure.NOT_WHOLE if request.answered else RequestFailure.NO_ANSWER
    if isinstance(cause, GivenUpError) and not request.given_up and request.left <= 0:
        return RequestFailure.NO_CONNECTION
    if isinstance(cause, GivenUpError) or request.given_up:
        return RequestFailure.GIVEN_UP
    if isinstance(cause, OSError) and cause.errno in _UNREACHABLE:
        return RequestFailure.NO_ROUTE
    return next((way for kind, way in _BY_TYPE if isinstance(cause, kind)), RequestFailure.OTHER)


def innermost(error: BaseException) -> BaseException:
    """Return the first cause of a chain of errors."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error

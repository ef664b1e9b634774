"""HTTP to one WebUI: generations, and the small questions beside them.

A generation request is sent exactly once here; who retries is the recovery gate alone. Proxies of
the environment are ignored, redirects are not followed.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import logging
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import requests
import urllib3
from PIL import Image
from requests.adapters import HTTPAdapter

from sdwatch.errors import (
    WebUIBadRequestError,
    WebUIBusyError,
    WebUIError,
    WebUINotUsableError,
    WebUIReplyError,
    WebUIServerError,
    WebUIStuckError,
    WebUIUnreachableError,
)

log = logging.getLogger("sdwatch.webui")

CONNECT_TIMEOUT = 10.0
MAX_REPLY_BYTES = 512 << 20
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Reply:
    """A generation that succeeded. `images`: the files as the WebUI made them (PNG, JPEG or WebP
    bytes); `first_image`: how many grids stand in front of them; `info`: what it says it did."""

    images: tuple[bytes, ...]
    first_image: int = 0
    info: Mapping[str, Any] = field(default_factory=dict)


class SDWebUIClient:
    """The WebUI at `url`. `auth`: user name and password, or None. `call_limit`: seconds, the
    longest that one generation may take. Generations and probes have connections of their own, so
    that one never waits for the other."""

    def __init__(
        self, url: str, *, auth: tuple[str, str] | None = None, call_limit: float = 3600.0
    ) -> None:
        self.url = url.rstrip("/")
        self._call_limit = call_limit
        self._sockets = _OpenSockets()
        self._calls = _session(auth, self._sockets)
        self._probes = _session(auth, None)
        self._last_failed: tuple[str, Mapping[str, Any]] | None = None
        self._attempt = 0

    def generate_images(self, stage: str, payload: Mapping[str, Any]) -> Reply:
        """POST one generation and give its images.

        `stage`: txt2img, img2img or extra-single-image. Raises WebUIServerError for a 500,
        WebUIUnreachableError where no whole reply came, WebUIReplyError for a 200 without usable
        images, WebUIBadRequestError, WebUIBusyError, WebUINotUsableError; each after one
        structured log event.
        """
        again = self._last_failed == (stage, payload)
        self._attempt = self._attempt + 1 if again else 1
        try:
            reply = _read_reply(stage, self._post(stage, payload))
        except WebUIError as error:
            self._last_failed = (stage, payload)
            _log_failure(error, stage, self._attempt, payload)
            raise
        self._last_failed = None
        return reply

    def abandon(self) -> None:
        """Free whoever waits for a generation's reply, by shutting its connection down. The
        WebUI itself goes on with it (a client that goes away does not cancel the job)."""
        self._sockets.shut_down()

    def progress(self, timeout: float) -> dict[str, Any]:
        """GET /sdapi/v1/progress, without the preview picture. Raises WebUIError."""
        body = self._get("/sdapi/v1/progress?skip_current_image=true", timeout)
        return body if isinstance(body, dict) else {}

    def checkpoints(self, timeout: float) -> list[Any]:
        """GET /sdapi/v1/sd-models. Raises WebUIError."""
        body = self._get("/sdapi/v1/sd-models", timeout)
        return body if isinstance(body, list) else []

    def options(self, timeout: float) -> dict[str, Any]:
        """GET /sdapi/v1/options. Raises WebUIError."""
        body = self._get("/sdapi/v1/options", timeout)
        return body if isinstance(body, dict) else {}

    def page_answers(self, timeout: float) -> bool:
        """Whether `/` is 200: with a /sdapi that stays 404, the WebUI was started without --api."""
        try:
            return self._ask("GET", "/", timeout).status_code == 200
        except WebUIError:
            return False

    def interrupt(self, timeout: float = 5.0) -> bool:
        """POST /sdapi/v1/interrupt: ends the generation that runs. Whether it was taken (SD.Next
        answers 204 without a body). Never raises."""
        try:
            return self._ask("POST", "/sdapi/v1/interrupt", timeout).status_code in (200, 204)
        except WebUIError:
            return False

    def close(self) -> None:
        """Close all connections."""
        self._sockets.shut_down()
        self._calls.close()
        self._probes.close()

    def _post(self, stage: str, payload: Mapping[str, Any]) -> bytes:
        url = f"{self.url}/sdapi/v1/{stage}"
        try:
            with self._calls.post(
                url,
                data=json.dumps(payload).encode(),
                headers={"Content-Type": "application/json"},
                timeout=(CONNECT_TIMEOUT, self._call_limit),
                allow_redirects=False,
                stream=True,
            ) as response:
                body = _read_bounded(response, stage)
                _refuse_bad_status(response, body, stage)
                return body
        except requests.ReadTimeout as error:
            why = f"{url}: no reply within {self._call_limit:g} s"
            raise WebUIStuckError(why, stage=stage) from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise WebUIUnreachableError(f"{url}: {_reason(error)}", stage=stage) from error

    def _get(self, path: str, timeout: float) -> Any:
        response = self._ask("GET", path, timeout)
        _refuse_bad_status(response, response.content, "")
        try:
            return response.json()
        except ValueError as error:
            raise WebUIReplyError(f"{self.url}{path}: the reply is not JSON") from error

    def _ask(self, method: str, path: str, timeout: float) -> requests.Response:
        try:
            return self._probes.request(
                method, self.url + path, timeout=timeout, allow_redirects=False
            )
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise WebUIUnreachableError(f"{self.url}{path}: {_reason(error)}") from error


def _session(auth: tuple[str, str] | None, sockets: _OpenSockets | None) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.auth = auth
    if sockets is not None:
        session.mount("http://", _TrackingAdapter(sockets))
    return session


class _OpenSockets:
    """The sockets of the generation connections: closing a Session from another thread does not
    free a blocked request (measured), shutting its socket down does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()

    def add(self, opened: socket.socket) -> None:
        with self._lock:
            self._sockets = {s for s in self._sockets if s.fileno() != -1} | {opened}

    def shut_down(self) -> None:
        with self._lock:
            for opened in self._sockets:
                try:
                    opened.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # not connected any more
            self._sockets.clear()


class _TrackingAdapter(HTTPAdapter):
    """Tells `_OpenSockets` about each connection it opens."""

    def __init__(self, sockets: _OpenSockets) -> None:
        class Connection(urllib3.connection.HTTPConnection):
            def connect(self) -> None:
                super().connect()
                if self.sock is not None:
                    sockets.add(self.sock)

        class Pool(urllib3.HTTPConnectionPool):
            ConnectionCls = Connection

        self._pool_class = Pool
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": self._pool_class}


def _read_bounded(response: requests.Response, stage: str) -> bytes:
    """The body, at most MAX_REPLY_BYTES of it."""
    parts: list[bytes] = []
    size = 0
    for part in response.iter_content(_CHUNK):
        size += len(part)
        if size > MAX_REPLY_BYTES:
            raise WebUIReplyError(
                f"the reply is larger than {MAX_REPLY_BYTES >> 20} MB", stage=stage
            )
        parts.append(part)
    return b"".join(parts)


def _refuse_bad_status(response: requests.Response, body: bytes, stage: str) -> None:
    status = response.status_code
    if status == 200:
        return
    kind = _ERROR_OF_STATUS.get(status, WebUIServerError)
    where = f"POST {stage}" if stage else f"GET {response.request.path_url}"
    said = message_of(body) or response.reason or "no message"
    raise kind(f"{where} was answered {status}: {said}", stage=stage, status=status)


_ERROR_OF_STATUS: dict[int, type[WebUIError]] = {
    400: WebUIBadRequestError,
    401: WebUINotUsableError,
    403: WebUINotUsableError,
    404: WebUIBadRequestError,
    405: WebUIBadRequestError,
    413: WebUIBadRequestError,
    422: WebUIBadRequestError,
    429: WebUIBusyError,
    502: WebUIBusyError,
    503: WebUIBusyError,
    504: WebUIBusyError,
}


def message_of(body: bytes) -> str:
    """What an error body says, in one line; '' where it says nothing.

    Three shapes (measured): `{"detail": "text"}`; `{"detail": [{"loc", "msg"}, …]}`;
    `{"error": "Class", "message" or "errors": "text", which may be empty}`. The `input` of a 422
    echoes the request and is left out.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return " ".join(body[:200].decode("utf-8", "replace").split())
    if not isinstance(value, dict):
        return ""
    detail = value.get("detail")
    if isinstance(detail, list):
        return "; ".join(_validation_line(item) for item in detail if isinstance(item, dict))
    text = str(value.get("message") or value.get("errors") or detail or "")
    return ": ".join(part for part in (str(value.get("error") or ""), text) if part)


def _validation_line(item: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in item.get("loc", ()) if part != "body")
    return f"{place or 'the request'}: {item.get('msg', '')}"


def _reason(error: BaseException) -> str:
    """The innermost words of a chain of connection errors, without object addresses."""
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    return f"{type(cause).__name__}: {cause}"


def _read_reply(stage: str, body: bytes) -> Reply:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WebUIReplyError("the reply is not whole JSON", stage=stage, status=200) from error
    if not isinstance(value, dict):
        raise WebUIReplyError("the reply is not a JSON object", stage=stage, status=200)
    encoded = [value.get("image")] if stage == "extra-single-image" else value.get("images")
    if not isinstance(encoded, list) or not any(encoded):
        raise WebUIReplyError("the reply has no image", stage=stage, status=200)
    info = _info(value.get("info"))
    images = tuple(_decode(stage, number, text) for number, text in enumerate(encoded, 1))
    first = info.get("index_of_first_image", 0)
    grids = first if isinstance(first, int) and 0 <= first < len(images) else 0
    return Reply(images, grids, info)


def _info(text: Any) -> dict[str, Any]:
    try:
        info = json.loads(text) if isinstance(text, str) else {}
    except (ValueError, RecursionError):
        return {}
    return info if isinstance(info, dict) else {}


def _decode(stage: str, number: int, text: Any) -> bytes:
    """One image, checked to be one."""
    try:
        data = base64.b64decode(text.partition(",")[2] if text[:5] == "data:" else text)
        with Image.open(io.BytesIO(data)) as image:
            image.verify()
    except (TypeError, AttributeError, ValueError, SyntaxError, binascii.Error, OSError) as error:
        raise WebUIReplyError(
            f"image {number} of the reply does not decode", stage=stage, status=200
        ) from error
    except Image.DecompressionBombError as error:
        raise WebUIReplyError(f"image {number}: {error}", stage=stage, status=200) from error
    return data


def _log_failure(error: WebUIError, stage: str, attempt: int, payload: Mapping[str, Any]) -> None:
    """The structured event: names and numbers, never a text of the payload."""
    log.warning(
        "webui_call_failed stage=%s attempt=%d status=%s error=%s keys=%s",
        stage,
        attempt,
        error.status,
        type(error).__name__,
        ",".join(sorted(payload)),
        extra={
            "event": "webui_call_failed",
            "stage": stage,
            "attempt": attempt,
            "status": error.status,
            "error": type(error).__name__,
            "keys": sorted(payload),
        },
    )

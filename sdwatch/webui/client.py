"""HTTP to one WebUI: generations, and the small questions beside them.

A generation request is sent exactly once here; who retries is the recovery gate alone. Proxies of
the environment are ignored, redirects are not followed.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Mapping
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

from sdwatch.errors import (
    WebUIError,
    WebUIReplyError,
    WebUIStuckError,
    WebUIUnreachableError,
)
from sdwatch.webui.reply import Reply, error_for, read_bounded, read_reply

log = logging.getLogger("sdwatch.webui")

CONNECT_TIMEOUT = 10.0
_CHUNK = 1 << 16


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
            reply = read_reply(stage, self._post(stage, payload))
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
                body = read_bounded(response.iter_content(_CHUNK), stage)
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


def _refuse_bad_status(response: requests.Response, body: bytes, stage: str) -> None:
    if response.status_code != 200:
        raise error_for(response.status_code, body, stage or response.request.path_url, stage)


def _reason(error: BaseException) -> str:
    """The innermost words of a chain of connection errors, without object addresses."""
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    return f"{type(cause).__name__}: {cause}"


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

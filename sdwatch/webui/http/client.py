"""HTTP to one WebUI: generations, and the small questions beside them.

A generation request is sent exactly once here; only the recovery gate retries. Proxies of the
environment are ignored, and redirects are not followed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
import urllib3

from sdwatch.config import WebUIConfig
from sdwatch.errors import (
    WebUIError,
    WebUIReplyError,
    WebUIStuckError,
    WebUIUnreachableError,
)
from sdwatch.policy.failure.made_by import named_in
from sdwatch.system.failpoints import failpoint
from sdwatch.webui.http.broken import Broken, broken, innermost
from sdwatch.webui.http.connections import Connections, Request
from sdwatch.webui.http.reply import (
    MAX_REPLY_BYTES,
    Reply,
    error_for,
    join_bounded,
    parse_json,
    read_reply,
)

log = logging.getLogger("sdwatch.webui")

CONNECT_TIMEOUT = 10.0
_MAX_ANSWER_BYTES = 32 << 20  # of a small question: a list of very many checkpoints
_CHUNK = 1 << 16
_CANARY = {"X-Sdwatch-Canary": "1"}


class SDWebUIClient:
    """The WebUI at `url`. `auth`: user name and password, or None. `call_limit`: seconds that one
    generation may take. Generations and probes have separate connections, so that neither waits for
    the other."""

    def __init__(
        self, url: str, *, auth: tuple[str, str] | None = None, call_limit: float = 3600.0
    ) -> None:
        self.url = url.rstrip("/")
        self._call_limit = call_limit
        self._calls = Connections(auth)
        self._probes = Connections(auth)
        self.version = ""
        """The WebUI's version, from its last picture (Forge, AUTOMATIC1111); or ''."""
        self._last_failed: tuple[str, Mapping[str, Any]] | None = None
        self._attempt = 0

    def generate_images(
        self,
        stage: str,
        payload: Mapping[str, Any],
        given_up: Callable[[], bool] = lambda: False,
        *,
        canary: bool = False,
    ) -> Reply:
        """POST one generation and return its images.

        `stage`: txt2img, img2img or extra-single-image. `given_up`: returns whether the reply is no
        longer needed; if it becomes true before `abandon`, nothing is sent. `canary`: it is no
        job's call, and says so in a header, which real WebUIs ignore.

        Raises WebUIServerError for a 500, WebUIUnreachableError where no complete reply came,
        WebUIReplyError for a 200 without usable images, WebUIBadRequestError, WebUIBusyError,
        WebUINotUsableError; each after one structured log event.
        """
        again = self._last_failed == (stage, payload)
        self._attempt = self._attempt + 1 if again else 1
        try:
            reply = read_reply(stage, self._post(stage, payload, given_up, canary))
        except WebUIError as error:
            self._last_failed = (stage, payload)
            _log_failure(error, stage, self._attempt, payload)
            raise
        self._last_failed = None
        self.version = named_in(reply.info, "version") or self.version
        return reply

    def abandon(self) -> None:
        """Free whoever waits for a generation's reply, by shutting its connection down. The WebUI
        continues to generate: a client that disconnects does not cancel its request."""
        self._calls.cut()

    def abandon_probes(self) -> None:
        """Free whoever waits for the answer to a small question."""
        self._probes.cut()

    def progress(self, timeout: float) -> dict[str, Any]:
        """GET /sdapi/v1/progress, without the preview picture. Raises WebUIError."""
        body = self._get("/sdapi/v1/progress?skip_current_image=true", timeout)
        return body if isinstance(body, dict) else {}

    def checkpoints(self, timeout: float) -> list[Any]:
        """GET /sdapi/v1/sd-models. Raises WebUIError."""
        body = self._get("/sdapi/v1/sd-models", timeout)
        return body if isinstance(body, list) else []

    def refresh_checkpoints(self, timeout: float) -> bool:
        """POST /sdapi/v1/refresh-checkpoints, which reads the models folder again: the list is as
        of the start (measured with Forge dfdcbab6). Return whether it was accepted. Never
        raises."""
        try:
            return self._ask("POST", "/sdapi/v1/refresh-checkpoints", timeout)[0] in (200, 204)
        except WebUIError:
            return False

    def is_without_model(self, timeout: float) -> bool:
        """GET /sdapi/v1/checkpoint, which only SD.Next has, and return whether its `type` is null:
        no model is loaded. Asking loads none. Raises WebUIError."""
        body = self._get("/sdapi/v1/checkpoint", timeout)
        return isinstance(body, dict) and "type" in body and body["type"] is None

    def answer(self, path: str, timeout: float) -> tuple[int, bytes]:
        """GET a small question, and return status and body, whatever they are. Raises WebUIError
        where no complete answer came."""
        return self._ask("GET", path, timeout)

    def answers_bare_404(self, path: str, timeout: float) -> bool:
        """Return whether GET is a 404 without a body, as only stable-diffusion.cpp's server answers
        an unknown path (measured); all others say `Not Found`. Never raises."""
        try:
            status, body = self._ask("GET", path, timeout)
        except WebUIError:
            return False
        return status == 404 and not body.strip()

    def tried(self, stage: str, payload: Mapping[str, Any], timeout: float) -> tuple[int, bytes]:
        """POST a generation so small that it is a question, and return status and body, whatever
        they are. Raises WebUIError where no complete answer came."""
        return self._ask("POST", f"/sdapi/v1/{stage}", timeout, payload, _CANARY)

    def listed(self, name: str, timeout: float) -> list[Any]:
        """GET one of the WebUI's lists, such as `samplers`. Raises WebUIError."""
        body = self._get(f"/sdapi/v1/{name}", timeout)
        return body if isinstance(body, list) else []

    def options(self, timeout: float) -> dict[str, Any]:
        """GET /sdapi/v1/options. Raises WebUIError."""
        body = self._get("/sdapi/v1/options", timeout)
        return body if isinstance(body, dict) else {}

    def set_options(self, options: Mapping[str, Any], timeout: float) -> bool:
        """POST /sdapi/v1/options, which also writes them into the WebUI's own config file. Return
        whether the status says that they were accepted. Never raises."""
        try:
            return self._ask("POST", "/sdapi/v1/options", timeout, options)[0] in (200, 204)
        except WebUIError:
            return False

    def page_answers(self, timeout: float) -> bool:
        """Return whether `/` is 200: if /sdapi stays 404 meanwhile, the WebUI was started without
        --api."""
        try:
            return self._ask("GET", "/", timeout)[0] == 200
        except WebUIError:
            return False

    def interrupt(self, timeout: float = 5.0) -> bool:
        """POST /sdapi/v1/interrupt, which ends the current generation. Return whether it was
        accepted (SD.Next answers 204 without a body). Never raises."""
        failpoint("interrupt", Path("interrupt"))
        try:
            return self._ask("POST", "/sdapi/v1/interrupt", timeout)[0] in (200, 204)
        except WebUIError:
            return False

    def close(self) -> None:
        """Close all connections."""
        for connections in (self._calls, self._probes):
            connections.cut()
            connections.session.close()

    def _post(
        self, stage: str, payload: Mapping[str, Any], given_up: Callable[[], bool], canary: bool
    ) -> bytes:
        url, request = f"{self.url}/sdapi/v1/{stage}", Request()
        with (
            _as_webui_errors(url, stage, request, self._call_limit, CONNECT_TIMEOUT),
            self._calls.request(request, unless=given_up),
        ):
            with self._calls.session.post(
                url,
                data=json.dumps(payload).encode(),
                headers={"Content-Type": "application/json", **(_CANARY if canary else {})},
                timeout=(CONNECT_TIMEOUT, self._call_limit),
                allow_redirects=False,
                stream=True,
            ) as response:
                request.answered = True
                body = join_bounded(response.iter_content(_CHUNK), MAX_REPLY_BYTES, stage)
        if response.status_code != 200:
            raise error_for(response.status_code, body, stage, stage)
        return body

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
    ) -> tuple[int, bytes]:
        """Ask a small question within `timeout` seconds in all, and return status and body."""
        url, request = self.url + path, Request()
        with (
            _as_webui_errors(url, "", request, timeout, timeout),
            self._probes.request(request, limit=timeout),
        ):
            with self._probes.session.request(
                method,
                url,
                json=body,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                stream=True,
            ) as response:
                request.answered = True
                said = join_bounded(response.iter_content(_CHUNK), _MAX_ANSWER_BYTES, "")
                return response.status_code, said


def client_for(webui: WebUIConfig) -> SDWebUIClient:
    """Return the client of a WebUI of the config, with its user name and limits."""
    auth = (webui.username, webui.password or "") if webui.username else None
    return SDWebUIClient(webui.url, auth=auth, call_limit=webui.call_limit)


@contextmanager
def _as_webui_errors(
    url: str, stage: str, request: Request, limit: float, to_connect: float
) -> Iterator[None]:
    """Raise what requests raises as our errors. Seconds: `limit` for the answer, `to_connect`
    before it."""
    try:
        yield
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        way = broken(error, request)
        described = way.describe(to_connect if way is Broken.NO_CONNECTION else limit)
        if way.by_time:
            raise WebUIStuckError(f"{described} ({url})", stage=stage) from error
        # Else a header that cannot be decoded: there was an answer.
        lost = isinstance(error, OSError | urllib3.exceptions.HTTPError)
        kind = WebUIUnreachableError if lost else WebUIReplyError
        raise kind(f"{described} ({url}: {_reason(error)})", stage=stage) from error
    if request.expired:  # the end of what had come by then looked like the end of the answer
        raise WebUIStuckError(f"{Broken.NOT_WHOLE.describe(limit)} ({url})", stage=stage)


def _reason(error: BaseException) -> str:
    """Return the innermost message of a chain of connection errors, without object addresses."""
    cause = innermost(error)
    name, said = type(cause).__name__, str(cause).strip()
    return said if said.startswith(name) else f"{name}: {said}"


def _log_failure(error: WebUIError, stage: str, attempt: int, payload: Mapping[str, Any]) -> None:
    """Log the structured event: names and numbers, never a text of the payload."""
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

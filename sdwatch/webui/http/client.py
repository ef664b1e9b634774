"""HTTP to one WebUI of AUTOMATIC1111's family: generations, and the small questions beside them.

A generation request is sent exactly once here; only the recovery gate retries.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import urllib3

from sdwatch.errors import WebUIError
from sdwatch.policy.failure.generation_info import named_in
from sdwatch.policy.job.stage.stage_kinds import STAGES
from sdwatch.policy.kinds.kind import Dialect
from sdwatch.system.failpoints import failpoint
from sdwatch.system.log_events import LogEvent, about, bound_facts
from sdwatch.webui.http.connections import Request
from sdwatch.webui.http.reply import (
    MAX_REPLY_BYTES,
    Reply,
    error_for,
    join_bounded,
    read_reply,
    receive,
)
from sdwatch.webui.http.reply_stream import Arrived
from sdwatch.webui.http.transport import CHUNK, Transport, as_webui_errors

log = logging.getLogger("sdwatch.webui")

CONNECT_TIMEOUT = 10.0
CANARY_HEADER = {"X-Sdwatch-Canary": "1"}


class SDWebUIClient(Transport):
    """The WebUI at `url`. `auth`: user name and password, or None. `call_limit`: seconds that one
    generation may take. `scratch`: a local folder for large pictures while they are needed, or
    None for the system's."""

    dialect = Dialect.SDAPI

    def __init__(
        self,
        url: str,
        *,
        auth: tuple[str, str] | None = None,
        call_limit: float = 3600.0,
        scratch: Path | None = None,
    ) -> None:
        super().__init__(url, auth)
        self._scratch = scratch
        self._call_limit = call_limit
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
        arrived: Callable[[], None] = lambda: None,
    ) -> Reply:
        """POST one generation and return its images.

        `stage`: txt2img, img2img or extra-single-image. `given_up`: returns whether the reply is no
        longer needed; if it becomes true before `abandon`, nothing is sent. `canary`: it is not a
        job's call, and says so in a header, which real WebUIs ignore. `arrived`: called once the
        body of a 200 is here, before it is decoded.

        Raises WebUIServerError for a 500, WebUIUnreachableError where no complete reply came,
        WebUIReplyError for a 200 without usable images, WebUIBadRequestError, WebUIBusyError,
        WebUINotUsableError, and WebUINotSentError where nothing was sent; each after one structured
        log event.
        """
        again = self._last_failed == (stage, payload)
        self._attempt = self._attempt + 1 if again else 1
        try:
            body = self._post(stage, payload, given_up, canary)
            arrived()
            reply = read_reply(stage, body)
        except WebUIError as error:
            self._last_failed = (stage, payload)
            log_failure(error, stage, self._attempt, payload)
            raise
        self._last_failed = None
        self.version = named_in(reply.info, "version") or self.version
        return reply

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
        return self._ask("POST", STAGES[stage].route, timeout, payload, CANARY_HEADER)

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

    def unload_checkpoint(self, timeout: float) -> bool:
        """POST /sdapi/v1/unload-checkpoint. Return whether it was accepted (SD.Next answers 204).
        Never raises."""
        return self._accepts("/sdapi/v1/unload-checkpoint", timeout)

    def reload_checkpoint(self, timeout: float) -> bool:
        """POST /sdapi/v1/reload-checkpoint, the same backwards."""
        return self._accepts("/sdapi/v1/reload-checkpoint", timeout)

    def _accepts(self, path: str, timeout: float) -> bool:
        try:
            return self._ask("POST", path, timeout)[0] in (200, 204)
        except WebUIError:
            return False

    def _post(
        self, stage: str, payload: Mapping[str, Any], given_up: Callable[[], bool], canary: bool
    ) -> Arrived:
        url, request = self.url + STAGES[stage].route, Request()
        with as_webui_errors(url, stage, request, self._call_limit, CONNECT_TIMEOUT):
            with self._calls.send(
                request,
                "POST",
                url,
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT, read=self._call_limit),
                body=json.dumps(payload).encode(),
                headers={"content-type": "application/json", **(CANARY_HEADER if canary else {})},
                unless=given_up,
            ) as answer:
                parts = answer.stream(CHUNK, decode_content=True)
                if answer.status == 200:
                    arrived = receive(stage, parts, self._scratch)
                else:
                    body = join_bounded(parts, MAX_REPLY_BYTES, stage)
        if answer.status != 200:
            raise error_for(answer.status, body, stage, stage)
        return arrived


def log_failure(error: WebUIError, stage: str, attempt: int, payload: Mapping[str, Any]) -> None:
    """Log the structured event: names and numbers, never a text of the payload. `attempt`: where
    the thread is bound to none."""
    given = bound_facts().get("attempt")
    attempt = given if isinstance(given, int) else attempt
    log.warning(
        "webui_call_failed stage=%s attempt=%d status=%s error=%s keys=%s",
        stage,
        attempt,
        error.status,
        type(error).__name__,
        ",".join(sorted(payload)),
        extra=about(
            LogEvent.CALL_REFUSED,
            stage=stage,
            status=error.status,
            error=type(error).__name__,
            keys=sorted(payload),
            **({} if "attempt" in bound_facts() else {"attempt": attempt}),
        ),
    )

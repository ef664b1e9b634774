"""Is the WebUI ready to be sent jobs? Asked over HTTP.

Probes are few: a WebUI that limits rates counts them, and one without a UI logs each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sdwatch.clock import Clock
from sdwatch.errors import WebUIBusyError, WebUIError, WebUINotUsableError
from sdwatch.webui.client import SDWebUIClient
from sdwatch.webui.readiness import ProbeResult

_NO_API_AFTER = 15.0
"""Seconds of 404 on /sdapi with `/` at 200 that mean `started without --api`: with the UI on, the
routes come up to a second after the port (measured with Forge and AUTOMATIC1111)."""

LOADING = "it loads its model"
NO_ROUTES_YET = "the page is up, the API's routes are not there yet"
SERVER_DIED = (
    "the page is up, and the API's routes do not come although they are asked for in `command`: "
    "its server has died, and the process lives on"
)
"""Measured with Forge dfdcbab6 whose thread webui_worker died after the port had opened."""

_ASK_FOR_API = ("--api", "--nowebui")
"""Forge and AUTOMATIC1111 have the API with either of them."""

_OTHER_AUTH = (
    "it wants another user name and password: give them as `username` and `password` in the config"
)

_LOOKS_FOR_A_LOAD = 2
"""SD.Next begins its load a moment after its API is up: so many looks that find neither a model nor
a load mean that there will be none before the first call."""


def asks_for_api(command: Sequence[str] | None) -> bool:
    """Whether a WebUI is started with a flag that gives it its API."""
    return command is not None and any(word in _ASK_FOR_API for word in command)


class ReadinessProbe:
    """Asks one WebUI whether it can be sent jobs. Call it again for another look. `asked_for_api`:
    a missing API cannot be for want of the flag."""

    def __init__(
        self, client: SDWebUIClient, clock: Clock, timeout: float, *, asked_for_api: bool = False
    ) -> None:
        self._client = client
        self._clock = clock
        self._timeout = timeout
        self._asked_for_api = asked_for_api
        self.begin_generation()

    def begin_generation(self) -> None:
        """Another life of the WebUI: nothing that was seen of the last one counts."""
        self._without_api_since: float | None = None
        self._has_progress = True
        self._may_be_loading = True
        self._looks = 0

    def __call__(self) -> ProbeResult:
        if not self._has_progress:
            return self._with_checkpoint()
        try:
            progress = self._client.progress(self._timeout)
        except WebUINotUsableError as error:
            if error.status in (404, 405):
                return self._without_progress()
            why = _OTHER_AUTH if error.status in (401, 403) else ""
            return ProbeResult(False, f"{why} ({error})" if why else str(error), unusable=True)
        except WebUIBusyError:
            return ProbeResult(True, "it answers 429: alive")
        except WebUIError as error:
            return ProbeResult(False, str(error))
        self._without_api_since = None
        found = self._with_checkpoint()
        if found.ready and self._may_be_loading:
            self._may_be_loading = self._still_loads(progress)
            if self._may_be_loading:
                return ProbeResult(False, LOADING)
        return found

    def _still_loads(self, progress: dict[str, Any]) -> bool:
        """SD.Next answers while it loads, and gives no pictures until then; its `type` is null
        without a model, which is also so where the first call is to load it (sdnext.md)."""
        try:
            if not self._client.is_without_model(self._timeout):
                return False
        except WebUIError:  # 404: no other WebUI has the question
            return False
        state = progress.get("state")
        if isinstance(state, dict) and state.get("job"):
            return True
        self._looks += 1
        return self._looks < _LOOKS_FOR_A_LOAD

    def _with_checkpoint(self) -> ProbeResult:
        """The API answers; is there anything to generate with?"""
        try:
            if self._client.checkpoints(self._timeout) or self._were_put_there():
                return ProbeResult(True, "the API answers")
        except WebUIError as error:
            return ProbeResult(False, str(error))
        return ProbeResult(
            False, "it has no checkpoint: put one into its models folder", unusable=True
        )

    def _were_put_there(self) -> bool:
        """None are listed, but the list is only read again when asked: are there any by now?"""
        refreshed = self._client.refresh_checkpoints(self._timeout)
        return refreshed and bool(self._client.checkpoints(self._timeout))

    def _without_progress(self) -> ProbeResult:
        """404: not yet, or a server without this route, or a WebUI without --api."""
        try:
            self._client.checkpoints(self._timeout)
        except WebUIError:
            pass
        else:  # stable-diffusion.cpp: it is not asked for /progress again
            self._has_progress = False
            return self._with_checkpoint()
        if not self._client.page_answers(self._timeout):
            return ProbeResult(False, "the API's routes are not there yet", no_routes=True)
        now = self._clock.monotonic()
        since = self._without_api_since = self._without_api_since or now
        if now - since < _NO_API_AFTER:
            return ProbeResult(False, NO_ROUTES_YET, no_routes=True)
        if self._asked_for_api:
            return ProbeResult(False, SERVER_DIED, no_routes=True, dead=True)
        return ProbeResult(False, "it was started without --api: add that flag", unusable=True)

"""Probe over HTTP whether the WebUI is ready for jobs.

Probes are few: a WebUI with a rate limit counts them, and one without a UI logs each. Routes appear
one after another while a WebUI starts, so a single probe may miss any of them (measured with
SD.Next 058a7f0c: /progress 404, and a moment later /sd-models 200). What it lacks is concluded only
from answers that belong together and stay the same.

Whether it generates for anybody while no call of ours runs is read from /progress.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from sdwatch.errors import WebUIBusyError, WebUIError, WebUINotUsableError
from sdwatch.policy.failure.hold_reason import Lack
from sdwatch.policy.job.stage.stage_kinds import API
from sdwatch.system.clock import Clock
from sdwatch.webui.http.client import SDWebUIClient
from sdwatch.webui.http.remembered import Remembered, Routes
from sdwatch.webui.process.readiness import ProbeResult, Seen


class Progress(Protocol):
    """A WebUI's progress. See SDWebUIClient."""

    def progress(self, timeout: float) -> dict[str, Any]: ...


def is_generating(client: Progress, timeout: float) -> bool:
    """Return whether /progress shows a generation, whether or not it advances. `timeout`:
    seconds."""
    return position_of(client, timeout) is not None


def position_of(client: Progress, timeout: float) -> str | None:
    """Return where a running generation is, see `running_at`. None also where the WebUI does not
    answer."""
    try:
        return running_at(client.progress(timeout))
    except WebUIError:
        return None


def running_at(progress: Mapping[str, Any]) -> str | None:
    """Return where the generation of this /progress reply is: another text once it has advanced.
    None where none runs."""
    state = progress.get("state")
    running = isinstance(state, dict) and state.get("job")
    return repr((progress.get("progress"), state)) if running else None


class Occupancy:
    """The occupancy of one WebUI; `timeout`: seconds for each answer. Keeps the last position."""

    def __init__(self, client: Progress, timeout: float) -> None:
        self._client = client
        self._timeout = timeout
        self._last: str | None = None

    def is_busy(self) -> bool:
        """Return whether a generation has advanced since the last call of this method. One that
        does not counts for nothing: a failed upscale leaves /progress set forever (measured)."""
        before, self._last = self._last, position_of(self._client, self._timeout)
        return self._last is not None and self._last != before


_NO_API_AFTER = 15.0
"""After so many seconds of 404 on /sdapi with `/` at 200, it was started without --api: with the
UI, the routes come up to a second after the port (measured with Forge and AUTOMATIC1111)."""

_CONFIRMED_AFTER = 0.3
"""Seconds until a missing route is checked again: SD.Next adds its routes in less."""

_ASK_FOR_API = ("--api", "--nowebui")
"""Forge and AUTOMATIC1111 have the API with either of them."""

_NO_ROUTE = (404, 405)

_PROBES_FOR_A_LOAD = 2
"""SD.Next starts its load a moment after its API is up: so many probes that find neither a model
nor a load mean that there will be none before the first call."""


def asks_for_api(command: Sequence[str] | None) -> bool:
    """Return whether the command has a flag that turns the API on."""
    return command is not None and any(word in _ASK_FOR_API for word in command)


class ReadinessProbe:
    """Asks one WebUI whether it is ready for jobs; call it for each probe.

    `remembered`: what it was in earlier incarnations. `asked_for_api`: the command has the flag, so
    a missing API has another cause.
    """

    def __init__(
        self,
        client: SDWebUIClient,
        clock: Clock,
        timeout: float,
        remembered: Remembered | None = None,
        *,
        asked_for_api: bool = False,
    ) -> None:
        self._remembered = remembered or Remembered()
        self._client = client
        self._clock = clock
        self._timeout = timeout
        self._asked_for_api = asked_for_api
        self.start_incarnation()

    def start_incarnation(self) -> None:
        """Forget what was seen of the last incarnation, except what is remembered."""
        self._without_api_since: float | None = None
        self._lacking_since: float | None = None
        self._routes: Routes | None = None
        self._may_be_loading = True
        self._probes_without_model = 0

    def __call__(self) -> ProbeResult:
        if self._routes is not None and not self._routes.progress:
            return self._with_checkpoint()
        try:
            progress = self._client.progress(self._timeout)
        except WebUIError as error:
            if isinstance(error, WebUINotUsableError) and error.status in _NO_ROUTE:
                return self._without_progress()
            return by_error(error)
        self._without_api_since = None
        found = self._with_checkpoint()
        if not (found.ready and self._may_be_loading):
            return found
        without_model = self._is_without_model()
        if not self._concludes(Routes(True, without_model is not None)):
            return _seen(Seen.STILL_ADDING)
        self._may_be_loading = bool(without_model) and self._still_loads(progress)
        return _seen(Seen.LOADING) if self._may_be_loading else found

    def _is_without_model(self) -> bool | None:
        """Return whether no model is loaded; None where that cannot be asked: only SD.Next has this
        route."""
        try:
            return self._client.is_without_model(self._timeout)
        except WebUIError as error:
            return None if error.status in _NO_ROUTE else False

    def _concludes(self, routes: Routes, *, at_once: bool = True) -> bool:
        """Return whether these are all the routes that it will have. A missing route is checked
        once more; for a long time if an earlier incarnation had it, or without `at_once`."""
        known = self._remembered.routes
        if not (routes.all_there or routes == known):
            if not at_once or (known is not None and routes.lacks_some_of(known)):
                now = self._clock.monotonic()
                since = self._lacking_since = self._lacking_since or now
                if now - since < _NO_API_AFTER:
                    return False
            else:
                self._clock.wait(threading.Event(), _CONFIRMED_AFTER)
            now_there = (self._has("progress?skip_current_image=true"), self._has("checkpoint"))
            if Routes(*now_there) != routes:
                return False
        self._routes = routes
        self._remembered.note_routes(routes)
        return True

    def _has(self, name: str) -> bool:
        """Return whether it has this route. Without an answer, it may have it."""
        try:
            return self._client.answer(API + name, self._timeout)[0] not in _NO_ROUTE
        except WebUIError:
            return True

    def _still_loads(self, progress: dict[str, Any]) -> bool:
        """Return whether it still loads its model. SD.Next answers meanwhile, but generates
        nothing. Its `type` is null without a model, which is also so where the first call is to
        load one."""
        state = progress.get("state")
        if isinstance(state, dict) and state.get("job"):
            return True
        self._probes_without_model += 1
        return self._probes_without_model < _PROBES_FOR_A_LOAD

    def _with_checkpoint(self) -> ProbeResult:
        """Return whether the API, which answers, has a checkpoint to generate with."""
        try:
            if self._client.checkpoints(self._timeout) or self._were_put_there():
                return ProbeResult(True, "the API answers")
        except WebUIError as error:
            return _failed(error)
        return _seen(Seen.NO_CHECKPOINT, Lack.CHECKPOINT)

    def _were_put_there(self) -> bool:
        """Return whether there are checkpoints by now: the list is read again only when asked."""
        refreshed = self._client.refresh_checkpoints(self._timeout)
        return refreshed and bool(self._client.checkpoints(self._timeout))

    def _without_progress(self) -> ProbeResult:
        """Return what a 404 means: not ready yet, a server without this route, or a WebUI without
        --api."""
        try:
            self._client.checkpoints(self._timeout)
        except WebUIError:
            pass
        else:
            # A server that says 404 without a body has all its routes at once; others may have it
            # soon (measured with stable-diffusion.cpp).
            has_all = self._client.answers_bare_404(API + "progress", self._timeout)
            if self._concludes(Routes(False, False), at_once=has_all):
                return self._with_checkpoint()
            return _seen(Seen.STILL_ADDING)
        if not self._client.page_answers(self._timeout):
            return _seen(Seen.NO_PAGE_YET, no_routes=True)
        now = self._clock.monotonic()
        since = self._without_api_since = self._without_api_since or now
        if now - since < _NO_API_AFTER:
            return _seen(Seen.NO_ROUTES_YET, no_routes=True)
        if self._asked_for_api:
            return _seen(Seen.SERVER_DIED, no_routes=True, dead=True)
        return _seen(Seen.NO_API, Lack.API)


def _seen(
    seen: Seen, lacks: Lack | None = None, *, no_routes: bool = False, dead: bool = False
) -> ProbeResult:
    return ProbeResult(False, seen.value, lacks, no_routes, dead, seen)


def by_error(error: WebUIError) -> ProbeResult:
    """Return what the error of a probe's first question means."""
    if isinstance(error, WebUIBusyError):
        return ProbeResult(True, "it answers 429: alive")
    if not isinstance(error, WebUINotUsableError):
        return _failed(error)
    if error.status not in (401, 403):
        return replace(_failed(error), lacks=Lack.OTHER)
    why = f"{Seen.PASSWORD.value} ({error})"
    return ProbeResult(False, why, Lack.PASSWORD, seen=Seen.PASSWORD)


def _failed(error: WebUIError) -> ProbeResult:
    facts = (type(error).__name__, error.status, error.kind, error.said)
    return ProbeResult(False, str(error), seen=Seen.FAILED, facts=facts)

"""Asks one WebUI for its kind, its lists and the fields that it knows, once per incarnation.

What it does not answer is unknown, and is no reason to refuse a job.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from sdwatch.errors import WebUIError
from sdwatch.policy.job.catalogue import API, LISTS, Catalogue, Kind, catalogue_of
from sdwatch.policy.job.payload import UPSCALE
from sdwatch.policy.job.picture import smallest_picture
from sdwatch.webui.http.client import SDWebUIClient
from sdwatch.webui.http.remembered import Remembered
from sdwatch.webui.http.reply import parse_json

log = logging.getLogger("sdwatch.webui")

_NO_SCHEDULERS = "SD.Next accepts no scheduler in a call, and its list is an error"
_NO_UPSCALING = "this version of SD.Next answers every upscaling with an error"
_SMALLEST_UPSCALING = {
    "image": base64.b64encode(smallest_picture()).decode(),
    "upscaler_1": "None",
    "upscaling_resize": 1,
}
_MOST_UNANSWERED = 2
"""So many questions may time out or break off; then no more are asked."""


class CatalogueReader:
    """Reads the catalogue of one WebUI.

    `timeout`: seconds for each question. `given_up`: returns whether the answer is no longer
    needed. `remembered`: the kind of an earlier incarnation, for one whose schema cannot be read.
    `may_try`: returns whether an upscaling may be tried. `unfinished`: the schema is incomplete,
    and may be complete later: while routes are still being added it is a 500 (measured with SD.Next
    058a7f0c).
    """

    def __init__(
        self,
        client: SDWebUIClient,
        timeout: float,
        given_up: Callable[[], bool] = lambda: False,
        remembered: Remembered | None = None,
        may_try: Callable[[], bool] = lambda: False,
    ) -> None:
        self._may_try = may_try
        self.unfinished = False
        self._remembered = remembered or Remembered()
        self._client = client
        self._timeout = timeout
        self._given_up = given_up
        self._unanswered = 0

    def read(self) -> Catalogue:
        """Return all that this WebUI has. Its schema shows which lists to ask for. Never raises."""
        self._unanswered = 0
        openapi, is_sdcpp = self._openapi()
        catalogue = catalogue_of(openapi, is_sdcpp=is_sdcpp)
        if self.unfinished:
            catalogue = replace(catalogue, kind=self._remembered.kind)
        self._remembered.note_kind(catalogue.kind)
        paths = openapi["paths"] if catalogue.stages and isinstance(openapi, dict) else None
        for route in LISTS:
            if catalogue.kind is Kind.SDNEXT and route == "schedulers":
                catalogue = catalogue.without_list(route, _NO_SCHEDULERS)
            elif paths is None or API + route in paths:
                catalogue = self._with_list(catalogue, route)
            else:
                catalogue = catalogue.without_list(route, "it has no such list")
        return self._with_trial(self._with_options(self._with_version(catalogue)))

    def _with_options(self, catalogue: Catalogue) -> Catalogue:
        """Add how many calls SD.Next accepts."""
        if catalogue.kind is not Kind.SDNEXT:
            return catalogue
        status, body = self._ask(API + "options")
        try:
            return catalogue.with_options(parse_json(body)) if status == 200 else catalogue
        except ValueError:
            return catalogue

    def _with_trial(self, catalogue: Catalogue) -> Catalogue:
        """Some versions of SD.Next have the route of upscaling and answer 500 to whatever is asked
        for, which a job must not find out after its first stages (measured with 058a7f0c)."""
        can = UPSCALE in (catalogue.stages or {})
        if catalogue.kind is not Kind.SDNEXT or not can or self._given_up() or not self._may_try():
            return catalogue
        try:
            status, body = self._client.tried(UPSCALE, _SMALLEST_UPSCALING, self._timeout)
        except WebUIError as error:
            log.info("not known of this WebUI: whether it can upscale: %s", error)
            return catalogue
        if status != 500 or b"ResProcessImage" not in body:
            return catalogue
        return replace(catalogue, cannot={**catalogue.cannot, UPSCALE: _NO_UPSCALING})

    def read_again(self, catalogue: Catalogue, routes: Collection[str]) -> Catalogue:
        """Return the catalogue with these lists as they are now."""
        self._unanswered = 0
        for route in LISTS:
            if route in routes:
                catalogue = self._with_list(catalogue, route)
        return catalogue

    def _openapi(self) -> tuple[Any, bool]:
        """Return the schema, or None; and whether this is stable-diffusion.cpp's server, which
        answers an unknown path with a 404 without a body (measured). All others say `Not Found`."""
        status, body = self._ask("/openapi.json")
        self.unfinished = status not in (200, 404)
        if status != 200:
            return None, status == 404 and not body.strip()
        try:
            return parse_json(body), False
        except ValueError:
            self.unfinished = True
            return None, False

    def _with_list(self, catalogue: Catalogue, route: str) -> Catalogue:
        status, body = self._ask(API + route)
        if status != 200:
            why = "it has no such list" if status == 404 else f"it answered {status}"
            return catalogue.without_list(route, why if status else "it did not answer")
        try:
            return catalogue.with_list(route, parse_json(body))
        except ValueError as error:
            return catalogue.without_list(route, f"its answer is unusable: {error}")

    def _with_version(self, catalogue: Catalogue) -> Catalogue:
        """Add the version. Only SD.Next has a route for it; Forge and AUTOMATIC1111 write it into
        their pictures."""
        if catalogue.kind is not Kind.SDNEXT:
            return catalogue
        status, body = self._ask(API + "version")
        try:
            return catalogue.with_version(parse_json(body)) if status == 200 else catalogue
        except ValueError:
            return catalogue

    def _ask(self, path: str) -> tuple[int, bytes]:
        """Return status and body; status 0 where no answer came, or no more questions are asked."""
        if self._unanswered >= _MOST_UNANSWERED or self._given_up():
            return 0, b""
        try:
            return self._client.answer(path, self._timeout)
        except WebUIError as error:
            log.info("unknown for this WebUI: %s", error)
            self._unanswered += 1
            return 0, b""

"""Asks one WebUI for what it has: its kind, its lists, the fields that it knows.

Once in each of its lives. Whatever it does not answer is not known, and is no reason against it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from sdwatch.errors import WebUIError
from sdwatch.policy.catalogue import API, LISTS, Catalogue, Kind, catalogue_of
from sdwatch.webui.client import SDWebUIClient
from sdwatch.webui.remembered import Remembered
from sdwatch.webui.reply import parse_json

log = logging.getLogger("sdwatch.webui")

_MOST_UNANSWERED = 2
"""Questions that time out, or break off, before no more are asked: it has other troubles."""


class CatalogueReader:
    """`timeout`: seconds for each question. `given_up`: whether the answer is not wanted any
    more. `remembered`: the kind that an earlier life had, for one whose schema cannot be read.
    `unfinished`: the schema was not there as it should be, and may be later: while routes are still
    being added it is a 500 (measured with SD.Next 058a7f0c)."""

    def __init__(
        self,
        client: SDWebUIClient,
        timeout: float,
        given_up: Callable[[], bool] = lambda: False,
        remembered: Remembered | None = None,
    ) -> None:
        self.unfinished = False
        self._remembered = remembered or Remembered()
        self._client = client
        self._timeout = timeout
        self._given_up = given_up
        self._unanswered = 0

    def read(self) -> Catalogue:
        """All that this WebUI has; its own schema says which lists are worth asking for. Never
        raises."""
        self._unanswered = 0
        openapi, is_sdcpp = self._openapi()
        catalogue = catalogue_of(openapi, is_sdcpp=is_sdcpp)
        if self.unfinished:
            catalogue = replace(catalogue, kind=self._remembered.kind)
        self._remembered.note_kind(catalogue.kind)
        paths = openapi["paths"] if catalogue.stages and isinstance(openapi, dict) else None
        for route in LISTS:
            if paths is None or API + route in paths:
                catalogue = self._with_list(catalogue, route)
            else:
                catalogue = catalogue.without_list(route, "it has no such list")
        return self._with_version(catalogue)

    def read_again(self, catalogue: Catalogue, routes: Collection[str]) -> Catalogue:
        """With these lists as they are now."""
        self._unanswered = 0
        for route in LISTS:
            if route in routes:
                catalogue = self._with_list(catalogue, route)
        return catalogue

    def _openapi(self) -> tuple[Any, bool]:
        """Its schema, or None; and whether it is stable-diffusion.cpp's server: that answers 404
        without a body to what it does not have (measured), all others say `Not Found`."""
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
            return catalogue.without_list(route, f"its answer is of no use: {error}")

    def _with_version(self, catalogue: Catalogue) -> Catalogue:
        """SD.Next says which it is; Forge and AUTOMATIC1111 do so in their pictures only."""
        if catalogue.kind is not Kind.SDNEXT:
            return catalogue
        status, body = self._ask(API + "version")
        try:
            return catalogue.with_version(parse_json(body)) if status == 200 else catalogue
        except ValueError:
            return catalogue

    def _ask(self, path: str) -> tuple[int, bytes]:
        """Status and body; 0 where no answer came, or none was asked for any more."""
        if self._unanswered >= _MOST_UNANSWERED or self._given_up():
            return 0, b""
        try:
            return self._client.answer(path, self._timeout)
        except WebUIError as error:
            log.info("not known of this WebUI: %s", error)
            self._unanswered += 1
            return 0, b""

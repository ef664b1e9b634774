"""Ask one WebUI for its kind, its lists and the fields that it knows, once per incarnation.

What it does not answer is unknown, and is not a reason to refuse a job.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from sdwatch.errors import WebUIError
from sdwatch.policy.job.calls.catalogue import LISTS, Catalogue, catalogue_of
from sdwatch.policy.job.outputs.picture import smallest_picture
from sdwatch.policy.job.stage.stage_kinds import API, STAGES
from sdwatch.policy.kinds.kind import Dialect, Trial
from sdwatch.system.log_events import LogEvent, about
from sdwatch.webui.http.client import SDWebUIClient
from sdwatch.webui.http.found import FoundClient
from sdwatch.webui.http.remembered import Remembered
from sdwatch.webui.http.reply import parse_json

log = logging.getLogger("sdwatch.webui")

_MOST_UNANSWERED = 2
"""So many questions may time out or break off; then no more are asked."""


class CatalogueReader:
    """Reads the catalogue of one WebUI.

    `timeout`: seconds for each question. `given_up`: returns whether the answer is no longer
    needed. `remembered`: the kind of an earlier incarnation, for one whose schema cannot be read.
    `may_try`: returns whether it may be sent a trial call. `unfinished`: the schema is incomplete,
    and may be complete later: while routes are still being added it is a 500 (measured with SD.Next
    058a7f0c).
    """

    def __init__(
        self,
        client: SDWebUIClient | FoundClient,
        timeout: float,
        given_up: Callable[[], bool] = lambda: False,
        remembered: Remembered | None = None,
        may_try: Callable[[], bool] = lambda: False,
    ) -> None:
        self._may_try = may_try
        self.unfinished = False
        self._remembered = remembered or Remembered()
        self._found = client if isinstance(client, FoundClient) else None
        self._client = client.sdapi if isinstance(client, FoundClient) else client
        self._timeout = timeout
        self._given_up = given_up
        self._unanswered = 0

    def read(self) -> Catalogue:
        """Return all that this WebUI has. Its schema shows which lists to ask for. Never raises."""
        self._unanswered = 0
        if (found := self._found) is not None and found.dialect is Dialect.PROMPTS:
            catalogue = self._of_prompts(found)
            self._remembered.note_kind(catalogue.kind)
            return catalogue
        openapi, bare_404 = self._openapi()
        catalogue = catalogue_of(openapi, bare_404=bare_404)
        if self.unfinished:
            catalogue = replace(catalogue, kind=self._remembered.kind)
        self._remembered.note_kind(catalogue.kind)
        paths = openapi["paths"] if catalogue.stages and isinstance(openapi, dict) else None
        useless = dict(catalogue.kind.useless_lists)
        for route in LISTS:
            if route in useless:
                catalogue = catalogue.without_list(route, useless[route])
            elif paths is None or API + route in paths:
                catalogue = self._with_list(catalogue, route)
            else:
                catalogue = catalogue.without_list(route, "it has no such list")
        return self._with_trials(self._with_options(self._with_version(catalogue)))

    def _with_options(self, catalogue: Catalogue) -> Catalogue:
        """Add how many calls it accepts, if its kind has such a limit."""
        if not catalogue.kind.has_rate_limit:
            return catalogue
        status, body = self._ask(API + "options")
        try:
            return catalogue.with_options(parse_json(body)) if status == 200 else catalogue
        except ValueError:
            return catalogue

    def _with_trials(self, catalogue: Catalogue) -> Catalogue:
        """Add the stages that do not work, which a job must not find out after its first ones."""
        for trial in catalogue.kind.trials:
            can = trial.stage in (catalogue.stages or {})
            if can and not self._given_up() and self._may_try() and self._fails(trial):
                cannot = {**catalogue.cannot, trial.stage: trial.why}
                catalogue = replace(catalogue, cannot=cannot)
        return catalogue

    def _fails(self, trial: Trial) -> bool:
        """Return whether the WebUI fails this trial."""
        picture = base64.b64encode(smallest_picture()).decode()
        payload = {**trial.fields, **STAGES[trial.stage].carrying([picture])}
        try:
            status, body = self._client.tried(trial.stage, payload, self._timeout)
        except WebUIError as error:
            log.info(
                "not known of this WebUI: whether it can do %s: %s",
                trial.stage,
                error,
                extra=about(LogEvent.WEBUI_UNKNOWN),
            )
            return False
        return status == 500 and trial.mark.encode() in body

    def read_again(self, catalogue: Catalogue, routes: Collection[str]) -> Catalogue:
        """Return the catalogue with these lists as they are now."""
        self._unanswered = 0
        if (found := self._found) is not None and found.dialect is Dialect.PROMPTS:
            return self._of_prompts(found)
        for route in LISTS:
            if route in routes:
                catalogue = self._with_list(catalogue, route)
        return catalogue

    def _of_prompts(self, found: FoundClient) -> Catalogue:
        from sdwatch.webui.http.comfyui_catalogue import read_catalogue  # only ComfyUI needs it

        catalogue = read_catalogue(found.prompts, self._timeout)
        self.unfinished = catalogue.classes is None
        return catalogue

    def _openapi(self) -> tuple[Any, bool]:
        """Return the schema, or None; and whether it answers an unknown path with a 404 without a
        body. Most say `Not Found` (measured)."""
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
        """Add the version. Kinds without a route for it write it into their pictures."""
        if not catalogue.kind.says_version:
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
            log.info("unknown for this WebUI: %s", error, extra=about(LogEvent.WEBUI_UNKNOWN))
            self._unanswered += 1
            return 0, b""

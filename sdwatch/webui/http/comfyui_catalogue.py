"""The catalogue of one ComfyUI: its version, and the names in its node classes, in the form of
other WebUIs' lists. It never substitutes a name, so a preflight against them is complete."""

from __future__ import annotations

import logging
from dataclasses import replace

from sdwatch.errors import WebUIError
from sdwatch.policy.job.calls.catalogue import LISTS, Catalogue
from sdwatch.policy.kinds.kind import Dialect, Kind
from sdwatch.policy.kinds.table import kind_by_stats, kind_of_dialect
from sdwatch.policy.translation.lists import WorkflowRules, lists_of
from sdwatch.system.log_events import LogEvent, about
from sdwatch.webui.http.comfyui_client import ComfyUIClient, version_in

log = logging.getLogger("sdwatch.webui")

_SLOW = 6.0
"""/object_info is so many times slower than other questions: it has a thousand classes (measured:
0.75 s, and 8 ms for /system_stats)."""


def read_catalogue(client: ComfyUIClient, timeout: float) -> Catalogue:
    """Return what this ComfyUI has; what it does not answer stays unknown. `timeout`: seconds for
    a question. Never raises."""
    # One that does not answer now, since it restarts, is still no other kind of WebUI: it would
    # refuse each job with a workflow.
    catalogue = _of_kind(kind_of_dialect(Dialect.PROMPTS))
    try:
        system = client.system_stats(timeout)
        catalogue = replace(_of_kind(kind_by_stats(system)), version=version_in(system))
        classes = client.read_classes(timeout * _SLOW)
        templates = client.read_templates()
        found = lists_of(classes, client.embeddings(timeout), templates)
    except WebUIError as error:
        log.info("unknown for this WebUI: %s", error, extra=about(LogEvent.WEBUI_UNKNOWN))
        return catalogue
    for route in LISTS:
        try:
            catalogue = catalogue.with_list(route, found[route])
        except KeyError:
            catalogue = catalogue.without_list(route, "it has no such list")
        except ValueError as error:
            catalogue = catalogue.without_list(route, f"its answer is unusable: {error}")
    for problem in templates.wrong.values():
        why = problem.located("")
        log.warning("a template cannot be used: %s", why, extra=about(LogEvent.WARNING))
    return catalogue.with_classes(classes, WorkflowRules(classes, templates))


def _of_kind(kind: Kind) -> Catalogue:
    return Catalogue(kind, stages=dict.fromkeys(kind.stages_without_schema))

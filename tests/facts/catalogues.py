"""Catalogues of the four real WebUIs, from compact copies of what they were recorded to answer."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from sdwatch.policy.job.calls.catalogue import LISTS, Catalogue, catalogue_of

FOLDER = Path(__file__).parent
KINDS = ("forge", "a1111", "sdnext", "sdcpp")


def answers(kind: str) -> dict[str, dict[str, Any]]:
    """Status and body by route, as recorded; a route that was not is not there."""
    found: dict[str, dict[str, Any]] = json.loads(
        (FOLDER / kind / "catalogue_lists.json").read_text(encoding="utf-8")
    )
    return found


def openapi(kind: str) -> Any:
    """Its paths, and the schemas of its generations; None where it has none."""
    path = FOLDER / kind / "catalogue_openapi.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


@cache
def catalogue(kind: str) -> Catalogue:
    """What sdwatch makes of them."""
    made = catalogue_of(openapi(kind), bare_404=kind == "sdcpp")
    recorded = answers(kind)
    for route in LISTS:
        answer = recorded.get(route, {"status": 404})
        if answer["status"] == 200:
            made = made.with_list(route, answer["body"])
        else:
            made = made.without_list(route, f"it answered {answer['status']}")
    return made

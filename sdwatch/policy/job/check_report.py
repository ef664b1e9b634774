"""Collect what the checks of a job against a WebUI find; suggest names. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from sdwatch.errors import Problem
from sdwatch.policy.job.catalogue import Catalogue, Names, fold
from sdwatch.policy.job.document import shown
from sdwatch.policy.job.job import Stage
from sdwatch.policy.job.schema import Place, nearest

_MOST_SHOWN = 12  # names in a message


class CheckReport:
    """Collects the problems of a job. `stage`: the one that is being checked. `skipped`: what was
    not checked, and why. `refusing`: the lists that lacked a name."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.kind = catalogue.kind
        self.webui = f"this WebUI ({catalogue.kind.words})"
        self.problems: list[Problem] = []
        self.skipped: dict[str, str] = {}
        self.refusing: set[str] = set()
        self.stage: Stage

    def fail(self, place: Place, message: str) -> None:
        places = self.stage.places
        where = next((places[place[:n]] for n in range(len(place), -1, -1) if place[:n] in places),
                     (self.stage.line, 1))  # fmt: skip
        problem = Problem(*where, message)
        if problem not in self.problems:  # a prompt may name the same LoRA twice
            self.problems.append(problem)

    def names(self, route: str) -> Names | None:
        """Return a list; None if the WebUI does not have it, which is noted."""
        if (names := self.catalogue.lists.get(route)) is None:
            list_name = route.partition("/")[0]
            why = self.catalogue.missing.get(list_name, "no such list")
            self.skipped[list_name] = f"{self.webui}: {why}"
        return names


DID_YOU_MEAN = "; did you mean"


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return a suggestion, or '' if no name is near."""
    near = nearest(name, names)
    return near if near.startswith(DID_YOU_MEAN) else ""


def nearest_name(name: str, names: Names) -> str:
    near = difflib.get_close_matches(fold(name), names.hints, 1, 0.6)
    if near:
        return f'{DID_YOU_MEAN} "{names.hints[near[0]]}"?'
    return nearest(name, names.shown) if names.shown else "; its list is empty"


def any_of(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return f"; there are {', '.join(names[:_MOST_SHOWN])}{more}" if names else ""


def quoted(name: str) -> str:
    """Return a name in quotes. One long word is a name, and so are a few short ones; anything else
    may be a prompt, so only its length is shown (see `shown`)."""
    is_name = re.fullmatch(r"[^\s<>]{1,80}|[^<>\n]{1,48}", name) and len(name.split()) <= 5
    return f'"{name}"' if is_name else shown(name)
